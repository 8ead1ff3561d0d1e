//! What a demo body remembers.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use smol::channel::{self, Receiver, Sender};

use super::BodyOptions;
use super::faults::Faults;
use crate::exec::{self, Stop, Stopper};
use crate::http::Call;
use crate::sync::Mutex;
use crate::{clock, ids};

/// Calls and records that are kept.
const KEPT: usize = 1_000;
/// Longest body excerpt of a kept call.
const EXCERPT: usize = 512;
/// Longest line of a kept call.
const LINE: usize = 300;
/// Faults of which there can be many.
const MANY: u32 = 10_000;
/// How long a call over TLS reads the list of certificates, and the removal of a client writes it.
const CERTIFICATES: Duration = Duration::from_millis(20);
/// How long a restart takes.
const AWAY: Duration = Duration::from_millis(300);

/// One call that the demo body got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// Milliseconds since it started.
    pub at_ms: u64,
    /// Who was called: `sunshine`, `gamestream` or `agent`.
    pub to: &'static str,
    /// Method and path, with the query.
    pub call: String,
    /// The content's beginning.
    pub body: String,
    /// The `Content-Type` field.
    pub content_type: String,
    /// Whether the call came with `Origin` or `Referer`.
    pub from_a_page: bool,
}

#[derive(Debug)]
pub(super) struct BodyState {
    pub(super) options: BodyOptions,
    pub(super) pem: String,
    pub(super) unique_id: String,
    start: Instant,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    faults: Faults,
    ports: (u16, u16),
    calls: VecDeque<Recorded>,
    ratings: VecDeque<Value>,
    pending: Vec<Pending>,
    /// Connections whose clients are there.
    there: HashSet<SocketAddr>,
    clients: Vec<ClientEntry>,
    apps: Vec<Value>,
    running: Option<String>,
    /// Whether hydrabody runs an experience.
    has_experience: bool,
    /// `currentgame` is -1: an app that ended early was closed once.
    is_stuck: bool,
    /// Sunshine has crashed, until it is started again.
    has_crashed: bool,
    /// Who reads the list of certificates now, and who writes it.
    readers: u32,
    writers: u32,
    /// Whether they wait for each other.
    are_certificates_locked: bool,
    life: (Stopper, Stop),
    away_until: Instant,
    closing_until: Instant,
}

#[derive(Clone, Debug)]
pub(super) struct ClientEntry {
    pub(super) name: String,
    pub(super) uuid: String,
    unique_id: String,
}

/// A pairing that waits for its PIN. As in Sunshine, it stays when its client is gone, and when it
/// took a PIN and did not go on.
#[derive(Debug)]
struct Pending {
    unique_id: String,
    took_pin: bool,
    /// The client that waits for the answer, and its connection.
    waiting: Option<(Sender<bool>, SocketAddr)>,
}

impl BodyState {
    pub(super) fn new(options: BodyOptions, pem: String) -> Self {
        let apps = options.apps.iter().map(|title| json!({"name": title}));
        let memory = Memory {
            faults: Faults::default(),
            ports: (0, 0),
            calls: VecDeque::new(),
            ratings: VecDeque::new(),
            pending: Vec::new(),
            there: HashSet::new(),
            clients: Vec::new(),
            apps: apps.collect(),
            running: None,
            has_experience: false,
            is_stuck: false,
            has_crashed: false,
            readers: 0,
            writers: 0,
            are_certificates_locked: false,
            life: exec::stop(),
            away_until: clock::now(),
            closing_until: clock::now(),
        };
        let hex = format!("{}{}", ids::label(), ids::label()).to_uppercase();
        let state = Self {
            unique_id: format!(
                "{}-{}-{}-{}-{}",
                &hex[..8],
                &hex[8..12],
                &hex[12..16],
                &hex[16..20],
                &hex[20..32]
            ),
            pem,
            start: clock::now(),
            memory: Mutex::new(memory),
            options,
        };
        state.switch(state.options.faults.clone());
        state
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock()
    }

    pub(super) fn set_ports(&self, sunshine: u16, http: u16) {
        self.memory().ports = (sunshine, http);
    }

    pub(super) fn ports(&self) -> (u16, u16) {
        self.memory().ports
    }

    pub(super) fn record(&self, to: &'static str, call: &Call) {
        let at = clock::now().saturating_duration_since(self.start);
        let query = call.query.as_deref().map(|q| format!("?{q}"));
        let line = format!("{} {}{}", call.method, call.path, query.unwrap_or_default());
        let body = String::from_utf8_lossy(&call.body);
        let recorded = Recorded {
            at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            to,
            call: line.chars().take(LINE).collect(),
            body: body.chars().take(EXCERPT).collect(),
            content_type: call.header("content-type").unwrap_or_default().to_owned(),
            from_a_page: call.header("origin").or(call.header("referer")).is_some(),
        };
        keep(&mut self.memory().calls, recorded);
    }

    pub(super) fn calls(&self) -> Vec<Recorded> {
        self.memory().calls.iter().cloned().collect()
    }

    pub(super) fn rate(&self, record: Value) {
        keep(&mut self.memory().ratings, record);
    }

    pub(super) fn ratings(&self) -> Vec<Value> {
        self.memory().ratings.iter().cloned().collect()
    }

    pub(super) fn faults(&self) -> Faults {
        self.memory().faults.clone()
    }

    pub(super) fn switch(&self, faults: Faults) {
        let mut memory = self.memory();
        for n in 0..faults.stale_pending.min(MANY) {
            memory.pending.push(Pending::stale(n));
        }
        memory.is_stuck |= faults.stuck || faults.stuck_for_good;
        for n in 0..faults.paired_clients.min(MANY) {
            memory.clients.push(ClientEntry {
                name: format!("somebody else {n}"),
                uuid: ids::label(),
                unique_id: format!("other-{n}"),
            });
        }
        if let Some(title) = &faults.foreign_app {
            memory.running = Some(title.clone());
        }
        memory.faults = faults;
    }

    /// What ends with the next restart; `None` while there is nobody to talk to.
    pub(super) fn life(&self) -> Option<Stop> {
        let memory = self.memory();
        let is_there = !memory.has_crashed && clock::now() >= memory.away_until;
        is_there.then(|| memory.life.1.clone())
    }

    pub(super) fn restart(&self) {
        let mut memory = self.memory();
        memory.end();
        memory.has_crashed = false;
        memory.away_until = clock::now() + AWAY;
    }

    pub(super) fn has_crashed(&self) -> bool {
        self.memory().has_crashed
    }

    /// A pairing is pending from now on; what comes out of the channel says how it ended.
    pub(super) fn begin_pairing(&self, unique_id: &str, peer: SocketAddr) -> Receiver<bool> {
        let (sender, receiver) = channel::bounded(1);
        let mut memory = self.memory();
        if !memory.there.contains(&peer) {
            // Its request was late, and is not made any more.
            return receiver;
        }
        let waiting = Some((sender, peer));
        let known = memory.pending.iter_mut().find(|p| p.unique_id == unique_id);
        match known {
            Some(stale) => stale.waiting = waiting,
            None => memory.pending.push(Pending {
                unique_id: unique_id.to_owned(),
                took_pin: false,
                waiting,
            }),
        }
        if memory.faults.stranger_pairs {
            memory.pending.push(Pending::stale(MANY));
        }
        let restart = std::mem::take(&mut memory.faults.restart_during_pairing);
        drop(memory);
        if restart {
            self.restart();
        }
        receiver
    }

    /// That connection has a client.
    pub(super) fn client_came(&self, peer: SocketAddr) {
        self.memory().there.insert(peer);
    }

    /// The client of that connection is gone.
    pub(super) fn client_gone(&self, peer: SocketAddr) {
        let mut memory = self.memory();
        memory.there.remove(&peer);
        for pending in &mut memory.pending {
            pending.waiting.take_if(|(_, waits)| *waits == peer);
        }
    }

    /// Pairings that are pending, those of nobody included.
    #[cfg(test)]
    pub(super) fn pending(&self) -> usize {
        self.memory().pending.len()
    }

    /// A phase out of its order: the pairing is dropped. Whether there was one.
    pub(super) fn drop_pairing(&self, unique_id: &str) -> bool {
        let pending = &mut self.memory().pending;
        let before = pending.len();
        pending.retain(|p| p.unique_id != unique_id);
        pending.len() < before
    }

    /// Gives a PIN to the newest pending pairing, whosever it is.
    pub(super) fn give_pin(&self, name: &str) -> bool {
        let mut memory = self.memory();
        let fails = memory.faults.handshake_fails;
        let Some(newest) = memory.pending.last_mut() else {
            return false;
        };
        if newest.took_pin {
            // Sunshine drops the pairing and then writes to it.
            memory.crash("a second PIN for one pairing");
            return false;
        }
        newest.took_pin = true;
        let unique_id = newest.unique_id.clone();
        let answered = newest
            .waiting
            .take()
            .is_some_and(|(waiting, _)| waiting.try_send(!fails).is_ok());
        if answered && !fails {
            memory.pending.pop();
            memory.clients.push(ClientEntry {
                name: name.to_owned(),
                uuid: ids::label(),
                unique_id,
            });
        }
        true
    }

    pub(super) fn is_paired(&self, unique_id: &str) -> bool {
        let memory = self.memory();
        memory.clients.iter().any(|c| c.unique_id == unique_id)
    }

    pub(super) fn lock_certificates(&self) {
        self.memory().are_certificates_locked = true;
    }

    /// Reads the list of certificates, as Sunshine does for each call of a stream program over TLS,
    /// or writes it, as for each client that is removed. Both at once crash it, for certain here,
    /// in some of the cases in the original: it has no lock for that.
    pub(super) async fn use_certificates(&self, writes: bool) {
        let _in_use = InUse::new(self, writes);
        clock::sleep(CERTIFICATES).await;
    }

    pub(super) fn clients(&self) -> Vec<String> {
        let memory = self.memory();
        memory.clients.iter().map(|c| c.name.clone()).collect()
    }

    pub(super) fn paired(&self) -> Vec<ClientEntry> {
        self.memory().clients.clone()
    }

    pub(super) fn unpair(&self, unwanted: impl Fn(&ClientEntry) -> bool) -> bool {
        let mut memory = self.memory();
        let before = memory.clients.len();
        memory.clients.retain(|c| !unwanted(c));
        memory.clients.len() < before
    }

    pub(super) fn apps(&self) -> Vec<Value> {
        self.memory().apps.clone()
    }

    /// Changes the list of apps; it is sorted by name afterwards.
    pub(super) fn change_apps<T>(&self, change: impl FnOnce(&mut Vec<Value>) -> T) -> T {
        let mut memory = self.memory();
        let done = change(&mut memory.apps);
        memory
            .apps
            .sort_by_key(|a| a["name"].as_str().unwrap_or_default().to_owned());
        done
    }

    pub(super) fn running(&self) -> Option<String> {
        self.memory().running.clone()
    }

    pub(super) fn run(&self, title: Option<String>) {
        self.memory().running = title;
    }

    /// The configuration API is busy closing an app from now on.
    pub(super) fn begin_close(&self) {
        let mut memory = self.memory();
        let takes = Duration::from_millis(memory.faults.close_takes_ms);
        memory.closing_until = clock::now() + takes;
    }

    /// Waits until the configuration API answers again.
    pub(super) async fn closed(&self) {
        let until = self.memory().closing_until;
        clock::sleep(until.saturating_duration_since(clock::now())).await;
    }

    pub(super) fn set_experience(&self, runs: bool) {
        self.memory().has_experience = runs;
    }

    pub(super) fn has_experience(&self) -> bool {
        self.memory().has_experience
    }

    /// Closes the app that runs.
    pub(super) fn close(&self) {
        let mut memory = self.memory();
        let was_running = memory.running.take().is_some();
        memory.is_stuck =
            (was_running && memory.faults.close_leaves_stuck) || memory.faults.stuck_for_good;
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.memory().is_stuck
    }
}

/// Somebody reads or writes the list of certificates.
struct InUse<'a>(&'a BodyState, bool);

impl<'a> InUse<'a> {
    fn new(state: &'a BodyState, writes: bool) -> Self {
        let mut memory = state.memory();
        *memory.users(writes) += 1;
        if memory.readers > 0 && memory.writers > 0 && !memory.are_certificates_locked {
            memory.crash("a client was removed while a stream program called over TLS");
        }
        drop(memory);
        Self(state, writes)
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        *self.0.memory().users(self.1) -= 1;
    }
}

impl Memory {
    fn users(&mut self, writes: bool) -> &mut u32 {
        match writes {
            true => &mut self.writers,
            false => &mut self.readers,
        }
    }

    fn crash(&mut self, why: &str) {
        log::error!(target: "demo", "the body's Sunshine crashes: {why}");
        self.has_crashed = true;
        self.end();
    }

    /// The process ends: every connection, pending pairing and app.
    fn end(&mut self) {
        self.pending.clear();
        self.running = None;
        self.is_stuck = false;
        self.life = exec::stop();
    }
}

impl Pending {
    fn stale(n: u32) -> Self {
        Self {
            unique_id: format!("stale-{n}"),
            took_pin: false,
            waiting: None,
        }
    }
}

fn keep<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == KEPT {
        list.pop_front();
    }
    list.push_back(item);
}
