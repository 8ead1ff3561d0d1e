//! The chunked transfer coding (RFC 9112 section 7.1): a strict scanner, sans-IO.

use super::fields::{Fields, is_token, is_value};

/// Longest chunk-size line in bytes, extensions included. No known client sends extensions; a size
/// has at most 16 hex digits.
const SIZE_LINE_MAX: usize = 256;
/// Longest trailer section, in bytes.
const TRAILERS_MAX: usize = 4 * 1024;
/// Most trailer lines.
const TRAILER_LINES_MAX: usize = 32;

/// The bytes are not a chunked body, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed chunked body: {0}")]
pub struct BadChunk(pub &'static str);

/// What the unread bytes start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChunkEvent {
    /// Framing: drop this many bytes.
    Skip(usize),
    /// Content: this many bytes.
    Data(usize),
    /// Not enough bytes: read more.
    More,
    /// The end of the body: drop this many bytes. The fields are the trailers.
    End(usize, Fields),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

/// Decodes a chunked body. The caller passes the unread bytes to [`ChunkScanner::step`], does what
/// the event says, and calls again.
#[derive(Clone, Debug)]
pub(crate) struct ChunkScanner {
    state: State,
}

impl Default for ChunkScanner {
    fn default() -> Self {
        Self { state: State::Size }
    }
}

impl ChunkScanner {
    /// Returns what `unread` starts with.
    ///
    /// # Errors
    /// As soon as the bytes cannot become a valid chunked body, or a line exceeds its limit.
    pub(crate) fn step(&mut self, unread: &[u8]) -> Result<ChunkEvent, BadChunk> {
        match self.state {
            State::Size => self.size_line(unread),
            State::Data(left) => {
                if unread.is_empty() {
                    return Ok(ChunkEvent::More);
                }
                let n = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(unread.len());
                let left = left - n as u64;
                self.state = if left == 0 {
                    State::DataEnd
                } else {
                    State::Data(left)
                };
                Ok(ChunkEvent::Data(n))
            }
            State::DataEnd => match unread {
                [] | [b'\r'] => Ok(ChunkEvent::More),
                [b'\r', b'\n', ..] => {
                    self.state = State::Size;
                    Ok(ChunkEvent::Skip(2))
                }
                _ => Err(BadChunk("chunk data is not followed by CRLF")),
            },
            State::Trailers => self.trailers(unread),
            State::Done => Ok(ChunkEvent::End(0, Fields::new())),
        }
    }

    fn size_line(&mut self, unread: &[u8]) -> Result<ChunkEvent, BadChunk> {
        let Some(line) = line(unread, SIZE_LINE_MAX, "chunk-size line too long")? else {
            // What cannot become a size is refused before its line is complete.
            return match unread.first() {
                Some(b) if !b.is_ascii_hexdigit() => Err(BadChunk("chunk size is not hexadecimal")),
                _ => Ok(ChunkEvent::More),
            };
        };
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        if digits == 0 || digits > 16 {
            return Err(BadChunk("chunk size is not hexadecimal or too large"));
        }
        if !is_extension_list(&line[digits..]) {
            return Err(BadChunk("malformed chunk extension"));
        }
        let size = std::str::from_utf8(&line[..digits])
            .ok()
            .and_then(|t| u64::from_str_radix(t, 16).ok())
            .ok_or(BadChunk("chunk size too large"))?;
        self.state = if size == 0 {
            State::Trailers
        } else {
            State::Data(size)
        };
        Ok(ChunkEvent::Skip(line.len() + 2))
    }

    fn trailers(&mut self, unread: &[u8]) -> Result<ChunkEvent, BadChunk> {
        let mut fields = Fields::new();
        let mut at = 0;
        loop {
            let room = TRAILERS_MAX.saturating_sub(at);
            let Some(text) = line(&unread[at..], room, "trailer section too large")? else {
                return Ok(ChunkEvent::More);
            };
            at += text.len() + 2;
            if text.is_empty() {
                self.state = State::Done;
                return Ok(ChunkEvent::End(at, fields));
            }
            let colon = text.iter().position(|b| *b == b':');
            let (name, value) = text.split_at(colon.ok_or(BadChunk("trailer without a colon"))?);
            let value = trimmed(&value[1..]);
            if !is_token(name) || !is_value(value) {
                return Err(BadChunk("malformed trailer"));
            }
            if fields.len() == TRAILER_LINES_MAX {
                return Err(BadChunk("too many trailer lines"));
            }
            fields.push(name, value);
        }
    }
}

/// `value` without the white space around it: SP and HTAB, no other control byte.
fn trimmed(value: &[u8]) -> &[u8] {
    let is_space = |b: &u8| b" \t".contains(b);
    let start = value.iter().take_while(|b| is_space(b)).count();
    let end = value[start..]
        .iter()
        .rev()
        .take_while(|b| is_space(b))
        .count();
    &value[start..value.len() - end]
}

/// The first line of `unread`, without its CRLF; `None` while it is incomplete.
fn line<'a>(
    unread: &'a [u8],
    max: usize,
    too_long: &'static str,
) -> Result<Option<&'a [u8]>, BadChunk> {
    let window = &unread[..unread.len().min(max)];
    match window.iter().position(|b| *b == b'\n') {
        Some(0) => Err(BadChunk("line ends with a bare LF")),
        Some(end) if window[end - 1] != b'\r' => Err(BadChunk("line ends with a bare LF")),
        Some(end) if window[..end - 1].contains(&b'\r') => Err(BadChunk("bare CR")),
        Some(end) => Ok(Some(&window[..end - 1])),
        None if unread.len() >= max => Err(BadChunk(too_long)),
        None => Ok(None),
    }
}

/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 section 7.1.1).
fn is_extension_list(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some((b';', after)) = without_space(rest).split_first() {
        let after = without_space(after);
        let name = after.iter().take_while(|b| !b";= \t".contains(b)).count();
        if !is_token(&after[..name]) {
            return false;
        }
        rest = &after[name..];
        let Some((b'=', value)) = without_space(rest).split_first() else {
            continue;
        };
        let value = without_space(value);
        let length = if value.first() == Some(&b'"') {
            match quoted_length(value) {
                Some(n) => n,
                None => return false,
            }
        } else {
            let n = value.iter().take_while(|b| !b"; \t".contains(b)).count();
            if !is_token(&value[..n]) {
                return false;
            }
            n
        };
        rest = &value[length..];
    }
    rest.is_empty()
}

/// `text` without leading white space. It is skipped only before a part of an extension, so white
/// space at the end of the line is refused.
fn without_space(text: &[u8]) -> &[u8] {
    let n = text.iter().take_while(|b| b" \t".contains(b)).count();
    &text[n..]
}

fn quoted_length(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (i, b) in text.iter().enumerate().skip(1) {
        match b {
            _ if *b != b'\t' && (*b < 0x20 || *b == 0x7f) => return None,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(i + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `wire` in pieces of `piece` bytes. Returns the body and the bytes left unread.
    fn decode(wire: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
        let (mut scanner, mut unread, mut body) = (ChunkScanner::default(), Vec::new(), Vec::new());
        let mut pieces = wire.chunks(piece.max(1));
        loop {
            match scanner.step(&unread).map_err(|e| e.0)? {
                ChunkEvent::Skip(n) => drop(unread.drain(..n)),
                ChunkEvent::Data(n) => body.extend(unread.drain(..n)),
                ChunkEvent::More => match pieces.next() {
                    Some(p) => unread.extend_from_slice(p),
                    None => return Err("truncated"),
                },
                ChunkEvent::End(n, _) => {
                    unread.drain(..n);
                    unread.extend(pieces.flatten());
                    return Ok((body, unread));
                }
            }
        }
    }

    #[test]
    fn valid_bodies_decode_the_same_however_they_are_split() {
        for (wire, body, rest) in [
            (&b"5\r\nhello\r\n0\r\n\r\n"[..], &b"hello"[..], &b""[..]),
            (
                b"5;a=b;c=\"d;\\\"\"\r\nhello\r\n0\r\n\r\nGET /",
                b"hello",
                b"GET /",
            ),
            (
                b"1\r\na\r\n00a\r\n0123456789\r\n000\r\nX: y\r\n\r\n",
                b"a0123456789",
                b"",
            ),
            (b"5 ; a\t=  b ;c\r\nhello\r\n0\r\n\r\n", b"hello", b""),
            (b"A;x\r\n0123456789\r\n0\r\n\r\n", b"0123456789", b""),
        ] {
            for piece in 1..wire.len() {
                assert_eq!(
                    decode(wire, piece),
                    Ok((body.to_vec(), rest.to_vec())),
                    "piece {piece}"
                );
            }
        }
    }

    #[test]
    fn malformed_bodies_are_refused_however_they_are_split() {
        let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(65_536));
        for wire in [
            &b"5;\r\nhello\r\n0\r\n\r\n"[..],
            b"5;a\n\r\nhello\r\n0\r\n\r\n",
            b"5;a\rb\r\nhello\r\n0\r\n\r\n",
            b"5;a\0\r\nhello\r\n0\r\n\r\n",
            b"5;a b\r\nhello\r\n0\r\n\r\n",
            b"5;a \r\nhello\r\n0\r\n\r\n",
            b"5;a=b \r\nhello\r\n0\r\n\r\n",
            b"5 ;\r\nhello\r\n0\r\n\r\n",
            b"5;a=\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"1_0\r\nhello\r\n0\r\n\r\n",
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"-5\r\nhello\r\n0\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"5 \r\nhello\r\n0\r\n\r\n",
            b"6\r\nhello\r\n0\r\n\r\n",
            b"4\r\nhello\r\n0\r\n\r\n",
            b"5\nhello\n0\n\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"10000000000000000\r\nhello\r\n0\r\n\r\n",
            b"\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\r\n0\r\nX y\r\n\r\n",
            b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
            b"5\r\nhello\r\n0\r\nX:\x0cy\r\n\r\n",
            long.as_bytes(),
        ] {
            for piece in [1, 2, 3, 7, wire.len()] {
                assert!(
                    decode(wire, piece).is_err(),
                    "{:?}",
                    String::from_utf8_lossy(&wire[..wire.len().min(40)])
                );
            }
        }
    }
}
