//! From the body's first answer to a stream that runs, and back after the stream process dies.

use std::time::Instant;

use crate::protocol::{EndReason, Phase};

use super::io::{Action, Incarnation, Input, Notice, SessionFailure};
use super::{HANG_PROBES, Lifecycle, PROBE_INTERVAL, RETRY_INTERVAL, Stage, later};

impl Lifecycle {
    /// What the body and the stream process say while the session lives. An answer counts only
    /// in the stage that asked for it, and only for the current run.
    pub(super) fn on_program(&mut self, now: Instant, input: Input) {
        match (self.stage, input) {
            (Stage::Reaching, Input::BodyReached) => {
                self.spawn();
            }
            (Stage::Reaching, Input::ReachFailed(why)) => {
                self.fail(now, SessionFailure::BodyUnreachable(why));
            }
            (Stage::Reaching, Input::BodyRefused(why)) => {
                self.fail(now, SessionFailure::Pairing(why));
            }
            (Stage::Spawning, Input::Seeded(run)) if run == self.run => self.seeded = Some(run),
            (Stage::Spawning, Input::Spawned(run)) if run == self.run => {
                self.stage = Stage::Awaiting;
                self.out.push(Action::AwaitProgram(run));
            }
            (Stage::Spawning, Input::SpawnFailed(run, why)) if run == self.run => {
                self.tree_stands = false;
                self.fail(now, SessionFailure::Spawn(why));
            }
            (Stage::Awaiting, Input::ProgramReady(run)) if run == self.run => {
                self.stage = Stage::Pairing;
                self.body_touched = true;
                self.out.push(Action::PairBody(run));
            }
            (Stage::Awaiting, Input::ProgramFailed(run, why)) if run == self.run => {
                self.run_died(now, why);
            }
            (Stage::Pairing, Input::Launching(run)) if run == self.run => {
                self.stage = Stage::Launching;
            }
            (Stage::Pairing | Stage::Launching, Input::Paired(run, path)) if run == self.run => {
                self.stream_path = Some(path);
                self.enter_up(now);
            }
            (Stage::Pairing, Input::SeedFailed(run, why)) if run == self.run => {
                self.run_died(now, why);
            }
            (Stage::Pairing | Stage::Launching, Input::BodyFailed(run, failure))
                if run == self.run =>
            {
                self.fail(now, failure);
            }
            (Stage::Up, Input::ProbeOk(run, probe)) if run == self.run => {
                self.probes.answered(probe);
            }
            (Stage::Up, Input::ProbeUnsent(run, probe)) if run == self.run => {
                self.probes.unsent(probe);
            }
            (Stage::Up, Input::ProbeFailed(run, probe)) if run == self.run => {
                self.probes.failed(probe);
                self.look_for_hang(now);
            }
            (Stage::Clearing, Input::TreeGone(run)) if run == self.run => {
                self.spawn();
            }
            // The tree of a run in use vanished without being asked to: its leader did as well.
            (stage, Input::TreeGone(run)) if run == self.run && stage != Stage::Clearing => {
                self.run_died(now, "it vanished".to_owned());
            }
            (stage, Input::ProcessExited(run, why))
                if run == self.run && stage != Stage::Clearing =>
            {
                self.run_died(now, why);
            }
            _ => {}
        }
    }

    fn spawn(&mut self) {
        self.run += 1;
        self.stage = Stage::Spawning;
        self.stage_until = Some(self.start_by);
        self.tree_stands = true;
        self.workspace_stands = true;
        self.out.push(Action::Spawn(self.run));
    }

    pub(super) fn enter_up(&mut self, now: Instant) {
        self.stage = Stage::Up;
        self.stage_until = None;
        self.is_ready_once = true;
        self.probes.clear();
        self.probe_at = Some(later(now, PROBE_INTERVAL));
        self.presence.become_ready(now, &self.limits);
    }

    /// Asks whether the process still answers; a probe without an answer by now is a miss.
    pub(super) fn probe(&mut self, now: Instant) {
        if self.stage != Stage::Up || self.probe_at.is_none_or(|at| at > now) {
            return;
        }
        self.probe_at = Some(later(now, PROBE_INTERVAL));
        self.probes.overdue();
        self.look_for_hang(now);
        if self.stage == Stage::Up {
            self.out
                .push(Action::ProbeProgram(self.run, self.probes.ask()));
        }
    }

    fn look_for_hang(&mut self, now: Instant) {
        if self.probes.is_hang() {
            self.run_died(now, format!("it left {HANG_PROBES} probes unanswered"));
        }
    }

    /// The stream process is of no more use: restarted in place while someone watches.
    fn run_died(&mut self, now: Instant, why: String) {
        let failure = SessionFailure::Program(why);
        if !self.is_ready_once && self.seeded.take_if(|run| *run == self.run).is_some() {
            self.stage = Stage::Clearing;
            return self.clear(now);
        }
        if !self.is_ready_once {
            return self.end(now, EndReason::StartFailed, Some(failure));
        }
        let spent = self.restarts >= self.limits.restart_limit;
        if spent || !self.presence.is_present(now) {
            return self.end(now, EndReason::ProcessExited, Some(failure));
        }
        self.restarts += 1;
        self.probe_at = None;
        self.start_by = later(now, self.limits.start_timeout);
        self.stage = Stage::Clearing;
        self.out.push(Action::NotifyPage(Notice::Restarting));
        self.clear(now);
    }

    fn clear(&mut self, now: Instant) {
        self.stage_until = Some(self.start_by.min(later(now, RETRY_INTERVAL)));
        self.out.push(Action::KillTree(self.run));
    }

    /// The start or restart came to nothing, and trying again would not help.
    fn fail(&mut self, now: Instant, failure: SessionFailure) {
        let reason = if self.is_ready_once {
            EndReason::ProcessExited
        } else {
            EndReason::StartFailed
        };
        self.end(now, reason, Some(failure));
    }

    pub(super) fn stage_timed_out(&mut self, now: Instant) {
        if self.stage == Stage::Clearing && now < self.start_by {
            return self.clear(now);
        }
        let phase = self.phase().unwrap_or(Phase::Spawning);
        self.fail(now, SessionFailure::TimedOut(phase));
    }

    /// Whether `run` is the current one and may have processes.
    pub(super) fn is_standing(&self, run: Incarnation) -> bool {
        run == self.run && self.tree_stands
    }
}
