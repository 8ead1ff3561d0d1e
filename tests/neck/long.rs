//! Faults as long as they are in life, with the windows that are the defaults: minutes, so not in
//! CI. `tests/run faults` runs them; the other files have their short variants.

use std::process::Command;
use std::time::Duration;

use hydraneckwebrtc::testing::{clock, has};
use serde_json::{Value, json};

use crate::support::*;

/// How long a process is stopped.
const STOPPED: Duration = Duration::from_secs(90);
/// How long nothing passes between the roles.
const PARTED: Duration = Duration::from_secs(130);

/// Heartbeats and windows as they are by default.
fn defaults() -> Value {
    json!({
        "controller": {"heartbeat_interval": "5s"},
        "workers": {"heartbeat_timeout": "60s"},
    })
}

/// Whether this is the run of a test inside a network of its own; if not, makes one.
fn is_in_a_network_of_its_own(test: &str) -> bool {
    const INSIDE: &str = "NECK_NETWORK";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let inner = "ip link set lo up && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", inner, "sh"]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--include-ignored", "--nocapture", "--exact", test]);
    let done = command.env(INSIDE, "1").output();
    if !has("unshare (package util-linux)", done.is_ok()) {
        return false;
    }
    let done = done.unwrap();
    if has(OWN_NETWORK, done.stdout.starts_with(b"\nrunning")) {
        assert!(
            done.status.success(),
            "{}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
    }
    false
}

fn status_of(controller: &Node) -> Value {
    controller.get("/api/v1/workers")[0]["status"].clone()
}

#[test]
#[ignore = "takes two minutes"]
fn a_worker_that_was_stopped_for_90_s_comes_back_with_every_session_and_every_visitor() {
    let bench = Bench::new();
    let controller = bench.controller_with(defaults());
    let worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    let (watched, left, ready) = (
        controller.session(),
        controller.session(),
        controller.session(),
    );
    let page = worker.page(&watched);
    worker.becomes(&watched, "connected");
    let gone = worker.page(&left);
    worker.becomes(&left, "connected");
    drop(gone);
    worker.becomes(&left, "lingering");
    let events = controller.events();
    signal(worker.pid(), "STOP");
    let stopped = clock::now();
    assert!(comes(STOPPED, || status_of(&controller) == "unhealthy"));
    let refused = controller.create();
    assert_eq!(refused.status, 503, "{}", refused.text());
    pause((stopped + STOPPED).saturating_duration_since(clock::now()));
    signal(worker.pid(), "CONT");
    until("the worker to be healthy", || {
        status_of(&controller) == "healthy"
    });
    // A page tries again after some seconds.
    pause(Duration::from_secs(10));
    assert!(!page.has_ended());
    assert_eq!(worker.view(&watched)["status"], "connected");
    assert_eq!(worker.view(&ready)["status"], "ready");
    let back = worker.page(&left);
    worker.becomes(&left, "connected");
    assert_eq!(events.count("session_lost"), 0, "{}", events.text());
    assert_eq!(controller.sessions().len(), 3);
    for id in [&watched, &left, &ready] {
        assert_eq!(controller.delete(id), 204);
        assert_eq!(bench.one_record(id)["end_reason"], "deleted");
        until("its end", || events.tells("session_ended", id) == 1);
    }
    drop((page, back));
    worker.has_nothing_left();
}

#[test]
#[ignore = "takes two minutes"]
fn a_controller_that_was_stopped_for_90_s_blames_no_worker_and_loses_no_session() {
    let bench = Bench::new();
    let controller = bench.controller_with(defaults());
    let worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    let id = controller.session();
    let (direct, through) = (worker.page(&id), controller.page(&id));
    until("both to count", || worker.view(&id)["viewers"] == 2);
    let events = controller.events();
    signal(controller.pid(), "STOP");
    pause(STOPPED);
    signal(controller.pid(), "CONT");
    let url = worker.view(&id)["stream_path"].as_str().unwrap().to_owned();
    assert_eq!(controller.browse("GET", &url, None).status, 200);
    until("the worker to be healthy", || {
        status_of(&controller) == "healthy"
    });
    assert!(!direct.has_ended() && !through.has_ended());
    assert_eq!(worker.view(&id)["viewers"], 2);
    let told = events.count("worker_down") + events.count("session_lost");
    assert_eq!(told, 0, "{}", events.text());
    assert_eq!(controller.delete(&id), 204);
    bench.one_record(&id);
    worker.has_nothing_left();
}

#[test]
#[ignore = "takes two minutes"]
fn a_visitor_who_vanishes_without_a_word_is_missed_and_the_session_ends() {
    let me = "long::a_visitor_who_vanishes_without_a_word_is_missed_and_the_session_ends";
    if !is_in_a_network_of_its_own(me) {
        return;
    }
    let bench = Bench::new();
    let port = ports(1);
    let more = json!({
        "server": {"listen": format!(":{port}")},
        "sessions": {"disconnect_grace": "3s"},
    });
    let worker = bench.worker("w1", None, more);
    let id = worker.session();
    let visitor = [127, 0, 0, 2].into();
    let page = Feed::open_from(visitor, worker.at, &format!("{}/events", prefix(&id)));
    worker.becomes(&id, "connected");
    // Nothing reaches the visitor any more, nor is it said that nothing does.
    let hole = ["route", "add", "table", "local", "blackhole", "127.0.0.2"];
    let done = Command::new("ip").args(hole).status();
    assert!(done.unwrap().success());
    let missed = comes(Duration::from_secs(110), || worker.view(&id).is_null());
    assert!(missed, "{}", worker.view(&id));
    assert_eq!(bench.one_record(&id)["end_reason"], "disconnected");
    drop(page);
    worker.has_nothing_left();
}

#[test]
#[ignore = "takes three minutes"]
fn a_partition_of_two_minutes_ends_no_session_and_everything_is_told_once() {
    let bench = Bench::new();
    let controller = bench.controller_with(defaults());
    let link = Link::to(controller.at);
    let more = json!({"controller": {"url": link.url()}});
    let worker = bench.worker("w1", Some(&controller), more);
    controller.is_warm();
    let (kept, ended) = (controller.session(), controller.session());
    let page = worker.page(&kept);
    worker.becomes(&kept, "connected");
    let events = controller.events();
    link.set(Carries::Nothing);
    assert_eq!(worker.delete(&ended), 204);
    let alone = worker.session();
    pause(PARTED);
    assert_eq!(status_of(&controller), "unhealthy");
    assert!(!page.has_ended());
    link.set(Carries::Everything);
    until("the worker to be healthy", || {
        status_of(&controller) == "healthy"
    });
    until("both sessions", || controller.sessions().len() == 2);
    assert_eq!(worker.view(&kept)["status"], "connected");
    for id in [&kept, &alone] {
        assert_eq!(controller.delete(id), 204);
    }
    for id in [&kept, &alone, &ended] {
        bench.one_record(id);
        until("its end", || events.tells("session_ended", id) > 0);
        assert_eq!(events.tells("session_ended", id), 1, "{}", events.text());
    }
    drop(page);
    worker.has_nothing_left();
}
