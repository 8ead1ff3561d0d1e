//! HTTP/1.1 on the wire (RFC 9112): the only room that parses and frames messages.
//!
//! It guarantees: a head is returned only when it is complete, within its limits and valid; framing
//! is decided once, by RFC 9112 section 6.3, and an ambiguous message is refused; heads that are
//! sent are built from the parsed fields, raw header bytes are never copied. Every read has a limit
//! and a deadline. Only `proxy`, `http` and `demo` use it.

mod buffer;
pub mod chunked;
pub mod conn;
pub mod deadline;
pub mod digits;
pub mod fields;
pub mod framing;
pub mod head;
pub mod message_body;
mod pipe;
mod read_head;
pub mod socket;
pub mod target;
pub mod tcp;
#[cfg(test)]
pub(crate) mod tests;
pub mod tunnel;

pub use conn::Conn;
pub use fields::Fields;
pub use framing::Framing;
pub use head::{HeadLimits, Method, RequestHead, ResponseHead, Version};
pub use message_body::{BodyError, MessageBody};
pub use read_head::HeadError;
pub use socket::Socket;
