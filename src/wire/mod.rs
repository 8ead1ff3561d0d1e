//! HTTP/1.1 on the wire (RFC 9112): the only room that parses and frames messages.
//!
//! It guarantees: a head is returned only when it is complete, within its limits and valid; framing
//! is decided once, by RFC 9112 section 6.3, and an ambiguous message is refused; heads that are
//! sent are built from the parsed fields, raw header bytes are never copied. Every read has a limit
//! and a deadline. Only `proxy`, `http` and `demo` use it.

mod buffer;
pub(crate) mod chunked;
pub(crate) mod conn;
pub(crate) mod deadline;
pub(crate) mod digits;
pub(crate) mod fields;
pub(crate) mod framing;
pub(crate) mod head;
pub(crate) mod message_body;
mod pipe;
mod read_head;
pub(crate) mod socket;
pub(crate) mod target;
pub(crate) mod tcp;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod tunnel;

pub(crate) use conn::Conn;
pub(crate) use fields::Fields;
pub(crate) use framing::Framing;
pub(crate) use head::{HeadLimits, Method, RequestHead, ResponseHead, Version};
pub(crate) use message_body::{BodyError, MessageBody};
pub(crate) use read_head::HeadError;
pub(crate) use socket::Socket;
