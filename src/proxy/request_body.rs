//! Request content that is too large to be taken in whole: forwarded while it comes.

use std::time::{Duration, Instant};

use super::request_buffer::CONTENT_MAX;
use super::upstream_pool::{UpstreamConn, went_stale};
use super::upstream_request::Fault;
use crate::clock;
use crate::http::Exchange;
use crate::http::exchange::STALL;
use crate::wire::{BodyError, Framing};

/// Slowest content, on average, that is waited for, in bytes a second: whoever sends it holds a
/// connection to the upstream all the time. Apache's limit is 500.
const RATE_MIN: u64 = 1_000;

/// Content under way.
pub(super) struct Upload<'a> {
    chunked: bool,
    /// What was taken in before it was clear how large the content is, until it is sent.
    begun: &'a [u8],
    stage: Stage,
    total: u64,
    since: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Done,
    /// The upstream takes no more.
    Refused,
}

impl<'a> Upload<'a> {
    pub(super) fn new(framing: Framing, begun: &'a [u8]) -> Self {
        Self {
            chunked: framing == Framing::Chunked,
            begun,
            stage: Stage::Open,
            total: begun.len() as u64,
            since: clock::now(),
        }
    }

    /// Whether all of it was sent.
    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Sends until the end, or until the upstream has something to say or takes no more: then
    /// there may be an answer. An error leaves the content without its end, and so the connection
    /// must be closed.
    pub(super) async fn run(
        &mut self,
        exchange: &mut Exchange,
        leg: &mut UpstreamConn,
    ) -> Result<(), Fault> {
        if !self.begun.is_empty() {
            let begun = std::mem::take(&mut self.begun);
            self.send(leg, begun).await?;
        }
        while self.stage == Stage::Open {
            let left = patience(clock::now() - self.since, self.total);
            let next = async { Some(exchange.body.next(&mut exchange.conn, left).await) };
            let answered = async {
                leg.socket().data_or_eof().await;
                None
            };
            let Some(piece) = smol::future::or(next, answered).await else {
                return Ok(());
            };
            let Some(n) = piece.map_err(Fault::Client)? else {
                return self.end(leg).await;
            };
            self.total += n as u64;
            if self.total > CONTENT_MAX {
                return Err(Fault::Client(BodyError::TooLarge));
            }
            self.send(leg, &exchange.conn.unread()[..n]).await?;
            exchange.conn.consume(n);
        }
        Ok(())
    }

    async fn send(&mut self, leg: &mut UpstreamConn, piece: &[u8]) -> Result<(), Fault> {
        match leg.write_piece(&[], piece, self.chunked, STALL).await {
            Err(error) if went_stale(&error) => self.stage = Stage::Refused,
            sent => sent.map_err(Fault::Upstream)?,
        }
        Ok(())
    }

    async fn end(&mut self, leg: &mut UpstreamConn) -> Result<(), Fault> {
        self.stage = Stage::Done;
        if self.chunked {
            // Trailers of strangers are not passed on (RFC 9110 section 6.5.1 lets us drop them).
            let sent = leg.write_all(b"0\r\n\r\n", STALL).await;
            match sent {
                Err(error) if went_stale(&error) => self.stage = Stage::Refused,
                sent => sent.map_err(Fault::Upstream)?,
            }
        }
        Ok(())
    }
}

/// How long the next bytes are waited for after `total` bytes in `spent`.
fn patience(spent: Duration, total: u64) -> Duration {
    let earned = STALL + Duration::from_secs(total / RATE_MIN);
    earned.saturating_sub(spent).min(STALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_now_and_then_does_not_hold_an_upstream_for_long() {
        let after = |spent: u64, total: u64| patience(Duration::from_secs(spent), total);
        assert_eq!(after(0, 0), STALL);
        assert_eq!(after(19, 20), Duration::from_secs(1));
        assert_eq!(after(20, 30), Duration::ZERO);
        // Content at a decent pace may pause as long as any.
        assert_eq!(after(60, 100_000), STALL);
        assert_eq!(after(115, 100_000), Duration::from_secs(5));
    }
}
