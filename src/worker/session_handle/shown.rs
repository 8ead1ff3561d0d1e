//! What a session shows of its life, as it was published last.

use std::time::{Duration, SystemTime};

use super::SessionHandle;
use crate::clock;
use crate::protocol::{EndReason, Phase, Status};
use crate::session::lifecycle::Lifecycle;

/// The lifecycle's view, as it was published last.
#[derive(Clone, Debug)]
pub(in crate::worker) struct Shown {
    /// Whether the ledger has it.
    pub(in crate::worker) is_kept: bool,
    pub(in crate::worker) status: Status,
    pub(in crate::worker) phase: Option<Phase>,
    pub(in crate::worker) is_up: bool,
    pub(in crate::worker) viewers: u32,
    pub(in crate::worker) disconnect_count: u32,
    pub(in crate::worker) stream_path: Option<String>,
    pub(in crate::worker) ready_at: Option<SystemTime>,
    pub(in crate::worker) end_reason: Option<EndReason>,
    pub(in crate::worker) failure: Option<(&'static str, String)>,
    pub(in crate::worker) duration: Option<Duration>,
    /// Whether its slot is free again: no process and no file of it is left.
    pub(in crate::worker) is_slot_free: bool,
    /// Whether the body is left, too, its record made and its ledger entry gone.
    pub(in crate::worker) is_gone: bool,
}

impl Default for Shown {
    fn default() -> Self {
        Self {
            is_kept: false,
            status: Status::Starting,
            phase: Some(Phase::Reaching),
            is_up: false,
            viewers: 0,
            disconnect_count: 0,
            stream_path: None,
            ready_at: None,
            end_reason: None,
            failure: None,
            duration: None,
            is_slot_free: false,
            is_gone: false,
        }
    }
}

impl SessionHandle {
    /// What the lifecycle has to show now.
    pub(in crate::worker) fn look(&self, life: &Lifecycle) -> Shown {
        let before = self.shown();
        Shown {
            is_kept: true,
            status: life.status(),
            phase: life.phase(),
            is_up: life.is_up(),
            viewers: life.viewers(),
            disconnect_count: life.disconnect_count(),
            stream_path: life.stream_path().map(str::to_owned),
            ready_at: before.ready_at.or_else(|| life.is_up().then(clock::wall)),
            end_reason: life.end_reason(),
            failure: life
                .failure_slug()
                .zip(life.failure().map(ToString::to_string)),
            duration: life.end_reason().map(|_| life.duration(clock::now())),
            is_slot_free: before.is_slot_free,
            is_gone: false,
        }
    }

    /// Shows it; answers what was shown before. Wakes waiters.
    pub(in crate::worker) fn show(&self, shown: Shown) -> Shown {
        let mut told = self.told();
        told.waiting.clear();
        std::mem::replace(&mut told.shown, shown)
    }

    /// Gives the slot's ports back. Wakes waiters.
    pub(in crate::worker) fn free_slot(&self) {
        self.release_slot();
        let mut told = self.told();
        told.shown.is_slot_free = true;
        told.waiting.clear();
    }

    /// Nothing of it is left. Wakes waiters.
    pub(in crate::worker) fn show_gone(&self) {
        let mut told = self.told();
        told.shown.is_gone = true;
        told.waiting.clear();
    }

    pub(in crate::worker) fn shown(&self) -> Shown {
        self.told().shown.clone()
    }

    pub(in crate::worker) fn set_ready_at(&self, at: Option<SystemTime>) {
        self.told().shown.ready_at = at;
    }

    /// Waits until what the session shows satisfies `wanted`, and answers it.
    pub(in crate::worker) async fn wait(&self, wanted: impl Fn(&Shown) -> bool) -> Shown {
        loop {
            let changed = {
                let mut told = self.told();
                if wanted(&told.shown) {
                    return told.shown.clone();
                }
                told.listen()
            };
            // Closed by the next change.
            let _ = changed.recv().await;
        }
    }
}
