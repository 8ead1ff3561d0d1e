//! Asking an upstream: the request goes up, the head of its final answer comes back.

use std::fmt;
use std::io::{self, IoSlice};
use std::time::Duration;

use super::heads;
use super::request_body::Upload;
use super::request_buffer::{self, BufferedContent};
use super::upstream_pool::{Pool, Upstream, UpstreamConn, went_stale};
use crate::http::Exchange;
use crate::http::client::ClientError;
use crate::http::exchange::STALL;
use crate::wire::{BodyError, HeadError, HeadLimits, ResponseHead, Version};

/// Wait for the head of an upstream's answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Interim responses before a final one.
const INTERIM_MAX: usize = 8;

/// An upstream that has begun its final answer.
#[derive(Debug)]
pub(super) struct ResponseStart {
    pub(super) leg: UpstreamConn,
    pub(super) answer: ResponseHead,
    /// Whether the upstream was sent the whole request. To one that was not, the next request on
    /// this connection would be the rest of the content.
    pub(super) is_whole: bool,
}

/// Why an upstream gave no usable answer.
#[derive(Debug)]
pub(super) enum Fault {
    Connect(ClientError),
    /// The request's own content is bad: the client is told.
    Client(BodyError),
    Upstream(io::Error),
    Silent,
    Malformed(String),
}

impl Fault {
    /// What the client is told of an upstream's fault.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Silent | Self::Connect(ClientError::Timeout(_)) => 504,
            _ => 502,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "{error}"),
            Self::Client(error) => write!(f, "request content: {error}"),
            Self::Upstream(error) => write!(f, "connection broke before an answer: {error}"),
            Self::Silent => write!(f, "no answer within {} s", ANSWER.as_secs()),
            Self::Malformed(why) => write!(f, "malformed answer: {why}"),
        }
    }
}

/// Sends the request and reads the head of its final answer; once more on a fresh connection when
/// a reused one was stale and nothing can have happened twice. A connection on which that fails is
/// closed: whatever was sent of the request is never completed.
pub(super) async fn ask(
    pool: &Pool,
    exchange: &mut Exchange,
    upstream: &Upstream,
    head: &[u8],
    content: &BufferedContent,
) -> Result<ResponseStart, Fault> {
    let may_repeat = exchange.head.method.is_idempotent() && content.is_whole();
    if !exchange.head.is_upgrade
        && let Some(mut leg) = pool.reuse(upstream, !may_repeat)
    {
        match talk(exchange, &mut leg, head, content).await {
            Ok((answer, is_whole)) => {
                return Ok(ResponseStart {
                    leg,
                    answer,
                    is_whole,
                });
            }
            Err(Fault::Upstream(error)) if may_repeat && went_stale(&error) => {}
            Err(fault) => return Err(fault),
        }
    }
    let connect = Box::pin(pool.connect(upstream));
    let mut leg = connect.await.map_err(Fault::Connect)?;
    let (answer, is_whole) = talk(exchange, &mut leg, head, content).await?;
    Ok(ResponseStart {
        leg,
        answer,
        is_whole,
    })
}

/// The final answer's head, and whether the upstream was sent the whole request.
async fn talk(
    exchange: &mut Exchange,
    leg: &mut UpstreamConn,
    head: &[u8],
    content: &BufferedContent,
) -> Result<(ResponseHead, bool), Fault> {
    let bytes = match content {
        BufferedContent::Streamed(begun) => {
            return Box::pin(stream(exchange, leg, head, begun)).await;
        }
        BufferedContent::Here(n) => &exchange.conn.unread()[..*n],
        BufferedContent::Decoded(bytes) => bytes,
    };
    let mut parts = [IoSlice::new(head), IoSlice::new(bytes)];
    let is_whole = match leg.write_parts(&mut parts, STALL).await {
        Ok(()) => true,
        // An upstream may answer and close without reading the content.
        Err(error) if !bytes.is_empty() && went_stale(&error) => false,
        Err(error) => return Err(Fault::Upstream(error)),
    };
    for _ in 0..INTERIM_MAX {
        let answer = next_head(leg).await?;
        if is_final(&answer) {
            request_buffer::settle(exchange, content);
            return Ok((answer, is_whole));
        }
        pass_interim(exchange, &answer).await;
    }
    Err(Fault::Malformed("only interim responses".into()))
}

/// As [`talk`], sending content while it comes.
async fn stream(
    exchange: &mut Exchange,
    leg: &mut UpstreamConn,
    head: &[u8],
    begun: &[u8],
) -> Result<(ResponseHead, bool), Fault> {
    leg.write_all(head, STALL).await.map_err(Fault::Upstream)?;
    let mut upload = Upload::new(exchange.head.framing, begun);
    for _ in 0..INTERIM_MAX {
        upload.run(exchange, leg).await?;
        let answer = next_head(leg).await?;
        if is_final(&answer) {
            return Ok((answer, upload.is_done()));
        }
        pass_interim(exchange, &answer).await;
    }
    Err(Fault::Malformed("only interim responses".into()))
}

fn is_final(answer: &ResponseHead) -> bool {
    answer.status >= 200 || answer.status == 101
}

async fn next_head(leg: &mut UpstreamConn) -> Result<ResponseHead, Fault> {
    match leg.read_response(&HeadLimits::RESPONSE, ANSWER).await {
        Ok(Some(head)) => Ok(head),
        Ok(None) => Err(Fault::Upstream(io::ErrorKind::UnexpectedEof.into())),
        Err(HeadError::Io(error)) => Err(Fault::Upstream(error)),
        Err(HeadError::Timeout) => Err(Fault::Silent),
        Err(HeadError::Refused(why)) => Err(Fault::Malformed(why.to_string())),
    }
}

/// 100 is ours to answer and was; other interim responses pass to clients that understand them.
async fn pass_interim(exchange: &mut Exchange, answer: &ResponseHead) {
    if answer.status != 100 && exchange.head.version == Version::Http11 {
        let head = heads::interim(answer);
        // A client that is gone is noticed when the final answer is written.
        let _ = Box::pin(exchange.conn.write_all(&head, STALL)).await;
    }
}
