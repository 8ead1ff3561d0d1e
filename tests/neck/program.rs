//! Stream programs that cannot be used: the worker says so, takes no sessions, and recovers.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::*;

const GOOD: &str = "exec $CARD \"$@\"";

/// Sessions of the program with that name in the bench's directory.
fn sessions(bench: &Bench, name: &str) -> Value {
    json!({"sessions": {"web_server": bench.dir.join(name).join("web-server")}})
}

fn problems(node: &Node) -> String {
    node.get("/api/v1/health")["extra"]["problems"].to_string()
}

/// Waits until the worker takes no sessions and says why.
#[track_caller]
fn is_unusable(worker: &Node, says: &str) {
    until("the worker not to be ready", || {
        worker.call("GET", "/readyz", None).reason() == "program_unusable"
    });
    assert!(problems(worker).contains(says), "{}", problems(worker));
    let answer = worker.create();
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (503, "program_unusable"),
        "{}",
        answer.text()
    );
}

#[track_caller]
fn is_usable(worker: &Node) {
    until("the worker to be ready by itself", || {
        worker.call("GET", "/readyz", None).status == 200
    });
    assert!(
        !problems(worker).contains("refused"),
        "{}",
        problems(worker)
    );
    let id = worker.session();
    assert_eq!(worker.delete(&id), 204);
}

fn refuses(controller: &Node, id: &str) -> String {
    let workers = controller.get("/api/v1/workers");
    let workers = workers.as_array().unwrap();
    let worker = workers.iter().find(|w| w["worker_id"] == id);
    worker
        .map_or(Value::Null, |w| w["refuses"].clone())
        .to_string()
}

fn two_workers(bench: &Bench, broken: &str) -> (Node, Node, Node) {
    let controller = bench.controller();
    let bad = bench.worker("bad", Some(&controller), sessions(bench, broken));
    let good = bench.worker("good", Some(&controller), json!({}));
    until("both workers", || {
        controller.get("/api/v1/workers").as_array().unwrap().len() == 2
    });
    controller.is_warm();
    (controller, bad, good)
}

#[test]
fn a_program_that_is_missing_at_the_start_is_named_and_used_when_it_comes() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, sessions(&bench, "late"));
    is_unusable(&worker, "sessions.web_server");
    script(&bench.dir, "late", GOOD);
    is_usable(&worker);
}

#[test]
fn each_part_of_a_program_that_is_removed_is_named_and_its_sessions_go_on() {
    let parts = ["web-server", "streamer", "static"];
    at_once(parts.len(), |n| {
        let bench = Bench::new();
        let program = script(&bench.dir, "program", GOOD);
        let mut worker = bench.worker("w1", None, sessions(&bench, "program"));
        let before = worker.session();
        let part = program.with_file_name(parts[n]);
        let aside: PathBuf = bench.dir.join("aside");
        fs::rename(&part, &aside).unwrap();
        is_unusable(&worker, parts[n]);
        assert_eq!(worker.view(&before)["status"], "ready");
        // Also a new process has no use for it, and adopts what runs.
        worker.kill();
        worker.restart();
        is_unusable(&worker, parts[n]);
        assert_eq!(worker.view(&before)["status"], "ready");
        fs::rename(&aside, &part).unwrap();
        is_usable(&worker);
        assert_eq!(worker.delete(&before), 204);
        worker.has_nothing_left();
    });
}

#[test]
fn a_program_of_a_wrong_version_is_used_once_it_is_replaced() {
    let bench = Bench::new();
    let program = script(&bench.dir, "program", GOOD);
    let right = fs::read_to_string(&program).unwrap();
    replace(&program, &right.replace("2.6.0", "3.0.1"));
    let worker = bench.worker("w1", None, sessions(&bench, "program"));
    is_unusable(&worker, "3.0.1");
    replace(&program, &right);
    is_usable(&worker);
}

/// As an installer does it: the new file takes the place of the old one.
fn replace(program: &Path, text: &str) {
    let new = program.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::metadata(program).unwrap().permissions()).unwrap();
    fs::rename(&new, program).unwrap();
}

#[test]
fn starts_that_fail_in_a_row_close_a_worker_until_the_program_is_mended() {
    let bench = Bench::new();
    let program = script(&bench.dir, "program", "echo no such library >&2; exit 127");
    let worker = bench.worker("w1", None, sessions(&bench, "program"));
    for _ in 0..3 {
        let answer = worker.create();
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (502, "spawn_failed"),
            "{}",
            answer.text()
        );
    }
    is_unusable(&worker, "no such library");
    let broken = fs::read_to_string(&program).unwrap();
    let mended = broken.replace("echo no such library >&2; exit 127", "exec $0.card \"$@\"");
    let card = script(&bench.dir, "card", GOOD);
    std::os::unix::fs::symlink(card, program.with_file_name("web-server.card")).unwrap();
    replace(&program, &mended);
    is_usable(&worker);
}

#[test]
fn a_broken_program_beside_a_good_worker_costs_nobody_a_session() {
    let rows = ["exit 1", "echo no such library >&2; exit 127", ""];
    at_once(rows.len(), |n| {
        let bench = Bench::new();
        let program = script(&bench.dir, "broken", rows[n]);
        let (controller, bad, _good) = two_workers(&bench, "broken");
        if rows[n].is_empty() {
            fs::remove_file(program).unwrap();
        }
        for _ in 0..4 {
            controller.session();
        }
        until("the broken one to be passed over", || {
            let id = controller.session();
            assert_eq!(controller.delete(&id), 204);
            refuses(&controller, "bad") != "null"
        });
        assert!(problems(&controller).contains("bad takes no sessions"));
        until("its word", || problems(&bad).contains("refused"));
        if !rows[n].is_empty() {
            let metrics = controller.call("GET", "/metrics", None).text();
            assert!(metrics.contains("worker_pauses_total 1"), "{metrics}");
        }
    });
}
