//! How single values are written: durations, sizes, addresses, URLs, names.
//!
//! Each parser answers with a value or with what is wrong; the remedy is the kind's usual form.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use http_types::Url;

/// Longest name of a worker, district or channel: they become metric labels and log fields.
const LABEL_MAX: usize = 64;
/// Longest host name (RFC 1035, in presentation form).
const HOST_MAX: usize = 253;

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
            .map_err(|_| format!("{port:?} is no port from 0 to 65535"))?;
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
    format!("{text:?} is no IP address")
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            None => write!(f, ":{}", self.port),
            Some(host) => std::net::SocketAddr::new(host, self.port).fmt(f),
        }
    }
}

/// An address that is found out or given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auto {
    /// Found out at run time.
    Auto,
    /// Given.
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

/// The picture's size that the stream page asks the body for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoSize {
    /// Any width and height in pixels.
    Custom {
        /// Pixels across.
        width: u16,
        /// Pixels down.
        height: u16,
    },
    /// A size the page knows by name: `720p`, `1080p`, `1440p`, `4k`, `native`.
    Named(&'static str),
}

/// The sizes the stream page has names for.
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
            _ => Err("is no video size".to_owned()),
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

/// `90s`, `1h 30m`, `500ms`, and a bare `0`. Other bare numbers have no unit and are refused.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text != "0" && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{text:?} has no unit"));
    }
    humantime::parse_duration(text).map_err(|_| format!("{text:?} is no duration"))
}

/// `16MiB`, `64KiB`, `1GiB`, or bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("{text:?} is no size")),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(scale))
        .ok_or_else(|| format!("{text:?} is no size"))
}

/// The shortest exact way to write a size.
pub(super) fn size_text(bytes: u64) -> String {
    for (unit, scale) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= scale && bytes.is_multiple_of(scale) {
            return format!("{}{unit}", bytes / scale);
        }
    }
    bytes.to_string()
}

/// An `http://` or `https://` URL without user, password and fragment. Never repeats the value:
/// a URL that is refused may hold a password.
pub(super) fn url(text: &str) -> Result<String, String> {
    let parsed = Url::parse(text).map_err(|e| format!("is no URL ({e})"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(format!(
            "has the scheme {:?}, only http and https are spoken",
            parsed.scheme()
        ));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("holds a user or password".to_owned());
    }
    if parsed.fragment().is_some() {
        return Err("holds a `#` part".to_owned());
    }
    Ok(text.to_owned())
}

/// A URL that paths are appended to: as `url`, no query, without the trailing slash.
pub(super) fn base_url(text: &str) -> Result<String, String> {
    let text = url(text)?;
    if text.contains('?') {
        return Err("holds a `?` part".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// `stun:host[:port]`, `turn:host[:port][?transport=udp|tcp]`, and their TLS forms (RFC 7064,
/// 7065). The host is left to the resolver: placeholders must load.
pub(super) fn ice_url(text: &str) -> Result<String, String> {
    let Some((scheme @ ("stun" | "stuns" | "turn" | "turns"), rest)) = text.split_once(':') else {
        return Err(format!("{text:?} is no stun: or turn: address"));
    };
    let (place, query) = rest
        .split_once('?')
        .map_or((rest, None), |(p, q)| (p, Some(q)));
    let transport_ok = match query {
        None => true,
        Some(q) => scheme.starts_with("turn") && matches!(q, "transport=udp" | "transport=tcp"),
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !place.ends_with(']') => (host, Some(port)),
        _ => (place, None),
    };
    let port_ok = port.is_none_or(|p| p.parse::<u16>().is_ok_and(|n| n > 0));
    let host_ok = !host.is_empty() && !host.contains(['/', '@', ' ']);
    if transport_ok && host_ok && port_ok {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no {scheme}: address"))
    }
}

/// A host name: no scheme, no port, no path.
pub(super) fn domain(text: &str) -> Result<String, String> {
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if text.len() <= HOST_MAX && text.split('.').all(label_ok) && text.parse::<IpAddr>().is_err() {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("{text:?} is no host name"))
    }
}

/// A name for labels: letters, digits, `.`, `-`, `_`.
pub(super) fn label(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if text.len() <= LABEL_MAX && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no plain name"))
    }
}

/// 32 bytes in base64.
pub(super) fn ed25519_key(text: &str) -> Result<String, String> {
    use base64::Engine as _;
    match base64::engine::general_purpose::STANDARD.decode(text) {
        Ok(bytes) if bytes.len() == 32 => Ok(text.to_owned()),
        Ok(bytes) => Err(format!("{} bytes are no Ed25519 public key", bytes.len())),
        Err(_) => Err(format!("{text:?} is no base64")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, millis) in [
            ("60s", 60_000),
            ("1h 30m", 5_400_000),
            ("500ms", 500),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
        }
        for bad in [
            "60",
            "",
            "s",
            "-5s",
            "1e3",
            "99999999999999999999s",
            "5 parsecs",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_round_trip() {
        for (text, bytes) in [
            ("16MiB", 16 << 20),
            ("1GiB", 1 << 30),
            ("3KiB", 3072),
            ("7", 7),
        ] {
            assert_eq!(size(text), Ok(bytes));
            assert_eq!(size_text(bytes), text);
        }
        for bad in [
            "",
            "MiB",
            "16MB",
            "-1",
            "1.5GiB",
            "99999999999GiB",
            "18446744073709551616",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

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
    fn urls_are_http_and_carry_no_password() {
        assert_eq!(
            base_url("https://neck.test/"),
            Ok("https://neck.test".to_owned())
        );
        for bad in [
            "neck.test",
            "ftp://neck",
            "https://u:hunter2@neck",
            "http://neck/#x",
            "",
        ] {
            let said = url(bad).unwrap_err();
            assert!(!said.contains("hunter2"));
        }
    }

    #[test]
    fn ice_addresses_have_a_known_scheme() {
        for good in [
            "stun:stun.l.google.com:19302",
            "turn:<server-public-ip>:3478",
            "turns:relay.test",
            "turn:[2001:db8::1]:3478?transport=tcp",
            "stun:[::1]",
        ] {
            assert_eq!(ice_url(good), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "stun:",
            "http://x",
            "turn:a:b",
            "turn:a:0",
            "stun:a?transport=udp",
            "turn:u@h:1",
            "turn://h:1",
            "turn:h?transport=quic",
        ] {
            assert!(ice_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn host_names_and_labels_are_plain() {
        assert_eq!(domain("Neck.Test"), Ok("neck.test".to_owned()));
        for bad in [
            "",
            "https://neck",
            "neck:443",
            "a..b",
            "-a",
            "10.0.0.1",
            "neck/x",
        ] {
            assert!(domain(bad).is_err(), "{bad}");
        }
        assert!(label("neck-1.bxl").is_ok());
        assert!(label("neck 1").is_err() && label(&"a".repeat(65)).is_err());
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
