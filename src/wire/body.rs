//! Message bodies: pieces of content out of a connection, whatever the framing.

use std::io;
use std::time::Duration;

use super::chunked::{BadChunk, Scanner, Step};
use super::conn::Conn;
use super::fields::Fields;
use super::framing::Framing;

/// Why a body ended before its end.
#[derive(Debug)]
pub enum BodyError {
    /// Malformed chunked coding.
    Malformed(BadChunk),
    /// The peer broke off or the kernel failed.
    Io(io::Error),
    /// The connection closed before the announced end.
    Truncated,
    /// No byte came for as long as the caller allows.
    Stalled,
    /// The body is longer than the caller takes.
    TooLarge,
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(bad) => write!(f, "{bad}"),
            Self::Io(error) => write!(f, "connection failed inside a body: {error}"),
            Self::Truncated => f.write_str("connection closed inside a body"),
            Self::Stalled => f.write_str("body stalled"),
            Self::TooLarge => f.write_str("body too large"),
        }
    }
}

impl std::error::Error for BodyError {}

/// A body that is being read. It owns the framing; the bytes stay in the [`Conn`].
#[derive(Clone, Debug)]
pub struct Body {
    state: State,
    trailers: Fields,
}

#[derive(Clone, Debug)]
enum State {
    Done,
    Length(u64),
    Chunked(Scanner),
    UntilClose,
}

impl Body {
    /// A body with that framing.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Empty => State::Done,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::Chunked(Scanner::default()),
            Framing::UntilClose => State::UntilClose,
        };
        Self {
            state,
            trailers: Fields::new(),
        }
    }

    /// Whether all of it was read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Trailer fields of a chunked body that is done.
    #[must_use]
    pub fn trailers(&self) -> &Fields {
        &self.trailers
    }

    /// Length of the next piece of content, which then stands at the front of
    /// [`Conn::unread`] and is the caller's to [`Conn::consume`] whole before the next call.
    /// `None` at the end. `stall` bounds the wait for each read.
    ///
    /// # Errors
    /// See [`BodyError`].
    pub async fn next(
        &mut self,
        conn: &mut Conn,
        stall: Duration,
    ) -> Result<Option<usize>, BodyError> {
        loop {
            match &mut self.state {
                State::Done => return Ok(None),
                State::Length(left) => {
                    let ready = conn.unread().len();
                    if ready > 0 {
                        let n = usize::try_from(*left).unwrap_or(usize::MAX).min(ready);
                        *left -= n as u64;
                        if *left == 0 {
                            self.state = State::Done;
                        }
                        return Ok(Some(n));
                    }
                    if *left > 4_096 {
                        conn.widen();
                    }
                }
                State::Chunked(scanner) => {
                    match scanner.step(conn.unread()).map_err(BodyError::Malformed)? {
                        Step::Skip(n) => {
                            conn.consume(n);
                            continue;
                        }
                        Step::Data(n) => return Ok(Some(n)),
                        Step::More => {}
                        Step::End(n, trailers) => {
                            conn.consume(n);
                            self.trailers = trailers;
                            self.state = State::Done;
                            return Ok(None);
                        }
                    }
                }
                State::UntilClose => {
                    let ready = conn.unread().len();
                    if ready > 0 {
                        return Ok(Some(ready));
                    }
                    conn.widen();
                }
            }
            if self.read(conn, stall).await? == 0 {
                return match self.state {
                    State::UntilClose => {
                        self.state = State::Done;
                        Ok(None)
                    }
                    _ => Err(BodyError::Truncated),
                };
            }
        }
    }

    async fn read(&mut self, conn: &mut Conn, stall: Duration) -> Result<usize, BodyError> {
        conn.alarm().arm(stall);
        let read = conn.fill().await;
        conn.alarm().disarm();
        read.map_err(|e| match e.kind() {
            io::ErrorKind::TimedOut => BodyError::Stalled,
            _ => BodyError::Io(e),
        })
    }

    /// Reads the whole body into memory.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] over `max` bytes (at once when the length is announced), else as
    /// [`Self::next`].
    pub async fn collect(
        &mut self,
        conn: &mut Conn,
        max: usize,
        stall: Duration,
    ) -> Result<Vec<u8>, BodyError> {
        if matches!(self.state, State::Length(n) if n > max as u64) {
            return Err(BodyError::TooLarge);
        }
        let mut whole = Vec::new();
        while let Some(n) = self.next(conn, stall).await? {
            if whole.len() + n > max {
                return Err(BodyError::TooLarge);
            }
            whole.extend_from_slice(&conn.unread()[..n]);
            conn.consume(n);
        }
        Ok(whole)
    }

    /// Reads and drops what is left, so that the next request can be read. Gives up, answering
    /// `false`, after `max` bytes: then the connection is better closed.
    pub async fn drain(&mut self, conn: &mut Conn, max: usize, stall: Duration) -> bool {
        let mut taken = 0;
        loop {
            match self.next(conn, stall).await {
                Ok(None) => return true,
                Ok(Some(n)) if taken + n <= max => {
                    conn.consume(n);
                    taken += n;
                }
                Ok(Some(_)) | Err(_) => return false,
            }
        }
    }
}
