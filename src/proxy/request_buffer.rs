//! A request's content before it is forwarded.
//!
//! Small content is taken in whole first: what turns out to be malformed, cut or too slow then
//! never reaches the upstream, and what is whole can be sent again on a fresh connection.

use crate::clock;
use crate::http::Exchange;
use crate::http::exchange::STALL;
use crate::wire::{BodyError, Framing, MessageBody};

/// Largest request content that is sent in one piece with its head, and again when a reused
/// connection turns out to be stale.
const WHOLE_MAX: u64 = 16 * 1024;
/// Largest request content that is forwarded at all: far beyond what any page of a stream program
/// sends.
pub(super) const CONTENT_MAX: u64 = 256 * 1024 * 1024;

/// What there is to send.
#[derive(Debug)]
pub(super) enum BufferedContent {
    /// This many bytes, at the front of the connection's unread ones.
    Here(usize),
    /// Chunked content, decoded.
    Decoded(Vec<u8>),
    /// More than fits: this much of it was decoded, the rest has to be streamed.
    Streamed(Vec<u8>),
}

impl BufferedContent {
    /// How the upstream is told where it ends.
    pub(super) fn framing(&self, of_client: Framing) -> Framing {
        match self {
            Self::Here(_) | Self::Streamed(_) => of_client,
            Self::Decoded(bytes) if bytes.is_empty() => Framing::Empty,
            Self::Decoded(bytes) => Framing::Length(bytes.len() as u64),
        }
    }

    /// Whether the content can be sent twice.
    pub(super) fn is_whole(&self) -> bool {
        !matches!(self, Self::Streamed(_))
    }
}

/// Refuses content that is announced as too large, before any of it is asked for.
pub(super) fn check_length(framing: Framing) -> Result<(), BodyError> {
    match framing {
        Framing::Length(n) if n > CONTENT_MAX => Err(BodyError::TooLarge),
        _ => Ok(()),
    }
}

/// Takes in what fits.
pub(super) async fn gather(exchange: &mut Exchange) -> Result<BufferedContent, BodyError> {
    match exchange.head.framing {
        Framing::Empty => Ok(BufferedContent::Here(0)),
        Framing::Length(n) if n <= WHOLE_MAX => {
            let length = usize::try_from(n).unwrap_or(usize::MAX);
            if exchange.conn.unread().len() < length {
                Box::pin(in_time(wait_for(exchange, length))).await?;
            }
            Ok(BufferedContent::Here(length))
        }
        Framing::Chunked => Box::pin(in_time(decode(exchange))).await,
        _ => Ok(BufferedContent::Streamed(Vec::new())),
    }
}

/// Drops what was sent from the connection.
pub(super) fn settle(exchange: &mut Exchange, content: &BufferedContent) {
    if let BufferedContent::Here(n) = content {
        exchange.conn.consume(*n);
        exchange.body = MessageBody::new(Framing::Empty);
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, BodyError>>) -> Result<T, BodyError> {
    clock::by(clock::now() + STALL, work)
        .await
        .unwrap_or(Err(BodyError::Stalled))
}

async fn wait_for(exchange: &mut Exchange, length: usize) -> Result<(), BodyError> {
    while exchange.conn.unread().len() < length {
        match exchange.conn.fill().await {
            Ok(0) => return Err(BodyError::Truncated),
            Ok(_) => {}
            Err(error) => return Err(BodyError::Io(error)),
        }
    }
    Ok(())
}

async fn decode(exchange: &mut Exchange) -> Result<BufferedContent, BodyError> {
    let mut bytes = Vec::new();
    while let Some(n) = exchange.body.next(&mut exchange.conn, STALL).await? {
        bytes.extend_from_slice(&exchange.conn.unread()[..n]);
        exchange.conn.consume(n);
        if bytes.len() as u64 > WHOLE_MAX {
            return Ok(BufferedContent::Streamed(bytes));
        }
    }
    Ok(BufferedContent::Decoded(bytes))
}
