//! The length of a message body (RFC 9112 section 6.3), decided once; ambiguous messages are refused.

use super::fields::Fields;
use super::head::{HeadRefusal, Version};

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// Exactly this many bytes, at least one.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Everything until the connection closes; responses only.
    UntilClose,
}

/// Framing of a request.
///
/// # Errors
/// 400 when the length is ambiguous, 501 for a transfer coding before `chunked`.
pub(crate) fn of_request(fields: &Fields, version: Version) -> Result<Framing, HeadRefusal> {
    match explicit(fields, version)? {
        Some(framing) => Ok(framing),
        None => Ok(Framing::Empty),
    }
}

/// Framing of a final response; `to_head` says that it answers a HEAD request. A response to HEAD,
/// 204 and 304 have no body whatever their fields say.
///
/// # Errors
/// As [`of_request`]; the caller turns them into 502.
pub(crate) fn of_response(
    fields: &Fields,
    version: Version,
    status: u16,
    to_head: bool,
) -> Result<Framing, HeadRefusal> {
    let explicit = explicit(fields, version)?;
    if to_head || status < 200 || status == 204 || status == 304 {
        return Ok(Framing::Empty);
    }
    Ok(explicit.unwrap_or(Framing::UntilClose))
}

fn explicit(fields: &Fields, version: Version) -> Result<Option<Framing>, HeadRefusal> {
    let codings = fields.count("transfer-encoding");
    let lengths = fields.count("content-length");
    if codings > 0 {
        if lengths > 0 {
            return Err(HeadRefusal::BadRequest(
                "both Transfer-Encoding and Content-Length",
            ));
        }
        if version == Version::Http10 {
            return Err(HeadRefusal::BadRequest(
                "Transfer-Encoding in an HTTP/1.0 message",
            ));
        }
        if codings > 1 {
            return Err(HeadRefusal::BadRequest("more than one Transfer-Encoding"));
        }
        return codings_of(fields.get("transfer-encoding").unwrap_or_default()).map(Some);
    }
    match lengths {
        0 => Ok(None),
        1 => length(fields.get("content-length").unwrap_or_default()).map(Some),
        _ => Err(HeadRefusal::BadRequest("more than one Content-Length")),
    }
}

/// Accepts exactly `chunked`. Other codings followed by one final `chunked` are valid but not
/// implemented (501). Without a final `chunked` the length is unknown (400; RFC 9112 sections 6.1
/// and 6.3).
fn codings_of(value: &[u8]) -> Result<Framing, HeadRefusal> {
    let is_chunked = |c: &[u8]| c.eq_ignore_ascii_case(b"chunked");
    if is_chunked(value) {
        return Ok(Framing::Chunked);
    }
    let mut codings = value.rsplit(|b| *b == b',').map(<[u8]>::trim_ascii);
    let ends_with_chunked = codings.next().is_some_and(is_chunked);
    if ends_with_chunked && codings.all(|c| super::fields::is_token(c) && !is_chunked(c)) {
        return Err(HeadRefusal::NotImplemented(
            "a transfer coding other than chunked",
        ));
    }
    Err(HeadRefusal::BadRequest(
        "Transfer-Encoding is not exactly chunked",
    ))
}

fn length(value: &[u8]) -> Result<Framing, HeadRefusal> {
    const BAD: HeadRefusal =
        HeadRefusal::BadRequest("Content-Length is not a plain decimal number");
    // Leading zeros are valid, but some parsers read them as octal.
    if value.is_empty()
        || !value.iter().all(u8::is_ascii_digit)
        || (value.len() > 1 && value[0] == b'0')
    {
        return Err(BAD);
    }
    let n = std::str::from_utf8(value)
        .ok()
        .and_then(|t| t.parse::<u64>().ok())
        .ok_or(BAD)?;
    Ok(if n == 0 {
        Framing::Empty
    } else {
        Framing::Length(n)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[(&str, &str)], version: Version) -> Result<Framing, u16> {
        let mut fields = Fields::new();
        for (name, value) in lines {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        of_request(&fields, version).map_err(|r| r.status())
    }

    #[test]
    fn ambiguous_lengths_are_refused() {
        let te = "Transfer-Encoding";
        let cl = "Content-Length";
        for (lines, want) in [
            (&[][..], Ok(Framing::Empty)),
            (&[(cl, "5")], Ok(Framing::Length(5))),
            (&[(cl, "0")], Ok(Framing::Empty)),
            (&[(te, "chunked")], Ok(Framing::Chunked)),
            (&[(te, "CHUNKED")], Ok(Framing::Chunked)),
            (&[(cl, "5"), (te, "chunked")], Err(400)),
            (&[(cl, "5"), (cl, "5")], Err(400)),
            (&[(cl, "5"), (cl, "6")], Err(400)),
            (&[(cl, "5, 5")], Err(400)),
            (&[(cl, "-5")], Err(400)),
            (&[(cl, "+5")], Err(400)),
            (&[(cl, "05")], Err(400)),
            (&[(cl, "0x5")], Err(400)),
            (&[(cl, "5 5")], Err(400)),
            (&[(cl, "5_0")], Err(400)),
            (&[(cl, "18446744073709551616")], Err(400)),
            (&[(cl, "")], Err(400)),
            (&[(te, "xchunked")], Err(400)),
            (&[(te, "gzip, chunked")], Err(501)),
            (&[(te, "chunked, gzip, chunked")], Err(400)),
            (&[(te, "gzip")], Err(400)),
            (&[(te, "chunked, identity")], Err(400)),
            (&[(te, "chunked, chunked")], Err(400)),
            (&[(te, ", chunked")], Err(400)),
            (&[(te, "")], Err(400)),
            (&[(te, "chunked"), (te, "identity")], Err(400)),
        ] {
            assert_eq!(request(lines, Version::Http11), want, "{lines:?}");
        }
        assert_eq!(request(&[(te, "chunked")], Version::Http10), Err(400));
    }

    #[test]
    fn responses_that_must_not_have_a_body_have_none() {
        let mut fields = Fields::new();
        fields.push(b"Content-Length", b"9");
        for (status, to_head, want) in [
            (200, false, Framing::Length(9)),
            (200, true, Framing::Empty),
            (204, false, Framing::Empty),
            (304, false, Framing::Empty),
        ] {
            assert_eq!(
                of_response(&fields, Version::Http11, status, to_head),
                Ok(want)
            );
        }
        assert_eq!(
            of_response(&Fields::new(), Version::Http11, 200, false),
            Ok(Framing::UntilClose)
        );
    }
}
