//! The stream program of this worker: looked for until it can be used, and again when it changes.
//!
//! Without one, and for a while after starts that failed in a row, new sessions are refused; those
//! that run go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Worker;
use crate::clock;
use crate::exec::{self, Stop};
use crate::session::stream_program::{ProgramStamp, StreamProgram, StreamProgramError};
use crate::sync::Mutex;

/// Pause between two looks at the files of the program.
const LOOK: Duration = Duration::from_secs(5);
/// Longest wait for the disk that they are on.
const WITHIN: Duration = Duration::from_secs(10);
/// Starts that may fail in a row.
const FAILED_STARTS_MAX: u32 = 3;
/// How long sessions are refused then; every further start that fails doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What is known of the program.
#[derive(Debug, Default)]
pub(super) struct ProgramWatch {
    known: Mutex<Known>,
    /// A look has not come back: no other is begun, each would block a thread.
    is_looking: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Known {
    found: Option<StreamProgram>,
    /// Of the files that were found.
    stamp: ProgramStamp,
    /// Why it cannot be used, when it cannot.
    unusable: Option<String>,
    failed_starts: u32,
    /// Until when sessions are refused after failed starts, and why the last one failed.
    paused: Option<(Instant, String)>,
    is_refusal_told: bool,
}

impl ProgramWatch {
    /// Looks for it for the first time.
    ///
    /// # Errors
    /// When only another configuration can help.
    pub(super) async fn new(web_server: &Path) -> Result<Self, StreamProgramError> {
        let watch = Self::default();
        match watch.look(web_server).await {
            Err(error @ StreamProgramError::NoTestCard) => Err(error),
            _ => Ok(watch),
        }
    }

    /// The program, if it can be used.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) fn usable(&self) -> Result<StreamProgram, String> {
        let known = self.known.lock();
        match (&known.unusable, &known.found) {
            (None, Some(found)) => Ok(found.clone()),
            (why, _) => Err(why.clone().unwrap_or_default()),
        }
    }

    /// Why no session would start, if none would.
    pub(super) fn refusal(&self) -> Option<String> {
        let known = self.known.lock();
        let paused = known.paused.as_ref();
        let paused = paused.filter(|(until, _)| *until > clock::now());
        known.unusable.clone().or_else(|| {
            let (_, why) = paused?;
            let n = known.failed_starts;
            Some(format!("{n} starts of the stream program failed in a row, check sessions.web_server and its libraries: {why}"))
        })
    }

    /// Looks whether the files are there and are those that were found before.
    async fn look(&self, web_server: &Path) -> Result<(), StreamProgramError> {
        let Some(stamp) = self.stamp(web_server).await else {
            let (path, span) = (web_server.display(), WITHIN.as_secs());
            let slow = format!("the disk of {path} has not answered for {span}s");
            self.known.lock().unusable = Some(slow);
            return Ok(());
        };
        {
            let known = self.known.lock();
            if known.unusable.is_none() && known.found.is_some() && known.stamp == stamp {
                return Ok(());
            }
        }
        let located = StreamProgram::locate(web_server).await;
        let mut known = self.known.lock();
        let known = &mut *known;
        if known.stamp != stamp {
            known.stamp = stamp;
            known.failed_starts = 0;
            known.paused = None;
        }
        match located {
            Ok(found) => {
                known.found = Some(found);
                known.unusable = None;
                Ok(())
            }
            Err(error) => {
                known.unusable = Some(error.to_string());
                Err(error)
            }
        }
    }

    async fn stamp(&self, web_server: &Path) -> Option<ProgramStamp> {
        if self.is_looking.swap(true, Ordering::Relaxed) {
            return None;
        }
        let (is_looking, path) = (Arc::clone(&self.is_looking), web_server.to_owned());
        let mut look = smol::unblock(move || {
            let stamp = ProgramStamp::of(&path);
            is_looking.store(false, Ordering::Relaxed);
            stamp
        });
        let stamp = clock::by(clock::now() + WITHIN, &mut look).await.ok();
        if stamp.is_none() {
            look.detach();
        }
        stamp
    }

    fn start_failed(&self, why: &str) {
        let mut known = self.known.lock();
        let now = clock::now();
        // One of those that were under way when the pause began.
        if known.paused.as_ref().is_some_and(|(until, _)| *until > now) {
            return;
        }
        known.failed_starts = known.failed_starts.saturating_add(1);
        if let Some(more) = known.failed_starts.checked_sub(FAILED_STARTS_MAX) {
            let pause = FIRST_PAUSE * 2_u32.saturating_pow(more.min(16));
            known.paused = Some((now + pause.min(LONGEST_PAUSE), why.to_owned()));
        }
    }

    fn started(&self) {
        let mut known = self.known.lock();
        known.failed_starts = 0;
        known.paused = None;
    }
}

impl Worker {
    /// What the program runs for each stream, also while it is not there.
    pub(super) fn streamer(&self) -> PathBuf {
        let found = self.program.usable().map(|program| program.streamer);
        found.unwrap_or_else(|_| self.settings.web_server.with_file_name("streamer"))
    }

    /// A stream process came to nothing before it was told of a body.
    pub(super) fn start_failed(&self, why: &str) {
        self.program.start_failed(why);
        self.tell_of_program();
    }

    /// A stream process answers.
    pub(super) fn start_succeeded(&self) {
        self.program.started();
        self.tell_of_program();
    }

    /// Logs a change and tells the controller.
    fn tell_of_program(&self) {
        let refusal = self.program.refusal();
        let is_refused = refusal.is_some();
        let told = std::mem::replace(&mut self.program.known.lock().is_refusal_told, is_refused);
        match refusal {
            _ if told == is_refused => return,
            Some(why) => log::error!(target: "worker", "new sessions are refused: {why}"),
            None => log::info!(target: "worker", "the stream program can be used again"),
        }
        self.kick();
    }
}

/// Looks at the program until `stop`.
pub(super) fn watch(worker: &Arc<Worker>, stop: Stop) {
    let worker = Arc::clone(worker);
    worker.tell_of_program();
    exec::spawn(async move {
        let looks = async {
            loop {
                clock::sleep(LOOK).await;
                let web_server = worker.settings.web_server.clone();
                let _ = worker.program.look(&web_server).await;
                worker.tell_of_program();
            }
        };
        stop.or(looks).await;
    })
    .detach();
}
