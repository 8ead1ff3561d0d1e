//! Drives one session: feeds its lifecycle and carries out what it asks for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Map;
use smol::Task;
use smol::channel::Receiver;

use super::Worker;
use super::live::{Live, Shown, ended};
use super::scribe::Scribe;
use super::steps::{self, Stage};
use crate::http::sse::Event;
use crate::protocol::{EndReason, Phase, Status};
use crate::session::ledger::{Credentials, Entry};
use crate::session::lifecycle::{Action, Input, Lifecycle, Notice, Run, Summary};
use crate::{clock, exec, records};

/// How long the record of a session waits for a rating from a page that was open at its end.
const RATING_WINDOW: Duration = Duration::from_secs(10);

/// One session's driver.
struct Driver {
    worker: Arc<Worker>,
    live: Arc<Live>,
    life: Lifecycle,
    scribe: Scribe,
    stage: Stage,
    /// The step under way; dropping it cancels it.
    step: Option<Task<()>>,
    /// What a start is at, and since when.
    phase: Option<(Phase, Instant)>,
    /// Whether a page was open when the session ended.
    had_viewers: bool,
}

/// Runs a session from here to its end.
pub(super) fn start(
    worker: &Arc<Worker>,
    live: &Arc<Live>,
    inbox: Receiver<Input>,
    (life, actions): (Lifecycle, Vec<Action>),
    stage: Stage,
) {
    let driver = Driver {
        worker: Arc::clone(worker),
        live: Arc::clone(live),
        life,
        scribe: Scribe::of(worker.ledger.clone(), live.id.clone()),
        stage,
        step: None,
        phase: None,
        had_viewers: false,
    };
    exec::spawn(driver.run(inbox, actions)).detach();
}

impl Driver {
    async fn run(mut self, inbox: Receiver<Input>, mut actions: Vec<Action>) {
        loop {
            for action in actions {
                if action == Action::Forget {
                    self.forget().await;
                    return;
                }
                self.carry_out(action).await;
            }
            let deadline = self.life.next_deadline();
            let tick = async {
                match deadline {
                    Some(deadline) => clock::until(deadline).await,
                    None => std::future::pending().await,
                }
                Input::Tick
            };
            let next = async { inbox.recv().await.unwrap_or(Input::Tick) };
            // However much is said, a deadline that has come is not kept waiting.
            let input = if deadline.is_some_and(|at| at <= clock::now()) {
                Input::Tick
            } else {
                smol::future::or(next, tick).await
            };
            log::debug!(target: "session", session = self.live.id.as_str(); "{input:?}");
            actions = self.life.on(clock::now(), input);
            if self.live.take_unsaved() {
                self.write_ledger(&self.live.shown()).await;
            }
        }
    }

    async fn carry_out(&mut self, action: Action) {
        let (worker, live) = (Arc::clone(&self.worker), Arc::clone(&self.live));
        match action {
            Action::Publish => {
                self.time();
                self.publish().await;
            }
            Action::ReachBody => self.step(steps::reach(worker, live, self.stage.clone())),
            Action::Spawn(run) => {
                self.step = None;
                // Nothing cancels a start half-way: whoever ends it waits for it.
                exec::spawn(steps::spawn(worker, live, self.stage.clone(), run)).detach();
            }
            Action::AwaitProgram(run) => self.step(steps::await_program(live, run)),
            Action::PairBody(run) => self.step(steps::pair(worker, live, self.stage.clone(), run)),
            Action::LaunchExperience(run) => live.tell(Input::Launched(run)),
            Action::ProbeProgram(run) => exec::spawn(steps::probe(live, run)).detach(),
            Action::KillTree(run) => self.kill(run),
            Action::LeaveBody => {
                // A pairing in flight is cancelled; leaving itself nothing cancels.
                self.step = None;
                exec::spawn(steps::leave(worker, live, self.stage.clone())).detach();
            }
            Action::RemoveWorkspace => {
                exec::spawn(steps::remove_workspace(live)).detach();
            }
            Action::NotifyPage(notice) => self.notify(notice),
            Action::Record(summary) => self.record(&summary).await,
            Action::Forget => {}
        }
    }

    /// One step at a time: a new one cancels the one before.
    fn step(&mut self, step: impl Future<Output = ()> + Send + 'static) {
        self.step = Some(exec::spawn(step));
    }

    fn kill(&mut self, run: Run) {
        self.step = None;
        self.live.abandon(run);
        exec::spawn(steps::kill(
            Arc::clone(&self.worker),
            Arc::clone(&self.live),
            run,
        ))
        .detach();
    }

    /// Measures the phases of the first start; an adopted session has none.
    fn time(&mut self) {
        let now = clock::now();
        let phase = self.life.phase();
        if self.phase.map(|(phase, _)| phase) == phase {
            return;
        }
        if let Some((passed, since)) = self.phase {
            let counters = &self.worker.counters;
            counters.passed(passed, now.saturating_duration_since(since));
            if self.life.status() == Status::Ready {
                counters.ready(now.saturating_duration_since(self.live.begun));
            }
        }
        self.phase = phase.map(|phase| (phase, now));
    }

    async fn publish(&self) {
        let shown = self.live.look(&self.life);
        // First, so that nobody is told of what the next process of this worker would not know.
        self.write_ledger(&shown).await;
        let before = self.live.show(shown.clone());
        self.announce(&before, &shown);
        self.worker.kick();
    }

    /// The ledger is written before anything that it must know of is done.
    async fn write_ledger(&self, shown: &Shown) {
        if let Err(error) = self.scribe.write(self.entry(shown)).await {
            log::error!(target: "session", session = self.live.id.as_str();
                "a restarted worker will not find this session: {error}");
        }
    }

    fn entry(&self, shown: &Shown) -> Entry {
        let live = &self.live;
        let workspace = live.workspace.path().to_owned();
        let udp = live.udp.clone();
        let port = live.port;
        let mut entry = Entry::new(
            live.id.clone(),
            port,
            (*udp.start(), *udp.end()),
            workspace,
            live.wish.request.body_ip,
        );
        if let Some(running) = live.running() {
            entry.process = Some(running.identity());
            entry.cgroup = running.cgroup().map(Into::into);
        }
        entry.user.clone_from(&live.program_user);
        entry.credentials = Some(Credentials {
            user: live.wish.user.clone(),
            password: live.wish.password.clone(),
        });
        let traces = live.traces();
        entry.pairing_name.clone_from(&traces.client);
        entry.stream_path.clone_from(&shown.stream_path);
        entry.experience.clone_from(&live.wish.request.experience);
        entry.district.clone_from(&live.wish.request.district);
        entry.created_at = clock::rfc3339(live.birth.at);
        entry.begun_ms = Some(live.birth.mark.as_millis());
        entry.ready_at = shown.ready_at.map(clock::rfc3339);
        let kept = [
            ("life", serde_json::to_value(self.life.snapshot())),
            ("traces", serde_json::to_value(&traces)),
            ("request", serde_json::to_value(&live.wish.request)),
            ("rating", serde_json::to_value(live.rating())),
            ("streamer", serde_json::to_value(live.streamer())),
        ];
        for (name, value) in kept {
            if let Ok(value) = value {
                entry.extra.insert(name.to_owned(), value);
            }
        }
        entry
    }

    fn announce(&self, before: &Shown, shown: &Shown) {
        if before.status == shown.status {
            return;
        }
        let id = self.live.id.as_str();
        match (&shown.end_reason, &shown.failure) {
            (None, _) => {
                log::info!(target: "session", session = id; "{} port={}", shown.status, self.live.port);
            }
            (Some(_), _) if before.end_reason.is_some() => {}
            (Some(reason), Some((_, why))) => {
                log::warn!(target: "session", session = id; "ending reason={reason}: {why}");
            }
            (Some(reason), None) => {
                log::info!(target: "session", session = id; "ending reason={reason}");
            }
        }
        let name = match shown.status {
            Status::Ready => "session_ready",
            Status::Connected => "session_connected",
            Status::Lingering => "session_lingering",
            // Said at admission; said when nothing is left.
            Status::Starting | Status::Ending => return,
            Status::Ended => "session_ended",
        };
        let mut more = Map::new();
        if let Some(reason) = shown.end_reason {
            more.insert("end_reason".into(), reason.to_string().into());
        }
        self.worker.publish(name, &self.live.id, more);
    }

    fn notify(&mut self, notice: Notice) {
        match notice {
            Notice::Ended(reason) => {
                self.had_viewers = self.live.shown().viewers > 0;
                self.live.notify(&ended(reason));
                self.worker.mics.end(&self.live.id);
                self.live.cut();
            }
            Notice::Restarting => {
                log::warn!(target: "session", session = self.live.id.as_str(); "restarting the stream process");
                self.live.notify(&Event {
                    id: None,
                    name: "restarting".into(),
                    data: "{}".into(),
                });
            }
            Notice::Draining(deadline) => {
                let at = deadline.map(|d| {
                    clock::rfc3339(clock::wall() + d.saturating_duration_since(clock::now()))
                });
                let data = serde_json::json!({ "deadline": at }).to_string();
                self.live.notify(&Event {
                    id: None,
                    name: "draining".into(),
                    data,
                });
            }
        }
    }

    async fn record(&self, summary: &Summary) {
        self.worker.counters.ended(summary.reason);
        let stats = self.live.stats().unwrap_or_default();
        let request = &self.live.wish.request;
        let mut record = records::nps::Record {
            experience: request.experience.clone(),
            score: self.live.rating(),
            session_id: self.live.id.clone(),
            body_ip: request.body_ip,
            district: request
                .district
                .clone()
                .unwrap_or_else(|| self.worker.settings.district.clone()),
            end_reason: summary.reason,
            duration_ms: u64::try_from(summary.duration.as_millis()).unwrap_or(u64::MAX),
            ice_candidate_type: stats.ice_candidate_type,
            disconnect_count: summary
                .disconnect_count
                .max(stats.disconnect_count.unwrap_or(0)),
        };
        if !self.had_viewers || summary.reason == EndReason::Quit {
            return self.worker.outbox.put(&record).await;
        }
        // The overlay asks for a rating now; the record waits a little for the answer.
        let Some(held) = self.worker.outbox.hold(&record).await else {
            return;
        };
        let (worker, live) = (Arc::clone(&self.worker), Arc::clone(&self.live));
        exec::spawn(async move {
            let rated = live.wait_for_rating(record.score);
            if let Ok(score) = clock::by(clock::now() + RATING_WINDOW, rated).await {
                record.score = Some(score);
            }
            worker.outbox.release(held, &record).await;
        })
        .detach();
    }

    async fn forget(self) {
        let (worker, live) = (self.worker, self.live);
        worker.proxy.forget(&live.upstream());
        if let Err(error) = self.scribe.forget().await {
            log::error!(target: "session", session = live.id.as_str(); "{error}");
        }
        worker.roster.remove(&live);
        live.show_gone();
        let reason = live
            .shown()
            .end_reason
            .map(|r| r.to_string())
            .unwrap_or_default();
        log::info!(target: "session", session = live.id.as_str();
            "ended reason={reason} after={}", clock::human(live.age()));
        worker.kick();
    }
}
