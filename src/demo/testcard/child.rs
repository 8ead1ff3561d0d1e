//! Streamers as children: started, counted, and killed when the server ends.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, MutexGuard};

use async_process::unix::CommandExt as _;
use async_process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use smol::io::BufReader;

use super::{lines, say};
use crate::exec;
use crate::sync::Mutex;

/// Most streamers at once: one a page, and a page that was reloaded leaves one for a while.
const STREAMERS_MAX: usize = 16;
/// This very program, even when its file was replaced since.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// All running streamers.
#[derive(Default)]
pub(super) struct Streamers {
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    started: u64,
    children: BTreeMap<u64, Child>,
}

/// A streamer's pipes; it is killed and reaped when this is dropped.
pub(super) struct Streamer {
    /// What the server says.
    pub(super) stdin: ChildStdin,
    /// What the streamer says.
    pub(super) stdout: ChildStdout,
    /// Ends the child.
    pub(super) leash: Leash,
}

/// Kills and reaps a streamer when it is dropped.
pub(super) struct Leash {
    id: u64,
    all: Arc<Streamers>,
}

/// A streamer cannot be started.
#[derive(Debug)]
pub(super) enum StreamerError {
    /// There are too many.
    Full,
    /// The system refuses.
    Spawn(io::Error),
}

impl fmt::Display for StreamerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(
                f,
                "{STREAMERS_MAX} pages are served already, close one and wait a minute"
            ),
            Self::Spawn(error) => write!(f, "cannot start the streamer: {error}"),
        }
    }
}

impl Streamers {
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock()
    }

    /// Starts one. It shares the server's process group, as the original's does.
    ///
    /// # Errors
    /// When there are too many or the system refuses.
    pub(super) fn start(self: &Arc<Self>) -> Result<Streamer, StreamerError> {
        let mut running = self.running();
        if running.children.len() >= STREAMERS_MAX {
            return Err(StreamerError::Full);
        }
        let mut child = Command::new(OWN_PROGRAM)
            .arg0("hydraneckwebrtc")
            .args(["testcard", "streamer"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(StreamerError::Spawn)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(StreamerError::Spawn(io::Error::other("no pipes")));
        };
        running.started += 1;
        let id = running.started;
        running.children.insert(id, child);
        exec::spawn(retell(id, stderr)).detach();
        let all = self.clone();
        Ok(Streamer {
            stdin,
            stdout,
            leash: Leash { id, all },
        })
    }

    /// Kills every streamer, because the server ends.
    pub(super) fn kill_all(&self) {
        for child in self.running().children.values_mut() {
            let _ = child.kill(); // one that is gone already needs no killing
        }
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        // Dropping the child kills it; it is reaped in the background.
        self.all.running().children.remove(&self.id);
    }
}

/// Puts a streamer's stderr into the server's log.
async fn retell(id: u64, stderr: ChildStderr) {
    let mut stderr = BufReader::new(stderr);
    while let Ok(Some(line)) = lines::text(&mut stderr).await {
        say::line(
            "INFO",
            &format!("ipc{{child_id={id}}}: common::ipc"),
            format_args!("{line}"),
        );
    }
}
