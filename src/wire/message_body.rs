//! Message bodies: reads content from a connection, whatever the framing.

use std::io;
use std::time::Duration;

use thiserror::Error;

use super::chunked::{BadChunk, ChunkEvent, ChunkScanner};
use super::conn::Conn;
use super::fields::Fields;
use super::framing::Framing;

/// A chunk smaller than this, in bytes, is joined with the chunks after it: copying it costs less
/// than a system call of its own.
const SMALL: usize = 4 * 1024;

/// Why a body could not be read to its end.
#[derive(Debug, Error)]
pub enum BodyError {
    /// Malformed chunked coding.
    #[error(transparent)]
    Malformed(BadChunk),
    /// The connection failed.
    #[error("connection failed inside a body: {0}")]
    Io(#[source] io::Error),
    /// The connection closed before the announced end.
    #[error("connection closed inside a body")]
    Truncated,
    /// No byte arrived for as long as the caller allows.
    #[error("body stalled")]
    Stalled,
    /// The body is longer than the caller allows.
    #[error("body too large")]
    TooLarge,
}

/// A body that is being read. It holds the state of the framing; the bytes stay in the [`Conn`].
#[derive(Clone, Debug)]
pub struct MessageBody {
    state: State,
    trailers: Fields,
}

#[derive(Clone, Debug)]
enum State {
    Done,
    Length(u64),
    Chunked(ChunkScanner),
    UntilClose,
}

impl MessageBody {
    /// A body with that framing.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Empty => State::Done,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::Chunked(ChunkScanner::default()),
            Framing::UntilClose => State::UntilClose,
        };
        Self {
            state,
            trailers: Fields::new(),
        }
    }

    /// Whether it was read to its end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Trailer fields; known when a chunked body is done.
    #[must_use]
    pub fn trailers(&self) -> &Fields {
        &self.trailers
    }

    /// Returns the length of the next piece of content, which is at the front of [`Conn::unread`].
    /// The caller must [`Conn::consume`] all of it before the next call. `None` at the end. `stall`
    /// limits the wait for each read.
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
                        conn.use_large_buffer();
                    }
                }
                State::Chunked(scanner) => {
                    match scanner.step(conn.unread()).map_err(BodyError::Malformed)? {
                        ChunkEvent::Skip(n) => {
                            conn.consume(n);
                            continue;
                        }
                        ChunkEvent::Data(n) if n < SMALL && n < conn.unread().len() => {
                            return self.join(conn, n).map(Some);
                        }
                        ChunkEvent::Data(n) => return Ok(Some(n)),
                        ChunkEvent::More => {}
                        ChunkEvent::End(n, trailers) => {
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
                    conn.use_large_buffer();
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

    /// Joins a small chunk of `first` bytes in place with the received part of the chunks after it,
    /// so that the caller writes them with one system call. Returns the length of the result.
    fn join(&mut self, conn: &mut Conn, first: usize) -> Result<usize, BodyError> {
        let State::Chunked(scanner) = &mut self.state else {
            return Ok(first);
        };
        let bytes = conn.unread_mut();
        let (mut from, mut to) = (first, first);
        let trailers = loop {
            match scanner.step(&bytes[from..]).map_err(BodyError::Malformed)? {
                ChunkEvent::Skip(n) => from += n,
                ChunkEvent::Data(n) => {
                    bytes.copy_within(from..from + n, to);
                    (from, to) = (from + n, to + n);
                }
                ChunkEvent::More => break None,
                ChunkEvent::End(n, trailers) => {
                    from += n;
                    break Some(trailers);
                }
            }
        };
        bytes.copy_within(..to, from - to);
        conn.consume(from - to);
        if let Some(trailers) = trailers {
            self.trailers = trailers;
            self.state = State::Done;
        }
        Ok(to)
    }

    async fn read(&mut self, conn: &mut Conn, stall: Duration) -> Result<usize, BodyError> {
        conn.deadline().set(stall);
        let read = conn.fill().await;
        conn.deadline().clear();
        read.map_err(|e| match e.kind() {
            io::ErrorKind::TimedOut => BodyError::Stalled,
            _ => BodyError::Io(e),
        })
    }

    /// Reads the whole body into memory.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] above `max` bytes (before any read if the length is announced), else
    /// as [`Self::next`].
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    /// Pieces, number of trailers, and the bytes that were left unread.
    type Taken = (Vec<Vec<u8>>, usize, Vec<u8>);

    /// Reads a chunked body that arrived in one segment.
    fn pieces(bytes: &[u8]) -> Result<Taken, BodyError> {
        let (mut far, socket) = crate::wire::tests::pair();
        far.write_all(bytes).unwrap();
        drop(far);
        let mut conn = Conn::new(socket);
        conn.use_large_buffer();
        crate::exec::block_on(async {
            while conn.unread().len() < bytes.len() {
                conn.fill().await.unwrap();
            }
            let (mut body, mut pieces) = (MessageBody::new(Framing::Chunked), Vec::new());
            while let Some(n) = body.next(&mut conn, Duration::from_secs(5)).await? {
                pieces.push(conn.unread()[..n].to_vec());
                conn.consume(n);
            }
            Ok((pieces, body.trailers().len(), conn.unread().to_vec()))
        })
    }

    #[test]
    fn small_chunks_received_together_are_joined_into_one_piece() {
        let chunks = "1;a\r\nx\r\n".repeat(3_000) + "0\r\nT: 1\r\n\r\nnext";
        let (pieces, trailers, rest) = pieces(chunks.as_bytes()).unwrap();
        assert_eq!(pieces, [vec![b'x'; 3_000]]);
        assert_eq!((trailers, &rest[..]), (1, &b"next"[..]));
    }

    #[test]
    fn a_small_chunk_is_joined_with_the_large_one_after_it() {
        let large = "y".repeat(8_192);
        let chunks = format!("2000\r\n{large}\r\n1\r\nx\r\n2000\r\n{large}\r\n0\r\n\r\n");
        let (pieces, ..) = pieces(chunks.as_bytes()).unwrap();
        let lengths: Vec<usize> = pieces.iter().map(Vec::len).collect();
        assert_eq!(lengths, [8_192, 8_193]);
        assert_eq!(pieces.concat(), format!("{large}x{large}").as_bytes());
    }

    #[test]
    fn chunks_received_together_with_a_malformed_one_are_not_returned() {
        let chunks = "1\r\nx\r\n".repeat(100) + "zz\r\n";
        assert!(matches!(
            pieces(chunks.as_bytes()),
            Err(BodyError::Malformed(_))
        ));
    }
}
