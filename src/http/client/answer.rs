//! Answers of peers: whole ones, and those that are still coming.

use std::net::SocketAddr;
use std::time::Duration;

use futures_rustls::TlsStream;
use serde::de::DeserializeOwned;

use super::ClientError;
use super::error::broken;
use crate::protocol::reading;
use crate::tls::Fingerprint;
use crate::wire::{Conn, Fields, MessageBody, Socket};

/// Largest answer that is read into memory: a worker's session list is under 1 MiB.
pub(super) const ANSWER_MAX: usize = 4 * 1024 * 1024;
/// Longest line of a streamed answer.
const LINE_MAX: usize = 64 * 1024;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Field lines.
    pub fields: Fields,
    /// Content.
    pub body: Vec<u8>,
    /// Address of our end of the connection.
    pub local: Option<SocketAddr>,
    /// The peer's certificate, under TLS.
    pub fingerprint: Option<Fingerprint>,
}

impl Answer {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The content as JSON.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] that says what is wrong with it.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|e| {
            ClientError::Protocol(format!("status {} with unusable JSON: {e}", self.status))
        })
    }

    /// The content as another process of ours wrote it, whose version may be another.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] that names the field which is missing.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        let reading = reading::read(&self.body).map_err(|unread| {
            ClientError::Protocol(format!("status {}, cannot read {unread}", self.status))
        })?;
        Ok(reading.value)
    }

    /// The content as text for a log line: its first 200 characters, without control characters.
    #[must_use]
    pub fn excerpt(&self) -> String {
        String::from_utf8_lossy(&self.body)
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect()
    }
}

/// An answer whose content is still coming.
#[derive(Debug)]
pub struct Incoming {
    /// Status code.
    pub status: u16,
    /// Field lines.
    pub fields: Fields,
    pub(super) conn: Conn,
    pub(super) body: MessageBody,
    /// Content before the end of a line.
    pub(super) line: Vec<u8>,
}

impl Incoming {
    /// The next line without its LF; `None` at the end. `within` bounds the wait.
    ///
    /// # Errors
    /// As a call.
    pub async fn line(&mut self, within: Duration) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(end) = self.line.iter().position(|b| *b == b'\n') {
                let rest = self.line.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.line, rest);
                line.truncate(end);
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            if self.line.len() > LINE_MAX {
                return Err(ClientError::Protocol(format!(
                    "a line is longer than {LINE_MAX} bytes"
                )));
            }
            match self
                .body
                .next(&mut self.conn, within)
                .await
                .map_err(|e| broken(e, within))?
            {
                Some(n) => {
                    self.line.extend_from_slice(&self.conn.unread()[..n]);
                    self.conn.consume(n);
                }
                None if self.line.is_empty() => return Ok(None),
                None => {
                    let line = std::mem::take(&mut self.line);
                    return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
                }
            }
        }
    }

    /// The next piece of the content; `None` at the end. `within` bounds the wait.
    ///
    /// # Errors
    /// As a call.
    pub async fn piece(&mut self, within: Duration) -> Result<Option<Vec<u8>>, ClientError> {
        let next = self.body.next(&mut self.conn, within).await;
        let Some(n) = next.map_err(|e| broken(e, within))? else {
            return Ok(None);
        };
        let piece = self.conn.unread()[..n].to_vec();
        self.conn.consume(n);
        Ok(Some(piece))
    }

    /// Reads the rest into memory.
    ///
    /// # Errors
    /// As a call.
    pub async fn whole(mut self, within: Duration) -> Result<Answer, ClientError> {
        let local = self.conn.socket().tcp().get_ref().local_addr().ok();
        let fingerprint = peer_fingerprint(self.conn.socket());
        let body = self.body.collect(&mut self.conn, ANSWER_MAX, within).await;
        let body = body.map_err(|e| broken(e, within))?;
        Ok(Answer {
            status: self.status,
            fields: self.fields,
            body,
            local,
            fingerprint,
        })
    }
}

fn peer_fingerprint(socket: &Socket) -> Option<Fingerprint> {
    let Socket::Tls(stream) = socket else {
        return None;
    };
    let certificates = match &**stream {
        TlsStream::Client(client) => client.get_ref().1.peer_certificates(),
        TlsStream::Server(server) => server.get_ref().1.peer_certificates(),
    };
    Fingerprint::of(certificates?.first()?)
}
