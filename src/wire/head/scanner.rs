//! Finds the end of a head while its bytes arrive, and refuses what cannot become valid.

use std::io::BufRead as _;

use super::{HeadLimits, HeadRefusal};

/// Bytes of a request line besides the target: method, version, blanks.
const REQUEST_LINE_EXTRA: usize = 64;

/// Scans a growing buffer until it holds a complete head. Reads every byte once.
#[derive(Debug, Default)]
pub(crate) struct HeadScanner {
    seen: usize,
    line_start: usize,
    lines: usize,
}

impl HeadScanner {
    /// Scans the new bytes of `received`, which starts with the head. Returns the length of the head,
    /// including the final empty line, once it is complete.
    ///
    /// # Errors
    /// As soon as no more bytes can make the head valid: control bytes, a line ending other than
    /// CRLF, a malformed first line, or an exceeded limit.
    pub(crate) fn scan(
        &mut self,
        received: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, HeadRefusal> {
        // Continue where the last call stopped, one byte earlier: it may be a CR that waits for its LF.
        let mut from = self.seen.saturating_sub(1).max(self.line_start);
        while let Some(n) = line_feed(&received[from..]) {
            let i = from + n;
            let Some(line) = received[from..i].strip_suffix(b"\r") else {
                check_bytes(&received[from..i])?;
                return Err(HeadRefusal::BadRequest("line ends with a bare LF"));
            };
            check_bytes(line)?;
            if i - 1 == self.line_start {
                if self.lines == 0 {
                    // RFC 9112 section 2.2: a server ignores one empty line before a request.
                    if i > 1 || !limits.is_of_requests() {
                        return Err(HeadRefusal::BadRequest("empty line before the head"));
                    }
                    self.line_start = i + 1;
                    from = i + 1;
                    continue;
                }
                if i + 1 > limits.scanned() {
                    return Err(HeadRefusal::HeadTooLarge("head too large"));
                }
                return Ok(Some(i + 1));
            }
            if self.lines == 0 {
                check_first_line(&received[self.line_start..i - 1], limits)?;
            }
            self.lines += 1;
            self.line_start = i + 1;
            from = i + 1;
        }
        let rest = &received[from..];
        check_bytes(rest.strip_suffix(b"\r").unwrap_or(rest))?;
        self.seen = received.len();
        if self.lines == 0 {
            check_first_line_length(received, limits)?;
        }
        if received.len() >= limits.scanned() {
            return Err(HeadRefusal::HeadTooLarge("head too large"));
        }
        Ok(None)
    }
}

/// The index of the first LF (`skip_until` uses a fast `memchr`).
fn line_feed(bytes: &[u8]) -> Option<usize> {
    // Reads from a slice cannot fail.
    let n = (&mut &*bytes).skip_until(b'\n').unwrap_or(0);
    (bytes[..n].last() == Some(&b'\n')).then(|| n - 1)
}

/// Refuses control bytes in a line of a head (without its CRLF).
fn check_bytes(line: &[u8]) -> Result<(), HeadRefusal> {
    // A fold without an early exit is vectorised by the compiler.
    let is_bad = |b: u8| (b < b' ' && b != b'\t') || b == 0x7f;
    if !line.iter().fold(false, |bad, b| bad | is_bad(*b)) {
        return Ok(());
    }
    Err(HeadRefusal::BadRequest(
        match line.iter().find(|b| is_bad(**b)) {
            Some(b'\r') => "bare CR inside the head",
            _ => "control byte inside the head",
        },
    ))
}

fn check_first_line_length(line: &[u8], limits: &HeadLimits) -> Result<(), HeadRefusal> {
    if limits.target == 0 || line.len() <= limits.target + REQUEST_LINE_EXTRA {
        return Ok(());
    }
    Err(if line[..REQUEST_LINE_EXTRA].contains(&b' ') {
        HeadRefusal::TargetTooLong("request target too long")
    } else {
        HeadRefusal::NotImplemented("method not implemented")
    })
}

/// A request line needs three parts. HTTP/0.9 has two, and its client would never send fields.
fn check_first_line(line: &[u8], limits: &HeadLimits) -> Result<(), HeadRefusal> {
    check_first_line_length(line, limits)?;
    let parts = line.split(|b| *b == b' ').filter(|p| !p.is_empty()).count();
    if parts < 2 || (parts == 2 && !line.starts_with(b"HTTP/")) {
        return Err(HeadRefusal::BadRequest("malformed request line"));
    }
    Ok(())
}
