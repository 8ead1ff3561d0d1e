//! Heads as they go on: built anew from the parsed model, with what the proxy knows better.

use super::headers::{cookies, limited_by_connection, passes_downstream, passes_upstream};
use super::policy::Policy;
use super::upstream_pool::Upstream;
use crate::http::{Exchange, codec};
use crate::wire::digits;
use crate::wire::fields::write_line;
use crate::wire::head::VIA;
use crate::wire::{Framing, RequestHead, ResponseHead, Version};

/// Room for a usual head.
const ROOM: usize = 1024;

/// Whether the answer may be a document that a snippet belongs into.
pub(super) fn wants_document(head: &RequestHead) -> bool {
    if !matches!(head.method.as_str(), "GET" | "HEAD") {
        return false;
    }
    let last = head.path().rsplit('/').next().unwrap_or_default();
    !last.contains('.') || last.ends_with(".html") || last.ends_with(".htm")
}

/// The head that the upstream gets. `framing` is that of the content as it is sent on.
pub(super) fn request(
    exchange: &Exchange,
    framing: Framing,
    upstream: &Upstream,
    policy: &Policy,
    document: bool,
) -> Vec<u8> {
    let head = &exchange.head;
    let mut out = Vec::with_capacity(ROOM);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if head.fields.count("host") == 0 {
        write_line(&mut out, b"host", upstream.to_string().as_bytes());
    }
    let limited = limited_by_connection(&head.fields);
    for (name, value) in head.fields.iter() {
        if passes_upstream(limited, name, &policy.set, document) {
            write_line(&mut out, name, value);
        }
    }
    match policy.cookies {
        Some(names) => {
            if let Some(value) = cookies(&head.fields, names) {
                write_line(&mut out, b"cookie", &value);
            }
        }
        None => head
            .fields
            .all("cookie")
            .for_each(|value| write_line(&mut out, b"cookie", value)),
    }
    if document {
        write_line(&mut out, b"accept-encoding", b"identity");
    }
    out.extend_from_slice(b"x-forwarded-for: ");
    digits::address(&mut out, exchange.peer.ip());
    out.extend_from_slice(b"\r\n");
    write_line(
        &mut out,
        b"x-forwarded-proto",
        if exchange.secure { b"https" } else { b"http" },
    );
    write_line(&mut out, b"via", VIA);
    for (name, value) in &policy.set {
        write_line(&mut out, name.as_bytes(), value.as_bytes());
    }
    match framing {
        Framing::Empty if matches!(head.method.as_str(), "POST" | "PUT" | "PATCH") => {
            write_line(&mut out, b"content-length", b"0");
        }
        Framing::Empty | Framing::UntilClose => {}
        Framing::Length(n) => write_length(&mut out, n),
        Framing::Chunked => write_line(&mut out, b"transfer-encoding", b"chunked"),
    }
    if head.is_upgrade {
        write_line(&mut out, b"upgrade", b"websocket");
        write_line(&mut out, b"connection", b"upgrade");
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// An interim answer (RFC 9110 section 15.2).
pub(super) fn interim(answer: &ResponseHead) -> Vec<u8> {
    let mut out = Vec::with_capacity(ROOM);
    codec::status_line(&mut out, answer.status);
    for (name, value) in answer.fields.iter() {
        if passes_downstream(Some(&answer.fields), name, false) {
            write_line(&mut out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// The word that the connection is a WebSocket from now on.
pub(super) fn switched(answer: &ResponseHead) -> Vec<u8> {
    let mut out = interim(answer);
    out.truncate(out.len() - 2);
    write_line(&mut out, b"upgrade", b"websocket");
    write_line(&mut out, b"connection", b"upgrade");
    out.extend_from_slice(b"\r\n");
    out
}

/// A final answer's head, and how its content is framed for the client.
#[derive(Debug)]
pub(super) struct Final {
    pub(super) head: Vec<u8>,
    /// Whether the content goes out in chunks.
    pub(super) chunked: bool,
    /// Whether the content's end is that of the connection.
    pub(super) closes: bool,
    /// Whether the upstream did not say how long the content is.
    pub(super) open_ended: bool,
}

/// The head of the final answer to `request`. `framing` is that of the upstream's content;
/// `changed` says that a snippet goes in.
pub(super) fn answer(
    request: &RequestHead,
    answer: &ResponseHead,
    framing: Framing,
    changed: bool,
) -> Final {
    let mut out = Vec::with_capacity(ROOM);
    out.extend_from_slice(b"HTTP/1.1 ");
    digits::decimal(&mut out, u64::from(answer.status));
    out.push(b' ');
    out.extend_from_slice(answer.reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    let mut dated = false;
    let limited = limited_by_connection(&answer.fields);
    for (name, value) in answer.fields.iter() {
        dated |= name.eq_ignore_ascii_case(b"date");
        if passes_downstream(limited, name, changed) {
            write_line(&mut out, name, value);
        }
    }
    if !dated {
        write_line(&mut out, b"date", codec::date().as_bytes());
    }
    let unknown_length = changed || matches!(framing, Framing::Chunked | Framing::UntilClose);
    let bodiless =
        answer.status == 204 || answer.status == 304 || request.method.as_str() == "HEAD";
    let chunked = unknown_length && !bodiless && request.version == Version::Http11;
    let closes = unknown_length && !bodiless && !chunked;
    if chunked {
        write_line(&mut out, b"transfer-encoding", b"chunked");
    } else if let Framing::Length(n) = framing
        && !changed
    {
        write_length(&mut out, n);
    } else if framing == Framing::Empty && !changed && answer.status != 204 {
        // HEAD and 304 tell the length that GET would have; an empty 200 tells 0.
        let announced = answer.fields.get("content-length");
        match announced {
            Some(length) => write_line(&mut out, b"content-length", length),
            None if !bodiless => write_line(&mut out, b"content-length", b"0"),
            None => {}
        }
    }
    if closes || !request.keep_alive {
        write_line(&mut out, b"connection", b"close");
    } else if request.version == Version::Http10 {
        write_line(&mut out, b"connection", b"keep-alive");
    }
    out.extend_from_slice(b"\r\n");
    Final {
        head: out,
        chunked,
        closes,
        open_ended: matches!(framing, Framing::Chunked | Framing::UntilClose),
    }
}

fn write_length(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(b"content-length: ");
    digits::decimal(out, n);
    out.extend_from_slice(b"\r\n");
}
