//! Request and response heads (RFC 9112 sections 2 to 5): tokenised by `httparse`, then validated.
//!
//! Sans-IO: [`HeadScanner`] looks at the bytes received so far and finds when a head is complete or
//! cannot become valid; [`RequestHead::parse`] and [`ResponseHead::parse`] take the complete head.

mod connection_options;
mod limits;
mod refusal;
mod request;
mod response;
mod scanner;
#[cfg(test)]
mod tests;

pub(crate) use limits::{HeadLimits, VIA};
pub(crate) use refusal::HeadRefusal;
pub(crate) use request::{Method, RequestHead};
pub(crate) use response::ResponseHead;
pub(crate) use scanner::HeadScanner;

use super::fields::Fields;

/// HTTP version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

fn collect(lines: &[httparse::Header<'_>], bytes: usize) -> Fields {
    let mut fields = Fields::with_capacity(lines.len(), bytes);
    for line in lines {
        fields.push(line.name.as_bytes(), line.value);
    }
    fields
}

fn refusal_of(error: httparse::Error, head: &[u8]) -> HeadRefusal {
    match error {
        httparse::Error::TooManyHeaders => HeadRefusal::HeadTooLarge("too many header fields"),
        httparse::Error::Version => {
            let head = head.trim_ascii_start();
            let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
            let version = line.rsplit(|b| *b == b' ').next().unwrap_or_default();
            match version {
                [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                    HeadRefusal::VersionNotSupported("only HTTP/1.0 and HTTP/1.1 are spoken here")
                }
                _ => HeadRefusal::BadRequest("malformed HTTP version"),
            }
        }
        httparse::Error::HeaderName => HeadRefusal::BadRequest("malformed field name"),
        httparse::Error::HeaderValue => HeadRefusal::BadRequest("malformed field value"),
        httparse::Error::NewLine => HeadRefusal::BadRequest("malformed line ending"),
        httparse::Error::Status => HeadRefusal::BadRequest("malformed status line"),
        httparse::Error::Token => HeadRefusal::BadRequest("malformed request line or field"),
    }
}
