//! Controllers that share a fleet: what one learns the others know, whichever is asked.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::*;

/// Two controllers and two workers that know both.
pub struct Fleet {
    pub a: Node,
    pub b: Node,
    pub workers: Vec<Node>,
}

impl Fleet {
    pub fn start(bench: &Bench, store: &Value) -> Self {
        Self::start_with(bench, store, store)
    }

    pub fn start_with(bench: &Bench, store_a: &Value, store_b: &Value) -> Self {
        let (a, b) = (
            controller(bench, "a", store_a),
            controller(bench, "b", store_b),
        );
        let workers = ["w1", "w2"].map(|id| worker(bench, id, &[&a, &b], 6));
        let fleet = Self {
            a,
            b,
            workers: workers.into(),
        };
        fleet.is_whole();
        fleet
    }

    /// Waits until both controllers know both workers and deny what they do not know.
    #[track_caller]
    pub fn is_whole(&self) {
        for node in [&self.a, &self.b] {
            until("both workers everywhere", || healthy(node) == 2);
            node.is_warm();
        }
    }

    /// Sessions that the workers themselves have, not counting those that end.
    pub fn live(&self) -> Vec<String> {
        let all = self.workers.iter().flat_map(Node::sessions);
        let live = all.filter(|s| s["status"] != "ending" && s["status"] != "ended");
        live.map(|s| s["id"].as_str().unwrap().to_owned()).collect()
    }
}

pub fn controller(bench: &Bench, name: &str, store: &Value) -> Node {
    bench.body.lock_certificates();
    let port = ports(1);
    let config = json!({
        "mode": "controller",
        "district": "test1",
        "server": {"listen": format!("127.0.0.1:{port}"), "admin_token": TOKEN},
        "controller": {"heartbeat_interval": "200ms"},
        "workers": {"heartbeat_timeout": "5s"},
        "bodies": {"sessions_max": 1000},
        "store": store["store"],
    });
    Node::start("controller", bench.dir.join(name), port, config)
}

pub fn worker(bench: &Bench, id: &str, controllers: &[&Node], max: usize) -> Node {
    let urls: Vec<String> = controllers
        .iter()
        .map(|c| format!("http://{}", c.at))
        .collect();
    let more = json!({"controller": {"url": urls}, "sessions": {"max": max}});
    bench.worker(id, Some(controllers[0]), more)
}

pub fn healthy(node: &Node) -> usize {
    let all = node.get("/api/v1/workers");
    let all = all.as_array().unwrap().iter();
    all.filter(|w| w["status"] == "healthy").count()
}

/// The ids and names of the events that a feed has got.
pub fn events(feed: &Feed) -> Vec<(u64, String)> {
    let text = feed.text();
    let mut all = Vec::new();
    let mut id = None;
    for line in text.lines() {
        if let Some(number) = line.strip_prefix("id: ") {
            id = number.parse().ok();
        } else if let (Some(name), Some(number)) = (line.strip_prefix("event: "), id.take()) {
            all.push((number, name.to_owned()));
        }
    }
    all
}

#[test]
fn what_one_controller_does_every_other_knows_at_once() {
    let bench = Bench::new();
    let cluster = Cluster::start(&bench.dir, 3);
    let fleet = Fleet::start(&bench, &cluster.store());
    let (a, b) = (&fleet.a, &fleet.b);
    let (at_a, at_b) = (a.events(), b.events());
    for (made, seen) in [(a, b), (b, a)] {
        let answer = made.create();
        assert_eq!(answer.status, 201, "{}", answer.text());
        let id = answer.json()["session_id"].as_str().unwrap().to_owned();
        // The very next request, at the other one.
        assert_eq!(seen.view(&id)["worker_id"], answer.json()["worker_id"]);
        let url = answer.json()["stream_url"].as_str().unwrap().to_owned();
        let path = url.split_once("/session/").unwrap().1;
        let page = seen.browse("GET", &format!("/session/{path}"), None);
        assert_eq!(page.status, 200, "{}", page.text());
        assert_eq!(seen.delete(&id), 204);
        assert_eq!(made.delete(&id), 404, "deleted twice");
        for feed in [&at_a, &at_b] {
            until("its end", || feed.tells("session_ended", &id) > 0);
            for what in ["session_created", "session_ended"] {
                assert_eq!(feed.tells(what, &id), 1, "{}", feed.text());
            }
            // One that is deleted before its worker has told of it is never seen ready.
            assert!(feed.tells("session_ready", &id) <= 1, "{}", feed.text());
        }
    }
    // Both streams are one, number by number; a listener that comes back elsewhere misses nothing.
    let all = events(&at_a);
    until("the same events", || events(&at_b) == all);
    let (from, _) = all[all.len() / 2];
    let bearer = format!("Bearer {TOKEN}");
    let back = Feed::open(
        b.at,
        "/api/v1/events",
        &[
            ("Authorization", &bearer),
            ("Last-Event-ID", &from.to_string()),
        ],
    );
    let rest: Vec<_> = all.iter().filter(|(id, _)| *id > from).cloned().collect();
    until("the rest", || events(&back) == rest);
    assert_eq!(back.count("missed"), 0);
    // A third controller knows the whole as soon as it answers.
    let c = controller(&bench, "c", &cluster.store());
    assert_eq!(healthy(&c), 2);
    let late = Feed::open(
        c.at,
        "/api/v1/events",
        &[
            ("Authorization", &bearer),
            ("Last-Event-ID", &from.to_string()),
        ],
    );
    until("the rest, from before it began", || {
        let got = events(&late);
        got.len() >= rest.len() && got[..rest.len()] == rest
    });
}

#[test]
fn a_drain_holds_at_every_controller_and_outlives_the_one_that_ordered_it() {
    let bench = Bench::new();
    let cluster = Cluster::start(&bench.dir, 1);
    let mut fleet = Fleet::start(&bench, &cluster.store());
    let drain = "/api/v1/workers/w1/drain";
    assert_eq!(fleet.a.call("POST", drain, None).status, 202);
    let status = |node: &Node| {
        let all = node.get("/api/v1/workers");
        let all = all.as_array().unwrap();
        all.iter().find(|w| w["worker_id"] == "w1").unwrap()["status"].clone()
    };
    until("the drain at b", || status(&fleet.b) == "draining");
    until("the drain at w1", || {
        fleet.workers[0].call("GET", "/readyz", None).status == 503
    });
    fleet.a.kill();
    for _ in 0..2 {
        let answer = fleet.b.create();
        assert_eq!(answer.json()["worker_id"], "w2", "{}", answer.text());
    }
    fleet.a.restart();
    assert_eq!(status(&fleet.a), "draining");
    assert_eq!(fleet.b.call("DELETE", drain, None).status, 204);
    until("its end at a", || status(&fleet.a) == "healthy");
    until("its end at w1", || {
        fleet.workers[0].call("GET", "/readyz", None).status == 200
    });
    assert_eq!(
        fleet
            .a
            .call("POST", "/api/v1/workers/nobody/drain", None)
            .status,
        404
    );
}

#[test]
fn a_key_gets_one_session_whichever_controllers_are_asked() {
    let bench = Bench::new();
    let cluster = Cluster::start(&bench.dir, 1);
    let fleet = Fleet::start(&bench, &cluster.store());
    let key = [("Idempotency-Key", "once")];
    let wish = json!({"body_ip": "127.0.0.1"});
    let answers = at_once(8, |n| {
        let node = [&fleet.a, &fleet.b][n % 2];
        node.call_with("POST", "/api/v1/sessions", &key, Some(wish.clone()))
    });
    let ids: std::collections::BTreeSet<String> = answers
        .iter()
        .map(|a| {
            a.json()["session_id"]
                .as_str()
                .unwrap_or_else(|| panic!("{}", a.text()))
                .to_owned()
        })
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(fleet.live().len(), 1);
    let other = json!({"body_ip": "127.0.0.1", "app": "Desktop"});
    let mismatch = fleet
        .b
        .call_with("POST", "/api/v1/sessions", &key, Some(other));
    assert_eq!(mismatch.status, 422, "{}", mismatch.text());
    // A refused request frees its key, everywhere.
    let strange = json!({"body_ip": "10.9.8.7"});
    let key = [("Idempotency-Key", "refused")];
    for node in [&fleet.a, &fleet.b] {
        let refused = node.call_with("POST", "/api/v1/sessions", &key, Some(strange.clone()));
        assert_eq!(refused.status, 400, "{}", refused.text());
    }
}

#[test]
fn a_worker_with_another_ones_name_is_refused_by_whichever_controller_it_asks() {
    let bench = Bench::new();
    let cluster = Cluster::start(&bench.dir, 1);
    let fleet = Fleet::start(&bench, &cluster.store());
    for (n, controller) in [&fleet.a, &fleet.b].into_iter().enumerate() {
        let name = format!("again{n}");
        let mut config = bench.worker_config(&name, Some(controller), json!({}));
        config["worker"]["id"] = "w1".into();
        let second = bench.start_worker(&name, config);
        second.says("refuses with 409");
        assert_eq!(second.create().status, 503);
    }
    assert_eq!(healthy(&fleet.a), 2);
}

#[test]
fn workers_go_to_another_controller_when_theirs_is_gone_and_a_silent_one_is_known_as_such() {
    let bench = Bench::new();
    let cluster = Cluster::start(&bench.dir, 1);
    let mut fleet = Fleet::start(&bench, &cluster.store());
    let feed = fleet.b.events();
    fleet.a.kill();
    until("both at b", || {
        healthy(&fleet.b) == 2
            && fleet.workers.iter().all(|w| {
                w.log()
                    .matches(&format!("registered with http://{}", fleet.b.at))
                    .count()
                    > 0
            })
    });
    assert_eq!(feed.count("worker_down"), 0, "{}", feed.text());
    fleet.a.restart();
    fleet.is_whole();
    // Both are heard by b now; that one of them is not is known to a as well.
    signal(fleet.workers[0].pid(), "STOP");
    for node in [&fleet.a, &fleet.b] {
        until("the silent one to be unhealthy", || healthy(node) == 1);
    }
    for _ in 0..2 {
        assert_eq!(fleet.a.create().json()["worker_id"], "w2");
    }
    signal(fleet.workers[0].pid(), "CONT");
    fleet.is_whole();
    until("one event for its silence", || {
        feed.count("worker_down") == 1
    });
    pause(Duration::from_millis(500));
    assert_eq!(feed.count("worker_down"), 1, "{}", feed.text());
}

#[test]
fn what_a_newer_worker_says_is_known_at_every_controller_as_it_came() {
    let bench = Bench::new();
    let cluster = Cluster::start(&bench.dir, 1);
    let store = cluster.store();
    let (a, b) = (
        controller(&bench, "a", &store),
        controller(&bench, "b", &store),
    );
    let recorded: Value = serde_json::from_str(include_str!("../versions/0.1.0.json")).unwrap();
    let mut beat = recorded["heartbeat"].clone();
    beat["version"] = "0.9.0".into();
    beat["sequence"] = 1.into();
    beat["sessions"][0]["status"] = "hibernating".into();
    beat["sessions"][0]["phase"] = "dreaming".into();
    beat["sessions"][0]["stats"]["novelty"] = 1.into();
    let id = beat["sessions"][0]["id"].as_str().unwrap().to_owned();
    beat["sessions"]
        .as_array_mut()
        .unwrap()
        .push(json!({"status": "ready"}));
    let tell = |beat: &Value| {
        let answer = a.call("POST", "/api/v1/workers/heartbeat", Some(beat.clone()));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    tell(&beat);
    until("the other controller to know", || {
        let view = b.view(&id);
        view["status"] == "hibernating" && view["phase"] == "dreaming"
    });
    let feed = b.events();
    beat["sequence"] = 2.into();
    beat["sessions"][0]["status"] = "ended".into();
    beat["sessions"][0]["end_reason"] = "woken".into();
    tell(&beat);
    assert_eq!(feed.wait("session_ended")["end_reason"], "woken");
    until("the other controller to forget", || b.view(&id).is_null());
    assert!(!b.log().contains("cannot read"), "{}", b.log());
}
