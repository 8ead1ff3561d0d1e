//! Header fields (RFC 9110 section 5): an ordered list in one buffer.

use std::fmt;

/// Field lines in the order received. Names compare case-insensitively; values are bytes without
/// leading or trailing white space.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields {
    text: Vec<u8>,
    spans: Vec<Span>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u32,
    name: u32,
    value: u32,
}

impl Fields {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty list with capacity for `lines` field lines of `bytes` bytes in total.
    #[must_use]
    pub fn with_capacity(lines: usize, bytes: usize) -> Self {
        Self {
            text: Vec::with_capacity(bytes),
            spans: Vec::with_capacity(lines),
        }
    }

    /// Appends a field line. The caller has checked name and value: see [`is_token`] and
    /// [`is_value`]. A line beyond 4 GiB in total is dropped; heads are limited to far less.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let (Ok(start), Ok(n), Ok(v)) = (
            u32::try_from(self.text.len()),
            u32::try_from(name.len()),
            u32::try_from(value.len()),
        ) else {
            return;
        };
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.spans.push(Span {
            start,
            name: n,
            value: v,
        });
    }

    /// Number of field lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// All field lines as (name, value).
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.spans.iter().map(|s| {
            let (start, mid) = (s.start as usize, (s.start + s.name) as usize);
            (
                &self.text[start..mid],
                &self.text[mid..mid + s.value as usize],
            )
        })
    }

    /// Values of every line of that name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, v)| v)
    }

    /// Value of the first line of that name.
    #[must_use]
    pub fn get<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// Value of the first line of that name if it is ASCII.
    #[must_use]
    pub fn text<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.get(name)
            .filter(|v| v.is_ascii())
            .and_then(|v| std::str::from_utf8(v).ok())
    }

    /// Number of lines of that name.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.all(name).count()
    }

    /// Members of a comma-separated list field over all its lines, trimmed, empty ones left out
    /// (RFC 9110 section 5.6.1).
    pub fn members<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name)
            .flat_map(|v| v.split(|b| *b == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|m| !m.is_empty())
    }

    /// Whether a list field has that member, case-insensitively.
    #[must_use]
    pub fn has_member(&self, name: &str, member: &str) -> bool {
        self.members(name)
            .any(|m| m.eq_ignore_ascii_case(member.as_bytes()))
    }
}

impl fmt::Debug for Fields {
    /// Shows names only: values may be credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|(n, _)| String::from_utf8_lossy(n)))
            .finish()
    }
}

/// Whether `text` is a token, such as a field name or a method (RFC 9110 section 5.6.2).
#[must_use]
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| is_tchar(*b))
}

fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Whether `text` may be sent as a field value: no control characters except HTAB (RFC 9110
/// section 5.5).
#[must_use]
pub(crate) fn is_value(text: &[u8]) -> bool {
    text.iter()
        .all(|b| *b == b'\t' || (*b >= 0x20 && *b != 0x7f))
}

/// Appends one field line to `out`.
pub(crate) fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_case_insensitively_and_lists_continue_over_lines() {
        let mut fields = Fields::new();
        fields.push(b"Connection", b"close, X-A");
        fields.push(b"connection", b" ,upgrade");
        assert_eq!(fields.count("CONNECTION"), 2);
        assert_eq!(
            fields.members("connection").collect::<Vec<_>>(),
            [&b"close"[..], b"X-A", b"upgrade"]
        );
        assert!(fields.has_member("Connection", "Upgrade"));
        assert!(!fields.has_member("Connection", "up"));
    }

    #[test]
    fn names_must_be_tokens_and_values_have_no_control_bytes() {
        for good in [&b"X-A"[..], b"a", b"!#$"] {
            assert!(is_token(good));
        }
        for bad in [&b""[..], b"a b", b"a:", b"\xc3\xa9", b"a\0"] {
            assert!(!is_token(bad));
        }
        assert!(is_value(b"caf\xc3\xa9 \t x"));
        for bad in [&b"a\rb"[..], b"a\nb", b"\0", b"\x7f"] {
            assert!(!is_value(bad));
        }
    }
}
