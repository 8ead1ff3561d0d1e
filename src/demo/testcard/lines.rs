//! Newline-delimited JSON with a bound on every line.

use std::fmt;
use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use smol::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
};

/// Longest line in bytes: a browser's offer with all its candidates is about 20 kB.
pub(super) const LINE_MAX: usize = 128 * 1024;

/// A line cannot be used.
#[derive(Debug)]
pub(super) enum LineError {
    /// The stream broke.
    Io(io::Error),
    /// The line is longer than [`LINE_MAX`].
    TooLong,
    /// The line is no message.
    NotAMessage(serde_json::Error),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot read line: {error}"),
            Self::TooLong => write!(f, "line is longer than {LINE_MAX} bytes"),
            Self::NotAMessage(error) => write!(f, "line is no message: {error}"),
        }
    }
}

/// The next line as text, `None` at the end of the stream.
///
/// # Errors
/// When the stream breaks or the line is too long.
pub(super) async fn text(
    from: &mut (impl AsyncBufRead + Unpin),
) -> Result<Option<String>, LineError> {
    let mut line = Vec::new();
    let read = from
        .take(LINE_MAX as u64 + 1)
        .read_until(b'\n', &mut line)
        .await
        .map_err(LineError::Io)?;
    if read == 0 {
        return Ok(None);
    }
    if read > LINE_MAX {
        return Err(LineError::TooLong);
    }
    Ok(Some(
        String::from_utf8_lossy(line.trim_ascii_end()).into_owned(),
    ))
}

/// The next line as a message, `None` at the end of the stream.
///
/// # Errors
/// As [`text`], and when the line is no `T`.
pub(super) async fn message<T: DeserializeOwned>(
    from: &mut (impl AsyncBufRead + Unpin),
) -> Result<Option<T>, LineError> {
    match text(from).await? {
        None => Ok(None),
        Some(line) => serde_json::from_str(&line)
            .map(Some)
            .map_err(LineError::NotAMessage),
    }
}

/// Writes one message as one line.
///
/// # Errors
/// When the stream breaks.
pub(super) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use super::super::messages::ToStreamer;
    use super::*;

    #[test]
    fn messages_round_trip_line_by_line_and_the_end_is_no_error() {
        smol::block_on(async {
            let mut wire = Vec::new();
            write(&mut wire, &ToStreamer::Stop).await.unwrap();
            write(&mut wire, &ToStreamer::Stop).await.unwrap();
            let mut reader = &wire[..];
            for _ in 0..2 {
                let read = message::<ToStreamer>(&mut reader).await.unwrap();
                assert_eq!(read, Some(ToStreamer::Stop));
            }
            assert_eq!(message::<ToStreamer>(&mut reader).await.unwrap(), None);
        });
    }

    #[test]
    fn an_endless_line_and_garbage_are_refused() {
        smol::block_on(async {
            let endless = vec![b'x'; LINE_MAX + 2];
            let refused = message::<ToStreamer>(&mut &endless[..]).await;
            assert!(matches!(refused, Err(LineError::TooLong)));
            let refused = message::<ToStreamer>(&mut &b"{\"No\":1}\n"[..]).await;
            assert!(matches!(refused, Err(LineError::NotAMessage(_))));
        });
    }
}
