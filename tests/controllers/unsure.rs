//! A store that is slow, answers something else, or answers late: what was begun is settled.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::faults::{create, id_of, misses_the_store};
use crate::fleet::{Fleet, controller, events, healthy, worker};
use crate::sick::{SickStore, Way};
use crate::support::*;

/// Creates at both controllers while their store is sick.
const CREATES: usize = 8;
/// How long the store is sick.
const SICK: Duration = Duration::from_secs(2);
/// After so long nothing of it is left: a lock lasts 8 s, a late write comes after 4.
const CALM: Duration = Duration::from_secs(25);

fn locks(cluster: &Cluster) -> String {
    let all = ["get", "--prefix", "/hydraneckwebrtc/turns/", "--keys-only"];
    cluster.ctl(&all)
}

#[test]
fn no_lock_and_no_key_outlives_its_create_whatever_the_store_answers() {
    let bench = Bench::new();
    let cluster = Cluster::start(&bench.dir, 1);
    let sick = [
        SickStore::before(cluster.at(0)),
        SickStore::before(cluster.at(0)),
    ];
    let fleet = Fleet::start_with(&bench, &sick[0].store(), &sick[1].store());
    let nodes = [&fleet.a, &fleet.b];
    let ways = [
        Way::BadGateway,
        Way::LosesAnswers,
        // Longer than a call waits for all members.
        Way::Late(Duration::from_secs(6)),
    ];
    for (n, way) in ways.into_iter().enumerate() {
        let key = |i: usize| format!("sick-{n}-{i}");
        let during = std::thread::scope(|scope| {
            let creates = scope.spawn(|| {
                at_once(CREATES, |i| {
                    create(nodes[i % 2], Some(&key(i))).map(|a| a.status)
                })
            });
            // In the middle of them.
            until("a session", || !fleet.live().is_empty());
            sick.iter().for_each(|s| s.set("kv/txn", way));
            pause(SICK);
            sick.iter().for_each(SickStore::passes);
            creates.join().unwrap()
        });
        let gone = comes(CALM, || locks(&cluster).trim().is_empty());
        assert!(gone, "{way:?}, {during:?}: {}", locks(&cluster));
        // Every key gets its one session now, from either controller.
        let ids = at_once(CREATES, |i| {
            let mut id = None;
            until("an answer to the repeated key", || {
                let answer = create(nodes[(i + 1) % 2], Some(&key(i)));
                id = answer.filter(|a| a.status == 201).as_ref().map(id_of);
                id.is_some()
            });
            id.unwrap()
        });
        let mut live = fleet.live();
        live.sort();
        let mut promised = ids.clone();
        promised.sort();
        assert_eq!(
            live, promised,
            "{way:?}: one session for each key, {during:?}"
        );
        for node in nodes {
            until("both to list the same", || node.sessions().len() == CREATES);
        }
        for id in &ids {
            assert_eq!(fleet.a.delete(id), 204);
        }
        for worker in &fleet.workers {
            worker.has_nothing_left();
        }
    }
}

#[test]
fn a_controller_that_starts_before_its_store_waits_for_it_and_is_not_ready() {
    let bench = Bench::new();
    let mut cluster = Cluster::start(&bench.dir, 1);
    // It has begun its life: one that is killed before that stays without a leader.
    cluster.ctl(&["put", "/t", "1"]);
    cluster.kill_all();
    let node = controller(&bench, "a", &cluster.store());
    let _worker = worker(&bench, "w1", &[&node], 2);
    until("the worker", || healthy(&node) == 1);
    let ready = node.call("GET", "/readyz", None);
    assert_eq!((ready.status, ready.reason().as_str()), (503, "store_away"));
    assert!(misses_the_store(&node), "{}", node.get("/api/v1/health"));
    assert_eq!(node.call("GET", "/livez", None).status, 200);
    cluster.restart_all();
    until("it to be ready", || {
        node.call("GET", "/readyz", None).status == 200
    });
    assert_eq!(create(&node, Some("a key")).unwrap().status, 201);
    assert_eq!(
        node.log().matches("not there yet").count(),
        1,
        "{}",
        node.log()
    );
}

#[test]
fn a_session_that_could_not_be_announced_is_not_denied_and_becomes_known() {
    let bench = Bench::new();
    let cluster = Cluster::start(&bench.dir, 1);
    let sick = [
        SickStore::before(cluster.at(0)),
        SickStore::before(cluster.at(0)),
    ];
    let fleet = Fleet::start_with(&bench, &sick[0].store(), &sick[1].store());
    // As in an election: every write waits.
    sick.iter()
        .for_each(|s| s.set("kv/txn", Way::Late(Duration::from_secs(5))));
    let id = fleet.a.session();
    let path = format!("/api/v1/sessions/{id}");
    let look = || fleet.b.call("GET", &path, None).status;
    assert!([200, 503].contains(&look()), "it lives: {}", look());
    sick.iter().for_each(SickStore::passes);
    until("b to know it", || {
        let status = look();
        assert_ne!(status, 404, "denied");
        status == 200
    });
    assert_eq!(fleet.b.delete(&id), 204);
    // Later an unknown session is denied again.
    until("an unknown session to be denied", || {
        fleet
            .b
            .call("GET", &format!("/api/v1/sessions/{}", "0".repeat(32)), None)
            .status
            == 404
    });
}

#[test]
fn what_cannot_be_read_in_the_store_is_repaired_with_one_warning() {
    let bench = Bench::new();
    let cluster = Cluster::start(&bench.dir, 1);
    let fleet = Fleet::start(&bench, &cluster.store());
    let nodes = [&fleet.a, &fleet.b];
    let before = fleet.a.session();
    for worker in ["w1", "w2"] {
        let key = format!("/hydraneckwebrtc/live/workers/{worker}");
        cluster.ctl(&["put", &key, "{\"by\":\"x\",\"beat\":[]}"]);
    }
    // News of both workers.
    let ids = [fleet.a.session(), fleet.a.session(), before];
    for node in nodes {
        for id in &ids {
            until("every session everywhere", || {
                node.view(id)["status"] == "ready"
            });
        }
        until("health to be whole", || {
            !node
                .get("/api/v1/health")
                .to_string()
                .contains("cannot be read")
        });
        assert_eq!(healthy(node), 2);
        let warnings = node
            .log()
            .lines()
            .filter(|l| l.contains("live/workers/"))
            .count();
        assert!(warnings <= 4, "{warnings}: {}", node.log());
    }
    for worker in ["w1", "w2"] {
        let key = format!("/hydraneckwebrtc/live/workers/{worker}");
        until("it to be written anew", || {
            cluster.ctl(&["get", &key]).contains("process_id")
        });
    }
}

#[test]
fn an_empty_store_in_place_of_the_old_one_costs_listeners_nothing_but_a_word() {
    let bench = Bench::new();
    let old = Cluster::start(&bench.dir.join("old"), 1);
    let new = Cluster::start(&bench.dir.join("new"), 1);
    let sick = [SickStore::before(old.at(0)), SickStore::before(old.at(0))];
    let fleet = Fleet::start_with(&bench, &sick[0].store(), &sick[1].store());
    let feeds = [fleet.a.events(), fleet.b.events()];
    let before = fleet.a.session();
    for feed in &feeds {
        until("its events", || feed.tells("session_created", &before) == 1);
    }
    let last = events(&feeds[0]).last().unwrap().0;
    drop(old);
    sick.iter().for_each(|s| s.lead_to(new.at(0)));
    for feed in &feeds {
        until("a word to the listeners", || feed.count("missed") > 0);
    }
    let after = fleet.b.session();
    for feed in &feeds {
        until("its events", || feed.tells("session_created", &after) == 1);
        let ids: Vec<u64> = events(feed).into_iter().map(|(id, _)| id).collect();
        assert!(ids.is_sorted(), "{ids:?}");
        assert!(ids.last() > Some(&last));
    }
    for node in [&fleet.a, &fleet.b] {
        for id in [&before, &after] {
            until("every session everywhere", || {
                node.view(id)["status"] == "ready"
            });
        }
    }
    // Who comes back with a number from before is told, too.
    let bearer = format!("Bearer {TOKEN}");
    let fields = [
        ("Authorization", bearer.as_str()),
        ("Last-Event-ID", &last.to_string()),
    ];
    let back = Feed::open(fleet.a.at, "/api/v1/events", &fields);
    until("a word", || back.count("missed") == 1);
}

#[test]
fn a_backlog_of_many_megabytes_and_a_watch_that_is_cut_lose_nothing() {
    let bench = Bench::new();
    let cluster = Cluster::start(&bench.dir, 1);
    let sick = SickStore::before(cluster.at(0));
    let fleet = Fleet::start_with(&bench, &sick.store(), &cluster.store());
    let gone = fleet.b.session();
    until("a to know it", || !fleet.a.view(&gone).is_null());
    // The watch of a begins again and again, and each time breaks off after its first line.
    sick.set("watch", Way::CutAfter(300));
    until("watches to be cut", || sick.cuts.load(Ordering::SeqCst) > 3);
    assert_eq!(fleet.b.delete(&gone), 204);
    let made = fleet.b.session();
    // Six megabytes, the deletion and the new session before them.
    let value = "x".repeat(100_000);
    for n in 0..60 {
        cluster.ctl(&["put", &format!("/hydraneckwebrtc/live/later/{n}"), &value]);
    }
    sick.passes();
    until("a to know what was made", || {
        fleet.a.view(&made)["status"] == "ready"
    });
    until("a to know what has ended", || fleet.a.view(&gone).is_null());
    until("a to have its store again", || !misses_the_store(&fleet.a));
    assert_eq!(fleet.a.sessions().len(), fleet.b.sessions().len());
}
