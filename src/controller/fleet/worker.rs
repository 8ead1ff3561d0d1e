//! What the controller knows of one worker: its last heartbeat, and what happened since.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::clock;
use crate::ids::SessionId;
use crate::protocol::{
    DrainOrder, EndReason, Heartbeat, SessionView, Status, WorkerStatus, WorkerView,
};

use super::FleetError;
use super::breaker::Breaker;
use super::event::{FleetChange, FleetEvent, is_open};
use super::reservations::PendingReservation;

/// Ended sessions remembered for a worker, so that a late heartbeat does not bring one back:
/// several times what a worker ends between two heartbeats.
const ENDED_MAX: usize = 128;
/// Predecessor processes remembered for a worker: restarts in quick succession.
const RETIRED_MAX: usize = 16;
/// Later heartbeats that must not list an unconfirmed session before it counts as not there: one
/// may have been in flight already.
pub(super) const UNCONFIRMED_BEATS: u64 = 2;

/// A session as its worker last reported it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) view: SessionView,
    /// The count of heartbeats when it was last in one.
    pub(super) seen: u64,
    /// Set while only a create's answer announced the session, and no heartbeat has listed it.
    pub(super) announced: Option<Unconfirmed>,
    was_ready: bool,
}

/// Since when something waits for a heartbeat to confirm it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unconfirmed {
    pub(super) since: Instant,
    pub(super) beats: u64,
}

impl Unconfirmed {
    /// Whether enough heartbeats and time have passed without a confirmation.
    pub(super) fn has_expired(self, now: Instant, beats: u64, grace: Duration) -> bool {
        beats >= self.beats + UNCONFIRMED_BEATS
            && now.saturating_duration_since(self.since) >= grace
    }
}

/// One worker.
#[derive(Debug)]
pub(super) struct WorkerEntry {
    pub(super) id: Arc<str>,
    /// Its last heartbeat, without the sessions.
    pub(super) last: Heartbeat,
    retired: VecDeque<String>,
    /// Count of heartbeats.
    pub(super) beats: u64,
    pub(super) heard: Instant,
    pub(super) heard_wall: SystemTime,
    /// Whether another controller hears it.
    pub(super) heard_by_peer: bool,
    pub(super) is_down: bool,
    /// Whether the sessions of its next heartbeat may be older than this entry: it is new, or its
    /// sessions were given up.
    catching_up: bool,
    was_draining: bool,
    /// The drain that was ordered through a controller.
    pub(super) drain: Option<DrainOrder>,
    /// Why nothing is placed on it until its next heartbeat: what it reported, or a refusal.
    pub(super) ejected: Option<String>,
    pub(super) breaker: Breaker,
    pub(super) sessions: HashMap<SessionId, Session>,
    ended: VecDeque<SessionId>,
    /// Slots that its last heartbeat lists as held.
    held: usize,
    /// Sessions announced, but in no heartbeat yet.
    pub(super) announced: usize,
    pub(super) reservations: Vec<PendingReservation>,
}

impl WorkerEntry {
    pub(super) fn new(now: Instant, wall: SystemTime, beat: &Heartbeat) -> Self {
        let ordered = beat.drain_ordered.then(|| DrainOrder {
            deadline: beat.drain_deadline.clone(),
        });
        Self {
            id: Arc::from(beat.worker_id.as_str()),
            last: Heartbeat {
                sequence: 0,
                sessions: Vec::new().into(),
                ..beat.clone()
            },
            retired: VecDeque::new(),
            beats: 0,
            heard: now,
            heard_wall: wall,
            heard_by_peer: false,
            is_down: true,
            catching_up: true,
            was_draining: false,
            drain: ordered,
            ejected: None,
            breaker: Breaker::default(),
            sessions: HashMap::new(),
            ended: VecDeque::new(),
            held: 0,
            announced: 0,
            reservations: Vec::new(),
        }
    }

    pub(super) fn event(&self, change: FleetChange) -> FleetEvent {
        FleetEvent {
            worker_id: self.id.to_string(),
            district: self.last.district.clone(),
            change,
        }
    }

    pub(super) fn silence(&self, now: Instant) -> Duration {
        if self.heard_by_peer {
            return Duration::ZERO;
        }
        now.saturating_duration_since(self.heard)
    }

    /// Whether a successor of the process holds its state directory, so that it must be gone.
    fn is_retired(&self, process_id: &str) -> bool {
        self.retired.iter().any(|gone| gone == process_id)
    }

    /// Whether a heartbeat's process may be this worker; returns the process that it replaces.
    ///
    /// A new process must wait until the one before has been silent for `quiet`, unless it reports
    /// that one to be gone; a process that was reported gone is refused.
    pub(super) fn check_process(
        &self,
        now: Instant,
        quiet: Duration,
        beat: &Heartbeat,
    ) -> Result<Option<String>, FleetError> {
        let live = &self.last.process_id;
        if *live == beat.process_id {
            return Ok(None);
        }
        let is_free = beat.replaces.contains(live) || self.silence(now) >= quiet;
        if is_free && !self.is_retired(&beat.process_id) {
            return Ok(Some(live.clone()));
        }
        Err(FleetError::DuplicateWorker {
            worker_id: self.id.to_string(),
            live: live.clone(),
            refused: beat.process_id.clone(),
        })
    }

    /// Takes in all of a heartbeat but its sessions.
    pub(super) fn accept(&mut self, now: Instant, wall: SystemTime, beat: Heartbeat) {
        for gone in beat.replaces.iter().take(RETIRED_MAX).rev() {
            if *gone != beat.process_id && !self.is_retired(gone) {
                push_bounded(&mut self.retired, gone.clone(), RETIRED_MAX);
            }
        }
        if beat.process_id != self.last.process_id {
            self.breaker = Breaker::default();
        }
        let url = std::mem::take(&mut self.last.url);
        self.last = beat;
        if self.last.url.is_empty() {
            self.last.url = url;
        }
        self.heard = now;
        self.heard_wall = wall;
        self.heard_by_peer = false;
        self.beats += 1;
        self.reset_ejection();
        self.held = 0;
    }

    /// Admits the worker to placement again, unless it reported no URL or that it refuses sessions, or
    /// its creates fail.
    pub(super) fn reset_ejection(&mut self) {
        let is_nowhere = self.last.url.is_empty();
        let nowhere = is_nowhere.then(|| "its heartbeats have no url".to_owned());
        let refuses = nowhere.or_else(|| self.last.refuses.clone());
        self.ejected = refuses.or_else(|| self.breaker.refusal(self.heard));
    }

    /// Emits `WorkerUp` if the worker was down, and a change of its drain.
    pub(super) fn push_state_changes(&mut self, events: &mut Vec<FleetEvent>) {
        if std::mem::take(&mut self.is_down) {
            events.push(self.event(FleetChange::WorkerUp));
        }
        self.push_drain_change(events);
    }

    pub(super) fn push_drain_change(&mut self, events: &mut Vec<FleetEvent>) {
        let drains = self.is_draining();
        if std::mem::replace(&mut self.was_draining, drains) == drains {
            return;
        }
        events.push(self.event(if drains {
            FleetChange::WorkerDraining
        } else {
            FleetChange::WorkerUndrained
        }));
    }

    pub(super) fn has_ended(&self, id: &SessionId) -> bool {
        self.ended.contains(id)
    }

    /// Lets sessions reappear that were forgotten without their worker having ended them.
    pub(super) fn allow_reappearance(&mut self, ids: &[SessionId]) {
        self.ended.retain(|id| !ids.contains(id));
    }

    /// Gives unconfirmed sessions all of the time again.
    pub(super) fn restart_confirmation(&mut self, now: Instant) {
        let announced = self
            .sessions
            .values_mut()
            .filter_map(|s| s.announced.as_mut());
        announced.for_each(|u| u.since = now);
    }

    /// Counts a slot that the heartbeat lists as held.
    pub(super) fn count_slot(&mut self) {
        self.held += 1;
    }

    /// Takes in one session of a heartbeat.
    pub(super) fn update_session(&mut self, mut view: SessionView, events: &mut Vec<FleetEvent>) {
        let id = view.id.clone();
        if view.status == Status::Ended {
            let reason = view.end_reason;
            self.tell_taken_over(&view, events);
            if self.sessions.remove(&id).is_none() && !self.catching_up {
                events.push(self.event(FleetChange::SessionCreated(id.clone())));
            }
            events.push(self.event(FleetChange::SessionEnded(id.clone(), reason)));
            push_bounded(&mut self.ended, id, ENDED_MAX);
            return;
        }
        let known = self.sessions.get(&id).map(|s| &s.view);
        match known {
            // A heartbeat that was under way when the end began.
            Some(known) if known.status == Status::Ending => {
                view.status = Status::Ending;
                view.end_reason = view.end_reason.or(known.end_reason);
            }
            Some(_) => {}
            None => self.match_reservation(&view),
        }
        self.upsert(view, None, events);
    }

    /// Says once that a session gives its body to another one.
    fn tell_taken_over(&self, view: &SessionView, events: &mut Vec<FleetEvent>) {
        let known = self.sessions.get(&view.id).and_then(|s| s.view.end_reason);
        let is_new = known != Some(EndReason::TakenOver);
        if is_new && view.end_reason == Some(EndReason::TakenOver) {
            events.push(self.event(FleetChange::SessionTakenOver(view.id.clone())));
        }
    }

    /// Takes in a session that a create's answer announced.
    pub(super) fn announce(
        &mut self,
        now: Instant,
        view: SessionView,
        events: &mut Vec<FleetEvent>,
    ) {
        if self.has_ended(&view.id) {
            return;
        }
        if let Some(known) = self.sessions.get(&view.id) {
            // A heartbeat listed it before it was ready; the answer is newer.
            if known.view.status == Status::Starting && is_open(view.status) {
                let ready = SessionView {
                    status: view.status,
                    phase: None,
                    ..known.view.clone()
                };
                let announced = known.announced;
                self.upsert(ready, announced, events);
            }
            return;
        }
        let unconfirmed = Unconfirmed {
            since: now,
            beats: self.beats,
        };
        self.upsert(view, Some(unconfirmed), events);
        self.announced += 1;
    }

    fn upsert(
        &mut self,
        view: SessionView,
        announced: Option<Unconfirmed>,
        events: &mut Vec<FleetEvent>,
    ) {
        let (id, status) = (view.id.clone(), view.status);
        let old = self.sessions.get(&id);
        let before = old.map(|s| s.view.status);
        let was_ready = old.is_some_and(|s| s.was_ready);
        let is_found = self.catching_up && announced.is_none() && before.is_none();
        if is_found {
            events.push(self.event(FleetChange::SessionFound(id.clone())));
        } else if before.is_none() {
            events.push(self.event(FleetChange::SessionCreated(id.clone())));
        }
        if is_open(status) && !was_ready && !is_found {
            events.push(self.event(FleetChange::SessionReady(id.clone())));
        }
        self.tell_taken_over(&view, events);
        if before != Some(status) {
            match status {
                Status::Connected => {
                    events.push(self.event(FleetChange::SessionConnected(id.clone())));
                }
                Status::Lingering => {
                    events.push(self.event(FleetChange::SessionLingering(id.clone())));
                }
                _ => {}
            }
        }
        let session = Session {
            view,
            seen: self.beats,
            announced,
            was_ready: was_ready || is_open(status),
        };
        self.sessions.insert(id, session);
    }

    /// Removes the sessions that a heartbeat no longer lists. Returns their ids.
    pub(super) fn forget_absent(
        &mut self,
        now: Instant,
        grace: Duration,
        events: &mut Vec<FleetEvent>,
    ) -> Vec<SessionId> {
        let beats = self.beats;
        let is_gone = |s: &Session| {
            s.seen != beats && s.announced.is_none_or(|d| d.has_expired(now, beats, grace))
        };
        let gone = self.sessions.values().filter(|s| is_gone(s));
        let gone: Vec<SessionId> = gone.map(|s| s.view.id.clone()).collect();
        for id in &gone {
            self.drop_session(id, None, events);
        }
        self.announced = self
            .sessions
            .values()
            .filter(|s| s.announced.is_some())
            .count();
        self.catching_up = false;
        gone
    }

    /// Forgets one session that has ended.
    pub(super) fn drop_session(
        &mut self,
        id: &SessionId,
        reason: Option<EndReason>,
        events: &mut Vec<FleetEvent>,
    ) {
        let Some(session) = self.sessions.remove(id) else {
            return;
        };
        if session.announced.is_some() {
            self.announced = self.announced.saturating_sub(1);
        }
        let reason = reason.or(session.view.end_reason);
        events.push(self.event(FleetChange::SessionEnded(id.clone(), reason)));
        push_bounded(&mut self.ended, id.clone(), ENDED_MAX);
    }

    /// Gives up every session of a worker that stays silent.
    pub(super) fn lose_sessions(&mut self, events: &mut Vec<FleetEvent>) -> Vec<SessionId> {
        let lost: Vec<SessionId> = self.sessions.drain().map(|(id, _)| id).collect();
        for id in &lost {
            events.push(self.event(FleetChange::SessionLost(id.clone())));
        }
        self.held = 0;
        self.announced = 0;
        self.reservations.clear();
        self.catching_up = true;
        lost
    }

    /// Removes a session that another worker now has.
    pub(super) fn hand_over(&mut self, id: &SessionId) {
        let ceded = self.sessions.remove(id);
        if ceded.is_some_and(|session| session.announced.is_some()) {
            self.announced = self.announced.saturating_sub(1);
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.last.draining || self.drain.is_some()
    }

    /// Slots held by sessions.
    pub(super) fn active(&self) -> usize {
        self.held + self.announced
    }

    /// Slots held or reserved.
    pub(super) fn taken(&self) -> usize {
        self.active() + self.reservations.iter().filter(|r| !r.is_matched).count()
    }

    pub(super) fn status(&self, now: Instant, timeout: Duration) -> WorkerStatus {
        if self.is_down || self.silence(now) > timeout {
            WorkerStatus::Unhealthy
        } else if self.is_draining() {
            WorkerStatus::Draining
        } else {
            WorkerStatus::Healthy
        }
    }

    pub(super) fn view(&self, now: Instant, timeout: Duration) -> WorkerView {
        let (active, max) = (self.active(), self.last.max_sessions);
        WorkerView {
            worker_id: self.id.to_string(),
            url: self.last.url.clone(),
            public_url: self.last.public_url.clone(),
            district: self.last.district.clone(),
            version: self.last.version.clone(),
            process_id: self.last.process_id.clone(),
            status: self.status(now, timeout),
            active_sessions: active,
            max_sessions: max,
            wireguard: self.last.wireguard,
            last_heartbeat: clock::rfc3339(self.heard_wall),
            drain_deadline: self.drain.as_ref().and_then(|order| order.deadline.clone()),
            refuses: (self.last.refuses.clone()).or_else(|| self.breaker.refusal(now)),
            load: if max == 0 {
                1.0
            } else {
                (active as f64 / max as f64).min(1.0)
            },
        }
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, max: usize) {
    if queue.len() >= max {
        queue.pop_front();
    }
    queue.push_back(item);
}
