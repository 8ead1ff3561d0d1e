//! One request on one connection, and the ways to answer it.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use http_types::Method;
use smol::io::AsyncReadExt as _;

use super::call::{Call, Handler};
use super::codec;
use super::reply::{Failure, Reply, ReplyContent, Source, Upgraded};
use crate::clock;
use crate::ids::RequestId;
use crate::wire::fields::write_line;
use crate::wire::{BodyError, Conn, Framing, MessageBody, RequestHead, Version};

/// Largest content of an API request. The largest legal one is a heartbeat: 1,000 sessions of
/// about 600 bytes.
pub(crate) const API_BODY_MAX: usize = 1024 * 1024;
/// Largest content of a request that browsers of strangers send: an SDP offer.
pub(crate) const BROWSER_BODY_MAX: usize = 64 * 1024;
/// Time for the whole content of an API request: the largest at 280 kbit/s.
const CONTENT: Duration = Duration::from_secs(30);
/// How long a peer may stay silent inside a body, or not read what it is sent.
pub(crate) const STALL: Duration = Duration::from_secs(20);
/// How long the rest of an answer to a misbehaving client may take to be read.
const LINGER: Duration = Duration::from_secs(1);
/// What is still read from a client whose connection is being closed.
const LINGER_BYTES: usize = 256 * 1024;
/// Largest piece of a streamed reply.
const PIECE: usize = 16 * 1024;

/// A request whose head was accepted. It owns the connection.
#[derive(Debug)]
pub struct Exchange {
    /// The head.
    pub head: RequestHead,
    /// The content, unread so far.
    pub body: MessageBody,
    /// The connection.
    pub conn: Conn,
    /// The client, or the proxy before it.
    pub peer: SocketAddr,
    /// Whether the connection is under TLS.
    pub secure: bool,
    /// Names this request in logs and errors.
    pub id: RequestId,
}

/// How an exchange ended.
#[derive(Debug)]
pub enum Done {
    /// Answered, and all of the request was read: the next one may follow.
    Next(Conn),
    /// The connection is closed or somebody else's.
    Gone,
    /// The connection goes on as something else, which the server runs to its end: what the
    /// request needed is freed first.
    Then(UpgradedConnection),
}

/// The rest of a connection's life.
pub struct UpgradedConnection(Pin<Box<dyn Future<Output = ()> + Send>>);

impl UpgradedConnection {
    /// What happens until the connection ends.
    #[must_use]
    pub fn new(life: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Box::pin(life))
    }

    pub(super) async fn run(self) {
        self.0.await;
    }
}

impl fmt::Debug for UpgradedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").finish_non_exhaustive()
    }
}

impl Exchange {
    /// Reads the whole content, sending `100 Continue` first where the client waits for it.
    ///
    /// # Errors
    /// The answer to the client.
    pub async fn content(&mut self, max: usize) -> Result<Vec<u8>, Failure> {
        if matches!(self.head.framing, Framing::Length(n) if n > max as u64) {
            return Err(content_failure(&BodyError::TooLarge));
        }
        if self.body.is_done() {
            return Ok(Vec::new());
        }
        self.go_on().await;
        let whole = self.body.collect(&mut self.conn, max, STALL);
        clock::by(clock::now() + CONTENT, whole)
            .await
            .unwrap_or(Err(BodyError::Stalled))
            .map_err(|error| content_failure(&error))
    }

    /// Sends `100 Continue` when the client waits for it and has sent no content yet.
    pub async fn go_on(&mut self) {
        if self.head.expects_continue && !self.body.is_done() && self.conn.unread().is_empty() {
            // A client that is gone is noticed at the next read.
            let _ = self
                .conn
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n", STALL)
                .await;
        }
        self.head.expects_continue = false;
    }

    /// Answers by `handler`, as an API: the content is read whole first.
    pub async fn serve(mut self, handler: &dyn Handler, max: usize) -> Done {
        if let Err(failure) = handler.admit(&self) {
            return self.answer_failure(failure).await;
        }
        let content = match self.content(max).await {
            Ok(content) => content,
            Err(failure) => return self.refuse(failure).await,
        };
        let request = match codec::request(&self.head, &content).await {
            Ok(request) => request,
            Err(error) => {
                let status = u16::from(error.status());
                let failure = Failure::new(status, "bad_request", "the request cannot be read");
                return self.refuse(failure).await;
            }
        };
        let call = Call {
            method: request.method(),
            path: self.head.path().to_owned(),
            query: self.head.query().map(str::to_owned),
            body: content,
            peer: self.peer,
            request_id: self.id.clone(),
            host: self.head.host().to_owned(),
            secure: self.secure,
            params: Vec::new(),
            request,
        };
        match handler.answer(call).await {
            Ok(reply) => self.answer(reply).await,
            Err(failure) => {
                log::debug!(target: "http", request_id = self.id.as_str();
                    "{} {} -> {failure}", self.head.method.as_str(), self.head.path());
                self.answer_failure(failure).await
            }
        }
    }

    /// Answers with a failure and keeps the connection where that is safe.
    pub async fn answer_failure(self, failure: Failure) -> Done {
        let reply = failure.reply(&self.id);
        self.answer(reply).await
    }

    /// Answers with a failure and closes: nothing more can be trusted on this connection.
    pub async fn refuse(mut self, failure: Failure) -> Done {
        self.head.keep_alive = false;
        self.answer_failure(failure).await
    }

    /// Sends a reply. The connection closes when content was left unread, since a client that is
    /// refused early may send it or not, and after an upgrade that was not granted.
    pub async fn answer(mut self, reply: Reply) -> Done {
        self.head.keep_alive &= self.body.is_done() && !self.head.is_upgrade;
        let id = self.id.to_string();
        let mut extra = vec![
            ("x-request-id", id.as_str()),
            ("x-content-type-options", "nosniff"),
        ];
        let is_kept = self.head.keep_alive && !matches!(reply.content, ReplyContent::Stream(_));
        if is_kept && self.head.version == Version::Http10 {
            extra.push(("connection", "keep-alive"));
        }
        let Reply {
            status,
            fields,
            content,
        } = reply;
        match content {
            ReplyContent::Stream(source) => self.stream(status, &fields, &extra, source).await,
            ReplyContent::Switch(then) => {
                let mut head = Vec::with_capacity(256);
                codec::status_line(&mut head, status);
                write_line(&mut head, b"connection", b"upgrade");
                for (name, value) in &fields {
                    write_line(&mut head, name.as_bytes(), value.as_bytes());
                }
                head.extend_from_slice(b"\r\n");
                if self.conn.write_all(&head, STALL).await.is_ok() {
                    let (socket, early) = self.conn.into_parts();
                    then(Upgraded::new(socket, early)).await;
                }
                Done::Gone
            }
            content => {
                let reply = Reply {
                    status,
                    fields,
                    content,
                };
                let method: Method = self.head.method.as_str().parse().unwrap_or(Method::Get);
                let close = !self.head.keep_alive;
                let bytes = match codec::reply(reply, method, &extra, close).await {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        log::error!(target: "http", "cannot encode a reply of status {status}: {error}");
                        b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec()
                    }
                };
                if self.conn.write_all(&bytes, STALL).await.is_err() {
                    return Done::Gone;
                }
                if close {
                    self.close().await;
                    return Done::Gone;
                }
                Done::Next(self.conn)
            }
        }
    }

    /// Closes so that the client can still read the answer.
    pub async fn close(self) {
        self.conn.linger(LINGER_BYTES, LINGER).await;
    }

    /// Streams until the source ends or the client leaves; the connection closes after it.
    async fn stream(
        mut self,
        status: u16,
        fields: &[(String, String)],
        extra: &[(&str, &str)],
        mut source: Source,
    ) -> Done {
        let chunked = self.head.version == Version::Http11;
        let mut head = Vec::with_capacity(512);
        codec::status_line(&mut head, status);
        write_line(&mut head, b"date", codec::date().as_bytes());
        for (name, value) in fields {
            write_line(&mut head, name.as_bytes(), value.as_bytes());
        }
        for (name, value) in extra {
            write_line(&mut head, name.as_bytes(), value.as_bytes());
        }
        if chunked {
            write_line(&mut head, b"transfer-encoding", b"chunked");
        }
        write_line(&mut head, b"connection", b"close");
        head.extend_from_slice(b"\r\n");
        if self.conn.write_all(&head, STALL).await.is_err() || self.head.method.as_str() == "HEAD" {
            return Done::Gone;
        }
        let mut piece = vec![0_u8; PIECE];
        loop {
            let read = smol::future::or(async { Some(source.read(&mut piece).await) }, async {
                self.conn.socket().closed_by_peer().await;
                None
            });
            let n = match read.await {
                Some(Ok(n)) => n,
                Some(Err(error)) => {
                    log::debug!(target: "http", "a stream broke off: {error}");
                    return Done::Gone;
                }
                None => return Done::Gone,
            };
            if n == 0 {
                if chunked {
                    // A client that is gone needs no end.
                    let _ = self.conn.write_all(b"0\r\n\r\n", STALL).await;
                }
                return Done::Gone;
            }
            let sent = self.conn.write_piece(&[], &piece[..n], chunked, STALL);
            if sent.await.is_err() {
                return Done::Gone;
            }
        }
    }
}

/// The answer to a request whose content could not be read.
#[must_use]
pub(crate) fn content_failure(error: &BodyError) -> Failure {
    match error {
        BodyError::TooLarge => Failure::new(413, "content_too_large", "the content is too large"),
        BodyError::Stalled => Failure::new(408, "timeout", "the content did not come in time"),
        other => Failure::new(400, "bad_request", other.to_string()),
    }
}
