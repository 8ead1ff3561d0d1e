//! The replica, without a store.

use super::*;
use crate::clock;
use crate::controller::cluster::schema::tests::{beat, session};
use crate::controller::cluster::schema::written;

fn names() -> KeyNames {
    KeyNames::under("/f")
}

fn kv(key: String, value: Vec<u8>, at: Revision) -> Kv {
    Kv {
        key,
        value,
        mod_revision: at,
    }
}

fn snapshot(kvs: Vec<Kv>, revision: Revision) -> Snapshot {
    Snapshot {
        kvs,
        revision,
        cluster: 1,
    }
}

fn record(worker: &str, by: &str, sequence: u64) -> WorkerRecord {
    WorkerRecord {
        by: by.to_owned(),
        heard: true,
        beat: beat(worker, sequence),
    }
}

fn heard(worker: &str, by: &str, sequence: u64, at: Revision) -> Kv {
    kv(
        names().worker(worker),
        written(&record(worker, by, sequence)),
        at,
    )
}

fn lives(controller: &str, at: Revision) -> Kv {
    kv(
        names().controller(controller),
        b"{\"pulse\":7}".to_vec(),
        at,
    )
}

fn relayed(worker: &str, by: &str, sequence: u64) -> StoreEvent {
    StoreEvent::Relayed(Arc::new(record(worker, by, sequence)))
}

fn unheard(worker: &str) -> StoreEvent {
    StoreEvent::Unheard(worker.to_owned())
}

#[test]
fn what_others_hear_is_told_and_ones_own_words_are_not() {
    let (now, mut replica) = (clock::now(), Replica::new(names(), "me"));
    let all = vec![
        lives("me", 1),
        lives("you", 2),
        heard("w1", "me", 1, 3),
        heard("w2", "you", 1, 4),
    ];
    let events = replica.replace(now, snapshot(all, 4));
    assert_eq!(events, [StoreEvent::Pulse(7), relayed("w2", "you", 1)]);
    let more = vec![
        WatchEvent::Put(heard("w1", "me", 2, 5)),
        WatchEvent::Put(heard("w1", "you", 3, 6)),
    ];
    assert_eq!(replica.apply(now, more, Some(6)), [relayed("w1", "you", 3)]);
    // What is known already, as from a transaction's answer, is not told again.
    let again = vec![WatchEvent::Put(heard("w1", "you", 3, 6))];
    assert_eq!(replica.apply(now, again, Some(6)), []);
    assert_eq!((replica.revision(), replica.worker("w1").1), (6, 6));
}

#[test]
fn a_controllers_workers_are_unheard_when_it_dies_and_heard_when_it_is_back() {
    let (now, mut replica) = (clock::now(), Replica::new(names(), "me"));
    replica.replace(
        now,
        snapshot(vec![lives("you", 1), heard("w", "you", 1, 2)], 2),
    );
    let died = vec![WatchEvent::Deleted(names().controller("you"), 3)];
    assert_eq!(replica.apply(now, died, Some(3)), [unheard("w")]);
    assert!(!replica.has_controller("you") && replica.has_controller("me"));
    // The last thing it wrote may come late.
    let late = vec![WatchEvent::Put(heard("w", "you", 2, 4))];
    assert_eq!(
        replica.apply(now, late, Some(4)),
        [relayed("w", "you", 2), unheard("w")]
    );
    let back = vec![WatchEvent::Put(lives("you", 5))];
    assert_eq!(replica.apply(now, back, Some(5)), [relayed("w", "you", 2)]);
}

#[test]
fn a_new_picture_takes_back_what_is_no_longer_there() {
    let (now, mut replica) = (clock::now(), Replica::new(names(), "me"));
    let drain = kv(names().drain("w"), b"{}".to_vec(), 3);
    let all = vec![lives("you", 1), heard("w", "you", 1, 2), drain];
    replica.replace(now, snapshot(all, 3));
    assert_eq!(replica.drain("w"), Some(&DrainOrder::default()));
    let events = replica.replace(now, snapshot(vec![lives("you", 1)], 9));
    assert_eq!(
        events,
        [unheard("w"), StoreEvent::Drain("w".to_owned(), None)]
    );
    assert_eq!(replica.worker("w"), (None, 0));
}

#[test]
fn a_lease_that_ended_does_not_undo_what_was_written_since() {
    let (now, mut replica) = (clock::now(), Replica::new(names(), "me"));
    replica.wrote("w", Arc::new(record("w", "me", 1)), 7);
    let stale = vec![WatchEvent::Deleted(names().worker("w"), 6)];
    assert_eq!(replica.apply(now, stale, Some(6)), []);
    assert_eq!(replica.worker("w").1, 7);
    let real = vec![WatchEvent::Deleted(names().worker("w"), 8)];
    assert_eq!(replica.apply(now, real, Some(8)), [unheard("w")]);
}

#[test]
fn announced_sessions_are_taken_back_when_their_worker_had_time_to_tell() {
    let (now, mut replica) = (clock::now(), Replica::new(names(), "me"));
    let view = session();
    let made = SessionRecord {
        worker_id: "w".to_owned(),
        view: view.clone(),
    };
    let put = kv(names().session(&view.id), written(&made), 1);
    let events = replica.apply(now, vec![WatchEvent::Put(put)], Some(1));
    assert_eq!(
        events,
        [StoreEvent::Announced(
            "w".to_owned(),
            Box::new(view.clone())
        )]
    );
    assert_eq!(replica.confirmed_by(now, &beat("w", 1)), []);
    assert_eq!(replica.confirmed_by(now + ANNOUNCED, &beat("other", 1)), []);
    assert_eq!(
        replica.confirmed_by(now + ANNOUNCED, &beat("w", 1)),
        std::slice::from_ref(&view.id)
    );
    let mut ends = beat("w", 2);
    ends.sessions.push(view.clone());
    ends.sessions[0].status = Status::Ended;
    assert_eq!(replica.confirmed_by(now, &ends), [view.id]);
}

#[test]
fn events_are_told_once_and_in_order() {
    let (now, mut replica) = (clock::now(), Replica::new(names(), "me"));
    let event = |name: &str, order, at| {
        let record = EventRecord {
            order,
            name: name.to_owned(),
            data: String::new(),
        };
        kv(names().event(name), written(&record), at)
    };
    let ids = |events: &[StoreEvent]| -> Vec<u64> {
        let ids = events.iter().filter_map(|event| match event {
            StoreEvent::Published { id, .. } => Some(*id),
            _ => None,
        });
        ids.collect()
    };
    let all = vec![event("b", 1, 5), event("z", 0, 5), event("a", 0, 4)];
    let told = ids(&replica.replace(now, snapshot(all.clone(), 5)));
    assert_eq!(told, [4 * 256, 5 * 256, 5 * 256 + 1]);
    replica.published(told[2]);
    assert!(ids(&replica.replace(now, snapshot(all, 5))).is_empty());
}

#[test]
fn ids_of_events_are_above_the_base_and_events_from_before_it_are_not_told_again() {
    let (now, mut replica) = (clock::now(), Replica::new(names(), "me"));
    let event = |at| {
        let key = names().event(&format!("e{at}"));
        kv(key, written(&EventRecord::default()), at)
    };
    let base = schema::EventBase { base: 1 << 40 };
    let all = vec![
        kv(names().event_base(), written(&base), 5),
        event(4),
        event(6),
    ];
    let told = replica.replace(now, snapshot(all, 6));
    let [StoreEvent::Published { id, .. }] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(*id, (1 << 40) + 6 * 256);
}

#[test]
fn a_store_with_another_id_or_a_lower_revision_is_another_one() {
    let (now, mut replica) = (clock::now(), Replica::new(names(), "me"));
    assert!(!replica.is_another(7, 9), "nothing is known yet");
    replica.replace(now, snapshot(Vec::new(), 9));
    for (cluster, revision, is_another) in
        [(1, 9, false), (1, 10, false), (1, 8, true), (2, 99, true)]
    {
        assert_eq!(
            replica.is_another(cluster, revision),
            is_another,
            "{cluster} {revision}"
        );
    }
}

#[test]
fn what_cannot_be_read_keeps_what_is_known_and_is_written_over() {
    let (now, mut replica) = (clock::now(), Replica::new(names(), "me"));
    let garbage = || kv(names().worker("w"), b"{\"beat\": 7}".to_vec(), 4);
    replica.replace(
        now,
        snapshot(vec![lives("you", 1), heard("w", "you", 1, 2)], 3),
    );
    replica.apply(now, vec![WatchEvent::Put(garbage())], None);
    assert_eq!(
        replica.worker("w"),
        (None, 4),
        "a write is conditional on it"
    );
    assert_eq!(replica.unreadable().collect::<Vec<_>>(), ["w"]);
    replica.wrote("w", Arc::new(record("w", "me", 2)), 5);
    assert_eq!(replica.worker("w").1, 5);
    assert_eq!(replica.unreadable().count(), 0);
    // A look at what made a write fail learns it, too, and a deletion ends it.
    replica.conflict("v", Some(kv(names().worker("v"), b"no".to_vec(), 6)));
    assert_eq!(replica.worker("v"), (None, 6));
    replica.apply(now, vec![WatchEvent::Deleted(names().worker("v"), 7)], None);
    assert_eq!(replica.worker("v"), (None, 0));
}

#[test]
fn a_copy_that_lacks_a_change_or_has_a_ghost_differs() {
    let (now, mut replica) = (clock::now(), Replica::new(names(), "me"));
    let stored = [heard("a", "you", 1, 2), heard("b", "you", 1, 3)];
    replica.replace(now, snapshot(stored.to_vec(), 3));
    assert_eq!(replica.differs(&stored, 3), Some(false));
    assert_eq!(
        replica.differs(&stored, 4),
        None,
        "the watch has not shown so much"
    );
    replica.apply(now, Vec::new(), Some(9));
    assert_eq!(replica.differs(&stored[..1], 9), Some(true), "a ghost");
    let newer = [stored[0].clone(), heard("b", "you", 2, 8)];
    assert_eq!(
        replica.differs(&newer, 9),
        Some(true),
        "a change was skipped"
    );
    // Written after the look.
    replica.wrote("c", Arc::new(record("c", "me", 1)), 12);
    assert_eq!(replica.differs(&stored, 9), Some(false));
}
