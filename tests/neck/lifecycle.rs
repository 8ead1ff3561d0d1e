//! A session's life as a visitor and the machine see it: watched, left alone, ended, gone.

use std::time::Duration;

use serde_json::json;

use crate::support::*;

#[test]
fn after_a_delete_nothing_is_left_on_the_machine_or_the_body() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    let cycle = || {
        let id = worker.session();
        let page = worker.page(&id);
        let signalling = Signalling::open(worker.at, &prefix(&id));
        worker.becomes(&id, "connected");
        assert!(!bench.body.clients().is_empty());
        assert_eq!(worker.delete(&id), 204);
        assert_eq!(page.wait("ended")["end_reason"], "deleted");
        until("the page's stream to end", || page.has_ended());
        until("the signalling to be cut", || signalling.is_closed());
        worker.forgets(&id);
        until("the pairing to be undone", || {
            bench.body.clients().is_empty()
        });
        assert_eq!(bench.body.running(), None);
        worker.has_nothing_left();
        let gone = call(
            worker.at,
            "GET",
            &format!("/session/{id}/stream.html"),
            &[("Accept", "text/html")],
            None,
        );
        let gone = gone.unwrap();
        assert_eq!(gone.status, 404);
        assert!(
            gone.text().contains("hydraheadwebstream"),
            "the way to a new stream is shown"
        );
        id
    };
    // What is made once and kept is made by the first.
    let mut ids = vec![cycle()];
    let before = worker.descriptors();
    ids.extend((0..4).map(|_| cycle()));
    until("the descriptors to be closed", || {
        worker.descriptors() <= before
    });
    for id in ids {
        bench.one_record(&id);
    }
}

#[test]
fn a_stream_process_that_dies_unwatched_ends_its_session() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    let events = worker.events();
    let id = worker.session();
    signal(worker.stream_process(&id), "KILL");
    assert_eq!(events.wait("session_ended")["end_reason"], "process_exited");
    worker.forgets(&id);
    assert_eq!(bench.one_record(&id)["end_reason"], "process_exited");
    worker.has_nothing_left();
}

#[test]
fn a_stream_process_that_dies_while_somebody_watches_is_restarted_in_place() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({"sessions": {"restart_limit": 2}}));
    let id = worker.session();
    let url = worker.view(&id)["stream_path"].as_str().unwrap().to_owned();
    let port = worker.view(&id)["port"].clone();
    let page = worker.page(&id);
    worker.becomes(&id, "connected");
    for n in 1..=2 {
        let signalling = Signalling::open(worker.at, &prefix(&id));
        let pid = worker.stream_process(&id);
        signal(pid, "KILL");
        until("the page to be told", || page.count("restarting") == n);
        until("another process", || worker.stream_process(&id) != pid);
        until("the same URL to work", || {
            worker.browse("GET", &url, None).status == 200
        });
        until("the old signalling to end", || signalling.is_closed());
        let view = worker.view(&id);
        assert_eq!(
            (&view["status"], &view["port"]),
            (&json!("connected"), &port)
        );
    }
    signal(worker.stream_process(&id), "KILL");
    assert_eq!(page.wait("ended")["end_reason"], "process_exited");
    worker.forgets(&id);
    assert_eq!(bench.one_record(&id)["end_reason"], "process_exited");
    worker.has_nothing_left();
}

#[test]
fn a_session_that_nobody_joins_ends_as_never_connected() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({"sessions": {"connect_timeout": "3s"}}));
    let id = worker.session();
    worker.forgets(&id);
    let record = bench.one_record(&id);
    assert_eq!(record["end_reason"], "never_connected");
    assert_eq!(record["disconnect_count"], 0);
    worker.has_nothing_left();
}

#[test]
fn a_session_lingers_for_a_visitor_who_reloads_and_ends_for_one_who_left() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({"sessions": {"disconnect_grace": "6s"}}));
    let (reloaded, watched) = (worker.session(), worker.session());
    // Only the signalling: as good as a page's event stream.
    let signalling = Signalling::open(worker.at, &prefix(&watched));
    worker.becomes(&watched, "connected");
    for _ in 0..2 {
        let page = worker.page(&reloaded);
        worker.becomes(&reloaded, "connected");
        drop(page);
        worker.becomes(&reloaded, "lingering");
    }
    let page = worker.page(&reloaded);
    worker.becomes(&reloaded, "connected");
    // Longer than the window: it is closed now.
    pause(Duration::from_secs(7));
    assert_eq!(worker.view(&reloaded)["status"], "connected");
    assert_eq!(worker.view(&reloaded)["disconnect_count"], 2);
    drop(page);
    worker.becomes(&reloaded, "lingering");
    worker.forgets(&reloaded);
    let record = bench.one_record(&reloaded);
    assert_eq!(record["end_reason"], "disconnected");
    assert_eq!(record["disconnect_count"], 3);
    assert_eq!(worker.view(&watched)["status"], "connected");
    drop(signalling);
    worker.forgets(&watched);
    assert_eq!(bench.one_record(&watched)["end_reason"], "disconnected");
    worker.has_nothing_left();
}

#[test]
fn a_session_ends_at_its_longest_duration_whoever_watches() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({"sessions": {"max_duration": "6s"}}));
    let id = worker.session();
    let page = worker.page(&id);
    assert_eq!(page.wait("ended")["end_reason"], "max_duration");
    worker.forgets(&id);
    assert_eq!(bench.one_record(&id)["end_reason"], "max_duration");
}

#[test]
fn a_create_that_does_not_wait_is_answered_at_once_and_can_be_deleted_at_once() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    let id = worker.session_with(json!({"wait": false}));
    assert_eq!(worker.delete(&id), 204);
    assert_eq!(worker.delete(&id), 404);
    assert_eq!(bench.one_record(&id)["end_reason"], "deleted");
    worker.has_nothing_left();
}

#[test]
fn every_start_and_every_end_is_an_event_exactly_once() {
    let bench = Bench::new();
    let controller = bench.controller();
    let worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    let (near, far) = (worker.events(), controller.events());
    for _ in 0..3 {
        let id = controller.session();
        assert_eq!(controller.delete(&id), 204);
        for feed in [&near, &far] {
            for name in ["session_created", "session_ended"] {
                until(name, || feed.tells(name, &id) > 0);
                assert_eq!(feed.tells(name, &id), 1, "{name}");
            }
        }
    }
}

#[test]
fn a_visitor_who_comes_through_the_controller_counts_and_is_told() {
    let bench = Bench::new();
    let mut controller = bench.controller();
    let worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    let id = controller.session();
    let signalling = Signalling::open(controller.at, &prefix(&id));
    let page = controller.page(&id);
    worker.becomes(&id, "connected");
    until("both to count", || worker.view(&id)["viewers"] == 2);
    until("the controller to know", || {
        controller.view(&id)["status"] == "connected"
    });
    controller.kill();
    until("the way to be cut", || {
        signalling.is_closed() && page.has_ended()
    });
    worker.becomes(&id, "lingering");
    controller.restart();
    until("the session to be found again", || {
        controller.view(&id)["status"] == "lingering"
    });
    let page = controller.page(&id);
    let signalling = Signalling::open(controller.at, &prefix(&id));
    worker.becomes(&id, "connected");
    assert_eq!(controller.delete(&id), 204);
    assert_eq!(page.wait("ended")["end_reason"], "deleted");
    until("the signalling to be cut", || signalling.is_closed());
    worker.has_nothing_left();
}

#[test]
fn a_listener_who_comes_back_hears_what_it_missed() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    let feed = worker.events();
    let first = worker.session();
    until("the first to be ready", || feed.count("session_ready") == 1);
    let text = feed.text();
    let last = text.lines().rev().find_map(|l| l.strip_prefix("id: "));
    let last = last.unwrap().to_owned();
    drop(feed);
    let second = worker.session();
    assert_eq!(worker.delete(&first), 204);
    let bearer = format!("Bearer {TOKEN}");
    let resume = |from: &str| {
        let fields = [("Authorization", bearer.as_str()), ("Last-Event-ID", from)];
        Feed::open(worker.at, "/api/v1/events", &fields)
    };
    let feed = resume(&last);
    assert_eq!(feed.wait("session_ended")["session_id"], first);
    assert_eq!(feed.wait("session_ready")["session_id"], second);
    assert_eq!((feed.count("session_ready"), feed.count("missed")), (1, 0));
    let stranger = resume("999999");
    until("the gap to be told", || stranger.count("missed") == 1);
}

#[test]
fn a_worker_that_was_stopped_for_a_while_gives_visitors_time_to_come_back() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({"sessions": {"disconnect_grace": "3s"}}));
    let id = worker.session();
    let page = worker.page(&id);
    worker.becomes(&id, "connected");
    drop(page);
    worker.becomes(&id, "lingering");
    signal(worker.pid(), "STOP");
    // Beyond the window, and longer than any stall that is not a pause.
    pause(Duration::from_secs(10));
    signal(worker.pid(), "CONT");
    // The page tries again within a moment of its own.
    pause(Duration::from_secs(2));
    let page = worker.page(&id);
    worker.becomes(&id, "connected");
    drop(page);
    worker.forgets(&id);
    assert_eq!(bench.one_record(&id)["end_reason"], "disconnected");
}

#[test]
fn what_was_deleted_is_gone_when_the_answer_comes() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({"sessions": {"max": 1}}));
    let port = u16::try_from(
        worker.config["sessions"]["port_range_start"]
            .as_u64()
            .unwrap(),
    );
    // From a session that is just being admitted to one that is ready.
    for late in [0, 5, 10, 20, 40, 80, 160, 320] {
        // The only slot is free again, too.
        let id = worker.session_with(json!({"wait": false}));
        pause(Duration::from_millis(late));
        assert_eq!(worker.delete(&id), 204);
        let here = worker.sessions_dir();
        assert_eq!(processes_in(&here), [0; 0], "after {late} ms");
        assert_eq!(entries(&here), [""; 0], "after {late} ms");
        assert!(is_free(port.unwrap()), "after {late} ms");
    }
    // When the body is left, too.
    until("no entry", || entries(&worker.ledger()).is_empty());
}

#[test]
fn two_pages_that_signal_at_once_leave_one_streamer() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    let id = worker.session();
    let stream = worker.view(&id)["stream_path"].as_str().unwrap().to_owned();
    let pages = [(); 2].map(|()| Signalling::open(worker.at, &prefix(&id)));
    let streamers = || {
        let mut all = processes_in(&worker.sessions_dir());
        all.retain(|pid| has_argument(*pid, "streamer"));
        all.len()
    };
    for page in &pages {
        page.ask_for(&stream);
    }
    until("two streamers", || streamers() == 2);
    until("one of them to be ended", || streamers() == 1);
    // A page that comes later takes over.
    let later = Signalling::open(worker.at, &prefix(&id));
    until("the one before to be ended", || streamers() == 0);
    later.ask_for(&stream);
    until("its streamer", || streamers() == 1);
    assert_eq!(worker.view(&id)["status"], "connected");
    assert_eq!(worker.delete(&id), 204);
    assert_eq!(streamers(), 0);
}

#[test]
fn a_page_that_leaves_is_gone_though_the_stream_program_keeps_its_socket_open() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({"sessions": {"disconnect_grace": "1s"}}));
    let id = worker.session();
    let stream = worker.view(&id)["stream_path"].as_str().unwrap().to_owned();
    let page = Signalling::open(worker.at, &prefix(&id));
    page.ask_for(&stream);
    until("its streamer", || {
        processes_in(&worker.sessions_dir())
            .iter()
            .any(|pid| has_argument(*pid, "streamer"))
    });
    worker.becomes(&id, "connected");
    drop(page);
    worker.forgets(&id);
    assert_eq!(bench.one_record(&id)["end_reason"], "disconnected");
    worker.has_nothing_left();
}
