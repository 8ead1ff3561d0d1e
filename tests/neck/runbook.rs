//! The runbook's commands, with curl and jq where they are installed, against both roles.

use std::process::Command;

use hydraneckwebrtc::testing::has;
use serde_json::{Value, json};

use crate::support::*;

/// What an operator sees of a command; `None` where the tools are missing.
fn shell(command: &str) -> Option<String> {
    let is_there = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    if !has("curl and jq", is_there("curl") && is_there("jq")) {
        return None;
    }
    let done = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(
        done.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Some(String::from_utf8(done.stdout).unwrap())
}

const QUICK_CHECK: &str = r#"{status: .status, wireguard: .extra.wireguard, sessions: "\(.extra.active_sessions)/\(.extra.max_sessions)", process_id: .extra.process_id, uptime: .extra.uptime}"#;

#[test]
fn the_runbooks_commands_work_against_both_roles() {
    let bench = Bench::new();
    let controller = bench.controller();
    let worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    let auth = format!("-H 'Authorization: Bearer {TOKEN}'");
    for node in [&controller, &worker] {
        let base = format!("http://{}/api/v1", node.at);
        let Some(health) = shell(&format!("curl -sf {base}/health | jq .")) else {
            return;
        };
        let health: Value = serde_json::from_str(&health).unwrap();
        for field in ["service", "version", "district", "uptime_seconds", "status"] {
            assert!(!health[field].is_null(), "{field}: {health}");
        }
        let check = shell(&format!("curl -sf {base}/health | jq '{QUICK_CHECK}'")).unwrap();
        let check: Value = serde_json::from_str(&check).unwrap();
        assert_eq!(check["sessions"], "0/15");
        assert!(check["wireguard"].is_boolean(), "{check}");
        for field in ["status", "process_id", "uptime"] {
            assert!(
                check[field].as_str().is_some_and(|text| !text.is_empty()),
                "{check}"
            );
        }
        let body =
            r#"{"body_ip":"127.0.0.1","sunshine_user":"sunshine","sunshine_pass":"sunshine"}"#;
        let created = shell(&format!(
            "curl -s -X POST {auth} -H 'Content-Type: application/json' -d '{body}' {base}/sessions"
        ));
        let created: Value = serde_json::from_str(&created.unwrap()).unwrap();
        let id = created["session_id"].as_str().unwrap();
        let stream = created["stream_url"].as_str().unwrap();
        assert!(
            stream.starts_with(&format!("http://{}/session/{id}/", node.at)),
            "{created}"
        );
        let page = shell(&format!("curl -sf '{stream}'")).unwrap();
        assert!(page.contains("_neck/"), "the script is injected: {page}");
        until("the session to be listed as ready", || {
            node.sessions().iter().any(|s| s["status"] == "ready")
        });
        let path = if node.at == controller.at {
            ".[].sessions[]?"
        } else {
            ".[]"
        };
        let filter = format!("{path} | {{id: .id[0:8], status}}");
        let listed = shell(&format!(
            "curl -s {auth} {base}/sessions | jq -c '{filter}'"
        ));
        let expected = format!("{{\"id\":\"{}\",\"status\":\"ready\"}}\n", &id[..8]);
        assert_eq!(listed.unwrap(), expected);
        let code = "-o /dev/null -w '%{http_code}'";
        let deleted = shell(&format!(
            "curl -s {code} -X DELETE {auth} {base}/sessions/{id}"
        ));
        assert_eq!(deleted.unwrap(), "204");
        until("the list to be empty", || controller.sessions().is_empty());
    }
    let workers = shell(&format!(
        "curl -s {auth} http://{}/api/v1/workers",
        controller.at
    ));
    let workers: Value = serde_json::from_str(&workers.unwrap()).unwrap();
    assert_eq!(workers[0]["worker_id"], "w1");
}

#[test]
fn the_units_that_the_runbook_copies_start_the_roles_with_roots_configuration() {
    let scripts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    for (unit, role) in [
        ("hydraneckwebrtc.service", "worker"),
        ("hydraneckwebrtc-controller.service", "controller"),
    ] {
        let text = std::fs::read_to_string(scripts.join(unit)).unwrap();
        let start = format!("\nExecStart=/usr/local/bin/hydraneckwebrtc {role}\n");
        for line in [
            start.as_str(),
            "\nUser=root\n",
            "\nWantedBy=multi-user.target\n",
        ] {
            assert!(text.contains(line), "{unit}:{line}");
        }
        assert!(!text.contains("Requires="), "{unit} needs nothing else");
    }
}

#[test]
fn a_colocated_worker_listens_inside_its_own_range_and_browsers_come_through_the_controller() {
    let bench = Bench::new();
    let controller = bench.controller();
    let first = ports(16);
    let own = first + 10;
    let worker = bench.worker(
        "w1",
        Some(&controller),
        json!({
            "server": {"listen": format!(":{own}")},
            "worker": {"url": null},
            "sessions": {"port_range_start": first, "max": 15},
        }),
    );
    controller.is_warm();
    let url = controller.get("/api/v1/workers")[0]["url"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(url, format!("http://127.0.0.1:{own}"));
    let answer = controller.create();
    assert_eq!(answer.status, 201, "{}", answer.text());
    let stream = answer.json()["stream_url"].as_str().unwrap().to_owned();
    let path = stream
        .strip_prefix(&format!("http://{}", controller.at))
        .expect(&stream);
    let page = controller.browse("GET", path, None);
    assert_eq!(page.status, 200);
    assert!(page.text().contains("<script"), "{}", page.text());
    for _ in 1..15 {
        controller.session();
    }
    let taken: Vec<u64> = worker
        .sessions()
        .iter()
        .map(|s| s["port"].as_u64().unwrap())
        .collect();
    assert_eq!(taken.len(), 15);
    assert!(!taken.contains(&own.into()), "{taken:?}");
}
