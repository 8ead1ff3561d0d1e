//! What a log collector gets: JSON lines, and one request id through both roles.

use serde_json::{Value, json};

use crate::support::*;

/// The lines of a log that carry this request's id.
fn of_request(log: &str, id: &str) -> Vec<Value> {
    let lines = log.lines().map(serde_json::from_str::<Value>);
    let lines = lines.map(|l| l.expect("each line is a JSON object"));
    lines.filter(|l| l["request_id"] == id).collect()
}

#[test]
fn one_request_id_is_in_the_lines_of_controller_and_worker() {
    let bench = Bench::new();
    let json_lines = json!({"log": {"format": "json"}});
    let controller = bench.controller_with(json_lines.clone());
    let worker = bench.worker("w1", Some(&controller), json_lines);
    controller.is_warm();
    let body = json!({"body_ip": "127.0.0.1"});
    let id = [("X-Request-Id", "ticket-7")];
    let made = controller.call_with("POST", "/api/v1/sessions", &id, Some(body));
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.field("x-request-id"), Some("ticket-7"));
    let session = &made.json()["session_id"];
    for (node, target, says) in [
        (&controller, "controller", "placing a session"),
        (&worker, "worker", "admitted"),
    ] {
        let (lines, audit) = {
            let all = of_request(&node.log(), "ticket-7").into_iter();
            all.partition::<Vec<_>, _>(|l| l["target"] != "audit")
        };
        let line = lines.iter().find(|l| l["target"] == target);
        let line = line.unwrap_or_else(|| panic!("no line of {target}: {lines:?}"));
        let said = line["message"].as_str().unwrap();
        assert!(said.starts_with(says), "{line}");
        assert_eq!(line["level"], "info");
        assert_eq!(audit.len(), 1, "{audit:?}");
        assert_eq!(audit[0]["audit"]["status"], 201);
        if target == "worker" {
            assert_eq!(&line["session"], session);
        }
    }
}
