//! `async-h1` in memory, behind `wire`: API requests in, API replies out.
//!
//! `async-h1` is only ever shown heads that were rebuilt from the parsed model: target `/`, an
//! inert `Host`, visible ASCII, one `Content-Length`. What it writes is read back by `wire`, so
//! that its known slips (a length on 204, no way to add fields in order) do not reach a client.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http_types::headers::{HeaderName, HeaderValue};
use http_types::{Body, Method, Request, Response, StatusCode};
use smol::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Cursor};

use super::reply::{Reply, ReplyContent};
use crate::wire::digits;
use crate::wire::fields::write_line;
use crate::wire::{HeadLimits, RequestHead, ResponseHead};

/// What goes into `async-h1` and comes out of it in memory.
#[derive(Clone, Debug)]
struct Memory(Cursor<Vec<u8>>);

impl AsyncRead for Memory {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Memory {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Fields that framing and connection management own.
const OWNED: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "expect",
    "upgrade",
    "te",
    "trailer",
];

/// The request as `http-types` has it; its URL is inert, path and query are the caller's.
///
/// # Errors
/// What `async-h1` says, though nothing that `wire` accepted is known to make it fail.
pub(crate) async fn request(head: &RequestHead, body: &[u8]) -> Result<Request, http_types::Error> {
    let mut text = Vec::with_capacity(512 + body.len());
    text.extend_from_slice(head.method.as_str().as_bytes());
    text.extend_from_slice(b" / HTTP/1.1\r\nhost: api.invalid\r\n");
    write_line(
        &mut text,
        b"content-length",
        body.len().to_string().as_bytes(),
    );
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(body);
    let decoded = async_h1::server::decode(Memory(Cursor::new(text))).await?;
    let (mut request, _) =
        decoded.ok_or_else(|| http_types::Error::from_str(StatusCode::BadRequest, "no request"))?;
    // `async-h1` guesses one where it is given none.
    request.remove_header("content-type");
    // Added here and not in the text above: `async-h1` reads heads of less than 8 KiB only.
    for (name, value) in head.fields.iter() {
        let owned = OWNED
            .iter()
            .any(|o| name.eq_ignore_ascii_case(o.as_bytes()));
        if !owned && value.iter().all(|b| (b' '..=b'~').contains(b)) {
            let name = HeaderName::from_bytes(name.to_ascii_lowercase())?;
            request.append_header(name, HeaderValue::from_bytes(value.to_vec())?);
        }
    }
    Ok(request)
}

/// Head and content of a reply that is in memory, as bytes for the socket. `extra` fields come
/// before the content; `close` says that the connection ends after it.
///
/// # Errors
/// When the status is none that `http-types` knows, or `async-h1` fails.
pub(crate) async fn reply(
    reply: Reply,
    method: Method,
    extra: &[(&str, &str)],
    close: bool,
) -> Result<Vec<u8>, http_types::Error> {
    let status = StatusCode::try_from(reply.status)?;
    let mut response = Response::new(status);
    if let ReplyContent::Bytes(bytes) = reply.content {
        response.set_body(Body::from_bytes(bytes));
        // set_body guesses one; ours comes with the fields.
        response.remove_header("content-type");
    }
    for (name, value) in &reply.fields {
        response.append_header(name.as_str(), value.as_str());
    }
    let mut encoded = Vec::new();
    async_h1::server::Encoder::new(response, method)
        .read_to_end(&mut encoded)
        .await?;
    settle(&encoded, extra, close)
}

/// Rebuilds what the encoder wrote through `wire`.
fn settle(
    encoded: &[u8],
    extra: &[(&str, &str)],
    close: bool,
) -> Result<Vec<u8>, http_types::Error> {
    let broken =
        || http_types::Error::from_str(StatusCode::InternalServerError, "unreadable reply");
    let end = encoded
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .ok_or_else(broken)?
        + 4;
    let head = ResponseHead::parse(&encoded[..end], &HeadLimits::RESPONSE)?;
    let bodiless = head.status == 204 || head.status == 304 || head.status < 200;
    let mut out = Vec::with_capacity(encoded.len() + 256);
    status_line(&mut out, head.status);
    for (name, value) in head.fields.iter() {
        if !(bodiless && name.eq_ignore_ascii_case(b"content-length")) {
            write_line(&mut out, name, value);
        }
    }
    for (name, value) in extra {
        write_line(&mut out, name.as_bytes(), value.as_bytes());
    }
    if close {
        write_line(&mut out, b"connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !bodiless {
        out.extend_from_slice(&encoded[end..]);
    }
    Ok(out)
}

/// Appends a status line with the standard reason phrase.
pub(crate) fn status_line(out: &mut Vec<u8>, status: u16) {
    let reason = StatusCode::try_from(status).map_or("", |s| match s {
        // http-types 2.12 calls it "Modified".
        StatusCode::NotModified => "Not Modified",
        other => other.canonical_reason(),
    });
    out.extend_from_slice(b"HTTP/1.1 ");
    digits::decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The current time as an IMF-fixdate (RFC 9110 section 5.6.7), written anew once a second.
#[must_use]
pub(crate) fn date() -> Rc<str> {
    thread_local! {
        static LAST: RefCell<(u64, Rc<str>)> = RefCell::new((0, Rc::from("")));
    }
    let now = crate::clock::wall();
    let second = now
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    LAST.with_borrow_mut(|(written, text)| {
        if *written != second || text.is_empty() {
            *written = second;
            *text = Rc::from(http_types::other::Date::new(now).value().as_str());
        }
        Rc::clone(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(r: Reply, method: Method) -> String {
        String::from_utf8(
            smol::block_on(reply(r, method, &[("x-request-id", "r1")], true)).unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn a_204_has_no_length_and_a_json_reply_has_one() {
        let empty = encode(Reply::empty(204), Method::Delete);
        assert!(empty.starts_with("HTTP/1.1 204 No Content\r\n"), "{empty}");
        assert!(!empty.to_lowercase().contains("content-length"), "{empty}");
        assert!(empty.ends_with("\r\n\r\n"), "{empty}");
        let json = encode(Reply::json(200, &[1, 2]), Method::Get);
        assert!(json.contains("content-length: 6\r\n"), "{json}");
        assert!(
            json.contains("x-request-id: r1\r\nconnection: close\r\n\r\n[1,2]\n"),
            "{json}"
        );
    }

    #[test]
    fn head_has_the_length_of_get_and_no_content() {
        let head = encode(Reply::json(200, &[1, 2]), Method::Head);
        assert!(head.contains("content-length: 6\r\n"), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
    }

    #[test]
    fn a_request_keeps_its_fields_but_not_its_way_of_framing() {
        let text =
            &b"POST /api?x=1 HTTP/1.1\r\nHost: a\r\nX: y\r\nExpect: 100-continue\r\n\r\n"[..];
        let mut head = RequestHead::parse(text, &HeadLimits::REQUEST).unwrap();
        head.fields.push(b"X-Bytes", b"caf\xc3\xa9");
        head.fields.push(b"Content-Type", b"application/json");
        head.fields.push(b"X-Long", &[b'y'; 12_000]);
        let request = smol::block_on(request(&head, b"{}")).unwrap();
        assert_eq!(request.header("x-long").unwrap().as_str().len(), 12_000);
        assert_eq!(request.header("x").unwrap().as_str(), "y");
        let kinds = request.header("content-type").unwrap();
        assert_eq!(kinds.iter().collect::<Vec<_>>(), ["application/json"]);
        assert!(request.header("expect").is_none() && request.header("x-bytes").is_none());
    }
}
