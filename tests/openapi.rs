//! The API document against the program: every route of both roles, every field of every shape.

#![allow(clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::collections::BTreeSet;

use hydraneckwebrtc::testing::config::{Config, Role};
use hydraneckwebrtc::testing::controller::Controller;
use hydraneckwebrtc::testing::dashboard::{Board, Page, SessionRow};
use hydraneckwebrtc::testing::http::openapi::DOCUMENT;
use hydraneckwebrtc::testing::protocol::{
    CreateSession, Created, EndReason, ErrorBody, Health, Heartbeat, HeartbeatReply, PageStats,
    Phase, SessionView, Status, WorkerSessions, WorkerView,
};
use hydraneckwebrtc::testing::worker::Worker;
use hydraneckwebrtc::testing::{exec, ids};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

fn document() -> Value {
    serde_json::from_str(DOCUMENT).expect("the document is JSON")
}

/// (role, method, path, secured) of what the document says an API router answers.
fn documented() -> BTreeSet<(String, String, String, bool)> {
    let document = document();
    let mut all = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            if operation["x-browser"] == true {
                continue;
            }
            let secured = operation["security"] != json!([]);
            for role in operation["x-roles"].as_array().expect("x-roles") {
                let role = role.as_str().expect("a role").to_owned();
                all.insert((role, method.to_uppercase(), path.clone(), secured));
            }
        }
    }
    all
}

#[test]
fn the_document_has_every_route_of_both_roles_and_no_other() {
    let dir = std::env::temp_dir().join(format!("neck-openapi-{}", ids::label()));
    let yaml = format!(
        "server: {{listen: ':8080', admin_token: t}}\nworker: {{state_dir: '{0}/state'}}\nsessions: {{web_server: testcard, dir: '{0}/sessions'}}\n",
        dir.display()
    );
    let config = |role| {
        Config::parse(&yaml, Some(role))
            .expect("a configuration")
            .config
    };
    let (_stopper, stop) = exec::stop();
    let controller =
        exec::block_on(Controller::start(&config(Role::Controller), stop.clone())).expect("starts");
    let worker =
        exec::block_on(Worker::start(&config(Role::Worker), &[8080], stop)).expect("starts");
    let mut served = BTreeSet::new();
    for (role, routes) in [
        ("controller", controller.routes()),
        ("worker", worker.routes()),
    ] {
        for (method, path, secured) in routes {
            let named = path.split('/').map(|part| match part.strip_prefix(':') {
                Some(name) => format!("{{{name}}}"),
                None => part.to_owned(),
            });
            let path = named.collect::<Vec<_>>().join("/");
            served.insert((role.to_owned(), method.to_string(), path, secured));
        }
    }
    let documented = documented();
    let missing: Vec<_> = served.difference(&documented).collect();
    let strange: Vec<_> = documented.difference(&served).collect();
    assert!(
        missing.is_empty() && strange.is_empty(),
        "not documented: {missing:?}\nnot served: {strange:?}"
    );
    let _ = std::fs::remove_dir_all(dir);
}

/// What is wrong with `value` under `schema`, as far as this document's schemas go.
fn wrong(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("{reference} leads nowhere"));
        return wrong(document, target, value, at);
    }
    // This version's answers have this version's words only.
    let words = schema.get("enum").or(schema.get("x-extensible-enum"));
    if let Some(allowed) = words.and_then(Value::as_array)
        && !allowed.contains(value)
    {
        return vec![format!("{at}: {value} is not in {allowed:?}")];
    }
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        _ => panic!("{at}: a schema without a plain type: {schema}"),
    };
    if !fits {
        return vec![format!("{at}: {value} is no {}", schema["type"])];
    }
    let mut found = Vec::new();
    if let Some(fields) = value.as_object() {
        for (name, value) in fields {
            match schema["properties"].get(name) {
                Some(schema) => {
                    found.extend(wrong(document, schema, value, &format!("{at}.{name}")))
                }
                None => found.push(format!("{at}.{name}: not documented")),
            }
        }
    }
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(wrong(
            document,
            &schema["items"],
            item,
            &format!("{at}[{n}]"),
        ));
    }
    found
}

fn names(value: &Value) -> BTreeSet<String> {
    value
        .as_object()
        .map(|o| o.keys().cloned().collect())
        .unwrap_or_default()
}

/// `full` has every field of `T`, as the compiler and serde see it. The schema must have the same
/// fields, and require exactly those without which `T` does not read.
fn holds<T: Serialize + DeserializeOwned>(name: &str, full: Value, beside: &[&str]) {
    let document = document();
    let schema = &document["components"]["schemas"][name];
    let read: T = serde_json::from_value(full.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let written = serde_json::to_value(&read).expect("JSON");
    assert_eq!(
        names(&written),
        names(&full),
        "{name}: the example must have every field"
    );
    let mut fields = names(&schema["properties"]);
    for extra in beside {
        assert!(fields.remove(*extra), "{name}: {extra}");
    }
    assert_eq!(
        fields,
        names(&written),
        "{name}: fields of the schema and of the struct"
    );
    assert_eq!(
        wrong(&document, schema, &written, name),
        Vec::<String>::new()
    );
    let required: BTreeSet<String> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|v| v.as_str().expect("a name").to_owned())
        .collect();
    for field in names(&full) {
        let mut without: Map<String, Value> = full.as_object().expect("an object").clone();
        without.remove(&field);
        let reads = serde_json::from_value::<T>(Value::Object(without));
        // What is read without a field but always written is required of answers all the same.
        let always = reads
            .ok()
            .map(|r| names(&serde_json::to_value(&r).expect("JSON")).contains(&field));
        match always {
            None => assert!(required.contains(&field), "{name}.{field} is required"),
            Some(false) => assert!(!required.contains(&field), "{name}.{field} is optional"),
            Some(true) => {}
        }
    }
}

fn owner() -> Value {
    json!({
        "session_id": "0123456789abcdef0123456789abcdef", "worker_id": "w", "status": "ready",
        "since": "t", "connected": true,
    })
}

fn session() -> Value {
    json!({
        "id": "0123456789abcdef0123456789abcdef", "status": "starting", "phase": "pairing",
        "body_ip": "10.0.0.1", "experience": "Moon", "district": "bxl1", "created_at": "t",
        "ready_at": "t", "connected": false, "viewers": 1, "disconnect_count": 0,
        "duration_ms": 5, "port": 8080, "stream_path": "/session/x", "end_reason": "quit",
        "detail": "d", "rating": 7, "mic": true, "stats": stats(),
    })
}

fn row() -> Value {
    let mut row = session();
    row["worker_id"] = "w".into();
    row["stream_url"] = "u".into();
    row
}

fn worker() -> Value {
    json!({
        "worker_id": "w", "url": "u", "public_url": "p", "district": "d", "version": "1",
        "process_id": "p", "status": "healthy", "active_sessions": 1, "max_sessions": 2,
        "wireguard": true, "last_heartbeat": "t", "drain_deadline": "t",
        "refuses": "the disk is full", "load": 0.5,
    })
}

fn health() -> Value {
    json!({
        "service": "hydraneckwebrtc", "version": "1", "district": "d", "uptime_seconds": 1,
        "status": "ok", "extra": {
            "mode": "worker", "wireguard": true, "active_sessions": 0, "max_sessions": 1,
            "process_id": "p", "uptime": "1s", "problems": ["p"],
        },
    })
}

fn stats() -> Value {
    json!({
        "connection_state": "connected", "ice_candidate_type": "relay", "disconnect_count": 1,
        "rtt_ms": 1.5, "bitrate_kbps": 2.5, "packets_lost": -1, "fps": 60.0,
    })
}

#[test]
fn the_shapes_have_the_fields_of_the_structs() {
    holds::<SessionView>("Session", session(), &["worker_id"]);
    holds::<PageStats>("PageStats", stats(), &[]);
    holds::<WorkerSessions>(
        "WorkerSessions",
        json!({"worker_id": "w", "sessions": [session()]}),
        &[],
    );
    holds::<CreateSession>(
        "CreateSession",
        json!({
            "body_ip": "10.0.0.1", "sunshine_user": "u", "sunshine_pass": "p", "experience": "e",
            "exe_path": "x", "district": "d", "app": "a", "wait": true, "takeover": true,
        }),
        &[],
    );
    holds::<SessionRow>("SessionRow", row(), &[]);
    let page =
        |rows: Value| json!({"total": 1, "matching": 1, "page": 0, "pages": 1, "rows": [rows]});
    holds::<Page<SessionRow>>("SessionPage", page(row()), &[]);
    holds::<Page<WorkerView>>("WorkerPage", page(worker()), &[]);
    holds::<Board>(
        "Board",
        json!({
            "now": "t", "health": health(), "problem_count": 1, "counts": {
                "healthy": 1, "draining": 1, "unhealthy": 1, "mics": 1, "viewers": 1, "sessions": {
                    "starting": 1, "ready": 1, "connected": 1, "lingering": 1, "ending": 1,
                },
            },
            "workers": page(worker()), "sessions": page(row()),
        }),
        &[],
    );
    holds::<Created>(
        "Created",
        json!({
            "session_id": "0123456789abcdef0123456789abcdef", "stream_url": "u", "worker_id": "w",
            "status": "ready",
        }),
        &[],
    );
    holds::<WorkerView>("Worker", worker(), &[]);
    holds::<Heartbeat>(
        "Heartbeat",
        json!({
            "worker_id": "w", "process_id": "p", "url": "u", "public_url": "p", "district": "d",
            "version": "1", "max_sessions": 2, "wireguard": true, "draining": false,
            "refuses": "the disk is full", "sequence": 1, "replaces": ["q"], "drain_ordered": true, "drain_deadline": "t",
            "sessions": [session()],
        }),
        &[],
    );
    holds::<HeartbeatReply>(
        "HeartbeatReply",
        json!({
            "heartbeat_interval_ms": 5000, "drain": true, "drain_deadline": "t",
            "drain_remaining_ms": 1,
        }),
        &[],
    );
    holds::<Health>("Health", health(), &[]);
    holds::<ErrorBody>(
        "Error",
        json!({"error": "e", "code": 404, "detail": "d", "reason": "r", "request_id": "i",
            "owner": owner()}),
        &[],
    );
}

#[test]
fn the_words_are_those_of_the_program() {
    let document = document();
    let schema = |name: &str| document["components"]["schemas"][name]["x-extensible-enum"].clone();
    let mut reasons: Vec<&str> = EndReason::ALL.map(EndReason::slug).into();
    reasons.sort_unstable();
    assert_eq!(schema("EndReason"), json!(reasons));
    for word in schema("Status").as_array().expect("words") {
        let status: Status = serde_json::from_value(word.clone()).expect("a status");
        assert!(!matches!(status, Status::Other(_)), "{status}");
    }
    for word in schema("Phase").as_array().expect("words") {
        let phase: Phase = serde_json::from_value(word.clone()).expect("a phase");
        assert!(!matches!(phase, Phase::Other(_)), "{phase}");
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_shape_is_used() {
    let document = document();
    let text = document.to_string();
    for name in document["components"]["schemas"]
        .as_object()
        .expect("schemas")
        .keys()
    {
        let reference = format!("\"#/components/schemas/{name}\"");
        assert!(text.contains(&reference), "{name} is not used");
    }
    for part in text.split("\"#").skip(1) {
        let pointer = part.split('"').next().expect("a pointer");
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}
