//! What the visitor sees of us: the script, style and words that are injected into the stream
//! page, and the pages shown when there is no stream to show.
//!
//! The proxy puts [`snippet`] right after `<head>` and serves [`asset`] and [`SessionInfo`]
//! below `/session/<id>/_neck/`. This room knows no session and opens no socket.

mod assets;
mod info;
mod notice;
mod snippet;

pub(crate) use assets::{PageFile, asset};
pub(crate) use info::{BrowserIceServer, SessionInfo};
pub(crate) use notice::{gone, unavailable};
pub(crate) use snippet::{PageConfig, snippet};

use std::borrow::Cow;

/// Text made safe inside a double-quoted attribute and between tags.
fn escape(text: &str) -> Cow<'_, str> {
    let special = |c: char| matches!(c, '&' | '<' | '>' | '"' | '\'') || c.is_control();
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Line ends and NUL have no place in a name, and parsers treat them each in its way.
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}
