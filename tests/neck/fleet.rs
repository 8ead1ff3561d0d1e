//! Controller and workers losing, finding and refusing each other; drains.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::*;

fn status_of(controller: &Node, id: &str) -> Value {
    let all = controller.get("/api/v1/workers");
    let found = all
        .as_array()
        .unwrap()
        .iter()
        .find(|w| w["worker_id"] == id);
    found.map_or(Value::Null, |w| w["status"].clone())
}

#[track_caller]
fn becomes(controller: &Node, id: &str, status: &str) {
    until(&format!("{id} to be {status}"), || {
        status_of(controller, id) == status
    });
}

#[test]
fn a_controller_that_comes_back_never_denies_a_session_that_lives() {
    let bench = Bench::new();
    let mut controller = bench.controller();
    let worker = bench.worker("w1", Some(&controller), json!({}));
    becomes(&controller, "w1", "healthy");
    let id = controller.session();
    let url = worker.view(&id)["stream_path"].as_str().unwrap().to_owned();
    let page = worker.page(&id);
    worker.becomes(&id, "connected");
    controller.kill();
    // Long enough for the worker's pauses to grow.
    pause(Duration::from_secs(4));
    controller.restart();
    until("the session to be found again", || {
        let answer = controller.browse("GET", &url, None);
        match answer.status {
            200 => true,
            503 => {
                assert!(answer.field("retry-after").is_some());
                false
            }
            other => panic!(
                "a live session was answered with {other}: {}",
                answer.text()
            ),
        }
    });
    assert_eq!(controller.sessions().len(), 1);
    let unknown = format!("/session/{}/stream.html", "0".repeat(32));
    until("unknown sessions to be unknown", || {
        controller.browse("GET", &unknown, None).status == 404
    });
    assert!(
        !page.has_ended(),
        "the way to the worker itself was never touched"
    );
    assert_eq!(controller.delete(&id), 204);
}

#[test]
fn a_controller_that_was_stopped_for_a_while_blames_no_worker() {
    let bench = Bench::new();
    let controller = bench.controller_with(json!({"workers": {"heartbeat_timeout": TIMEOUT}}));
    let _worker = bench.worker("w1", Some(&controller), json!({}));
    becomes(&controller, "w1", "healthy");
    let id = controller.session();
    let events = controller.events();
    signal(controller.pid(), "STOP");
    // Longer than the timeout.
    pause(Duration::from_secs(6));
    signal(controller.pid(), "CONT");
    becomes(&controller, "w1", "healthy");
    assert_eq!(controller.sessions().len(), 1);
    assert_eq!(
        events.count("session_lost") + events.count("worker_down"),
        0,
        "{}",
        events.text()
    );
    assert_eq!(controller.delete(&id), 204);
}

#[test]
fn a_silent_worker_is_passed_over_and_is_back_with_its_sessions_when_it_speaks() {
    let bench = Bench::new();
    let controller = bench.controller_with(json!({"workers": {"heartbeat_timeout": TIMEOUT}}));
    let silent = bench.worker("w1", Some(&controller), json!({}));
    let other = bench.worker("w2", Some(&controller), json!({}));
    becomes(&controller, "w1", "healthy");
    becomes(&controller, "w2", "healthy");
    let id = silent.session();
    until("the controller to know it", || {
        !controller.view(&id).is_null()
    });
    signal(silent.pid(), "STOP");
    becomes(&controller, "w1", "unhealthy");
    let health = controller.get("/api/v1/health");
    assert_eq!(health["status"], "degraded");
    assert!(
        health["extra"]["problems"].to_string().contains("w1"),
        "{health}"
    );
    for _ in 0..3 {
        controller.session();
    }
    assert_eq!(other.sessions().len(), 3);
    signal(silent.pid(), "CONT");
    becomes(&controller, "w1", "healthy");
    assert_eq!(controller.view(&id)["status"], "ready");
    assert_eq!(controller.delete(&id), 204);
}

#[test]
fn a_second_process_with_a_workers_name_is_refused_and_serves_nothing() {
    let bench = Bench::new();
    let controller = bench.controller();
    let first = bench.worker("w1", Some(&controller), json!({}));
    becomes(&controller, "w1", "healthy");
    let mut config = bench.worker_config("again", Some(&controller), json!({}));
    config["worker"]["id"] = "w1".into();
    let second = bench.start_worker("again", config);
    second.says("refuses with 409");
    assert_eq!(second.create().status, 503);
    assert_eq!(second.call("GET", "/readyz", None).status, 503);
    assert_eq!(second.get("/api/v1/health")["status"], "degraded");
    let id = controller.session();
    assert_eq!(first.view(&id)["status"], "ready");
    let url = controller.get("/api/v1/workers")[0]["url"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(url, format!("http://{}", first.at));
    // The name is free once the first is gone for a while.
    drop(first);
    until("the second to be let in", || {
        second.call("GET", "/readyz", None).status == 200
    });
}

#[test]
fn a_drain_ordered_at_the_controller_moves_new_sessions_and_ends_old_ones_at_its_deadline() {
    let bench = Bench::new();
    let controller = bench.controller();
    let drained = bench.worker("w1", Some(&controller), json!({}));
    let other = bench.worker("w2", Some(&controller), json!({}));
    becomes(&controller, "w1", "healthy");
    becomes(&controller, "w2", "healthy");
    controller.is_warm();
    let id = drained.session();
    let page = drained.page(&id);
    drained.becomes(&id, "connected");
    let order = controller.call(
        "POST",
        "/api/v1/workers/w1/drain",
        Some(json!({"deadline": "4s"})),
    );
    assert_eq!(order.status, 202, "{}", order.text());
    assert_eq!(order.json()["status"], "draining");
    for _ in 0..3 {
        controller.session();
    }
    assert_eq!(other.sessions().len(), 3);
    assert!(page.wait("draining")["deadline"].is_string());
    assert_eq!(drained.create().reason(), "draining");
    assert_eq!(drained.call("GET", "/readyz", None).status, 503);
    assert_eq!(page.wait("ended")["end_reason"], "drained");
    assert_eq!(bench.one_record(&id)["end_reason"], "drained");
    assert_eq!(
        controller
            .call("DELETE", "/api/v1/workers/w1/drain", None)
            .status,
        204
    );
    until("the worker to take sessions again", || {
        drained.call("GET", "/readyz", None).status == 200
    });
    becomes(&controller, "w1", "healthy");
    assert_eq!(
        controller
            .call("POST", "/api/v1/workers/nobody/drain", None)
            .status,
        404
    );
}

#[test]
fn a_drain_ordered_at_the_worker_or_by_a_signal_is_known_to_the_controller() {
    let bench = Bench::new();
    let controller = bench.controller();
    let worker = bench.worker("w1", Some(&controller), json!({}));
    becomes(&controller, "w1", "healthy");
    let id = worker.session();
    for by_signal in [false, true] {
        if by_signal {
            signal(worker.pid(), "USR1");
        } else {
            assert_eq!(worker.call("POST", "/api/v1/drain", None).status, 202);
        }
        becomes(&controller, "w1", "draining");
        let refused = controller.create();
        assert_eq!(
            (refused.status, refused.reason().as_str()),
            (503, "all_draining")
        );
        assert_eq!(worker.view(&id)["status"], "ready");
        assert_eq!(worker.call("DELETE", "/api/v1/drain", None).status, 204);
        becomes(&controller, "w1", "healthy");
        let more = controller.session();
        assert_eq!(controller.delete(&more), 204);
    }
    let wrong = worker.call("POST", "/api/v1/drain", Some(json!({"deadline": "soon"})));
    assert_eq!(wrong.status, 400, "{}", wrong.text());
}

#[test]
fn a_session_that_is_admitted_while_a_drain_is_ordered_ends_at_its_deadline_too() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    for _ in 0..4 {
        let answers = at_once(8, |n| {
            if n == 4 {
                let order = json!({"deadline": "1s"});
                worker.call("POST", "/api/v1/drain", Some(order))
            } else {
                worker.create_with(json!({"wait": false}))
            }
        });
        assert_eq!(answers[4].status, 202);
        until("the deadline", || worker.sessions().is_empty());
        assert_eq!(worker.call("DELETE", "/api/v1/drain", None).status, 204);
    }
}

#[test]
fn a_worker_without_its_controller_says_so_and_serves_all_the_same() {
    for (url, what) in [
        ("http://nowhere.invalid:1", "cannot resolve"),
        ("http://127.0.0.1:1", "cannot connect"),
    ] {
        let bench = Bench::new();
        let worker = bench.worker(
            "w1",
            None,
            json!({"controller": {"url": url, "token": "x", "heartbeat_interval": BEAT}}),
        );
        worker.says(what);
        assert_eq!(worker.get("/api/v1/health")["status"], "degraded");
        let id = worker.session();
        assert_eq!(worker.delete(&id), 204);
    }
}

#[test]
fn a_worker_with_another_token_is_told_so() {
    let bench = Bench::new();
    let controller = bench.controller_with(json!({"server": {"admin_token": "rotated"}}));
    let worker = bench.worker("w1", Some(&controller), json!({}));
    worker.says("refuses with 401");
    assert!(
        worker.log().contains("controller.token"),
        "{}",
        worker.log()
    );
}

#[test]
fn a_token_that_is_rotated_parts_a_worker_from_its_controller_until_it_has_the_new_one() {
    let bench = Bench::new();
    let mut controller = bench.controller();
    let mut worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    let id = controller.session();
    controller.kill();
    controller.config["server"]["admin_token"] = "rotated".into();
    controller.restart();
    worker.says("refuses with 401");
    assert_eq!(worker.view(&id)["status"], "ready");
    assert_eq!(worker.get("/api/v1/health")["status"], "degraded");
    worker.config["controller"]["token"] = "rotated".into();
    worker.kill();
    worker.restart();
    until("the worker to be let in", || {
        worker.log().matches("[heartbeat] registered with").count() == 2
    });
    assert_eq!(worker.view(&id)["status"], "ready");
    assert_eq!(worker.delete(&id), 204);
}

#[test]
fn a_worker_that_fills_up_between_pick_and_create_costs_nobody_a_session() {
    let bench = Bench::new();
    let controller = bench.controller();
    let small = json!({"sessions": {"max": 4}});
    let workers = [
        bench.worker("w1", Some(&controller), small.clone()),
        bench.worker("w2", Some(&controller), small),
    ];
    becomes(&controller, "w1", "healthy");
    becomes(&controller, "w2", "healthy");
    // Half of them past the controller, so that its picture is old at every pick.
    let answers = at_once(8, |n| {
        if n % 2 == 0 {
            controller.create()
        } else {
            workers[n / 2 % 2].create()
        }
    });
    let through: Vec<_> = answers.iter().step_by(2).map(|a| a.status).collect();
    assert_eq!(through, [201; 4], "{answers:?}");
    for worker in &workers {
        assert!(worker.sessions().len() <= 4);
    }
}

#[test]
fn lost_replies_and_a_partition_leave_the_fleet_whole() {
    let bench = Bench::new();
    let controller = bench.controller_with(json!({"workers": {"heartbeat_timeout": TIMEOUT}}));
    let link = Link::to(controller.at);
    let more = json!({"controller": {"url": link.url()}});
    let worker = bench.worker("w1", Some(&controller), more);
    controller.is_warm();
    let (kept, ended) = (controller.session(), controller.session());
    let events = controller.events();
    link.set(Carries::Requests);
    worker.says("[heartbeat] WARNING: controller");
    assert_eq!(worker.delete(&ended), 204);
    until("the controller to hear of the end", || {
        controller.view(&ended).is_null()
    });
    becomes(&controller, "w1", "healthy");
    link.set(Carries::Nothing);
    becomes(&controller, "w1", "unhealthy");
    let alone = worker.session();
    // Browsers that know the way are not cut off from a worker that only its controller misses.
    let url = worker.view(&kept)["stream_path"].clone();
    let answer = controller.browse("GET", url.as_str().unwrap(), None);
    assert_eq!(answer.status, 200);
    link.set(Carries::Everything);
    becomes(&controller, "w1", "healthy");
    until("both sessions", || controller.sessions().len() == 2);
    for id in [&kept, &alone] {
        assert_eq!(controller.delete(id), 204);
    }
    for id in [&kept, &alone, &ended] {
        until("its end", || events.tells("session_ended", id) > 0);
        assert_eq!(events.tells("session_ended", id), 1, "{}", events.text());
    }
}

#[test]
fn a_create_whose_answer_is_lost_is_found_again_by_its_key_and_never_doubled() {
    let bench = Bench::new();
    let controller = bench.controller();
    let mut config = bench.worker_config("w1", Some(&controller), json!({}));
    let listen = config["server"]["listen"].as_str().unwrap().to_owned();
    let link = Link::to(listen.parse().unwrap());
    config["worker"]["url"] = link.url().into();
    let worker = bench.start_worker("w1", config);
    let _other = bench.worker("w2", Some(&controller), json!({"sessions": {"max": 1}}));
    becomes(&controller, "w1", "healthy");
    becomes(&controller, "w2", "healthy");
    // The larger one is the less loaded once the smaller one is full.
    while worker.sessions().is_empty() {
        controller.session();
    }
    let before = controller.sessions().len();
    if before == 1 {
        controller.session();
    }
    until("all to be known", || {
        controller.sessions().len() == before.max(2)
    });
    let here = worker.sessions().len();
    let key = [("Idempotency-Key", "once")];
    let wish = json!({"body_ip": "127.0.0.1"});
    let create = || controller.call_with("POST", "/api/v1/sessions", &key, Some(wish.clone()));
    link.set(Carries::Requests);
    let unsure = create();
    assert_eq!(
        (unsure.status, unsure.reason().as_str()),
        (504, "timeout"),
        "{}",
        unsure.text()
    );
    until("the session to be made", || {
        worker.sessions().len() == here + 1
    });
    link.set(Carries::Everything);
    let found = create();
    assert_eq!(found.status, 201, "{}", found.text());
    let id = found.json()["session_id"].as_str().unwrap().to_owned();
    assert_eq!(create().json()["session_id"], id);
    assert_eq!(worker.sessions().len(), here + 1);
    assert_eq!(worker.view(&id)["status"], "ready");
}

#[test]
fn a_heartbeat_goes_to_the_next_controller_whatever_the_first_one_answers() {
    let bench = Bench::new();
    for answer in [
        "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nnot",
        "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: 37\r\n\r\n{\"error\":\"no\",\"reason\":\"unauthorized\"}",
        "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n",
    ] {
        let controller = bench.controller();
        let wrong = format!("http://{}", answers_always(answer));
        let right = format!("http://{}", controller.at);
        for (n, urls) in [[&wrong, &right], [&right, &wrong]].into_iter().enumerate() {
            // Workers begin with different ones.
            let id = format!("w{n}");
            let more = json!({"controller": {"url": urls}});
            let mut worker = bench.worker(&id, Some(&controller), more);
            until("it to be registered", || {
                let all = controller.get("/api/v1/workers").to_string();
                all.contains(&format!("\"{id}\""))
            });
            worker.stop();
        }
    }
}
