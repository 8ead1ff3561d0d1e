//! Bytes of HTTP/1.1 (RFC 9112), and the only room that touches them.
//!
//! Promises: every head that leaves here was parsed whole, bounded and judged; framing is decided
//! once, by RFC 9112 section 6.3, and a message that could be read in two ways is refused; what
//! is written is built from the parsed model, raw header bytes are never copied through. Every
//! read has a limit and a deadline. `proxy` and `http` enter; nobody else needs to.

pub mod alarm;
pub mod body;
mod buffer;
pub mod chunked;
pub mod conn;
pub mod digits;
pub mod fields;
pub mod framing;
pub mod head;
mod pipe;
mod read_head;
pub mod relay;
pub mod socket;
pub mod target;
pub mod tcp;

pub use body::{Body, BodyError};
pub use conn::Conn;
pub use fields::Fields;
pub use framing::Framing;
pub use head::{Limits, Method, RequestHead, ResponseHead, Version};
pub use read_head::HeadError;
pub use socket::Socket;
