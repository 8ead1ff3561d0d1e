//! The audit: one JSON line for each call that changes something.
//!
//! Who called (which token, from where), what, and how it went, under the request id that the
//! other log lines of the call carry. No token and no content of a request is written.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::call::Call;
use super::exchange::Exchange;
use super::reply::{Failure, Reply};
use crate::clock;
use crate::log::{Next, Queue};

/// Only the service's user reads it.
const MODE: u32 = 0o600;
/// Longest path that is written: no route has more.
const PATH_MAX: usize = 256;

/// The audit file cannot be used.
#[derive(Debug)]
pub struct AuditError {
    path: PathBuf,
    cause: std::io::Error,
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(
            f,
            "cannot append to log.audit_file {path}: {}; make its directory writable",
            self.cause
        )
    }
}

impl std::error::Error for AuditError {}

/// Where the lines go: the log's target `audit`, and a file where one is configured. The file may
/// be one that blocks, a pipe or a disk that hangs: a thread of its own writes it.
#[derive(Debug, Default)]
pub struct Audit {
    file: Option<Queue<String>>,
}

/// What is known of a call before it is answered.
#[derive(Debug)]
pub struct Caller {
    method: String,
    path: String,
    peer: String,
    request_id: String,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    who: &'a str,
    peer: &'a str,
    method: &'a str,
    path: &'a str,
    status: u16,
    result: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<&'a str>,
    request_id: &'a str,
}

impl Caller {
    /// Of this call.
    #[must_use]
    pub fn of(call: &Call) -> Self {
        Self {
            method: call.method.to_string(),
            path: plain(&call.path),
            peer: call.peer.ip().to_string(),
            request_id: call.request_id.to_string(),
        }
    }

    /// Of a request whose content is still unread.
    #[must_use]
    pub fn asking(exchange: &Exchange) -> Self {
        Self {
            method: exchange.head.method.as_str().to_owned(),
            path: plain(exchange.head.path()),
            peer: exchange.peer.ip().to_string(),
            request_id: exchange.id.to_string(),
        }
    }
}

fn plain(path: &str) -> String {
    let visible = |c: &char| c.is_ascii_graphic();
    path.chars().filter(visible).take(PATH_MAX).collect()
}

impl Audit {
    /// Appends to that file, if any; it is made when it is not there.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn open(path: Option<&Path>) -> Result<Self, AuditError> {
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(MODE);
            let file = options.open(path);
            let started =
                file.and_then(|file| Queue::start("audit", move |next| append(&file, next)));
            started.map_err(|cause| AuditError {
                path: path.to_owned(),
                cause,
            })
        };
        let file = path.map(open).transpose()?;
        Ok(Self { file })
    }

    /// Writes the line of one call. `who` is the name of the token, `visitor`, or `nobody`.
    pub fn note(&self, who: &str, caller: &Caller, outcome: &Result<Reply, Failure>) {
        let (status, result, made) = match outcome {
            Ok(reply) => (reply.status(), "ok", reply.field("location")),
            Err(failure) => (failure.status, &*failure.reason, None),
        };
        let line = Line {
            time: clock::rfc3339(clock::wall()),
            who,
            peer: &caller.peer,
            method: &caller.method,
            path: &caller.path,
            status,
            result,
            made,
            request_id: &caller.request_id,
        };
        let Ok(mut text) = serde_json::to_string(&line) else {
            return;
        };
        log::info!(target: "audit", request_id = line.request_id; "{text}");
        if let Some(file) = &self.file {
            text.push('\n');
            let size = text.len();
            file.push(text, size);
        }
    }
}

/// Writes one line to the file.
fn append(mut file: &File, next: Next<String>) {
    let text = match next {
        Next::Item(text) => text,
        Next::Dropped(n) => {
            log::warn!(target: "audit", "{n} lines dropped: log.audit_file did not take them in time");
            let time = clock::rfc3339(clock::wall());
            format!("{}\n", serde_json::json!({"time": time, "dropped": n}))
        }
    };
    // One write a line: O_APPEND keeps lines whole.
    if let Err(error) = file.write_all(text.as_bytes()) {
        log::error!(target: "audit", "cannot append to log.audit_file: {error}");
    }
}
