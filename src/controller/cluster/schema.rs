//! The schema of the store: the names of the keys and the JSON under them.
//!
//! Below the prefix:
//!
//! | key | under the lease of | written by | when |
//! |---|---|---|---|
//! | `live/controllers/<process>` | its controller's presence, 5 s | that controller | every second |
//! | `live/workers/<worker>` | the workers that a controller hears, `workers.heartbeat_timeout` | the controller that hears the worker | when a heartbeat differs from the one before |
//! | `live/sessions/<session>` | the same | the controller that created it | before the 201; deleted when the worker's heartbeats list it |
//! | `live/drains/<worker>` | none | the controller that was asked | when a drain is ordered or lifted |
//! | `live/event_base` | none | the first controller, and one that finds another store | once in the life of a store |
//! | `live/events/<name>` | 10 to 15 minutes | the controller that saw the change | once, with the change |
//! | `keys/<hash>` | a day | the controller that serves the request | before each worker is asked, and at the end |
//! | `turns/<body>` | its own, 8 s | the controller that creates on the body, which renews the lease | for the length of the create |

use std::net::IpAddr;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::etcd::{Kv, Revision};
use crate::ids::SessionId;
use crate::protocol::reading::{self, LeftOut, Reading};
use crate::protocol::{Created, Heartbeat, SessionView, Status};

use crate::controller::fleet::{FleetChange, FleetEvent};

/// Event ids of one revision: more than a transaction may write.
const EVENTS_A_REVISION: u64 = 256;
/// Event ids of one second: as many as 4,096 revisions. A store writes fewer, so ids that begin
/// with the time are above those of every store before; they stay below 2^53 for 200 years.
const EVENTS_A_SECOND: u64 = EVENTS_A_REVISION << 12;

const EVENT_BASE: &str = "event_base";

/// The names of the keys.
#[derive(Clone, Debug)]
pub(super) struct KeyNames(String);

/// What a watched key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchedKey<'a> {
    Controller(&'a str),
    Drain(&'a str),
    Event,
    EventBase,
    Session(&'a str),
    Worker(&'a str),
}

impl KeyNames {
    pub(super) fn under(prefix: &str) -> Self {
        Self(prefix.to_owned())
    }

    /// The prefix that every controller watches.
    pub(super) fn live(&self) -> String {
        format!("{}/live/", self.0)
    }

    pub(super) fn controller(&self, process_id: &str) -> String {
        format!("{}/live/controllers/{process_id}", self.0)
    }

    pub(super) fn workers(&self) -> String {
        format!("{}/live/workers/", self.0)
    }

    pub(super) fn worker(&self, worker_id: &str) -> String {
        format!("{}/live/workers/{worker_id}", self.0)
    }

    pub(super) fn session(&self, id: &SessionId) -> String {
        format!("{}/live/sessions/{id}", self.0)
    }

    pub(super) fn drain(&self, worker_id: &str) -> String {
        format!("{}/live/drains/{worker_id}", self.0)
    }

    pub(super) fn event(&self, name: &str) -> String {
        format!("{}/live/events/{name}", self.0)
    }

    pub(super) fn event_base(&self) -> String {
        format!("{}/live/{EVENT_BASE}", self.0)
    }

    pub(super) fn key(&self, hash: &str) -> String {
        format!("{}/keys/{hash}", self.0)
    }

    pub(super) fn body_lock(&self, body: IpAddr) -> String {
        format!("{}/turns/{body}", self.0)
    }

    /// What a watched key stands for; none for keys of later versions.
    pub(super) fn about<'a>(&self, key: &'a str) -> Option<WatchedKey<'a>> {
        let rest = key.strip_prefix(&self.0)?.strip_prefix("/live/")?;
        if rest == EVENT_BASE {
            return Some(WatchedKey::EventBase);
        }
        let (kind, name) = rest.split_once('/')?;
        Some(match kind {
            "controllers" => WatchedKey::Controller(name),
            "drains" => WatchedKey::Drain(name),
            "events" => WatchedKey::Event,
            "sessions" => WatchedKey::Session(name),
            "workers" => WatchedKey::Worker(name),
            _ => return None,
        })
    }
}

/// A controller that lives.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct ControllerRecord {
    /// Counts up. The time until the watch shows it is the store's lag.
    #[serde(default)]
    pub(super) pulse: u64,
}

/// A worker, as a controller heard it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct WorkerRecord {
    /// The controller (its process) that hears it.
    #[serde(default)]
    pub(super) by: String,
    /// False when that controller has not heard it for three intervals.
    #[serde(default = "yes")]
    pub(super) heard: bool,
    /// Its last heartbeat that differed from the one before.
    pub(super) beat: Heartbeat,
}

/// A session that was just made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SessionRecord {
    pub(super) worker_id: String,
    pub(super) view: SessionView,
}

/// An event for listeners.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct EventRecord {
    /// Its position among the events of its revision.
    #[serde(default)]
    pub(super) order: u64,
    pub(super) name: String,
    /// The JSON that listeners get.
    #[serde(default = "nothing")]
    pub(super) data: String,
}

/// What is added to the ids of this store's events, so that they are above those of a store before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EventBase {
    pub(super) base: u64,
}

fn yes() -> bool {
    true
}

fn nothing() -> String {
    "{}".to_owned()
}

/// An `Idempotency-Key` and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct KeyRecord {
    /// SHA-256 of the request's body.
    pub(super) digest: String,
    /// The controller (its process) that serves the request; empty when none does.
    pub(super) by: String,
    /// Distinguishes this request from a retry at the same controller.
    pub(super) ticket: String,
    /// The worker that was asked last: it may have made the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) worker: Option<String>,
    /// The answer, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) answer: Option<Created>,
}

/// A value as it is written.
pub(super) fn written(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_default()
}

/// A value as it was written by this or another version.
pub(super) fn read<T: DeserializeOwned>(kv: &Kv) -> Option<T> {
    reading_of(kv).map(|reading| reading.value)
}

fn reading_of<T: DeserializeOwned>(kv: &Kv) -> Option<Reading<T>> {
    let tell = |left_out: &[LeftOut]| {
        let who = format!("store: {}", kv.key);
        reading::tell("controller", &who, "unknown", left_out);
    };
    let reading = reading::read(&kv.value).inspect_err(|unread| tell(std::slice::from_ref(unread)));
    let reading: Reading<T> = reading.ok()?;
    tell(&reading.left_out);
    Some(reading)
}

/// A worker's record; none if its sessions cannot be read.
pub(super) fn read_worker(kv: &Kv) -> Option<WorkerRecord> {
    let Reading { value, left_out } = reading_of::<WorkerRecord>(kv)?;
    let beat = &value.beat;
    let who = format!("worker {}", beat.worker_id);
    reading::tell("controller", &who, &beat.version, &beat.sessions.left_out);
    // A list of another shape is not an empty one: its sessions would end here.
    let is_whole = left_out.iter().all(|l| l.field != "beat.sessions");
    is_whole.then_some(value)
}

/// The id of an event in the stream, the same at every controller.
pub(super) fn event_id(base: u64, revision: Revision, record: &EventRecord) -> u64 {
    base + revision * EVENTS_A_REVISION + record.order.min(EVENTS_A_REVISION - 1)
}

/// A base for the ids of events that are above all that were given before, `last` among them.
pub(super) fn event_base(wall: SystemTime, last: u64) -> EventBase {
    let age = wall.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = age.map_or(0, |age| age.as_secs());
    EventBase {
        base: (seconds * EVENTS_A_SECOND).max(last + 1),
    }
}

/// The name of an event's key: the same at every controller that sees the change, so that the first
/// to write it wins. `at` is the revision of the worker's record.
pub(super) fn event_name(event: &FleetEvent, view: Option<&SessionView>, at: Revision) -> String {
    let (what, worker) = (event.change.name(), &event.worker_id);
    match &event.change {
        // Once in a session's life.
        FleetChange::SessionCreated(id)
        | FleetChange::SessionReady(id)
        | FleetChange::SessionTakenOver(id)
        | FleetChange::SessionEnded(id, _) => format!("{what}-{id}"),
        // Once between two departures of the visitor.
        FleetChange::SessionConnected(id) | FleetChange::SessionLingering(id) => {
            let count = view.map_or(0, |view| view.disconnect_count);
            format!("{what}-{id}-{count}")
        }
        FleetChange::SessionFound(id) | FleetChange::SessionLost(id) => format!("{what}-{id}-{at}"),
        FleetChange::WorkerDown
        | FleetChange::WorkerDraining
        | FleetChange::WorkerUp
        | FleetChange::WorkerUndrained => format!("{what}-{worker}-{at}"),
    }
}

/// Whether a heartbeat holds nothing that other controllers must learn: counters and measurements
/// may differ.
pub(super) fn is_same(known: &Heartbeat, beat: &Heartbeat) -> bool {
    known.process_id == beat.process_id
        && known.url == beat.url
        && known.public_url == beat.public_url
        && known.district == beat.district
        && known.version == beat.version
        && known.max_sessions == beat.max_sessions
        && known.wireguard == beat.wireguard
        && known.draining == beat.draining
        && known.refuses == beat.refuses
        && known.replaces == beat.replaces
        && known.drain_ordered == beat.drain_ordered
        && known.drain_deadline == beat.drain_deadline
        && known.sessions.len() == beat.sessions.len()
        // Workers list their sessions by age.
        && known.sessions.iter().zip(&beat.sessions).all(|(a, b)| is_same_session(a, b))
}

fn is_same_session(a: &SessionView, b: &SessionView) -> bool {
    a.id == b.id
        && a.status == b.status
        && a.body_ip == b.body_ip
        && a.connected == b.connected
        && a.viewers == b.viewers
        && a.disconnect_count == b.disconnect_count
        && a.ready_at == b.ready_at
        && a.end_reason == b.end_reason
        && a.detail == b.detail
        && a.rating == b.rating
        && a.mic == b.mic
        && (a.status != Status::Ended || a.duration_ms == b.duration_ms)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::reading::mutations::{check, recorded};

    pub(in super::super) fn beat(worker_id: &str, sequence: u64) -> Heartbeat {
        serde_json::from_value(serde_json::json!({
            "worker_id": worker_id, "process_id": format!("{worker_id}-process"),
            "url": "http://127.0.0.1:1", "max_sessions": 15, "sequence": sequence,
        }))
        .unwrap()
    }

    pub(in super::super) fn session() -> SessionView {
        serde_json::from_value(serde_json::json!({
            "id": SessionId::random().unwrap(), "status": "ready", "body_ip": "10.0.0.1",
            "created_at": "", "connected": false, "viewers": 0, "disconnect_count": 0,
            "duration_ms": 5, "port": 8080,
        }))
        .unwrap()
    }

    #[test]
    fn what_0_1_0_and_other_versions_store_is_read_but_for_what_cannot_be() {
        fn read_as<T: DeserializeOwned + Serialize>(
            text: &[u8],
        ) -> Result<serde_json::Value, String> {
            let kv = Kv {
                key: "k".to_owned(),
                value: text.to_vec(),
                mod_revision: 1,
            };
            let field = || reading::read::<T>(text).err().unwrap().to_string();
            let record = super::read::<T>(&kv).ok_or_else(field)?;
            Ok(serde_json::to_value(record).unwrap())
        }
        let read_worker = |text: &[u8]| read_as::<WorkerRecord>(text);
        let required = [
            "/beat",
            "/beat/worker_id",
            "/beat/process_id",
            "/beat/sessions/0/id",
        ];
        check(&recorded("/store/worker"), &required, read_worker);
        let required = ["/worker_id", "/view", "/view/id"];
        check(
            &recorded("/store/session"),
            &required,
            read_as::<SessionRecord>,
        );
        check(
            &recorded("/store/event"),
            &["/name"],
            read_as::<EventRecord>,
        );
        check(
            &recorded("/store/drain"),
            &[],
            read_as::<crate::protocol::DrainOrder>,
        );
        check(
            &recorded("/store/controller"),
            &[],
            read_as::<ControllerRecord>,
        );
        check(&recorded("/store/key"), &[], read_as::<KeyRecord>);
    }

    #[test]
    fn a_stored_worker_whose_list_of_sessions_has_another_shape_is_not_one_without_sessions() {
        let mut record = recorded("/store/worker");
        let kv = |record: &serde_json::Value| Kv {
            key: "k".to_owned(),
            value: record.to_string().into_bytes(),
            mod_revision: 1,
        };
        assert_eq!(read_worker(&kv(&record)).unwrap().beat.sessions.len(), 1);
        record["beat"]["sessions"] = serde_json::json!({"by": "id"});
        assert_eq!(read_worker(&kv(&record)), None);
    }

    #[test]
    fn heartbeats_that_differ_in_counters_are_the_same_and_others_are_not() {
        let mut known = beat("w", 1);
        known.sessions.push(session());
        let mut next = known.clone();
        next.sequence = 2;
        next.sessions[0].duration_ms = 99;
        next.sessions[0].stats = Some(Default::default());
        assert!(is_same(&known, &next));
        let mut drains = next.clone();
        drains.draining = true;
        let mut connects = next.clone();
        connects.sessions[0].status = Status::Connected;
        let mut ends = next.clone();
        ends.sessions.clear();
        for news in [drains, connects, ends] {
            assert!(!is_same(&known, &news), "{news:?}");
        }
    }

    #[test]
    fn keys_are_read_as_they_are_named() {
        let names = KeyNames::under("/fleet");
        let id = SessionId::random().unwrap();
        for (key, about) in [
            (names.controller("p"), WatchedKey::Controller("p")),
            (names.drain("w/1"), WatchedKey::Drain("w/1")),
            (names.event("e"), WatchedKey::Event),
            (names.session(&id), WatchedKey::Session(id.as_str())),
            (names.worker("w"), WatchedKey::Worker("w")),
        ] {
            assert_eq!(names.about(&key), Some(about));
            assert!(key.starts_with(&names.live()));
        }
        for strange in [
            "/fleet/keys/x",
            "/fleet/live/later/x",
            "/other/live/workers/w",
        ] {
            assert_eq!(names.about(strange), None);
        }
    }

    #[test]
    fn events_of_one_revision_keep_their_order() {
        let record = |order| EventRecord {
            order,
            name: String::new(),
            data: String::new(),
        };
        assert!(event_id(0, 7, &record(0)) < event_id(0, 7, &record(1)));
        assert!(event_id(0, 7, &record(9_999)) < event_id(0, 8, &record(0)));
    }

    #[test]
    fn ids_of_a_new_store_are_above_those_of_the_one_before() {
        let record = EventRecord {
            order: 0,
            name: String::new(),
            data: String::new(),
        };
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let first = event_base(start, 0).base;
        // A day of a busy store.
        let last = event_id(first, 86_400 * 2_000, &record);
        let second = event_base(start + Duration::from_secs(86_400), last).base;
        assert!(event_id(second, 1, &record) > last);
        // A clock that was set back changes nothing.
        let third = event_base(SystemTime::UNIX_EPOCH, last).base;
        assert!(event_id(third, 1, &record) > last);
        assert!(event_base(start, 0).base < 1 << 53);
    }
}
