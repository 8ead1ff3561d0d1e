//! Parsers of single values: durations, sizes, URLs, names. Each returns the value or what is
//! wrong with the text; `field_types` adds the remedy.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use http_types::Url;
use ipnet::IpNet;

/// Longest name of a worker, district or channel: they become metric labels and log fields.
const LABEL_MAX: usize = 64;
/// Longest host name (RFC 1035, in presentation form).
const HOST_MAX: usize = 253;
/// Longest prefix of the keys in etcd: room for a path of a few names.
const PREFIX_MAX: usize = 128;

/// `90s`, `1h 30m`, `500ms`, and `0`. Any other number needs a unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text != "0" && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{text:?} has no unit"));
    }
    humantime::parse_duration(text).map_err(|_| not(text, "a duration"))
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
        _ => return Err(not(text, "a size")),
    };
    let number = number.parse::<u64>().ok();
    let bytes = number.and_then(|n| n.checked_mul(scale));
    bytes.ok_or_else(|| not(text, "a size"))
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

/// An `http://` or `https://` URL without user, password and fragment. The message does
/// not contain the value, which may contain a password.
pub(super) fn url(text: &str) -> Result<String, String> {
    let parsed = Url::parse(text).map_err(|e| format!("is not a URL ({e})"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(format!(
            "has the scheme {:?}, only http and https are supported",
            parsed.scheme()
        ));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("contains a user name or password".to_owned());
    }
    if parsed.fragment().is_some() {
        return Err("contains a fragment (`#`)".to_owned());
    }
    Ok(text.to_owned())
}

/// A URL that paths are appended to: as `url`, no query, without the trailing slash.
pub(crate) fn base_url(text: &str) -> Result<String, String> {
    let text = url(text)?;
    if text.contains('?') {
        return Err("contains a query (`?`)".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// `stun:host[:port]`, `turn:host[:port][?transport=udp|tcp]`, and their TLS forms (RFC 7064,
/// 7065). The host is not checked: a placeholder must load.
pub(super) fn ice_url(text: &str) -> Result<String, String> {
    let Some((scheme @ ("stun" | "stuns" | "turn" | "turns"), rest)) = text.split_once(':') else {
        return Err(not(text, "a stun: or turn: address"));
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
    let noun = format!("a {scheme}: address");
    text_if(transport_ok && host_ok && port_ok, text, &noun)
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
        Err(not(text, "a host name"))
    }
}

/// A name for labels: letters, digits, `.`, `-`, `_`.
pub(super) fn label(text: &str) -> Result<String, String> {
    text_if(is_label(text), text, "a plain name")
}

/// Whether the text is a [`label`]; the empty one is.
pub(crate) fn is_label(text: &str) -> bool {
    text.len() <= LABEL_MAX && text.bytes().all(is_plain)
}

/// 32 bytes in base64.
pub(super) fn ed25519_key(text: &str) -> Result<String, String> {
    use base64::Engine as _;
    match base64::engine::general_purpose::STANDARD.decode(text) {
        Ok(bytes) if bytes.len() == 32 => Ok(text.to_owned()),
        Ok(bytes) => Err(format!(
            "{} bytes are not an Ed25519 public key",
            bytes.len()
        )),
        Err(_) => Err(format!("{text:?} is not base64")),
    }
}

/// A whole number. No sign and no leading zeros: some programs read `010` as 8.
pub(super) fn number<N: FromStr>(text: &str) -> Result<N, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    if !digits || text.len() > 1 && text.starts_with('0') {
        return Err(not(text, "a whole number"));
    }
    text.parse().map_err(|_| out_of_bounds(text))
}

/// A mail address, as far as a certificate authority checks it.
pub(super) fn mail_address(text: &str) -> Result<String, String> {
    match text.split_once('@') {
        Some((user, host)) if !user.is_empty() && !user.contains([' ', ':']) => {
            domain(host).map(|_| text.to_owned())
        }
        _ => Err(not(text, "a mail address")),
    }
}

/// A network, or an address as the network of it alone.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .or_else(|_| one())
        .map(|net| net.trunc())
        .map_err(|_| not(text, "a network"))
}

/// A path of plain names, as the prefix of keys in etcd.
pub(super) fn key_prefix(text: &str) -> Result<String, String> {
    let names = text.strip_prefix('/').map(|rest| rest.split('/'));
    let name_ok = |name: &str| !name.is_empty() && name.bytes().all(is_plain);
    let is_prefix = text.len() <= PREFIX_MAX && names.is_some_and(|mut names| names.all(name_ok));
    text_if(is_prefix, text, "a path of plain names")
}

fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')
}

/// What is wrong with a quantity beyond its bounds.
pub(super) fn out_of_bounds(text: &str) -> String {
    format!("{text} is out of bounds")
}

/// What is wrong with a text that is not of the expected form.
pub(super) fn not(text: &str, noun: &str) -> String {
    format!("{text:?} is not {noun}")
}

fn text_if(is_valid: bool, text: &str, noun: &str) -> Result<String, String> {
    is_valid
        .then(|| text.to_owned())
        .ok_or_else(|| not(text, noun))
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
}
