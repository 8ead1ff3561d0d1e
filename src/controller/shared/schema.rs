//! What stands in the store: the names of the keys and the JSON under them.
//!
//! Below the prefix:
//!
//! | key | under the lease of | written by | when |
//! |---|---|---|---|
//! | `live/controllers/<process>` | that controller's presence, 5 s | that controller | every second |
//! | `live/workers/<worker>` | what that controller hears, `workers.heartbeat_timeout` | the controller that hears the worker | when its heartbeat says something new |
//! | `live/sessions/<session>` | the same | the controller that created it | before the 201; taken back when the worker told of it |
//! | `live/drains/<worker>` | none | the controller asked | when a drain is ordered or lifted |
//! | `live/events/<name>` | 10 to 15 minutes | the controller that saw the change | with the change, once |
//! | `keys/<hash>` | a day | the controller that serves the request | before each worker is asked, and at the end |
//! | `turns/<body>` | that controller's presence | the controller that creates on the body | for the length of the create |

use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::etcd::{Kv, Revision};
use crate::ids::SessionId;
use crate::protocol::reading::{self, LeftOut, Reading};
use crate::protocol::{Created, Heartbeat, SessionView, Status};

use super::super::fleet::{Change, FleetEvent};

/// Events of one revision that keep their order in its number: more than a transaction holds.
const EVENTS_A_REVISION: u64 = 256;

/// The names of the keys.
#[derive(Clone, Debug)]
pub(in crate::controller) struct Names(String);

/// What a watched key is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About<'a> {
    Controller(&'a str),
    Drain(&'a str),
    Event,
    Session(&'a str),
    Worker(&'a str),
}

impl Names {
    pub(super) fn under(prefix: &str) -> Self {
        Self(prefix.to_owned())
    }

    /// What every controller watches.
    pub(super) fn live(&self) -> String {
        format!("{}/live/", self.0)
    }

    pub(super) fn controller(&self, process_id: &str) -> String {
        format!("{}/live/controllers/{process_id}", self.0)
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

    pub(super) fn key(&self, hash: &str) -> String {
        format!("{}/keys/{hash}", self.0)
    }

    pub(super) fn turn(&self, body: IpAddr) -> String {
        format!("{}/turns/{body}", self.0)
    }

    /// What a watched key is about; `None` for keys of later versions.
    pub(super) fn about<'a>(&self, key: &'a str) -> Option<About<'a>> {
        let rest = key.strip_prefix(&self.0)?.strip_prefix("/live/")?;
        let (kind, name) = rest.split_once('/')?;
        Some(match kind {
            "controllers" => About::Controller(name),
            "drains" => About::Drain(name),
            "events" => About::Event,
            "sessions" => About::Session(name),
            "workers" => About::Worker(name),
            _ => return None,
        })
    }
}

/// A controller that lives.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct ControllerFact {
    /// Counts up; its way through the watch is the store's lag.
    #[serde(default)]
    pub(super) pulse: u64,
}

/// A worker, as a controller heard it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::controller) struct WorkerFact {
    /// The controller (its process) that hears it.
    #[serde(default)]
    pub(super) by: String,
    /// False when that controller has not heard it for three intervals.
    #[serde(default = "yes")]
    pub(super) heard: bool,
    /// Its last heartbeat that said something new.
    pub(super) beat: Heartbeat,
}

/// A session that was just made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SessionFact {
    pub(super) worker_id: String,
    pub(super) view: SessionView,
}

/// A drain that was ordered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DrainFact {
    #[serde(default)]
    pub(super) deadline: Option<String>,
}

/// An event of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct EventFact {
    /// Its place among those of its revision.
    #[serde(default)]
    pub(super) order: u64,
    pub(super) name: String,
    /// The JSON that listeners get.
    #[serde(default = "nothing")]
    pub(super) data: String,
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
pub(super) struct KeyFact {
    /// SHA-256 of the request's body.
    pub(super) digest: String,
    /// The controller (its process) that serves the request; empty when none does.
    pub(super) by: String,
    /// Tells this request from a retry that the same controller serves.
    pub(super) ticket: String,
    /// The worker that was asked last: it may have made the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) worker: Option<String>,
    /// The answer, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) answer: Option<Created>,
}

/// A value as it is written.
pub(super) fn written(fact: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(fact).unwrap_or_default()
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

/// A worker as another controller heard it.
pub(super) fn read_worker(kv: &Kv) -> Option<WorkerFact> {
    let Reading { value, left_out } = reading_of::<WorkerFact>(kv)?;
    let beat = &value.beat;
    let who = format!("worker {}", beat.worker_id);
    reading::tell("controller", &who, &beat.version, &beat.sessions.left_out);
    // A list of another shape is not an empty one: its sessions would end here.
    let is_whole = left_out.iter().all(|l| l.field != "beat.sessions");
    is_whole.then_some(value)
}

/// The id of an event in the stream, the same at every controller.
pub(super) fn event_id(revision: Revision, fact: &EventFact) -> u64 {
    revision * EVENTS_A_REVISION + fact.order.min(EVENTS_A_REVISION - 1)
}

/// The name of an event's key: what two controllers see of the same change has the same name, and
/// the first to write it wins. `at` is the revision of what is known of the worker.
pub(super) fn event_name(event: &FleetEvent, view: Option<&SessionView>, at: Revision) -> String {
    let (what, worker) = (event.change.name(), &event.worker_id);
    match &event.change {
        // Once in a session's life; found is another word for created.
        Change::SessionCreated(id) => format!("session_created-{id}"),
        Change::SessionReady(id) | Change::SessionEnded(id, _) => format!("{what}-{id}"),
        // Once between two departures of the visitor.
        Change::SessionConnected(id) | Change::SessionLingering(id) => {
            let count = view.map_or(0, |view| view.disconnect_count);
            format!("{what}-{id}-{count}")
        }
        Change::SessionFound(id) | Change::SessionLost(id) => format!("{what}-{id}-{at}"),
        Change::WorkerDown
        | Change::WorkerDraining
        | Change::WorkerUp
        | Change::WorkerUndrained => format!("{what}-{worker}-{at}"),
    }
}

/// Whether a heartbeat says nothing that others must know: what only counts up, and measurements,
/// may differ.
pub(super) fn is_old_news(known: &Heartbeat, beat: &Heartbeat) -> bool {
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
                lease: 0,
            };
            let field = || reading::read::<T>(text).err().unwrap().to_string();
            let fact = super::read::<T>(&kv).ok_or_else(field)?;
            Ok(serde_json::to_value(fact).unwrap())
        }
        let read_worker = |text: &[u8]| read_as::<WorkerFact>(text);
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
            read_as::<SessionFact>,
        );
        check(&recorded("/store/event"), &["/name"], read_as::<EventFact>);
        check(&recorded("/store/drain"), &[], read_as::<DrainFact>);
        check(
            &recorded("/store/controller"),
            &[],
            read_as::<ControllerFact>,
        );
        check(&recorded("/store/key"), &[], read_as::<KeyFact>);
    }

    #[test]
    fn a_stored_worker_whose_list_of_sessions_has_another_shape_is_not_one_without_sessions() {
        let mut fact = recorded("/store/worker");
        let kv = |fact: &serde_json::Value| Kv {
            key: "k".to_owned(),
            value: fact.to_string().into_bytes(),
            mod_revision: 1,
            lease: 0,
        };
        assert_eq!(read_worker(&kv(&fact)).unwrap().beat.sessions.len(), 1);
        fact["beat"]["sessions"] = serde_json::json!({"by": "id"});
        assert_eq!(read_worker(&kv(&fact)), None);
    }

    #[test]
    fn what_only_counts_up_is_old_news_and_what_happens_is_not() {
        let mut known = beat("w", 1);
        known.sessions.push(session());
        let mut next = known.clone();
        next.sequence = 2;
        next.sessions[0].duration_ms = 99;
        next.sessions[0].stats = Some(Default::default());
        assert!(is_old_news(&known, &next));
        let mut drains = next.clone();
        drains.draining = true;
        let mut connects = next.clone();
        connects.sessions[0].status = Status::Connected;
        let mut ends = next.clone();
        ends.sessions.clear();
        for news in [drains, connects, ends] {
            assert!(!is_old_news(&known, &news), "{news:?}");
        }
    }

    #[test]
    fn keys_are_read_as_they_are_named() {
        let names = Names::under("/fleet");
        let id = SessionId::random().unwrap();
        for (key, about) in [
            (names.controller("p"), About::Controller("p")),
            (names.drain("w/1"), About::Drain("w/1")),
            (names.event("e"), About::Event),
            (names.session(&id), About::Session(id.as_str())),
            (names.worker("w"), About::Worker("w")),
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
        let fact = |order| EventFact {
            order,
            name: String::new(),
            data: String::new(),
        };
        assert!(event_id(7, &fact(0)) < event_id(7, &fact(1)));
        assert!(event_id(7, &fact(9_999)) < event_id(8, &fact(0)));
    }
}
