//! A stream process that runs: its end is noticed, and it is ended with all it has started.
//!
//! The process is watched through a pidfd, whether it is our child or was adopted from an earlier
//! worker. A child that died stays unreaped until [`StreamProcess::end`]: so long its pid, which names the
//! process group, is given to nobody else. Dropped without `end`, the process runs on.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_process::Child;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};
use smol::Async;
use smol::lock::Mutex;

use super::cgroup::Cgroup;
use super::output_log::{self, Copying, Flush};
use super::process_tree::Tree;
use super::processes::ProcessIdentity;
use crate::clock;
use crate::ids::SessionId;

/// Time for a clean end: a stream process with its streamer needs 0.3 s after SIGINT.
const INTERRUPT_GRACE: Duration = Duration::from_secs(2);
/// Pause before looking again when a wake-up was false.
const RECHECK: Duration = Duration::from_millis(20);
/// Time to collect the exit status and the rest of the output, once all are dead: both are there.
const COLLECT_DEADLINE: Duration = Duration::from_secs(1);

/// How a stream process ended. Stream programs exit with 0 on most failures, so an end that was
/// not asked for is a failure whatever this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// An adopted process ended; only its parent could learn how.
    Unknown,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unknown => f.write_str("unknown exit"),
        }
    }
}

/// What ending a session's processes came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// How the stream process ended; none when it is still there.
    pub exit: Option<Exit>,
    /// How many processes had to be killed.
    pub killed: usize,
    /// Pids that were still there at the deadline.
    pub left: Vec<u32>,
}

/// A running stream process with its descendants.
#[derive(Debug)]
pub(crate) struct StreamProcess {
    id: SessionId,
    leader: ProcessIdentity,
    tree: Tree,
    pidfd: Async<OwnedFd>,
    exit: OnceLock<Exit>,
    flush: Option<Flush>,
    held: Mutex<Held>,
}

/// What is given back at the end.
#[derive(Debug, Default)]
struct Held {
    child: Option<Child>,
    copying: Option<Copying>,
    ended: Option<Ended>,
}

impl StreamProcess {
    /// Takes over a process: a child that was just started, or none for an adopted one.
    pub(super) fn new(
        id: SessionId,
        tree: Tree,
        leader: ProcessIdentity,
        child: Option<Child>,
        copying: Option<Copying>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            id,
            leader,
            tree,
            pidfd: Async::new_nonblocking(leader.pidfd()?)?,
            exit: OnceLock::new(),
            flush: copying.as_ref().map(Copying::flush),
            held: Mutex::new(Held {
                child,
                copying,
                ended: None,
            }),
        })
    }

    /// Which process it is, for the ledger.
    #[must_use]
    pub(crate) fn identity(&self) -> ProcessIdentity {
        self.leader
    }

    /// Its pid.
    #[must_use]
    pub(crate) fn pid(&self) -> u32 {
        self.leader.pid
    }

    /// Its cgroup, for the ledger.
    #[must_use]
    pub(crate) fn cgroup(&self) -> Option<&Path> {
        self.tree.cgroup.as_ref().map(Cgroup::path)
    }

    /// Ends the streamers that run now: when a page signals anew, those of the page before would
    /// encode without a viewer until they notice. Answers how many there were.
    pub(crate) async fn end_streamers(&self, streamer: &Path) -> usize {
        let (tree, streamer) = (self.tree.clone(), streamer.to_owned());
        smol::unblock(move || {
            let old = tree.streamers(&streamer);
            // One that is gone already is as good as ended.
            old.iter()
                .filter(|process| process.signal(Signal::KILL).is_ok())
                .count()
        })
        .await
    }

    /// Ends all streamers that run now but the one that was started last. Answers how many it ended.
    pub(crate) async fn end_older_streamers(&self, streamer: &Path) -> usize {
        let (tree, streamer) = (self.tree.clone(), streamer.to_owned());
        smol::unblock(move || {
            let mut all = tree.streamers(&streamer);
            all.sort_by_key(|process| (process.start_time, process.pid));
            all.pop();
            all.iter()
                .filter(|process| process.signal(Signal::KILL).is_ok())
                .count()
        })
        .await
    }

    /// Waits until the stream process has ended. May be dropped and asked again, by many.
    pub(crate) async fn exited(&self) -> Exit {
        loop {
            if let Some(exit) = self.exit.get() {
                return *exit;
            }
            let woken = self.pidfd.readable().await.is_ok();
            match self.peek() {
                Some(exit) if woken || !self.leader.is_alive() => {
                    return *self.exit.get_or_init(|| exit);
                }
                _ => clock::sleep(RECHECK).await,
            }
        }
    }

    /// The last `max_bytes` of what its session has printed, with all that the process wrote before
    /// it ended: empty when there was nothing.
    pub(crate) async fn last_words(&self, max_bytes: u32) -> String {
        if let Some(flush) = &self.flush {
            let _ = clock::by(clock::now() + COLLECT_DEADLINE, flush.flushed()).await;
        }
        let workspace = self.tree.workspace.clone();
        smol::unblock(move || output_log::tail(&workspace, max_bytes)).await
    }

    /// Looks how the process ended without reaping it.
    fn peek(&self) -> Option<Exit> {
        let unknown = || (!self.leader.is_alive()).then_some(Exit::Unknown);
        if !self.tree.is_leader_pinned {
            return unknown();
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(status) => {
                let status = status?;
                let code = status.exit_status().map(Exit::Code);
                let signal = status.terminating_signal().map(Exit::Signal);
                code.or(signal).or(Some(Exit::Unknown))
            }
            Err(_) => unknown(),
        }
    }

    /// Ends everything the session has started: SIGINT to the stream process, up to two seconds for
    /// it to go, then SIGKILL to the whole tree until `deadline`. Asked again, it answers the same;
    /// after a try that left something it tries again.
    pub(crate) async fn end(&self, deadline: Instant) -> Ended {
        let mut held = self.held.lock().await;
        if let Some(ended) = &held.ended {
            return ended.clone();
        }
        let now = clock::now();
        if self.peek().is_none() && self.leader.signal(Signal::INT).is_ok() {
            // Half of a short deadline stays for the killing.
            let grace = INTERRUPT_GRACE.min(deadline.saturating_duration_since(now) / 2);
            let _ = clock::by(now + grace, self.exited()).await;
        }
        let tree = Tree {
            is_leader_pinned: held.child.is_some(),
            ..self.tree.clone()
        };
        let killed = tree.kill(deadline).await;
        let collect = clock::now() + COLLECT_DEADLINE;
        let exit = match killed.left.contains(&self.leader.pid) {
            true => None,
            false => clock::by(collect, self.exited()).await.ok(),
        };
        let ended = Ended {
            exit,
            killed: killed.killed.len(),
            left: killed.left,
        };
        if ended.left.is_empty() {
            if let Some(mut child) = held.child.take() {
                let _ = clock::by(collect, child.status()).await;
            }
            if let Some(copying) = held.copying.take() {
                let _ = clock::by(collect, copying.end()).await;
            }
            held.ended = Some(ended.clone());
        } else {
            log::error!(target: "session", session = self.id.as_str(); "processes {:?} survive SIGKILL", ended.left);
        }
        ended
    }
}
