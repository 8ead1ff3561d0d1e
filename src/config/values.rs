//! Types of single values that the rest of the program gets, and how they are written.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::parsers::not;

/// What a process does in the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes session requests and routes them.
    Controller,
    /// Runs sessions.
    Worker,
}

impl Role {
    /// The name of the subcommand, and the value of `mode`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Worker => "worker",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a server listens, as the runbook writes it: `:8080` on every address, `127.0.0.1:8080`
/// or `[::1]:8080` on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The one address; `None` means all, IPv6 and IPv4.
    pub host: Option<IpAddr>,
    /// The port; 0 lets the kernel choose.
    pub port: u16,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err("has no port".to_owned());
        };
        let port = port
            .parse()
            .map_err(|_| not(port, "a port from 0 to 65535"))?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match (host, bare) {
            ("", _) => None,
            ("localhost", _) => Some(IpAddr::from([127, 0, 0, 1])),
            (_, Some(v6)) => Some(IpAddr::V6(v6.parse().map_err(|_| no_address(v6))?)),
            (v4, None) => Some(IpAddr::V4(v4.parse().map_err(|_| no_address(v4))?)),
        };
        Ok(Self { host, port })
    }
}

fn no_address(text: &str) -> String {
    not(text, "an IP address")
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            None => write!(f, ":{}", self.port),
            Some(host) => std::net::SocketAddr::new(host, self.port).fmt(f),
        }
    }
}

/// An address that is configured or determined at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auto {
    /// Determined at run time.
    Auto,
    /// Configured.
    Ip(IpAddr),
}

impl FromStr for Auto {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            ip => ip.parse().map(Self::Ip).map_err(|_| no_address(ip)),
        }
    }
}

impl fmt::Display for Auto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// The size of the picture that the stream page requests from the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoSize {
    /// Any width and height in pixels.
    Custom {
        /// Width in pixels.
        width: u16,
        /// Height in pixels.
        height: u16,
    },
    /// A named size of the page: `720p`, `1080p`, `1440p`, `4k`, `native`.
    Named(&'static str),
}

/// The named sizes of the stream page.
const SIZES: [&str; 5] = ["720p", "1080p", "1440p", "4k", "native"];

impl FromStr for VideoSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(name) = SIZES.into_iter().find(|s| *s == text) {
            return Ok(Self::Named(name));
        }
        let side = |s: &str| s.parse::<u16>().ok().filter(|n| *n > 0);
        match text.split_once('x').map(|(w, h)| (side(w), side(h))) {
            Some((Some(width), Some(height))) => Ok(Self::Custom { width, height }),
            _ => Err("is not a video size".to_owned()),
        }
    }
}

impl fmt::Display for VideoSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Custom { width, height } => write!(f, "{width}x{height}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// The stream program of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebServer {
    /// moonlight-web-stream's `web-server`, or a program with the same interface.
    Program(PathBuf),
    /// The built-in test card.
    TestCard,
}

impl fmt::Display for WebServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(path) => path.display().fmt(f),
            Self::TestCard => f.write_str(Self::TEST_CARD),
        }
    }
}

impl WebServer {
    /// The built-in test card in `sessions.web_server`.
    pub(super) const TEST_CARD: &str = "testcard";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_are_the_runbooks() {
        for text in [":8080", ":0", "127.0.0.1:8080", "[::1]:8080"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        assert_eq!(
            "localhost:1".parse::<Listen>().unwrap().to_string(),
            "127.0.0.1:1"
        );
        for bad in [
            "",
            "8080",
            ":",
            ":65536",
            "::1:80",
            "neck:80",
            "[127.0.0.1]:80",
            "1.2.3:4",
        ] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }

    #[test]
    fn video_sizes_are_named_or_measured() {
        for good in ["1080p", "native", "1920x1080"] {
            assert_eq!(good.parse::<VideoSize>().unwrap().to_string(), good);
        }
        for bad in ["", "x", "0x10", "1080", "70000x1"] {
            assert!(bad.parse::<VideoSize>().is_err(), "{bad}");
        }
    }
}
