//! What follows from the store's changes, without a store.

use super::*;
use crate::clock;
use crate::controller::shared::schema::tests::{beat, session};
use crate::controller::shared::schema::written;

fn names() -> Names {
    Names::under("/f")
}

fn kv(key: String, value: Vec<u8>, at: Revision) -> Kv {
    Kv {
        key,
        value,
        mod_revision: at,
        lease: 0,
    }
}

fn fact(worker: &str, by: &str, sequence: u64) -> WorkerFact {
    WorkerFact {
        by: by.to_owned(),
        heard: true,
        beat: beat(worker, sequence),
    }
}

fn heard(worker: &str, by: &str, sequence: u64, at: Revision) -> Kv {
    kv(
        names().worker(worker),
        written(&fact(worker, by, sequence)),
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
    StoreEvent::Relayed(Arc::new(fact(worker, by, sequence)))
}

fn unheard(worker: &str) -> StoreEvent {
    StoreEvent::Unheard(worker.to_owned())
}

#[test]
fn what_others_hear_is_told_and_ones_own_words_are_not() {
    let (now, mut copy) = (clock::now(), Copy::new(names(), "me"));
    let all = vec![
        lives("me", 1),
        lives("you", 2),
        heard("w1", "me", 1, 3),
        heard("w2", "you", 1, 4),
    ];
    let tales = copy.replace(now, all, 4);
    assert_eq!(tales, [StoreEvent::Pulse(7), relayed("w2", "you", 1)]);
    let more = vec![
        Change::Put(heard("w1", "me", 2, 5)),
        Change::Put(heard("w1", "you", 3, 6)),
    ];
    assert_eq!(copy.apply(now, more, 6), [relayed("w1", "you", 3)]);
    // What is known already, as from a transaction's answer, is not told again.
    let again = vec![Change::Put(heard("w1", "you", 3, 6))];
    assert_eq!(copy.apply(now, again, 6), []);
    assert_eq!((copy.revision(), copy.worker("w1").1), (6, 6));
}

#[test]
fn a_controllers_workers_are_unheard_when_it_dies_and_heard_when_it_is_back() {
    let (now, mut copy) = (clock::now(), Copy::new(names(), "me"));
    copy.replace(now, vec![lives("you", 1), heard("w", "you", 1, 2)], 2);
    let died = vec![Change::Deleted(names().controller("you"), 3)];
    assert_eq!(copy.apply(now, died, 3), [unheard("w")]);
    assert!(!copy.has_controller("you") && copy.has_controller("me"));
    // The last thing it wrote may come late.
    let late = vec![Change::Put(heard("w", "you", 2, 4))];
    assert_eq!(
        copy.apply(now, late, 4),
        [relayed("w", "you", 2), unheard("w")]
    );
    let back = vec![Change::Put(lives("you", 5))];
    assert_eq!(copy.apply(now, back, 5), [relayed("w", "you", 2)]);
}

#[test]
fn a_new_picture_takes_back_what_is_no_longer_there() {
    let (now, mut copy) = (clock::now(), Copy::new(names(), "me"));
    let drain = kv(names().drain("w"), b"{}".to_vec(), 3);
    copy.replace(
        now,
        vec![lives("you", 1), heard("w", "you", 1, 2), drain],
        3,
    );
    assert_eq!(copy.drain("w"), Some(&None));
    let tales = copy.replace(now, vec![lives("you", 1)], 9);
    assert_eq!(tales, [unheard("w"), StoreEvent::Undrained("w".to_owned())]);
    assert_eq!(copy.worker("w"), (None, 0));
}

#[test]
fn a_lease_that_ended_does_not_undo_what_was_written_since() {
    let (now, mut copy) = (clock::now(), Copy::new(names(), "me"));
    copy.wrote("w", Arc::new(fact("w", "me", 1)), 7);
    let stale = vec![Change::Deleted(names().worker("w"), 6)];
    assert_eq!(copy.apply(now, stale, 6), []);
    assert_eq!(copy.worker("w").1, 7);
    let real = vec![Change::Deleted(names().worker("w"), 8)];
    assert_eq!(copy.apply(now, real, 8), [unheard("w")]);
}

#[test]
fn announced_sessions_are_taken_back_when_their_worker_had_time_to_tell() {
    let (now, mut copy) = (clock::now(), Copy::new(names(), "me"));
    let view = session();
    let made = SessionFact {
        worker_id: "w".to_owned(),
        view: view.clone(),
    };
    let put = kv(names().session(&view.id), written(&made), 1);
    let tales = copy.apply(now, vec![Change::Put(put)], 1);
    assert_eq!(
        tales,
        [StoreEvent::Announced(
            "w".to_owned(),
            Box::new(view.clone())
        )]
    );
    assert_eq!(copy.told_of(now, &beat("w", 1)), []);
    assert_eq!(copy.told_of(now + ANNOUNCED, &beat("other", 1)), []);
    assert_eq!(
        copy.told_of(now + ANNOUNCED, &beat("w", 1)),
        std::slice::from_ref(&view.id)
    );
    let mut ends = beat("w", 2);
    ends.sessions.push(view.clone());
    ends.sessions[0].status = Status::Ended;
    assert_eq!(copy.told_of(now, &ends), [view.id]);
}

#[test]
fn events_are_told_once_and_in_order() {
    let (now, mut copy) = (clock::now(), Copy::new(names(), "me"));
    let event = |name: &str, order, at| {
        let fact = EventFact {
            order,
            name: name.to_owned(),
            data: String::new(),
        };
        kv(names().event(name), written(&fact), at)
    };
    let ids = |tales: &[StoreEvent]| -> Vec<u64> {
        let ids = tales.iter().filter_map(|tale| match tale {
            StoreEvent::Event { id, .. } => Some(*id),
            _ => None,
        });
        ids.collect()
    };
    let all = vec![event("b", 1, 5), event("z", 0, 5), event("a", 0, 4)];
    let told = ids(&copy.replace(now, all.clone(), 5));
    assert_eq!(told, [4 * 256, 5 * 256, 5 * 256 + 1]);
    copy.told(told[2]);
    assert!(ids(&copy.replace(now, all, 5)).is_empty());
}
