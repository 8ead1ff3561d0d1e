//! Lines for whoever runs the program: on stdout as the original's, on stderr from a streamer.
//!
//! Not the `log` crate: this is the output of the program that is doubled, not of ours.

use std::fmt::Arguments;
use std::io::Write as _;

/// One line of the web-server's log. A closed or full stdout is no reason to stop.
pub(super) fn line(level: &str, from: &str, what: Arguments<'_>) {
    let at = crate::clock::rfc3339(crate::clock::wall());
    let _ = writeln!(std::io::stdout().lock(), "{at} {level:>5} {from}: {what}");
}

/// One line on stderr: a streamer's stdout belongs to its parent.
pub(super) fn aside(what: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{what}");
}
