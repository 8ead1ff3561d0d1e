//! What a worker leaves on bodies, and takes off them again.

use std::fs;

use serde_json::json;

use crate::support::*;

/// One session that pairs and keeps its identity on the body.
fn keep_a_client(bench: &Bench, worker: &Node) -> String {
    let identity = worker.dir.join("state/identities/127.0.0.1.identity");
    let id = worker.session();
    until("the identity to be kept", || identity.exists());
    assert_eq!(worker.delete(&id), 204);
    worker.has_nothing_left();
    let clients = bench.body.clients();
    assert_eq!(clients.len(), 1, "{clients:?}");
    clients[0].clone()
}

#[test]
fn turning_pair_once_off_takes_the_kept_client_off_the_body() {
    let bench = Bench::new();
    let mut worker = bench.worker("w1", None, json!({"bodies": {"pair_once": true}}));
    let client = keep_a_client(&bench, &worker);
    // A session that was started with the kept identity outlives the worker that started it.
    let id = worker.session();
    assert_eq!(bench.body.clients(), std::slice::from_ref(&client));
    worker.kill();
    worker.config["bodies"]["pair_once"] = false.into();
    worker.restart();
    let page = worker.page(&id);
    worker.becomes(&id, "connected");
    assert_eq!(
        bench.body.clients(),
        std::slice::from_ref(&client),
        "it is in use"
    );
    assert_eq!(worker.delete(&id), 204);
    until("the client to be gone", || bench.body.clients().is_empty());
    worker.says(&format!("unpaired {client}"));
    assert!(entries(&worker.dir.join("state/identities")).is_empty());
    drop(page);
}

#[test]
fn a_worker_whose_ledger_was_lost_takes_its_old_clients_off_the_body_at_its_start() {
    let bench = Bench::new();
    let mut worker = bench.worker("w1", None, json!({}));
    let id = worker.session();
    let clients = bench.body.clients();
    assert_eq!(clients.len(), 1);
    let pid = worker.stream_process(&id);
    worker.kill();
    signal(pid, "KILL");
    fs::remove_dir_all(worker.ledger()).unwrap();
    worker.restart();
    until("the client to be gone", || bench.body.clients().is_empty());
    worker.says(&format!("[cleanup] unpaired {}", clients[0]));
}
