//! The way out: one reason, one record, and no rest until nothing is left.

use std::time::{Duration, Instant};

use crate::protocol::EndReason;

use super::io::{Action, Input, Notice, SessionFailure, Summary};
use super::{Lifecycle, RETRY_INTERVAL, Stage, later};

/// Longest wait for the body to be left in order: Sunshine closes an app within 15 s, and a dead body
/// never answers. The session keeps its body for so long, but not its slot.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(30);

/// A session on its way out.
#[derive(Debug)]
pub(super) struct Ending {
    reason: EndReason,
    failure: Option<SessionFailure>,
    since: Instant,
    /// Set until the body was left or given up.
    body_until: Option<Instant>,
    /// Whether its slot was given back.
    is_slot_free: bool,
}

impl Ending {
    pub(super) fn reason(&self) -> EndReason {
        self.reason
    }

    pub(super) fn failure(&self) -> Option<&SessionFailure> {
        self.failure.as_ref()
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn body_until(&self) -> Option<Instant> {
        self.body_until
    }
}

impl Lifecycle {
    /// Ends the session. The first reason stands.
    pub(super) fn end(&mut self, now: Instant, reason: EndReason, failure: Option<SessionFailure>) {
        if self.ending.is_some() {
            return;
        }
        self.stage = Stage::Ending;
        self.probe_at = None;
        self.ending = Some(Ending {
            reason,
            failure,
            since: now,
            body_until: self.body_touched.then(|| later(now, LEAVE_TIMEOUT)),
            is_slot_free: false,
        });
        self.out.push(Action::NotifyPage(Notice::Ended(reason)));
        if self.body_touched {
            self.out.push(Action::LeaveBody);
        }
        self.ask_again(now);
        self.finish_when_clean(now);
    }

    pub(super) fn while_ending(&mut self, now: Instant, input: &Input) {
        match input {
            Input::BodyLeft => self.body_given_up(),
            Input::TreeGone(run) if self.is_standing(*run) => {
                self.tree_stands = false;
                self.ask_again(now);
            }
            Input::SpawnFailed(run, _) if self.is_standing(*run) => {
                self.tree_stands = false;
                self.ask_again(now);
            }
            // A spawn that was in flight when the end came: the kill may have missed it.
            Input::Spawned(run) if *run == self.run => {
                self.tree_stands = true;
                self.ask_again(now);
            }
            Input::WorkspaceRemoved if !self.tree_stands => self.workspace_stands = false,
            Input::Tick => self.tick_ending(now),
            _ => {}
        }
        self.finish_when_clean(now);
    }

    fn tick_ending(&mut self, now: Instant) {
        let body_until = self.ending.as_ref().and_then(Ending::body_until);
        if body_until.is_some_and(|at| at <= now) {
            self.body_given_up();
        }
        if self.stage_until.is_some_and(|at| at <= now) {
            self.ask_again(now);
        }
    }

    fn body_given_up(&mut self) {
        if let Some(ending) = &mut self.ending {
            ending.body_until = None;
        }
    }

    /// Files go after the processes that hold them.
    fn ask_again(&mut self, now: Instant) {
        self.stage_until = Some(later(now, RETRY_INTERVAL));
        if self.tree_stands {
            self.out.push(Action::KillTree(self.run));
        } else if self.workspace_stands {
            self.out.push(Action::RemoveWorkspace);
        } else {
            self.stage_until = None;
        }
    }

    fn finish_when_clean(&mut self, now: Instant) {
        let Some(ending) = &mut self.ending else {
            return;
        };
        if self.tree_stands || self.workspace_stands {
            return;
        }
        if !std::mem::replace(&mut ending.is_slot_free, true) {
            self.out.push(Action::FreeSlot);
        }
        if ending.body_until.is_some() {
            return;
        }
        let summary = Summary {
            reason: ending.reason,
            failure: ending.failure.clone(),
            duration: self.duration(now),
            disconnect_count: self.presence.disconnect_count(),
            was_connected: self.presence.was_connected(),
        };
        self.stage = Stage::Ended;
        self.stage_until = None;
        self.out.push(Action::Record(summary));
        self.out.push(Action::Forget);
    }
}
