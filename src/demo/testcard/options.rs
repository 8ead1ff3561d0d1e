//! The command line: the original's options as far as a test card obeys them.
//!
//! An environment variable of an option's name overrides the file, as in the original, so that
//! a worker that forgets to clean its child's environment is found out.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand};

use super::settings::{CardSettings, ForwardedHeader, PortRange};

/// The original's version, since programs that start it ask for that, and who speaks.
const VERSION: &str = concat!(
    "2.6.0 (hydraneckwebrtc test card ",
    env!("CARGO_PKG_VERSION"),
    ")"
);

/// A stream program with moonlight-web-stream's process contract and a test picture.
#[derive(Debug, Parser)]
#[command(name = "web-server", version = VERSION, no_binary_name = true)]
pub(super) struct CardOptions {
    /// Configuration file, written with defaults when missing
    #[arg(short, long, default_value = "./server/config.json")]
    pub(super) config_path: PathBuf,
    /// Socket address to listen on
    #[arg(long, env = "BIND_ADDRESS")]
    bind_address: Option<SocketAddr>,
    /// Path under which everything is served, as /session/<id>
    #[arg(long, env = "PATH_PREFIX")]
    path_prefix: Option<String>,
    /// Request header that names the user
    #[arg(long, env = "FORWARDED_HEADER")]
    forwarded_header: Option<String>,
    /// UDP ports of the streamers, MIN:MAX
    #[arg(long, env = "WEBRTC_PORT_RANGE")]
    webrtc_port_range: Option<PortRange>,
    /// What to do
    #[command(subcommand)]
    pub(super) mode: Option<Mode>,
}

/// What to do; `run` when nothing is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum Mode {
    /// Serve until stopped
    Run,
    /// Print the effective configuration
    PrintConfig,
    /// Serve one page over stdin and stdout; what `run` starts for each page
    #[command(hide = true)]
    Streamer,
}

impl CardOptions {
    /// Reads arguments (without the program's name) and environment.
    ///
    /// # Errors
    /// Clap's, which also carries `--help` and `--version`.
    pub(super) fn read(args: Vec<OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(args)
    }

    /// Puts what was given here over what the file says.
    pub(super) fn apply(&self, settings: &mut CardSettings) {
        let server = &mut settings.web_server;
        if let Some(address) = self.bind_address {
            server.bind_address = address;
        }
        if let Some(prefix) = &self.path_prefix {
            server.url_path_prefix.clone_from(prefix);
        }
        if let Some(name) = &self.forwarded_header {
            let auto_create_missing_user = server
                .forwarded_header
                .as_ref()
                .is_none_or(|header| header.auto_create_missing_user);
            server.forwarded_header = Some(ForwardedHeader {
                username_header: name.clone(),
                auto_create_missing_user,
            });
        }
        if self.webrtc_port_range.is_some() {
            settings.webrtc.port_range = self.webrtc_port_range;
        }
    }
}

/// The text is no `MIN:MAX`.
#[derive(Debug)]
pub(super) struct NotAPortRange;

impl fmt::Display for NotAPortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port range is MIN:MAX, as 40000:40019")
    }
}

impl std::error::Error for NotAPortRange {}

impl FromStr for PortRange {
    type Err = NotAPortRange;

    fn from_str(text: &str) -> Result<Self, NotAPortRange> {
        let (min, max) = text.split_once(':').ok_or(NotAPortRange)?;
        match (min.parse(), max.parse()) {
            (Ok(min), Ok(max)) if min <= max => Ok(Self { min, max }),
            _ => Err(NotAPortRange),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<CardOptions, clap::Error> {
        CardOptions::read(args.iter().map(OsString::from).collect())
    }

    #[test]
    fn options_win_over_the_file() {
        let options = read(&[
            "--bind-address",
            "127.0.0.1:9",
            "--path-prefix",
            "/session/x",
            "--forwarded-header",
            "X-User",
            "--webrtc-port-range",
            "5:6",
            "run",
        ]);
        let options = options.unwrap();
        let mut settings = CardSettings::default();
        options.apply(&mut settings);
        assert_eq!(settings.web_server.bind_address.port(), 9);
        assert_eq!(settings.web_server.url_path_prefix, "/session/x");
        let header = settings.web_server.forwarded_header.unwrap();
        assert_eq!(header.username_header, "X-User");
        assert!(header.auto_create_missing_user);
        let range = Some(PortRange { min: 5, max: 6 });
        assert_eq!(settings.webrtc.port_range, range);
        assert_eq!(options.mode, Some(Mode::Run));
    }

    #[test]
    fn nothing_given_changes_nothing() {
        let options = read(&[]).unwrap();
        let mut settings = CardSettings::default();
        options.apply(&mut settings);
        assert_eq!(settings, CardSettings::default());
        assert_eq!(options.config_path, PathBuf::from("./server/config.json"));
        assert_eq!(options.mode, None);
    }

    #[test]
    fn wrong_arguments_exit_with_2_and_the_version_is_the_originals() {
        for wrong in [
            &["--no-such"][..],
            &["--bind-address", "localhost:80"],
            &["--webrtc-port-range", "9:8"],
        ] {
            assert_eq!(read(wrong).unwrap_err().exit_code(), 2);
        }
        let version = read(&["--version"]).unwrap_err();
        assert_eq!(version.exit_code(), 0);
        assert!(version.to_string().starts_with("web-server 2.6.0"));
    }
}
