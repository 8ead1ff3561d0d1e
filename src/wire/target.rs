//! Request targets and authorities (RFC 9112 section 3.2, RFC 3986 section 3.2).

/// Splits a target into the authority, if it is in absolute form, and path with query. `None` when
/// it is neither in absolute nor in origin form.
#[must_use]
pub(crate) fn split(target: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    if target.first() == Some(&b'/') {
        return Some((None, target));
    }
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|s| target.len() > s.len() && target[..s.len()].eq_ignore_ascii_case(s))?;
    let rest = &target[scheme.len()..];
    let end = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match path.first() {
        Some(b'/') => Some((Some(authority), path)),
        None => Some((Some(authority), b"/")),
        // "http://host?query" has no path to forward.
        Some(_) => None,
    }
}

/// Whether every byte is allowed in a target. Stricter than servers must be (no backslash, fragment,
/// quotes or non-ASCII bytes), wider than RFC 3986 for what browsers send unescaped in queries
/// (`{}|^` and the backquote).
#[must_use]
pub(crate) fn is_clean(target: &[u8]) -> bool {
    !target.is_empty()
        && target
            .iter()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'#' | b'"' | b'<' | b'>'))
}

/// Whether a `Host` value is exactly `uri-host [ ":" port ]` (RFC 9110 section 7.2), without
/// userinfo, path or query.
#[must_use]
pub(crate) fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value.first() {
        None => return false,
        Some(b'[') => match value.iter().position(|b| *b == b']') {
            Some(end) => (&value[..=end], &value[end + 1..]),
            None => return false,
        },
        Some(_) => {
            let colon = value.iter().position(|b| *b == b':').unwrap_or(value.len());
            value.split_at(colon)
        }
    };
    let host_fine = if let Some(inner) = host.strip_prefix(b"[") {
        std::str::from_utf8(&inner[..inner.len() - 1])
            .is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
    } else {
        // reg-name without sub-delims: host names do not contain them.
        !host.is_empty()
            && host
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(b))
    };
    let port_fine = match port.split_first() {
        None => true,
        Some((b':', digits)) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    host_fine && port_fine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_address_with_an_optional_port() {
        for good in [
            "a",
            "a.example:80",
            "127.0.0.1",
            "[::1]",
            "[2001:db8::1]:8080",
            "a_b:",
            "x~y",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "u@x",
            "x/session/1?",
            "x?y",
            "a b",
            "a,b",
            "[::1",
            "[x]",
            "x:80a",
            "x:123456",
            "x#",
            "a\\b",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn targets_split_into_authority_and_raw_path() {
        assert_eq!(split(b"/a/../%2e?q"), Some((None, &b"/a/../%2e?q"[..])));
        assert_eq!(
            split(b"http://h:1/p?q"),
            Some((Some(&b"h:1"[..]), &b"/p?q"[..]))
        );
        assert_eq!(split(b"HTTP://h"), Some((Some(&b"h"[..]), &b"/"[..])));
        for bad in [&b"*"[..], b"a/b", b"ftp://x/", b"http://", b"http://h?q"] {
            assert_eq!(split(bad), None);
        }
    }

    #[test]
    fn bytes_that_parsers_read_differently_are_refused_in_a_target() {
        assert!(is_clean(b"/a/../b/%2e%2e/%00;x//?a={b}|c^d`&e='f'"));
        for bad in [
            &b""[..],
            b"/a b",
            b"/a\\b",
            b"/#f",
            b"/\xc0\xae",
            b"/\"",
            b"/<",
            b"/\x7f",
            b"/\0",
        ] {
            assert!(!is_clean(bad));
        }
    }
}
