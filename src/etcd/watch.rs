//! A watch: a streamed answer with one JSON object a line.

use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;

use super::error::EtcdError;
use super::fields::{Header, Kv, Revision, WatchEvent, number};
use crate::http::client::Incoming;

/// Longest line. etcd takes 1.5 MiB in a request by default, and base64 makes 2 MiB of it; but what a
/// watch has to catch up with can come as one line, of any length.
const LINE_MAX: usize = 4 * 1024 * 1024;

/// An open watch.
#[derive(Debug)]
pub struct Watch {
    endpoint: String,
    stream: Incoming,
    silence: Duration,
    /// Bytes received, from the beginning of a line.
    buffer: Vec<u8>,
    /// Offset of the next line.
    next: usize,
    /// Offset up to which the end of that line was searched.
    searched: usize,
}

/// Changes in the order of their revisions; all of a revision are in one response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchResponse {
    /// The store's revision.
    pub revision: Revision,
    /// Identifies the cluster.
    pub cluster: u64,
    /// Up to which revision this watch has shown everything. The first response says nothing of
    /// that: older changes may follow it.
    pub progress: Option<Revision>,
    /// The changes; none in the first response and in progress notifications.
    pub changes: Vec<WatchEvent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    result: Option<LineResult>,
    error: Option<LineError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LineError {
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LineResult {
    header: Header,
    created: bool,
    canceled: bool,
    cancel_reason: String,
    #[serde(deserialize_with = "number")]
    compact_revision: Revision,
    events: Vec<Event>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    r#type: Option<String>,
    kv: Kv,
}

impl Watch {
    pub(super) fn new(endpoint: String, stream: Incoming, silence: Duration) -> Self {
        Self {
            endpoint,
            stream,
            silence,
            buffer: Vec::new(),
            next: 0,
            searched: 0,
        }
    }

    /// The next response.
    ///
    /// # Errors
    /// [`EtcdError::Compacted`], [`EtcdError::TooLarge`], or [`EtcdError::WatchLost`] when it ended,
    /// failed or was silent.
    pub async fn next(&mut self) -> Result<WatchResponse, EtcdError> {
        let line = self.line().await?;
        read(&self.buffer[line], &self.endpoint)
    }

    /// The range of the next line in the buffer.
    async fn line(&mut self) -> Result<Range<usize>, EtcdError> {
        loop {
            let mut rest = self.buffer[self.searched..].iter();
            if let Some(end) = rest.position(|b| *b == b'\n') {
                let line = self.next..self.searched + end;
                self.next = line.end + 1;
                self.searched = self.next;
                return Ok(line);
            }
            self.buffer.drain(..self.next);
            self.next = 0;
            self.searched = self.buffer.len();
            let lost = |why: String| EtcdError::WatchLost(format!("{}: {why}", self.endpoint));
            if self.buffer.len() > LINE_MAX {
                return Err(EtcdError::TooLarge);
            }
            match self.stream.piece(self.silence).await {
                Ok(Some(piece)) => self.buffer.extend_from_slice(&piece),
                Ok(None) => return Err(lost("it ended".into())),
                Err(error) => return Err(lost(error.to_string())),
            }
        }
    }
}

fn read(line: &[u8], endpoint: &str) -> Result<WatchResponse, EtcdError> {
    let lost = |why: String| EtcdError::WatchLost(format!("{endpoint}: {why}"));
    let line: Line = serde_json::from_slice(line).map_err(|e| lost(e.to_string()))?;
    if let Some(error) = line.error {
        return Err(lost(error.message));
    }
    let result = line
        .result
        .ok_or_else(|| lost("a line says nothing".into()))?;
    if result.compact_revision > 0 {
        return Err(EtcdError::Compacted(result.compact_revision));
    }
    if result.canceled {
        return Err(lost(format!("canceled {}", result.cancel_reason)));
    }
    let last = result.events.iter().map(|e| e.kv.mod_revision).max();
    let progress = last.or((!result.created).then_some(result.header.revision));
    let changes = result.events.into_iter().map(|event| match event.r#type {
        Some(kind) if kind == "DELETE" => WatchEvent::Deleted(event.kv.key, event.kv.mod_revision),
        _ => WatchEvent::Put(event.kv),
    });
    Ok(WatchResponse {
        revision: result.header.revision,
        cluster: result.header.cluster_id,
        progress,
        changes: changes.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_shown_is_progress() {
        let progress = |line: &str| read(line.as_bytes(), "e").unwrap().progress;
        // The store is at 9; the changes up to it are still to come.
        let created = r#"{"result":{"header":{"revision":"9"},"created":true}}"#;
        assert_eq!(progress(created), None);
        let events = r#"{"result":{"header":{"revision":"9"},"events":[
            {"kv":{"key":"YQ==","mod_revision":"5"}},
            {"type":"DELETE","kv":{"key":"YQ==","mod_revision":"6"}}]}}"#;
        assert_eq!(progress(events), Some(6));
        let notification = r#"{"result":{"header":{"revision":"9"}}}"#;
        assert_eq!(progress(notification), Some(9));
        let compacted = r#"{"result":{"compact_revision":"7","canceled":true}}"#;
        let error = read(compacted.as_bytes(), "e").unwrap_err();
        assert!(matches!(error, EtcdError::Compacted(7)), "{error}");
    }
}
