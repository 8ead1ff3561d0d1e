//! Bytes of HTTP/1.1 (RFC 9112), and the only room that touches them.
//!
//! Promises: every head that leaves here was parsed whole, bounded and judged; framing is decided
//! once, by RFC 9112 section 6.3, and a message that could be read in two ways is refused; what
//! is written is built from the parsed model, raw header bytes are never copied through. Every
//! read has a limit and a deadline. `proxy` and `http` enter; nobody else needs to.

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
pub mod tunnel;

pub use conn::Conn;
pub use fields::Fields;
pub use framing::Framing;
pub use head::{HeadLimits, Method, RequestHead, ResponseHead, Version};
pub use message_body::{BodyError, MessageBody};
pub use read_head::HeadError;
pub use socket::Socket;
