//! What a worker says to bodies, leaves on them, and takes off them again.

use std::fs;
use std::time::Duration;

use hydraneckwebrtc::testing::demo::body::Faults;
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

/// How often a body was called so.
fn calls(bench: &Bench, call: &str) -> usize {
    let calls = bench.body.calls();
    calls.iter().filter(|c| c.call.starts_with(call)).count()
}

const CLOSE: &str = "POST /api/apps/close";
const SAVE: &str = "POST /api/apps";
const UNPAIR: &str = "POST /api/clients/unpair";

/// Changes of the list of apps; closing an app is none.
fn saves(bench: &Bench) -> usize {
    calls(bench, SAVE) - calls(bench, CLOSE)
}

/// Asks the body for the app of that session, as its stream program does.
fn launch(bench: &Bench, worker: &Node, id: &str) -> String {
    let path = worker.view(id)["stream_path"].as_str().unwrap().to_owned();
    let app = path.split("appId=").nth(1).unwrap().to_owned();
    let user = worker.entry(id)["user"].as_str().unwrap().to_owned();
    let target = format!("/launch?uniqueid={user}&appid={app}");
    let answer = call(bench.body.http(), "GET", &target, &[], None);
    answer.unwrap().text().to_owned()
}

#[test]
fn creates_that_are_deleted_during_the_pairing_leave_the_body_alive() {
    const AT_ONCE: usize = 5;
    const ROUNDS: usize = 10;
    let bench = Bench::new();
    // A real program's request is as late.
    bench
        .body
        .fail(Faults {
            pin_race_ms: 800,
            ..Faults::default()
        })
        .unwrap();
    let worker = bench.worker("w1", None, json!({}));
    at_once(AT_ONCE, |n| {
        for round in 0..ROUNDS {
            let id = worker.session_with(json!({"wait": false}));
            until("the pairing", || {
                let view = worker.view(&id);
                view.is_null() || view["phase"] == "pairing" || view["status"] == "ready"
            });
            // Any moment from the program's PIN to after the handshake.
            let moment = (n * ROUNDS + round) * 37 % 50 * 30;
            pause(Duration::from_millis(u64::try_from(moment).unwrap()));
            worker.delete(&id);
            assert!(!bench.body.has_crashed(), "round {round} of {n}");
        }
    });
    worker.has_nothing_left();
    bench.body.fail(Faults::default()).unwrap();
    let id = worker.session();
    assert_eq!(worker.delete(&id), 204);
    assert!(!bench.body.has_crashed());
    until("the clients to be gone", || bench.body.clients().is_empty());
}

#[test]
fn a_worker_that_is_killed_during_a_pairing_drops_what_is_pending_at_its_next_start() {
    let bench = Bench::new();
    let mut worker = bench.worker("w1", None, json!({}));
    let id = worker.session_with(json!({"wait": false}));
    until("the request", || calls(&bench, "GET /pair?") == 1);
    worker.kill();
    worker.restart();
    until("it to be dropped", || {
        let calls = bench.body.calls();
        calls
            .iter()
            .any(|c| c.call.contains("serverchallengeresp=00"))
    });
    worker.forgets(&id);
    worker.has_nothing_left();
    let next = worker.session();
    assert_eq!(worker.delete(&next), 204);
    assert!(!bench.body.has_crashed());
}

#[test]
fn a_session_that_nobody_watched_closes_no_app_and_unpairs_nothing_that_it_did_not_use() {
    let bench = Bench::new();
    let mut worker = bench.worker("w1", None, json!({"bodies": {"pair_once": true}}));
    let client = keep_a_client(&bench, &worker);
    bench
        .body
        .fail(Faults {
            foreign_app: Some("Desktop".into()),
            ..Faults::default()
        })
        .unwrap();
    let lists = calls(&bench, "GET /api/clients/list");
    let id = worker.session();
    assert_eq!(worker.delete(&id), 204);
    worker.has_nothing_left();
    assert_eq!(
        calls(&bench, "GET /api/clients/list"),
        lists,
        "no name to look for"
    );
    // Also when only the ledger knows.
    let id = worker.session();
    let pid = worker.stream_process(&id);
    worker.kill();
    signal(pid, "KILL");
    worker.restart();
    worker.forgets(&id);
    worker.has_nothing_left();
    assert_eq!((calls(&bench, CLOSE), calls(&bench, UNPAIR)), (0, 0));
    assert_eq!(bench.body.running().as_deref(), Some("Desktop"));
    assert_eq!(bench.body.clients(), [client]);
}

#[test]
fn a_watched_session_is_marked_before_its_page_can_stream_and_closes_its_app() {
    let bench = Bench::new();
    let mut worker = bench.worker("w1", None, json!({}));
    let id = worker.session();
    let mark = |worker: &Node, id: &str| worker.entry(id)["extra"]["traces"]["streamed"].clone();
    assert_eq!(mark(&worker, &id), false);
    let signalling = Signalling::open(worker.at, &prefix(&id));
    assert_eq!(mark(&worker, &id), true);
    launch(&bench, &worker, &id);
    assert_eq!(bench.body.running().as_deref(), Some("Desktop"));
    let pid = worker.stream_process(&id);
    worker.kill();
    signal(pid, "KILL");
    drop(signalling);
    worker.restart();
    worker.forgets(&id);
    until("the app to be closed", || bench.body.running().is_none());
}

#[test]
fn a_body_that_stays_stuck_after_a_close_is_closed_once_more() {
    let bench = Bench::new();
    bench
        .body
        .fail(Faults {
            close_leaves_stuck: true,
            ..Faults::default()
        })
        .unwrap();
    let worker = bench.worker("w1", None, json!({}));
    let id = worker.session();
    let _signalling = Signalling::open(worker.at, &prefix(&id));
    launch(&bench, &worker, &id);
    assert_eq!(worker.delete(&id), 204);
    until("the second close", || calls(&bench, CLOSE) == 2);
    let next = worker.session();
    assert_eq!(worker.delete(&next), 204);
    assert_eq!(calls(&bench, CLOSE), 2);
}

#[test]
fn a_start_that_meets_a_stuck_body_closes_once_and_goes_on() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    for n in 1..=2 {
        bench
            .body
            .fail(Faults {
                stuck: true,
                ..Faults::default()
            })
            .unwrap();
        let id = worker.session();
        assert_eq!(calls(&bench, CLOSE), n);
        assert_eq!(worker.delete(&id), 204);
    }
    worker.has_nothing_left();
}

#[test]
fn the_list_of_apps_is_changed_only_when_it_differs_and_while_nobody_streams() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({"bodies": {"pair_once": true}}));
    let session = |experience: &str| {
        let exe = format!("C:\\{experience}.exe");
        worker.session_with(json!({"experience": experience, "exe_path": exe}))
    };
    let mars = session("Mars");
    assert_eq!(saves(&bench), 1);
    let again = session("Mars");
    assert_eq!(saves(&bench), 1, "it is listed so already");
    assert_eq!(worker.delete(&again), 204);
    let watching = Signalling::open(worker.at, &prefix(&mars));
    launch(&bench, &worker, &mars);
    let venus = session("Venus");
    assert_eq!(saves(&bench), 1, "another session streams");
    worker.says("another session streams from it");
    assert_eq!(bench.body.running().as_deref(), Some("Mars"));
    assert_eq!(worker.delete(&venus), 204);
    assert_eq!(worker.delete(&mars), 204);
    drop(watching);
    until("the app to be closed", || bench.body.running().is_none());
    session("Venus");
    assert_eq!(saves(&bench), 2);
}

#[test]
fn a_command_that_fails_on_the_body_forbids_no_stream() {
    let bench = Bench::new();
    bench
        .body
        .fail(Faults {
            commands_fail: true,
            ..Faults::default()
        })
        .unwrap();
    let worker = bench.worker("w1", None, json!({}));
    let id = worker.session_with(json!({"experience": "Mars", "exe_path": "C:\\mars.exe"}));
    let answer = launch(&bench, &worker, &id);
    assert!(answer.contains("<gamesession>1<"), "{answer}");
    assert_eq!(bench.body.running().as_deref(), Some("Mars"));
}

/// A worker whose stream program does not start when its `data.json` has `word`, and what counts
/// its starts.
fn picky(bench: &Bench, word: &str) -> (Node, impl Fn() -> usize) {
    let starts = bench.dir.join("starts");
    let text = format!(
        "echo start >> {}; grep -qs '{word}' server/*.json && exit 0; exec $CARD \"$@\"",
        starts.display()
    );
    let program = script(&bench.dir, "picky", &text);
    let worker = bench.worker(
        "w1",
        None,
        json!({"bodies": {"pair_once": true}, "sessions": {"web_server": program}}),
    );
    let count = move || {
        fs::read_to_string(&starts)
            .unwrap_or_default()
            .lines()
            .count()
    };
    (worker, count)
}

#[test]
fn a_kept_identity_that_a_start_fails_with_is_dropped_and_the_start_tried_once_without() {
    let bench = Bench::new();
    let (worker, starts) = picky(&bench, "BROKEN");
    let kept = keep_broken(&bench, &worker);
    let id = worker.session();
    assert_eq!(starts(), 2);
    assert!(
        !fs::read_to_string(&kept)
            .unwrap_or_default()
            .contains("BROKEN")
    );
    assert_eq!(worker.delete(&id), 204);
    worker.has_nothing_left();
}

/// An identity with which no program starts.
fn keep_broken(bench: &Bench, worker: &Node) -> std::path::PathBuf {
    let pem = "-----BEGIN BROKEN-----\nYQ==\n-----END BROKEN-----\n";
    let identity = json!({
        "client": "hydraneckwebrtc:w1:old",
        "unique_id": "old",
        "address": "127.0.0.1",
        "http_port": bench.body.http().port(),
        "pair_info": {"client_private_key": pem, "client_certificate": pem, "server_certificate": pem},
        "cache": {"name": "b", "mac": null},
    });
    let kept = worker.dir.join("state/identities/127.0.0.1.identity");
    fs::create_dir_all(kept.parent().unwrap()).unwrap();
    fs::write(&kept, identity.to_string()).unwrap();
    kept
}

#[test]
fn a_start_that_fails_without_the_kept_identity_too_is_not_tried_again() {
    let bench = Bench::new();
    let (worker, starts) = picky(&bench, "");
    keep_broken(&bench, &worker);
    let answer = worker.create();
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(starts(), 2);
    worker.has_nothing_left();
}

#[test]
fn a_kept_identity_that_the_body_does_not_know_costs_one_more_start_when_pairing_fails() {
    let bench = Bench::new();
    bench
        .body
        .fail(Faults {
            handshake_fails: true,
            ..Faults::default()
        })
        .unwrap();
    let (worker, starts) = picky(&bench, "NOTHING");
    let kept = keep_broken(&bench, &worker);
    let answer = worker.create();
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (502, "pairing_failed"),
        "{}",
        answer.text()
    );
    assert!(
        answer.text().contains("handshake failed"),
        "{}",
        answer.text()
    );
    assert_eq!(starts(), 2);
    assert!(!kept.exists());
    worker.has_nothing_left();
    bench.body.fail(Faults::default()).unwrap();
    let id = worker.session();
    assert_eq!(worker.delete(&id), 204);
    assert!(!bench.body.has_crashed());
}

#[test]
fn the_test_cards_identity_reaches_no_other_stream_program() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({"bodies": {"pair_once": true}}));
    let old = keep_a_client(&bench, &worker);
    drop(worker);
    let (worker, starts) = picky(&bench, "TEST CARD");
    let id = worker.session();
    assert_eq!(starts(), 1);
    assert_eq!(worker.delete(&id), 204);
    // Its client is of no more use to anybody.
    until("the old client to be gone", || {
        !bench.body.clients().contains(&old)
    });
}

#[test]
fn clients_are_unpaired_only_while_no_session_is_on_the_body() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    let (first, second) = (worker.session(), worker.session());
    assert_eq!(worker.delete(&first), 204);
    worker.forgets(&first);
    assert_eq!(
        calls(&bench, UNPAIR),
        0,
        "the second one's program may call"
    );
    assert_eq!(worker.delete(&second), 204);
    until("the clients to be gone", || bench.body.clients().is_empty());
    assert!(!bench.body.has_crashed());
}

#[test]
fn a_client_that_is_replaced_is_unpaired_after_the_session_that_replaced_it() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({"bodies": {"pair_once": true}}));
    let old = keep_a_client(&bench, &worker);
    let kept = worker.dir.join("state/identities/127.0.0.1.identity");
    let text = fs::read_to_string(&kept).unwrap();
    let mut identity: serde_json::Value = serde_json::from_str(&text).unwrap();
    identity["unique_id"] = "unknown".into();
    fs::write(&kept, identity.to_string()).unwrap();
    let id = worker.session();
    until("the new identity", || {
        fs::read_to_string(&kept).is_ok_and(|text| !text.contains(&old))
    });
    // Its page may ask for the apps at any moment.
    let path = format!("{}api/apps?host_id=2", prefix(&id));
    for _ in 0..50 {
        call(worker.at, "GET", &path, &[], None).unwrap();
    }
    assert_eq!(calls(&bench, UNPAIR), 0);
    assert_eq!(bench.body.clients().len(), 2);
    assert_eq!(worker.delete(&id), 204);
    until("the old client to be gone", || {
        !bench.body.clients().contains(&old)
    });
    assert_eq!(bench.body.clients().len(), 1);
    assert!(!bench.body.has_crashed());
}

#[test]
fn an_experience_whose_launch_outlives_its_session_is_stopped() {
    let bench = Bench::new();
    bench
        .body
        .fail(Faults {
            launch_takes_ms: 3_000,
            ..Faults::default()
        })
        .unwrap();
    let worker = bench.worker("w1", None, json!({"bodies": {"sessions_max": 1}}));
    let mars = json!({"experience": "Mars", "exe_path": "C:\\mars.exe", "wait": false});
    let id = worker.session_with(mars);
    until("the launch", || calls(&bench, "POST /api/v1/launch") == 1);
    assert_eq!(worker.delete(&id), 204);
    until("it to be launched", || {
        calls(&bench, "POST /api/v1/stop") == 2
    });
    until("it to be stopped", || !bench.body.has_experience());
    worker.has_nothing_left();
    // The body was owned until then.
    let next = worker.session();
    assert_eq!(worker.delete(&next), 204);
    assert!(!bench.body.has_experience());
}

#[test]
fn a_start_that_the_body_is_at_fault_for_says_what_is_wrong_with_it() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    let refused = |more: serde_json::Value| {
        let answer = worker.create_with(more);
        assert_eq!(answer.status, 502, "{}", answer.text());
        (answer.reason(), answer.text().to_owned())
    };
    let (reason, text) = refused(json!({"app": "Nowhere"}));
    assert_eq!(reason, "app_not_found");
    assert!(text.contains("Nowhere"), "{text}");
    let stuck = Faults {
        stuck_for_good: true,
        ..Faults::default()
    };
    bench.body.fail(stuck).unwrap();
    let (reason, text) = refused(json!({}));
    assert_eq!(reason, "body_stuck");
    assert!(text.contains("restart Sunshine"), "{text}");
    worker.has_nothing_left();
}

#[test]
fn a_body_whose_gamestream_answers_later_is_waited_for_and_one_that_never_does_is_named() {
    let bench = Bench::new();
    let away = || Faults {
        gamestream_away: true,
        ..Faults::default()
    };
    bench.body.fail(away()).unwrap();
    let worker = bench.worker("w1", None, json!({}));
    let id = worker.session_with(json!({"wait": false}));
    until("it to be reached", || calls(&bench, "GET /api/apps") > 0);
    assert_eq!(worker.view(&id)["phase"], "reaching");
    bench.body.fail(Faults::default()).unwrap();
    until("it to be ready", || worker.view(&id)["status"] == "ready");
    assert_eq!(worker.delete(&id), 204);
    bench.body.fail(away()).unwrap();
    let answer = worker.create();
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (502, "body_unreachable")
    );
    let port = bench.body.http().port().to_string();
    assert!(answer.text().contains(&port), "{}", answer.text());
    worker.has_nothing_left();
}
