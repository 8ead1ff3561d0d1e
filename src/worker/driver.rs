//! Drives one session: feeds its lifecycle and carries out what it asks for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Map;
use smol::Task;
use smol::channel::Receiver;

use super::Worker;
use super::effects::{self, StepContext};
use super::ledger_writer::{LedgerWriteError, LedgerWriter};
use super::session_handle::{SessionHandle, Shown, ended};
use super::shortage::DISK_RETRY;
use crate::exec::Stopper;
use crate::http::sse::Event;
use crate::protocol::{EndReason, Phase, SPAWN_FAILED, Status};
use crate::session::ledger::{LedgerEntry, StoredCredentials};
use crate::session::lifecycle::{Action, Incarnation, Input, Lifecycle, Notice, Summary};
use crate::{clock, exec, records};

/// How long the record of a session waits for a rating from a page that was open at its end.
const RATING_WINDOW: Duration = Duration::from_secs(10);

/// One session's driver.
pub(super) struct Driver {
    worker: Arc<Worker>,
    live: Arc<SessionHandle>,
    life: Lifecycle,
    /// What the lifecycle asked for at its beginning.
    actions: Vec<Action>,
    scribe: LedgerWriter,
    stage: StepContext,
    /// The step under way; dropping it cancels it.
    step: Option<Task<()>>,
    /// Ends the pairing under way, which may finish a handshake.
    pairing: Option<Stopper>,
    /// What a start is at, and since when.
    phase: Option<(Phase, Instant)>,
    /// Whether a page was open when the session ended.
    had_viewers: bool,
    /// When the entry is written again, after it could not be.
    ledger_retry: Option<Instant>,
    /// The record, as long as the disk has not taken it.
    unwritten: Option<records::nps::Record>,
}

impl Driver {
    /// A driver of that session; nothing is done yet.
    pub(super) fn new(
        worker: &Arc<Worker>,
        live: &Arc<SessionHandle>,
        (life, actions): (Lifecycle, Vec<Action>),
        stage: StepContext,
    ) -> Self {
        Self {
            worker: Arc::clone(worker),
            live: Arc::clone(live),
            life,
            actions,
            scribe: LedgerWriter::of(worker.ledger.clone(), live.id.clone()),
            stage,
            step: None,
            pairing: None,
            phase: None,
            had_viewers: false,
            ledger_retry: None,
            unwritten: None,
        }
    }

    /// Writes the first entry, before anybody hears of the session.
    ///
    /// # Errors
    /// When the session must not begin; no entry of it stays.
    pub(super) async fn begin_ledger(&mut self) -> Result<(), LedgerWriteError> {
        let shown = self.live.look(&self.life);
        let written = self.scribe.write_at_start(self.entry(&shown)).await;
        if let Err(error) = &written {
            self.worker.disk_failed(&error.to_string());
            // A disk that hangs may still take the write.
            let _ = self.scribe.forget().await;
        }
        written
    }

    /// The session that was announced to the ledger does not begin after all.
    pub(super) async fn give_up(self) {
        if let Err(error) = self.scribe.forget().await {
            log::warn!(target: "session", session = self.live.id.as_str(); "{error}");
        }
    }

    /// Runs the session from here to its end.
    pub(super) fn start(self, inbox: Receiver<Input>) {
        exec::spawn(self.run(inbox)).detach();
    }

    async fn run(mut self, inbox: Receiver<Input>) {
        let mut actions = std::mem::take(&mut self.actions);
        loop {
            let mut unwritten = None;
            for action in actions {
                if action == Action::Forget {
                    self.forget().await;
                    return;
                }
                unwritten = self.carry_out(action).await.err();
                if unwritten.is_some() {
                    break;
                }
            }
            // What follows would be done to a body that the next process could not clean up.
            if let Some(why) = unwritten {
                actions = self.life.on(clock::now(), Input::LedgerFailed(why));
                continue;
            }
            let deadline = self.life.next_deadline().into_iter();
            let deadline = deadline.chain(self.ledger_retry).min();
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
            let is_due = self.ledger_retry.is_some_and(|at| at <= clock::now());
            if self.live.is_unsaved() || is_due {
                // Failed again: the next attempt is set.
                let shown = self.live.shown();
                let written = self.write_ledger(&shown).await;
                if let (Err(why), Status::Starting) = (written, shown.status) {
                    actions.extend(self.life.on(clock::now(), Input::LedgerFailed(why)));
                }
            }
        }
    }

    /// # Errors
    /// When the ledger does not know what a starting session is about to do, and why.
    async fn carry_out(&mut self, action: Action) -> Result<(), String> {
        let (worker, live) = (Arc::clone(&self.worker), Arc::clone(&self.live));
        match action {
            Action::Publish => {
                self.time();
                self.publish().await?;
            }
            Action::ReachBody => self.step(effects::reach(worker, live, self.stage.clone())),
            Action::Spawn(run) => {
                self.step = None;
                // A start is not cancelled half-way: an end waits for it.
                exec::spawn(effects::spawn(worker, live, self.stage.clone(), run)).detach();
            }
            Action::AwaitProgram(run) => self.step(effects::await_program(worker, live, run)),
            Action::PairBody(run) => {
                self.step = None;
                let (stopper, stop) = exec::stop();
                self.pairing = Some(stopper);
                exec::spawn(effects::pair(worker, live, self.stage.clone(), run, stop)).detach();
            }
            Action::ProbeProgram(run, probe) => {
                exec::spawn(effects::probe(live, run, probe)).detach();
            }
            Action::KillTree(run) => self.kill(run),
            Action::LeaveBody => {
                // A pairing in flight is told to end; leaving itself nothing cancels.
                self.step = None;
                self.pairing = None;
                exec::spawn(effects::leave(worker, live, self.stage.clone())).detach();
            }
            Action::RemoveWorkspace => {
                exec::spawn(effects::remove_workspace(live)).detach();
            }
            Action::NotifyPage(notice) => self.notify(notice),
            Action::Record(summary) => self.record(&summary).await,
            Action::FreeSlot => live.free_slot(),
            Action::Forget => {}
        }
        Ok(())
    }

    /// One step at a time: a new one cancels the one before.
    fn step(&mut self, step: impl Future<Output = ()> + Send + 'static) {
        self.step = Some(exec::spawn(step));
    }

    fn kill(&mut self, run: Incarnation) {
        self.step = None;
        self.pairing = None;
        self.live.abandon(run);
        let (worker, live) = (Arc::clone(&self.worker), Arc::clone(&self.live));
        exec::spawn(effects::kill(worker, live, self.stage.clone(), run)).detach();
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

    async fn publish(&mut self) -> Result<(), String> {
        let shown = self.live.look(&self.life);
        // Before any report, so that the next process of this worker knows what was reported.
        let written = self.write_ledger(&shown).await;
        let before = self.live.show(shown.clone());
        self.announce(&before, &shown);
        self.worker.kick();
        match shown.status {
            Status::Starting => written,
            _ => Ok(()),
        }
    }

    /// The ledger is written before anything that it must know of is done. An entry that cannot be
    /// written is written again every [`DISK_RETRY`].
    async fn write_ledger(&mut self, shown: &Shown) -> Result<(), String> {
        let changes = self.live.changes();
        let entry = self.entry(shown);
        let written = match shown.status {
            Status::Starting => self.scribe.write_at_start(entry).await,
            _ => self.scribe.write(entry).await,
        };
        // A start does not go on without its entry, everything else does.
        if written.is_ok() || shown.status != Status::Starting {
            self.live.set_saved(changes);
        }
        let Err(error) = written else {
            self.ledger_retry = None;
            return Ok(());
        };
        let why = error.to_string();
        log::error!(target: "session", session = self.live.id.as_str();
            "its ledger entry is old until it can be written: {why}");
        self.worker.disk_failed(&why);
        self.ledger_retry = clock::now().checked_add(DISK_RETRY);
        Err(why)
    }

    fn entry(&self, shown: &Shown) -> LedgerEntry {
        let live = &self.live;
        let workspace = live.workspace.path().to_owned();
        let udp = live.udp.clone();
        let port = live.port;
        let mut entry = LedgerEntry::new(
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
        entry.credentials = Some(StoredCredentials {
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
            ("idempotency", serde_json::to_value(&live.wish.key)),
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
            (Some(reason), Some((slug, why))) => {
                log::warn!(target: "session", session = id; "ending reason={reason}: {why}");
                if *slug == SPAWN_FAILED {
                    self.worker.start_failed(why);
                }
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
            Status::Starting | Status::Ending | Status::Other(_) => return,
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

    async fn record(&mut self, summary: &Summary) {
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
        let is_final = !self.had_viewers || summary.reason == EndReason::Quit;
        let held = match is_final {
            true => self.worker.outbox.put(&record).await.map(|()| None),
            // The overlay asks for a rating now; the record waits a little for the answer.
            false => self.worker.outbox.hold(&record).await,
        };
        let held = match held {
            Ok(Some(held)) => held,
            Ok(None) => return,
            Err(error) => {
                self.worker.disk_failed(&error.to_string());
                self.unwritten = Some(record);
                return;
            }
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
        let forgotten = match self.unwritten {
            Some(_) => Err("its record is not written".to_owned()),
            None => self.scribe.forget().await.map_err(|e| e.to_string()),
        };
        if let Err(why) = forgotten {
            log::error!(target: "session", session = live.id.as_str(); "its ledger entry stays for now: {why}");
            keep_trying(&worker, &live, self.scribe, self.unwritten);
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

/// What is left of a session on the disk is not as it should be: its record is not written, or its
/// entry not removed. The entry stays until the record is on the disk, so that a restarted worker
/// makes the record anew. There are few such tasks: without room on the disk no session is admitted.
fn keep_trying(
    worker: &Arc<Worker>,
    live: &Arc<SessionHandle>,
    scribe: LedgerWriter,
    record: Option<records::nps::Record>,
) {
    let (worker, live) = (Arc::clone(worker), Arc::clone(live));
    exec::spawn(async move {
        let mut unwritten = record;
        loop {
            clock::sleep(DISK_RETRY).await;
            if let Some(record) = unwritten.as_mut() {
                // A visitor may have rated meanwhile.
                record.score = live.rating();
                if worker.outbox.put(record).await.is_err() {
                    continue;
                }
                unwritten = None;
            }
            if scribe.forget().await.is_ok() {
                log::info!(target: "session", session = live.id.as_str(); "its record is written, its ledger entry is gone");
                return;
            }
        }
    })
    .detach();
}
