//! What an API answers: replies, and failures in the one shape that all errors have.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::Serialize;
use smol::io::{AsyncRead, AsyncWrite};

use crate::clock;
use crate::ids::RequestId;
use crate::protocol::{ErrorBody, Owner};
use crate::wire::Socket;

/// A streamed answer's source.
pub(crate) type Source = Pin<Box<dyn AsyncRead + Send + Sync>>;
/// What goes on over the connection after `101 Switching Protocols`.
pub(crate) type Switched =
    Box<dyn FnOnce(Upgraded) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// An answer.
pub struct Reply {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) content: ReplyContent,
}

pub(super) enum ReplyContent {
    Empty,
    Bytes(Vec<u8>),
    Stream(Source),
    Switch(Switched),
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Reply {
    fn new(status: u16, content: ReplyContent) -> Self {
        Self {
            status,
            fields: Vec::new(),
            content,
        }
    }

    /// Status alone.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self::new(status, ReplyContent::Empty)
    }

    /// `value` as JSON, ending with a newline.
    #[must_use]
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(mut bytes) => {
                bytes.push(b'\n');
                Self::bytes(status, "application/json", bytes)
            }
            // Only a map with keys that are no strings comes here; our shapes have none.
            Err(error) => {
                log::error!(target: "http", "cannot write an answer as JSON: {error}");
                Self::empty(500)
            }
        }
    }

    /// Text of that content type.
    #[must_use]
    pub fn text(status: u16, content_type: &str, text: impl Into<String>) -> Self {
        Self::bytes(status, content_type, text.into().into_bytes())
    }

    /// Bytes of that content type.
    #[must_use]
    pub fn bytes(status: u16, content_type: &str, bytes: Vec<u8>) -> Self {
        Self::new(status, ReplyContent::Bytes(bytes)).header("Content-Type", content_type)
    }

    /// 200 with content that comes piece by piece until `source` ends or the client leaves.
    #[must_use]
    pub fn stream(content_type: &str, source: impl AsyncRead + Send + Sync + 'static) -> Self {
        Self::new(200, ReplyContent::Stream(Box::pin(source))).header("Content-Type", content_type)
    }

    /// Ends a stream after `span`, wherever it is. Other content stays as it is.
    #[must_use]
    pub fn lasting(mut self, span: Duration) -> Self {
        if let ReplyContent::Stream(source) = self.content {
            let end: Span = Box::pin(clock::sleep(span));
            let end = Some(end);
            self.content = ReplyContent::Stream(Box::pin(Lasting { source, end }));
        }
        self
    }

    /// 101: after it the connection belongs to `then`. Add `Upgrade` and what the protocol needs
    /// with [`Self::header`]; `Connection: upgrade` comes by itself.
    #[must_use]
    pub fn switch<F>(then: impl FnOnce(Upgraded) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::new(
            101,
            ReplyContent::Switch(Box::new(|upgraded| Box::pin(then(upgraded)))),
        )
    }

    /// Adds a field. A value with bytes that may not stand in a field is left out and logged.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        if value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            self.fields.push((name.to_owned(), value));
        } else {
            log::warn!(target: "http", "left out field {name}: its value is not visible ASCII");
        }
        self
    }

    /// The value of a field that was added, by its name in any case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }
}

/// A source that ends at its time.
struct Lasting {
    source: Source,
    /// `None` once it has come.
    end: Option<Span>,
}

type Span = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl AsyncRead for Lasting {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.end.take_if(|end| end.as_mut().poll(cx).is_ready());
        if this.end.is_none() {
            return Poll::Ready(Ok(0));
        }
        this.source.as_mut().poll_read(cx, buf)
    }
}

/// A request that cannot be granted: what the client may know. The cause goes to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// Stable slug.
    pub reason: Box<str>,
    /// One sentence for people.
    pub error: String,
    /// More, where there is more.
    pub detail: Option<String>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Further fields of the answer.
    pub fields: Vec<(&'static str, String)>,
    /// Who has the body that was asked for.
    pub owner: Option<Box<Owner>>,
}

impl Failure {
    /// A failure with that status, slug and sentence.
    #[must_use]
    pub fn new(status: u16, reason: impl Into<String>, error: impl Into<String>) -> Self {
        let (reason, error) = (reason.into().into_boxed_str(), error.into());
        Self {
            status,
            reason,
            error,
            detail: None,
            retry_after: None,
            fields: Vec::new(),
            owner: None,
        }
    }

    /// 409: that session has the body.
    #[must_use]
    pub fn busy(owner: Owner) -> Self {
        let what = format!(
            "session {} has the body; ask with \"takeover\": true to end it first",
            owner.session_id
        );
        Self {
            owner: Some(Box::new(owner)),
            ..Self::new(409, "body_busy", what)
        }
    }

    /// 404.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(404, "not_found", format!("{what} not found"))
    }

    /// Adds detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds a field to the answer.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The answer.
    #[must_use]
    pub fn reply(self, request_id: &RequestId) -> Reply {
        let body = ErrorBody {
            error: self.error,
            code: self.status,
            detail: self.detail,
            reason: self.reason.into(),
            request_id: request_id.to_string(),
            owner: self.owner.map(|owner| *owner),
        };
        let mut reply = Reply::json(self.status, &body);
        if let Some(wait) = self.retry_after {
            reply = reply.header("Retry-After", wait.as_secs().max(1).to_string());
        }
        for (name, value) in self.fields {
            reply = reply.header(name, value);
        }
        reply
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.reason, self.error)
    }
}

impl std::error::Error for Failure {}

/// A connection after a protocol switch: first the bytes that came early, then the socket.
#[derive(Debug)]
pub struct Upgraded {
    socket: Socket,
    early: io::Cursor<Vec<u8>>,
}

impl Upgraded {
    pub(super) fn new(socket: Socket, early: Vec<u8>) -> Self {
        Self {
            socket,
            early: io::Cursor::new(early),
        }
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let n = io::Read::read(&mut this.early, buf)?;
        if n > 0 {
            return Poll::Ready(Ok(n));
        }
        Pin::new(&mut this.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use smol::io::AsyncReadExt as _;

    use super::*;
    use crate::exec;

    /// Says something, and then nothing for ever.
    struct Silent(&'static [u8]);

    impl AsyncRead for Silent {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            match io::Read::read(&mut self.get_mut().0, buf) {
                Ok(0) => Poll::Pending,
                read => Poll::Ready(read),
            }
        }
    }

    #[test]
    fn a_stream_that_is_to_last_so_long_ends_then_and_stays_ended() {
        let reply = Reply::stream("text/plain", Silent(b"word")).lasting(Duration::from_millis(20));
        let ReplyContent::Stream(mut source) = reply.content else {
            panic!("no stream");
        };
        let mut all = Vec::new();
        exec::block_on(source.read_to_end(&mut all)).unwrap();
        assert_eq!(all, b"word");
        assert_eq!(exec::block_on(source.read(&mut [0; 8])).unwrap(), 0);
    }
}
