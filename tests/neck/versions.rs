//! Versions side by side: what another version tells, or left on the disk, costs what cannot be read of
//! it and nothing else.

use std::fs;

use serde_json::{Value, json};

use crate::support::*;

/// What 0.1.0 wrote.
fn recorded(name: &str) -> Value {
    let all = include_str!("../versions/0.1.0.json");
    serde_json::from_str::<Value>(all).unwrap()[name].clone()
}

fn told(controller: &Node, beat: &Value) -> Answer {
    controller.call("POST", "/api/v1/workers/heartbeat", Some(beat.clone()))
}

fn count(text: &str, what: &str) -> usize {
    text.matches(what).count()
}

#[test]
fn a_heartbeat_of_a_newer_worker_costs_only_the_session_that_cannot_be_read() {
    let bench = Bench::new();
    let controller = bench.controller();
    let mut beat = recorded("heartbeat");
    beat["version"] = "0.9.0".into();
    beat["drain_ordered"] = false.into();
    beat["novelty"] = json!({"a": 1});
    let known = beat["sessions"][0].clone();
    let id = |n: usize| format!("{n:032x}");
    let with = |n: usize, more: Value| {
        let mut session = known.clone();
        session["id"] = id(n).into();
        let fields = session.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        session
    };
    let mut nameless = known.clone();
    nameless.as_object_mut().unwrap().remove("id");
    beat["sessions"] = json!([
        with(
            1,
            json!({"status": "hibernating", "phase": "dreaming", "novelty": 1})
        ),
        nameless,
        with(2, json!({"stats": {"novelty": 1, "rtt_ms": 7.0}})),
        with(3, json!({"body_ip": "a name", "port": -1})),
    ]);
    for sequence in 1..4 {
        beat["sequence"] = sequence.into();
        let answer = told(&controller, &beat);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let workers = controller.get("/api/v1/workers");
    assert_eq!(workers[0]["status"], "healthy");
    let view = controller.view(&id(1));
    assert_eq!(
        (&view["status"], &view["phase"]),
        (&json!("hibernating"), &json!("dreaming"))
    );
    assert_eq!(controller.view(&id(2))["stats"]["rtt_ms"], 7.0);
    assert_eq!(controller.view(&id(3))["status"], "connected");
    assert_eq!(controller.sessions().len(), 3);
    until("the faults to be logged", || {
        count(&controller.log(), "cannot read") >= 3
    });
    let log = controller.log();
    let lines: Vec<&str> = log.lines().filter(|l| l.contains("cannot read")).collect();
    // The session without an id, and the two fields of another.
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for line in &lines {
        assert!(line.contains("worker w1 version=0.9.0"), "{line}");
    }
    assert!(lines[0].contains("missing field `id`"), "{lines:#?}");
    let metrics = controller.call("GET", "/metrics", None).text();
    assert!(!metrics.contains("hibernating"), "{metrics}");
    assert!(
        metrics.contains("sessions{state=\"unknown\"} 1"),
        "{metrics}"
    );

    let feed = controller.events();
    beat["sessions"][0]["status"] = "ended".into();
    beat["sessions"][0]["end_reason"] = "woken".into();
    beat["sequence"] = 4.into();
    assert_eq!(told(&controller, &beat).status, 200);
    assert_eq!(feed.wait("session_ended")["end_reason"], "woken");
    let metrics = controller.call("GET", "/metrics", None).text();
    assert!(!metrics.contains("woken"), "{metrics}");
    assert!(
        metrics.contains("session_ends_total{reason=\"unknown\"} 1"),
        "{metrics}"
    );
}

#[test]
fn a_heartbeat_that_cannot_be_read_is_refused_with_the_field_and_said_once() {
    let bench = Bench::new();
    let controller = bench.controller();
    let mut beat = recorded("heartbeat");
    beat["version"] = "0.9.0".into();
    assert_eq!(told(&controller, &beat).status, 200);
    for field in ["process_id", "sessions"] {
        let mut other = beat.clone();
        other["sequence"] = 100.into();
        other[field] = json!({"by": "name"});
        for _ in 0..2 {
            let refused = told(&controller, &other);
            assert_eq!(refused.status, 400);
            let text = refused.text();
            assert!(text.contains(field) && text.contains("0.1.0"), "{text}");
        }
        let said =
            format!("worker w1 version=0.9.0: this version, 0.1.0, cannot read field {field}");
        controller.says(&said);
        assert_eq!(count(&controller.log(), &said), 1, "{}", controller.log());
    }
    let id = beat["sessions"][0]["id"].as_str().unwrap();
    assert_eq!(controller.view(id)["status"], "connected");
    // Where it is reached is what it said last.
    beat.as_object_mut().unwrap().remove("url");
    beat["sequence"] = 101.into();
    assert_eq!(told(&controller, &beat).status, 200);
    let workers = controller.get("/api/v1/workers");
    assert_eq!(workers[0]["url"], recorded("heartbeat")["url"]);
}

/// What another version could have made of an entry: a field is missing, is of another kind, is new, or
/// has another word.
fn mutations(entry: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for place in [
        "",
        "/credentials",
        "/process",
        "/extra",
        "/extra/life",
        "/extra/request",
        "/extra/traces",
    ] {
        let Some(fields) = entry.pointer(place).and_then(Value::as_object) else {
            continue;
        };
        let mut note = |act: &str, name: &str, value: Option<Value>| {
            let mut changed = entry.clone();
            let fields = changed.pointer_mut(place).unwrap().as_object_mut().unwrap();
            match value {
                Some(value) => fields.insert(name.to_owned(), value),
                None => fields.remove(name),
            };
            all.push((format!("{place}/{name} {act}"), changed));
        };
        note("is new", "novelty", Some(json!({"a": 1})));
        for name in fields.keys() {
            note("is missing", name, None);
            note("is of another kind", name, Some(json!({"x": 1})));
        }
    }
    for (place, value) in [
        ("/version", json!(99)),
        ("/extra/life/end_reason", json!("woken")),
    ] {
        let mut changed = entry.clone();
        *changed.pointer_mut(place).unwrap() = value;
        all.push((format!("{place} is another"), changed));
    }
    all
}

#[test]
fn a_ledger_of_another_version_keeps_every_stream_process_running() {
    const SESSIONS: usize = 12;
    let bench = Bench::new();
    let mut worker = bench.worker("w1", None, json!({"sessions": {"connect_timeout": "10m"}}));
    let more = json!({"experience": "Moon", "district": "d", "exe_path": "C:\\moon.exe"});
    let ids: Vec<String> = at_once(SESSIONS, |_| worker.session_with(more.clone()));
    let pids: Vec<u32> = ids.iter().map(|id| worker.stream_process(id)).collect();
    let paths: Vec<Value> = ids
        .iter()
        .map(|id| worker.view(id)["stream_path"].clone())
        .collect();
    let whole: Vec<Value> = ids.iter().map(|id| worker.entry(id)).collect();
    let kinds = mutations(&whole[0]).len();
    for first in (0..kinds).step_by(SESSIONS) {
        worker.kill();
        let mut names = Vec::new();
        for (n, id) in ids.iter().enumerate() {
            let mut all = mutations(&whole[n]);
            let (name, entry) = all.swap_remove((first + n) % kinds);
            fs::write(
                worker.ledger().join(format!("{id}.json")),
                entry.to_string(),
            )
            .unwrap();
            names.push(name);
        }
        worker.restart();
        for (n, id) in ids.iter().enumerate() {
            let name = &names[n];
            let view = worker.view(id);
            assert_eq!(view["status"], "ready", "{name}: {view}");
            assert_eq!(worker.stream_process(id), pids[n], "{name}");
            assert_eq!(view["stream_path"], paths[n], "{name}");
            assert_eq!(view["port"], whole[n]["port"], "{name}");
            assert_eq!(view["body_ip"], "127.0.0.1", "{name}");
            let kept = [
                "version",
                "user",
                "pairing_name",
                "udp",
                "cgroup",
                "workspace",
            ];
            // The entry is written whole again once the session is driven.
            until(&format!("the entry of {name} to be whole"), || {
                let entry = worker.entry(id);
                kept.iter().all(|field| entry[field] == whole[n][field])
            });
        }
    }
    for id in &ids {
        assert_eq!(worker.delete(id), 204);
        assert_eq!(bench.one_record(id)["body_ip"], "127.0.0.1");
    }
    worker.has_nothing_left();
    until("no pairing to be left", || bench.body.clients().is_empty());
}

#[test]
fn a_ledger_entry_that_makes_no_sense_ends_its_session_in_order_and_with_its_record() {
    let bench = Bench::new();
    let mut worker = bench.worker("w1", None, json!({}));
    let ids: Vec<String> = at_once(6, |_| worker.session());
    let file = |worker: &Node, id: &str| worker.ledger().join(format!("{id}.json"));
    let whole: Vec<Vec<u8>> = ids
        .iter()
        .map(|id| fs::read(file(&worker, id)).unwrap())
        .collect();
    let pids: Vec<u32> = ids.iter().map(|id| worker.stream_process(id)).collect();
    let foreign = {
        let mut entry = worker.entry(&ids[3]);
        entry["id"] = ids[5].as_str().into();
        entry
    };
    let elsewhere = {
        let mut entry = worker.entry(&ids[4]);
        entry["workspace"] = "/".into();
        entry
    };
    worker.kill();
    for (n, text) in [
        whole[0][..whole[0].len() / 2].to_vec(),
        b"\0\xff garbage".to_vec(),
        Vec::new(),
        foreign.to_string().into_bytes(),
        elsewhere.to_string().into_bytes(),
    ]
    .iter()
    .enumerate()
    {
        fs::write(file(&worker, &ids[n]), text).unwrap();
    }
    worker.restart();
    for (n, id) in ids[..5].iter().enumerate() {
        worker.forgets(id);
        let record = bench.one_record(id);
        assert_eq!(record["end_reason"], "process_exited", "{n}");
        assert_eq!(record["body_ip"], "127.0.0.1", "{n}");
        assert!(!file(&worker, id).exists());
        assert!(fs::exists(worker.ledger().join(format!("{id}.json.bad"))).unwrap());
    }
    let running = processes_in(&worker.sessions_dir());
    assert!(
        pids[..5].iter().all(|pid| !running.contains(pid)),
        "{running:?}"
    );
    assert_eq!(worker.stream_process(&ids[5]), pids[5], "the others live");
    assert_eq!(worker.delete(&ids[5]), 204);
    assert_eq!(entries(&worker.sessions_dir()), [""; 0]);
    until("no pairing to be left", || bench.body.clients().is_empty());
    worker.forgets(&ids[5]);
    // What was set aside stays set aside.
    assert!(worker.stop().success());
    worker.restart();
    assert!(worker.sessions().is_empty());
    for id in &ids {
        bench.one_record(id);
    }
}
