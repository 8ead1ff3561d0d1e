//! A session's life as a state machine: it takes what happened and returns what to do.
//!
//! Pure: the caller brings the time, feeds one [`Input`] after another from a bounded inbox,
//! carries out the [`Action`]s in order and calls again with [`Input::Tick`] at
//! [`Lifecycle::next_deadline`]. It promises one [`Action::Record`] and one [`Action::Forget`]
//! per session, never two stream processes at a time, and [`Status::Ended`] only when no process
//! and no file of the session is left.

mod ending;
mod io;
mod probes;
mod restart;
mod viewers;

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::protocol::{EndReason, Phase, SPAWN_FAILED, Status};

use ending::Ending;
pub(crate) use io::{
    Action, Incarnation, Input, Notice, ProbeNumber, SessionFailure, SessionLimits, Snapshot,
    Summary, ViewerId,
};
use probes::Probes;
use viewers::ViewerTracker;

/// Longest wait for a body's first answers. The probe gives a dead body up within 5 s; one whose
/// Sunshine is starting is waited for.
const REACH_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause between two probes of a running stream process: a hang shows within 20 s.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// Unanswered probes in a row that make a hang: one may be lost to a loaded machine.
const HANG_PROBES: usize = 3;
/// Pause before an unanswered kill or removal is asked for again: SIGINT and SIGKILL take 2 s.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Shortest window for a viewer to return to a worker that was away: a page's slowest reconnect.
const RETURN_GRACE: Duration = Duration::from_secs(30);
/// A call later than this after its deadline means that the process did not run (stopped, or its
/// machine was paused) and nobody was served: far more than a loaded machine makes one wait.
const PAUSE_MIN: Duration = Duration::from_secs(5);
/// Stands in for instants the clock can't represent: far beyond any machine's uptime.
const FAR: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What the session is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for the body's first answer.
    Reaching,
    /// Waits for the stream process to run.
    Spawning,
    /// Waits for the stream process to answer.
    Awaiting,
    /// Waits for the pairing.
    Pairing,
    /// Waits for the experience.
    Launching,
    /// The stream can be watched.
    Up,
    /// Waits until the dead run's tree is gone, to spawn the next run.
    Clearing,
    /// Waits until nothing is left.
    Ending,
    /// Nothing is left.
    Ended,
}

/// One session's life.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    limits: SessionLimits,
    begun: Instant,
    age: Duration,
    stage: Stage,
    /// When the stream must be up, after admission or after a process died.
    start_by: Instant,
    /// When the stage has taken too long, or has to ask again.
    stage_until: Option<Instant>,
    run: Incarnation,
    /// Whether a process of `run` may exist.
    tree_stands: bool,
    workspace_stands: bool,
    restarts: u32,
    probe_at: Option<Instant>,
    probes: Probes,
    presence: ViewerTracker,
    body_touched: bool,
    /// The run that was started with a kept identity. A start that fails so is tried once without.
    seeded: Option<Incarnation>,
    stream_path: Option<String>,
    /// Whether the stream could ever be watched; from then on a dead process is a restart.
    is_ready_once: bool,
    drain_until: Option<Instant>,
    max_until: Option<Instant>,
    ending: Option<Ending>,
    /// When the caller was here last.
    observed: Instant,
    seen: Option<(Status, Option<Phase>, u32, Incarnation)>,
    out: Vec<Action>,
}

impl Lifecycle {
    /// Admits a session.
    #[must_use]
    pub(crate) fn new(now: Instant, limits: SessionLimits) -> (Self, Vec<Action>) {
        let mut life = Self::begin(now, Duration::ZERO, limits, Snapshot::default());
        life.stage_until = Some(life.start_by.min(later(now, REACH_TIMEOUT)));
        life.out.push(Action::ReachBody);
        let actions = life.settle();
        (life, actions)
    }

    /// Takes over a session that an earlier worker process left in the ledger, `age` after its
    /// admission. With an end reason (kept, or set by a caller who found the process dead), or
    /// when it never was ready, the session is cleaned up and recorded like any other.
    #[must_use]
    pub(crate) fn adopted(
        now: Instant,
        age: Duration,
        limits: SessionLimits,
        kept: Snapshot,
    ) -> (Self, Vec<Action>) {
        let (ready, end) = (kept.stream_path.is_some(), kept.end_reason);
        let mut life = Self::begin(now, age, limits, kept);
        life.tree_stands = life.run > 0;
        life.workspace_stands = true;
        match end {
            Some(reason) => life.end(now, reason, None),
            None if !ready => life.end(now, EndReason::StartFailed, None),
            None => {
                life.enter_up(now);
                life.presence.adopt(now, &limits);
            }
        }
        let actions = life.settle();
        (life, actions)
    }

    fn begin(now: Instant, age: Duration, limits: SessionLimits, kept: Snapshot) -> Self {
        let left = limits.max_duration.map(|max| max.saturating_sub(age));
        Self {
            limits,
            begun: now,
            age,
            stage: Stage::Reaching,
            start_by: later(now, limits.start_timeout),
            stage_until: None,
            run: kept.run,
            tree_stands: false,
            workspace_stands: false,
            restarts: kept.restarts,
            probe_at: None,
            probes: Probes::default(),
            presence: ViewerTracker::new(kept.was_connected, kept.disconnect_count),
            body_touched: kept.body_touched,
            seeded: None,
            stream_path: kept.stream_path,
            is_ready_once: false,
            drain_until: None,
            max_until: left.map(|left| later(now, left)),
            ending: None,
            observed: now,
            seen: None,
            out: Vec::new(),
        }
    }

    /// Takes in what happened; gives what to do, in order.
    #[must_use]
    pub(crate) fn on(&mut self, now: Instant, input: Input) -> Vec<Action> {
        self.notice_pause(now);
        match self.stage {
            Stage::Ended => return Vec::new(),
            Stage::Ending => self.while_ending(now, &input),
            _ => self.while_alive(now, input),
        }
        self.settle()
    }

    /// A very late call means that this process was suspended. All deadlines move by the pause, so
    /// that no viewer, page or start times out for it.
    fn notice_pause(&mut self, now: Instant) {
        let due = self.next_deadline().map_or(now, |at| at.max(self.observed));
        let late = now.saturating_duration_since(due);
        let paused = now.saturating_duration_since(self.observed);
        self.observed = now.max(self.observed);
        if late < PAUSE_MIN || self.ending.is_some() {
            return;
        }
        self.presence.wake(now, paused, &self.limits);
        self.start_by = later(self.start_by, paused);
        self.stage_until = self.stage_until.map(|at| later(at, paused));
        self.probes.clear();
        self.probe_at = self.probe_at.map(|_| later(now, PROBE_INTERVAL));
    }

    fn while_alive(&mut self, now: Instant, input: Input) {
        match input {
            Input::Tick => self.tick(now),
            Input::EndRequested(reason) => self.end(now, reason, None),
            Input::DrainOrdered(deadline) => {
                self.drain_until = deadline;
                self.out
                    .push(Action::NotifyPage(Notice::Draining(deadline)));
            }
            Input::DrainLifted => self.drain_until = None,
            Input::LedgerFailed(why) if !self.is_ready_once => {
                self.end(
                    now,
                    EndReason::StartFailed,
                    Some(SessionFailure::Ledger(why)),
                );
            }
            Input::ViewerJoined(viewer) => self.presence.join(viewer),
            Input::ViewerLeft(viewer) => {
                self.presence.leave(now, viewer, &self.limits);
            }
            other => self.on_program(now, other),
        }
    }

    /// The earliest deadline that has come decides: a caller that is late ends the session for the
    /// reason that a prompt one would have found.
    fn tick(&mut self, now: Instant) {
        let ends = [
            (self.presence.away_until(), self.presence.absence()),
            (self.max_until, EndReason::MaxDuration),
            (self.drain_until, EndReason::Drained),
        ];
        let due = ends.into_iter().filter_map(|(at, why)| Some((at?, why)));
        let due = due.filter(|(at, _)| *at <= now).min_by_key(|(at, _)| *at);
        let stage_due = self.stage_until.filter(|at| *at <= now);
        match (due, stage_due) {
            (Some((at, _)), Some(stage_at)) if stage_at < at => self.stage_timed_out(now),
            (Some((_, why)), _) => self.end(now, why, None),
            (None, Some(_)) => self.stage_timed_out(now),
            (None, None) => self.probe(now),
        }
    }

    /// When to call with [`Input::Tick`] at the latest; `None` once ended.
    #[must_use]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if let Some(ending) = &self.ending {
            let body = ending.body_until();
            return self.stage_until.into_iter().chain(body).min();
        }
        let all = [
            self.stage_until,
            self.probe_at,
            self.presence.away_until(),
            self.max_until,
            self.drain_until,
        ];
        all.into_iter().flatten().min()
    }

    /// Where the session is in its life.
    #[must_use]
    pub(crate) fn status(&self) -> Status {
        match self.stage {
            Stage::Ended => Status::Ended,
            Stage::Ending => Status::Ending,
            _ if !self.is_ready_once => Status::Starting,
            _ => self.presence.status(),
        }
    }

    /// What a starting or restarting session is doing.
    #[must_use]
    pub(crate) fn phase(&self) -> Option<Phase> {
        match self.stage {
            Stage::Reaching => Some(Phase::Reaching),
            Stage::Spawning | Stage::Awaiting | Stage::Clearing => Some(Phase::Spawning),
            Stage::Pairing => Some(Phase::Pairing),
            Stage::Launching => Some(Phase::Launching),
            Stage::Up | Stage::Ending | Stage::Ended => None,
        }
    }

    /// Whether the stream process can be asked for the visitor's requests.
    #[must_use]
    pub(crate) fn is_up(&self) -> bool {
        self.stage == Stage::Up
    }

    /// Open viewers.
    #[must_use]
    pub(crate) fn viewers(&self) -> u32 {
        self.presence.viewers()
    }

    /// How often the last viewer went away.
    #[must_use]
    pub(crate) fn disconnect_count(&self) -> u32 {
        self.presence.disconnect_count()
    }

    /// Path and query of the stream page; known since the session was first ready.
    #[must_use]
    pub(crate) fn stream_path(&self) -> Option<&str> {
        self.stream_path.as_deref().filter(|_| self.is_ready_once)
    }

    /// Why it ended or is ending.
    #[must_use]
    pub(crate) fn end_reason(&self) -> Option<EndReason> {
        self.ending.as_ref().map(Ending::reason)
    }

    /// What went wrong, when the end reason alone does not say it.
    #[must_use]
    pub(crate) fn failure(&self) -> Option<&SessionFailure> {
        self.ending.as_ref().and_then(Ending::failure)
    }

    /// The stable slug of what went wrong. A stream process that ended before it was told of the body
    /// did there as little as one that did not start.
    #[must_use]
    pub(crate) fn failure_slug(&self) -> Option<&'static str> {
        self.failure().map(|failure| match failure {
            SessionFailure::Program(_) if !self.body_touched => SPAWN_FAILED,
            other => other.slug(),
        })
    }

    /// Time since admission, or until the end was asked for.
    #[must_use]
    pub(crate) fn duration(&self, now: Instant) -> Duration {
        let until = self.ending.as_ref().map_or(now, Ending::since);
        self.age + until.saturating_duration_since(self.begun)
    }

    /// What the ledger is to keep.
    #[must_use]
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            run: self.run,
            restarts: self.restarts,
            stream_path: self.stream_path().map(str::to_owned),
            body_touched: self.body_touched,
            was_connected: self.presence.was_connected(),
            disconnect_count: self.presence.disconnect_count(),
            end_reason: self.end_reason(),
        }
    }

    /// Closes a step: says so when others would see a change.
    fn settle(&mut self) -> Vec<Action> {
        let seen = Some((self.status(), self.phase(), self.viewers(), self.run));
        if self.seen != seen {
            self.seen = seen;
            // Ahead of the rest: the ledger knows of a process before it can exist.
            self.out.insert(0, Action::Publish);
        }
        std::mem::take(&mut self.out)
    }
}

/// `now + span`, also when the clock can't count that far.
fn later(now: Instant, span: Duration) -> Instant {
    now.checked_add(span).unwrap_or_else(|| now + FAR)
}
