//! A worker that stops, dies or comes back: what lives is adopted, what does not is reaped.

use std::fs;

use serde_json::{Value, json};

use crate::support::*;

#[test]
fn a_killed_worker_comes_back_with_its_sessions_and_buries_the_dead() {
    let bench = Bench::new();
    let controller = bench.controller();
    let mut worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    let ids: Vec<String> = (0..5).map(|_| controller.session()).collect();
    let (dead, live) = ids.split_at(2);
    let urls: Vec<Value> = live
        .iter()
        .map(|id| worker.view(id)["stream_path"].clone())
        .collect();
    let pids: Vec<u32> = ids.iter().map(|id| worker.stream_process(id)).collect();
    let page = worker.page(&live[0]);
    worker.becomes(&live[0], "connected");
    worker.kill();
    drop(page);
    for pid in &pids[..2] {
        signal(*pid, "KILL");
    }
    worker.restart();
    // The page reconnects as soon as somebody answers.
    let page = worker.page(&live[0]);
    for id in dead {
        worker.forgets(id);
        worker.says(&format!("[cleanup] session {id} reaped"));
        assert_eq!(bench.one_record(id)["end_reason"], "process_exited");
    }
    for (n, id) in live.iter().enumerate() {
        worker.says(&format!("[cleanup] session {id} adopted"));
        assert_eq!(worker.stream_process(id), pids[n + 2], "the same process");
        let answer = controller.browse("GET", urls[n].as_str().unwrap(), None);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    worker.becomes(&live[0], "connected");
    until("the controller's list to be whole", || {
        controller.sessions().len() == 3
    });
    for id in live {
        assert_eq!(controller.delete(id), 204);
        assert_eq!(bench.one_record(id)["end_reason"], "deleted");
    }
    drop(page);
    worker.has_nothing_left();
    until("no pairing to be left", || bench.body.clients().is_empty());
    for id in &ids {
        bench.one_record(id);
    }
}

#[test]
fn an_adopted_session_keeps_its_age_its_rating_and_its_window() {
    let bench = Bench::new();
    let mut worker = bench.worker("w1", None, json!({"sessions": {"max_duration": "1h"}}));
    let id = worker.session_with(json!({"experience": "Moon", "district": "ghent1"}));
    let before = worker.view(&id);
    let rated = worker.browse(
        "POST",
        &format!("/session/{id}/rating"),
        Some(json!({"score": 9})),
    );
    assert_eq!(rated.status, 204);
    until("the ledger to have it", || {
        worker.entry(&id)["extra"]["rating"] == 9
    });
    worker.kill();
    worker.restart();
    let after = worker.view(&id);
    for field in [
        "created_at",
        "ready_at",
        "experience",
        "district",
        "port",
        "stream_path",
        "rating",
    ] {
        let expected = if field == "rating" {
            &json!(9)
        } else {
            &before[field]
        };
        assert_eq!(&after[field], expected, "{field}");
    }
    assert!(after["duration_ms"].as_u64() >= before["duration_ms"].as_u64());
    assert_eq!(worker.delete(&id), 204);
    let record = bench.one_record(&id);
    assert_eq!(
        (&record["score"], &record["district"]),
        (&json!(9), &json!("ghent1"))
    );
}

#[test]
fn a_worker_that_is_told_to_keep_its_sessions_leaves_them_to_the_next_one() {
    let bench = Bench::new();
    let controller = bench.controller();
    let mut worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    let id = controller.session();
    let pid = worker.stream_process(&id);
    assert!(worker.stop().success());
    assert!(processes_in(&worker.sessions_dir()).contains(&pid));
    // Its last word: nobody is sent there any more.
    let refused = controller.create();
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (503, "all_draining")
    );
    worker.restart();
    controller.is_warm();
    assert_eq!(worker.stream_process(&id), pid);
    assert_eq!(worker.view(&id)["status"], "ready");
    assert_eq!(controller.delete(&id), 204);
    worker.has_nothing_left();
    bench.one_record(&id);
}

#[test]
fn a_worker_that_is_told_to_stop_for_good_ends_its_sessions_and_tells_everybody() {
    let bench = Bench::new();
    let controller = bench.controller();
    let config = json!({"sessions": {"keep_on_shutdown": false}});
    let mut worker = bench.worker("w1", Some(&controller), config);
    controller.is_warm();
    let ids = [controller.session(), controller.session()];
    let page = worker.page(&ids[0]);
    assert!(worker.stop().success());
    assert_eq!(page.wait("ended")["end_reason"], "worker_shutdown");
    worker.has_nothing_left();
    until("the controller to know", || {
        controller.sessions().is_empty()
    });
    until("no pairing to be left", || bench.body.clients().is_empty());
    // The records wait on disk for the next process, if this one had no time.
    worker.restart();
    for id in ids {
        assert_eq!(bench.one_record(&id)["end_reason"], "worker_shutdown");
    }
}

#[test]
fn a_second_worker_on_the_same_state_is_refused_with_the_first_ones_pid() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    let id = worker.session();
    let mut config = worker.config.clone();
    let port = ports(1);
    config["server"]["listen"] = format!("127.0.0.1:{port}").into();
    let second = bench.dir.join("second.yaml");
    fs::write(&second, config.to_string()).unwrap();
    let done = std::process::Command::new(BINARY)
        .args(["worker", "--config", second.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(69));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains(&format!("pid {}", worker.pid())), "{said}");
    assert_eq!(worker.view(&id)["status"], "ready");
}

#[test]
fn a_torn_ledger_file_costs_its_own_session_and_nothing_else() {
    let bench = Bench::new();
    let mut worker = bench.worker("w1", None, json!({}));
    let ids = [worker.session(), worker.session(), worker.session()];
    worker.kill();
    let file = |id: &str| worker.ledger().join(format!("{id}.json"));
    let whole = fs::read(file(&ids[0])).unwrap();
    fs::write(file(&ids[0]), &whole[..whole.len() / 2]).unwrap();
    fs::write(file(&ids[1]), b"\0\xff garbage").unwrap();
    fs::write(worker.ledger().join("nobody.json"), "{}").unwrap();
    worker.restart();
    assert_eq!(worker.view(&ids[2])["status"], "ready");
    for id in &ids[..2] {
        worker.says(&format!("[cleanup] WARNING: session {id} is ended"));
        worker.forgets(id);
        assert_eq!(bench.one_record(id)["end_reason"], "process_exited");
    }
    assert_eq!(worker.delete(&ids[2]), 204);
    assert!(processes_in(&worker.sessions_dir()).is_empty());
    assert_eq!(entries(&worker.sessions_dir()), [""; 0]);
    until("only what was set aside to be left", || {
        let left = entries(&worker.ledger());
        left.len() == 3 && left.iter().all(|name| name.ends_with(".bad"))
    });
}

/// A directory, or one entry in it, on which this worker has no right: what cannot be read may name
/// any process. root may read everything, unless it gives that up.
#[test]
fn a_ledger_that_cannot_be_read_stops_the_sweep_and_unpairs_nobody() {
    use std::os::unix::fs::PermissionsExt as _;
    let is_root = rustix::process::geteuid().is_root();
    at_once(2, |n| {
        let is_directory = n == 0;
        let bench = Bench::new();
        let mut worker = bench.worker("w1", None, json!({}));
        let ids = [worker.session(), worker.session()];
        let pids = ids.each_ref().map(|id| worker.stream_process(id));
        let paired = bench.body.clients().len();
        worker.kill();
        let hidden = if is_directory {
            worker.ledger()
        } else {
            worker.ledger().join(format!("{}.json", ids[0]))
        };
        let allow = |mode| fs::set_permissions(&hidden, fs::Permissions::from_mode(mode)).unwrap();
        allow(0o300);
        if is_root {
            let less = "--bounding-set=-dac_override,-dac_read_search";
            worker.wrapper = ["setpriv", less].map(str::to_owned).into();
        }
        worker.restart();
        let problems = worker.get("/api/v1/health")["extra"]["problems"].to_string();
        assert!(problems.contains(hidden.to_str().unwrap()), "{problems}");
        assert_eq!(worker.view(&ids[1]).is_null(), is_directory);
        let answer = worker.create();
        if is_directory {
            // Nor could it be written for good: its own entry has to be synced.
            assert_eq!(answer.reason(), "disk_full", "{}", answer.text());
            assert_eq!(worker.call("GET", "/readyz", None).reason(), "disk_full");
        } else {
            assert_eq!(answer.status, 201, "{}", answer.text());
            let other = answer.json()["session_id"].as_str().unwrap().to_owned();
            assert_eq!(worker.delete(&other), 204);
        }
        assert!(pids.iter().all(|pid| is_running(*pid)), "{}", worker.log());
        assert_eq!(entries(&worker.sessions_dir()).len(), 2);
        // Programs that nobody knows of may call the body: its own client stays, too.
        let own = usize::from(!is_directory);
        assert_eq!(bench.body.clients().len(), paired + own);
        assert!(ids.iter().all(|id| bench.records(id).is_empty()));
        worker.kill();
        allow(if is_directory { 0o700 } else { 0o600 });
        worker.restart();
        for (id, pid) in ids.iter().zip(pids) {
            assert_eq!(worker.stream_process(id), pid);
            assert_eq!(worker.delete(id), 204);
            bench.one_record(id);
        }
        worker.has_nothing_left();
        until("the clients to be gone", || bench.body.clients().is_empty());
    });
}

#[test]
fn a_worker_whose_ports_have_moved_ends_and_records_what_it_cannot_adopt() {
    let bench = Bench::new();
    let mut worker = bench.worker("w1", None, json!({"sessions": {"max": 2}}));
    let id = worker.session();
    worker.kill();
    worker.config["sessions"]["port_range_start"] = ports(2).into();
    worker.restart();
    worker.says(&format!(
        "[cleanup] WARNING: session {id} cannot be adopted"
    ));
    worker.forgets(&id);
    assert_eq!(bench.one_record(&id)["end_reason"], "process_exited");
    worker.has_nothing_left();
    worker.session();
    worker.session();
}

#[test]
fn sessions_outlive_a_worker_whose_directory_for_them_has_moved() {
    let bench = Bench::new();
    let mut worker = bench.worker("w1", None, json!({}));
    let id = worker.session();
    let pid = worker.stream_process(&id);
    for moved in ["elsewhere", "somewhere"] {
        worker.kill();
        worker.config["sessions"]["dir"] = bench.dir.join("w1").join(moved).to_str().into();
        worker.restart();
        assert_eq!(worker.stream_process(&id), pid);
        assert_eq!(worker.view(&id)["status"], "ready");
    }
    let page = worker.page(&id);
    worker.becomes(&id, "connected");
    signal(pid, "KILL");
    until("another process", || worker.stream_process(&id) != pid);
    until("it to be up", || worker.view(&id)["phase"].is_null());
    drop(page);
    assert_eq!(worker.delete(&id), 204);
    bench.one_record(&id);
    worker.has_nothing_left();
    until("no pairing to be left", || bench.body.clients().is_empty());
}

#[test]
fn a_session_with_the_longest_texts_that_are_accepted_outlives_its_worker() {
    let bench = Bench::new();
    let mut worker = bench.worker("w1", None, json!({}));
    // Each is six characters in JSON.
    let text = "\u{1}".repeat(1_024);
    let id = worker.session_with(json!({
        "experience": text, "district": text, "exe_path": "\u{1}".repeat(32_767),
    }));
    let pid = worker.stream_process(&id);
    worker.kill();
    worker.restart();
    assert_eq!(worker.stream_process(&id), pid);
    assert_eq!(worker.view(&id)["experience"], text);
    assert_eq!(worker.delete(&id), 204);
    bench.one_record(&id);
}

#[test]
fn an_adopted_session_whose_program_is_replaced_keeps_its_pairing_and_its_page() {
    for pair_once in [false, true] {
        let bench = Bench::new();
        let mut worker = bench.worker("w1", None, json!({"bodies": {"pair_once": pair_once}}));
        if pair_once {
            // The next one is started with the kept identity.
            let first = worker.session();
            until("the identity", || {
                worker
                    .dir
                    .join("state/identities/127.0.0.1.identity")
                    .exists()
            });
            assert_eq!(worker.delete(&first), 204);
            worker.has_nothing_left();
        }
        let id = worker.session();
        let (path, clients) = (
            worker.view(&id)["stream_path"].clone(),
            bench.body.clients(),
        );
        worker.kill();
        worker.restart();
        let page = worker.page(&id);
        worker.becomes(&id, "connected");
        let pid = worker.stream_process(&id);
        signal(pid, "KILL");
        until("another process", || worker.stream_process(&id) != pid);
        until("it to be up", || worker.view(&id)["phase"].is_null());
        assert_eq!(worker.view(&id)["stream_path"], path);
        assert_eq!(bench.body.clients(), clients);
        drop(page);
        assert_eq!(worker.delete(&id), 204);
        worker.has_nothing_left();
    }
}

#[test]
fn a_stream_has_each_ice_server_once() {
    let bench = Bench::new();
    let configured = json!([{"urls": ["stun:192.0.2.1:3478"]}]);
    let turn = json!({"urls": ["turn:127.0.0.1:3478"], "secret": "s"});
    let more = json!({"turn": turn, "ice_servers": configured});
    let worker = bench.worker("w1", None, more);
    let id = worker.session();
    let config = worker.sessions_dir().join(&id).join("server/config.json");
    let config: Value = serde_json::from_slice(&fs::read(config).unwrap()).unwrap();
    let servers = config["webrtc"]["ice_servers"].as_array().unwrap();
    // The stream program appends what the script prints: the relay, with fresh credentials.
    assert_eq!(servers.len(), 1, "{servers:?}");
    assert_eq!(servers[0]["urls"], configured[0]["urls"]);
    assert!(config["webrtc"]["ice_server_script"].is_string());
}

#[test]
fn an_adopted_session_streams_with_the_turn_secret_of_today() {
    let bench = Bench::new();
    let turn = |secret: &str| json!({"urls": ["turn:127.0.0.1:3478"], "secret": secret});
    let mut worker = bench.worker("w1", None, json!({"turn": turn("of yesterday")}));
    let id = worker.session();
    worker.kill();
    worker.config["turn"] = turn("of today");
    worker.restart();
    let script = worker.sessions_dir().join(&id).join("ice-servers.sh");
    let printed = std::process::Command::new(script).output().unwrap();
    let servers: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let user = servers[0]["username"].as_str().unwrap();
    let (expiry, name) = user.split_once(':').unwrap();
    let expiry = std::time::Duration::from_secs(expiry.parse().unwrap());
    let now = std::time::SystemTime::UNIX_EPOCH + expiry;
    let secret = hydraneckwebrtc::testing::secret::Secret::new("of today");
    let made = hydraneckwebrtc::testing::turn::mint(&secret, name, now, std::time::Duration::ZERO);
    assert_eq!(servers[0]["credential"], made.password.expose());
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named_at_the_start() {
    let bench = Bench::new();
    let in_the_way = bench.dir.join("file");
    fs::write(&in_the_way, "").unwrap();
    let config = bench.worker_config(
        "w1",
        None,
        json!({
            "worker": {"state_dir": in_the_way.join("state")},
        }),
    );
    let file = bench.dir.join("config.yaml");
    fs::write(&file, config.to_string()).unwrap();
    let done = std::process::Command::new(BINARY)
        .args(["worker", "--config", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(69));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("worker.state_dir"), "{said}");
    assert!(said.contains(in_the_way.to_str().unwrap()), "{said}");
}

#[test]
fn a_create_that_a_stop_or_a_kill_cuts_off_leaves_nothing() {
    for how in ["TERM", "KILL"] {
        let bench = Bench::new();
        let program = script(&bench.dir, "slow", "sleep 1000");
        let mut worker = bench.worker("w1", None, json!({"sessions": {"web_server": program}}));
        let id = worker.session_with(json!({"wait": false}));
        until("the stream process", || {
            !processes_in(&worker.sessions_dir()).is_empty()
        });
        signal(worker.pid(), how);
        worker.ended();
        worker.restart();
        worker.forgets(&id);
        worker.has_nothing_left();
        assert_eq!(bench.one_record(&id)["end_reason"], "start_failed", "{how}");
    }
}

#[test]
fn a_repeated_create_gets_its_session_after_a_kill_of_the_worker_and_of_the_controller() {
    let bench = Bench::new();
    let mut controller = bench.controller();
    let mut worker = bench.worker("w1", Some(&controller), json!({}));
    let other = bench.worker("w2", Some(&controller), json!({}));
    controller.is_warm();
    let wish = json!({"body_ip": "127.0.0.1", "experience": "Atlantis"});
    let create = |node: &Node, key: &str, wish: &Value| {
        let fields = [("Idempotency-Key", key)];
        let answer = node.call_with("POST", "/api/v1/sessions", &fields, Some(wish.clone()));
        let id = answer.json()["session_id"].as_str().map(str::to_owned);
        (answer.status, id)
    };
    let direct = create(&worker, "direct", &wish);
    let placed = create(&controller, "placed", &wish);
    assert_eq!((direct.0, placed.0), (201, 201));
    let count = |nodes: [&Node; 2]| nodes.map(|n| n.sessions().len()).iter().sum::<usize>();
    for round in ["the worker", "the controller", "both"] {
        if round != "the controller" {
            worker.kill();
        }
        if round != "the worker" {
            controller.kill();
            controller.restart();
        }
        if round != "the controller" {
            worker.restart();
        }
        assert_eq!(create(&worker, "direct", &wish), direct, "{round}");
        assert_eq!(create(&controller, "placed", &wish), placed, "{round}");
        let changed = json!({"body_ip": "127.0.0.1", "experience": "another"});
        assert_eq!(create(&worker, "direct", &changed).0, 422, "{round}");
        assert_eq!(create(&controller, "placed", &changed).0, 422, "{round}");
        assert_eq!(count([&worker, &other]), 2, "{round}");
    }
    // The key is not shown to who reads sessions.
    let id = placed.1.unwrap();
    for node in [&worker, &other, &controller] {
        assert!(node.view(&id)["idempotency_key"].is_null());
    }
}
