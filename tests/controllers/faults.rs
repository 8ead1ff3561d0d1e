//! Controllers, members of the store and the wires between them fail; what clients saw is checked
//! against the invariants (I1 to I7).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hydraneckwebrtc::testing::ids;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::fleet::{Fleet, controller, worker};
use crate::support::*;

/// How long the whole store is away; `HYDRANECK_STORE_AWAY=60s` is the long variant.
/// Longer than a session is believed in without a word of its worker.
const AWAY: Duration = Duration::from_secs(12);
/// Steps of the chaos; `HYDRANECK_STORE_STEPS` asks for more.
const STEPS: u64 = 12;

fn away() -> Duration {
    let asked = std::env::var("HYDRANECK_STORE_AWAY").ok();
    asked.map_or(AWAY, |text| humantime::parse_duration(&text).unwrap())
}

fn steps() -> u64 {
    let asked = std::env::var("HYDRANECK_STORE_STEPS").ok();
    asked.map_or(STEPS, |text| text.parse().unwrap())
}

fn health(node: &Node) -> Value {
    node.get("/api/v1/health")
}

pub fn misses_the_store(node: &Node) -> bool {
    let problems = health(node)["extra"]["problems"].to_string();
    problems.contains("shared store is away")
}

/// A create that may find nobody at home: `None` when its connection broke.
pub fn create(node: &Node, key: Option<&str>) -> Option<Answer> {
    let bearer = format!("Bearer {TOKEN}");
    let mut fields = vec![
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
    ];
    fields.extend(key.map(|key| ("Idempotency-Key", key)));
    let body = br#"{"body_ip":"127.0.0.1"}"#;
    call(node.at, "POST", "/api/v1/sessions", &fields, Some(body)).ok()
}

pub fn id_of(answer: &Answer) -> String {
    answer.json()["session_id"].as_str().unwrap().to_owned()
}

#[test]
fn a_controller_killed_during_creates_costs_no_session_and_doubles_none() {
    let bench = Bench::new();
    let cluster = Cluster::start(&bench.dir, 1);
    let mut fleet = Fleet::start(&bench, &cluster.store());
    let keys: Vec<String> = (0..4)
        .map(|n| format!("key-{n}-{}", ids::label()))
        .collect();
    let pid = fleet.a.pid();
    let first = at_once(keys.len() + 1, |n| match keys.get(n) {
        Some(key) => create(&fleet.a, Some(key)),
        None => {
            // In the middle of it: one create is with a worker, the others wait for their turn.
            until("a session to begin", || !fleet.live().is_empty());
            signal(pid, "KILL");
            None
        }
    });
    let known: BTreeMap<&String, String> = keys
        .iter()
        .zip(&first)
        .filter_map(|(key, answer)| Some((key, answer.as_ref().filter(|a| a.status == 201)?)))
        .map(|(key, answer)| (key, id_of(answer)))
        .collect();
    let again = at_once(keys.len(), |n| {
        let mut answer = None;
        // Retried as a client would: until it is answered.
        until("an answer at the other controller", || {
            answer = create(&fleet.b, Some(&keys[n])).filter(|a| a.status == 201);
            answer.is_some()
        });
        id_of(&answer.unwrap())
    });
    for (key, id) in &known {
        let at = keys.iter().position(|k| k == *key).unwrap();
        assert_eq!(&again[at], id, "another session for the same key");
    }
    let promised: BTreeSet<_> = again.iter().cloned().collect();
    assert_eq!(promised.len(), keys.len());
    let live: BTreeSet<_> = fleet.live().into_iter().collect();
    assert_eq!(live, promised, "a session that nobody was promised");
    fleet.a.kill();
    fleet.a.restart();
    for id in &promised {
        assert!(!fleet.a.view(id).is_null(), "known as soon as it answers");
        assert_eq!(fleet.a.delete(id), 204);
    }
}

#[test]
fn without_the_store_everything_goes_on_that_needs_nobody_else() {
    let bench = Bench::new();
    let mut cluster = Cluster::start(&bench.dir, 3);
    let mut fleet = Fleet::start(&bench, &cluster.store());
    let feeds = [fleet.a.events(), fleet.b.events()];
    let before = fleet.a.session();
    until("b to know its page", || {
        fleet.b.view(&before)["stream_path"].is_string()
    });
    let page = fleet.b.page(&before);
    // One member: nobody notices.
    cluster.kill(0);
    let during = fleet.b.session();
    until("a to know it, too", || !fleet.a.view(&during).is_null());
    cluster.restart(0);
    // All of them.
    cluster.kill_all();
    for node in [&fleet.a, &fleet.b] {
        until("the store to be missed", || {
            health(node)["extra"]["problems"]
                .to_string()
                .contains("shared store is away")
        });
        assert_eq!(health(node)["status"], "degraded");
        assert_eq!(node.call("GET", "/livez", None).status, 200);
        assert_eq!(node.call("GET", "/readyz", None).status, 200);
        let refused = create(node, Some("needs-the-store")).unwrap();
        assert_eq!(
            (refused.status, refused.reason().as_str()),
            (503, "store_away")
        );
        assert!(refused.field("retry-after").is_some());
        let drain = node.call("POST", "/api/v1/workers/w1/drain", None);
        assert_eq!((drain.status, drain.reason().as_str()), (503, "store_away"));
        let nobody = node.browse("GET", &format!("/session/{}/", "0".repeat(32)), None);
        assert_eq!(nobody.status, 503, "nobody can deny it now");
    }
    let alone = [fleet.a.session(), fleet.b.session()];
    pause(away());
    for node in [&fleet.a, &fleet.b] {
        let url = fleet.a.view(&before)["stream_path"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(
            node.browse("GET", &url, None).status,
            200,
            "its page is served"
        );
        assert_eq!(
            crate::fleet::healthy(node),
            2,
            "{}",
            node.get("/api/v1/workers")
        );
    }
    assert!(!page.has_ended());
    assert_eq!(fleet.a.delete(&during), 204, "what is known can be ended");
    // A controller that starts now is not ready, and says why.
    let late = controller(&bench, "late", &cluster.store());
    assert_eq!(late.call("GET", "/readyz", None).reason(), "store_away");
    assert!(misses_the_store(&late));
    cluster.restart_all();
    for node in [&fleet.a, &fleet.b, &late] {
        until("the store to be back", || {
            !health(node)["extra"]["problems"]
                .to_string()
                .contains("store")
        });
        for id in &alone {
            until("what was made alone to be known everywhere", || {
                !node.view(id).is_null()
            });
        }
        until("what was ended to be forgotten everywhere", || {
            node.view(&during).is_null()
        });
        until("its visitor everywhere", || {
            node.view(&before)["status"] == "connected"
        });
    }
    assert_eq!(
        create(&fleet.b, Some("needs-the-store")).unwrap().status,
        201
    );
    let all: Vec<String> = fleet.live();
    assert_eq!(all.len(), 4);
    drop(page);
    for id in &all {
        assert_eq!(fleet.b.delete(id), 204);
    }
    for feed in &feeds {
        for id in all.iter().chain([&during]) {
            until("its end in every stream", || {
                feed.tells("session_ended", id) > 0
            });
            for what in ["session_created", "session_ended"] {
                assert_eq!(feed.tells(what, id), 1, "I7: {what} {id}\n{}", feed.text());
            }
            bench.one_record(id);
        }
    }
    for node in [&mut fleet.a, &mut fleet.b] {
        assert!(node.stop().success());
    }
}

#[test]
fn a_controller_cut_off_from_the_store_serves_on_and_is_one_of_them_again() {
    let bench = Bench::new();
    let cluster = Cluster::start(&bench.dir, 1);
    let link = Link::to(cluster.at(0));
    let cut = json!({"store": {"etcd": {"endpoints": link.url()}}});
    let fleet = Fleet::start_with(&bench, &cut, &cluster.store());
    let before = fleet.b.session();
    until("a to know it", || !fleet.a.view(&before).is_null());
    link.set(Carries::Nothing);
    until("a to miss the store", || misses_the_store(&fleet.a));
    assert!(!misses_the_store(&fleet.b));
    let (alone, other) = (fleet.a.session(), fleet.b.session());
    assert!(!fleet.a.view(&before).is_null());
    link.set(Carries::Everything);
    until("a to be back", || !misses_the_store(&fleet.a));
    for node in [&fleet.a, &fleet.b] {
        for id in [&before, &alone, &other] {
            until("every session everywhere", || {
                node.view(id)["status"] == "ready"
            });
        }
        assert_eq!(node.sessions().len(), 3);
    }
    // The store that stands still, with open connections.
    cluster.signal("STOP");
    until("both to miss it", || {
        [&fleet.a, &fleet.b].into_iter().all(misses_the_store)
    });
    cluster.signal("CONT");
    fleet.is_whole();
    until("both to have it again", || {
        [&fleet.a, &fleet.b]
            .into_iter()
            .all(|n| !misses_the_store(n))
    });
}

#[test]
fn faults_in_any_order_break_no_promise() {
    let bench = Bench::new();
    let mut cluster = Cluster::start(&bench.dir, 3);
    let mut fleet = Fleet::start(&bench, &cluster.store());
    let seed: u64 = std::env::var("HYDRANECK_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!(
        "controllers: HYDRANECK_STORE_STEPS={} HYDRANECK_SEED={seed}",
        steps()
    );
    let mut state = seed;
    let mut roll = move |sides: u64| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)) % sides
    };
    let mut promised: BTreeMap<String, String> = BTreeMap::new();
    let mut deleted = BTreeSet::new();
    let mut history = Vec::new();
    for step in 0..steps() {
        let which = roll(2);
        let node = if which == 0 {
            &mut fleet.a
        } else {
            &mut fleet.b
        };
        let did = match roll(8) {
            0 => {
                node.kill();
                node.restart();
                "kill a controller".to_owned()
            }
            1 => {
                assert!(node.stop().success());
                node.restart();
                "restart a controller".to_owned()
            }
            2 => {
                let member = usize::try_from(roll(3)).unwrap();
                cluster.kill(member);
                let answer = create(node, None);
                if let Some(answer) = answer.as_ref().filter(|a| a.status == 201) {
                    promised.insert(format!("none-{step}"), id_of(answer));
                }
                cluster.restart(member);
                format!("lose a member, create {:?}", answer.map(|a| a.status))
            }
            3 => {
                let live = fleet.live();
                if let Some(id) = live.first() {
                    let node = if which == 0 { &fleet.a } else { &fleet.b };
                    if node.delete(id) == 204 {
                        deleted.insert(id.clone());
                    }
                }
                "delete".to_owned()
            }
            _ => {
                let key = format!("key-{step}-{seed}");
                let first = create(&fleet.a, Some(&key));
                let second = create(&fleet.b, Some(&key));
                let ids: BTreeSet<String> = [&first, &second]
                    .into_iter()
                    .flatten()
                    .filter(|a| a.status == 201)
                    .map(id_of)
                    .collect();
                assert!(ids.len() <= 1, "one key, two sessions {ids:?}: {history:?}");
                if let Some(id) = ids.into_iter().next() {
                    promised.insert(key, id);
                }
                format!(
                    "create {:?} {:?}",
                    first.map(|a| a.status),
                    second.map(|a| a.status)
                )
            }
        };
        history.push(did);
        for worker in &fleet.workers {
            assert!(worker.sessions().len() <= 6, "I1 {history:?}");
        }
    }
    fleet.is_whole();
    let live: BTreeSet<String> = fleet.live().into_iter().collect();
    let ids: BTreeSet<String> = promised.values().cloned().collect();
    assert_eq!(ids.len(), promised.len(), "I2 {history:?}");
    assert_eq!(live.intersection(&deleted).count(), 0, "I6 {history:?}");
    for id in &ids {
        let is_there = live.contains(id) || !bench.records(id).is_empty() || deleted.contains(id);
        assert!(is_there, "I3 {id}, seed {seed}, {history:?}");
    }
    for id in &live {
        for node in [&fleet.a, &fleet.b] {
            until("every session at every controller", || {
                node.view(id)["status"] == "ready"
            });
        }
        assert_eq!(fleet.a.delete(id), 204, "{history:?}");
    }
    for id in live.iter().chain(&deleted) {
        bench.one_record(id);
    }
    for worker in &fleet.workers {
        worker.has_nothing_left();
    }
}

#[test]
fn controllers_are_rolled_one_by_one_and_nobody_notices() {
    let bench = Bench::new();
    let cluster = Cluster::start(&bench.dir, 1);
    let store = cluster.store();
    let mut nodes = [
        controller(&bench, "a", &store),
        controller(&bench, "b", &store),
    ];
    let _worker = worker(&bench, "w1", &[&nodes[0], &nodes[1]], 6);
    for node in &nodes {
        node.is_warm();
    }
    let id = nodes[0].session();
    until("its page everywhere", || {
        nodes.iter().all(|n| n.view(&id)["stream_path"].is_string())
    });
    let url = nodes[0].view(&id)["stream_path"]
        .as_str()
        .unwrap()
        .to_owned();
    let feed = nodes[1].events();
    assert!(nodes[0].stop().success());
    assert_eq!(nodes[1].browse("GET", &url, None).status, 200);
    nodes[0].restart();
    assert_eq!(nodes[0].browse("GET", &url, None).status, 200);
    assert!(nodes[0].create().status == 201, "it places at once");
    assert_eq!(
        feed.count("worker_down") + feed.count("session_lost"),
        0,
        "{}",
        feed.text()
    );
    assert!(nodes[1].stop().success());
    assert_eq!(nodes[0].browse("GET", &url, None).status, 200);
    nodes[1].restart();
    assert_eq!(nodes[1].view(&id)["status"], "ready");
}
