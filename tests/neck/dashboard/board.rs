//! What it shows.

use serde_json::{Value, json};

use super::*;

#[test]
fn a_board_of_ten_thousand_sessions_is_one_screenful() {
    let bench = Bench::new();
    let controller = bench.controller();
    let browser = Browser::signed_in(&controller);
    for w in 0..10 {
        let sessions: Vec<Value> = (0..1_000)
            .map(|n| {
                let status = if n % 10 == 0 { "ready" } else { "connected" };
                json!({
                    "id": format!("{w:016x}{n:016x}"), "status": status, "body_ip": format!("10.0.{w}.7"),
                    "created_at": format!("2026-01-01T{:02}:{:02}:{:02}Z", n / 3600, n / 60 % 60, n % 60),
                    "connected": true, "viewers": 1, "disconnect_count": 0, "duration_ms": 1, "port": 9,
                    "mic": false, "experience": if n == 500 { "Ünder <the> Sea" } else { "Moon" },
                    "stats": {"rtt_ms": f64::from(n)}, "stream_path": "/session/x",
                })
            })
            .collect();
        let beat = json!({
            "worker_id": format!("w{w}"), "process_id": "p", "url": "http://127.0.0.1:9",
            "public_url": "https://w.example/", "max_sessions": 1_000, "wireguard": true, "sessions": sessions,
        });
        let answer = controller.call("POST", "/api/v1/workers/heartbeat", Some(beat));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let board = |query: &str| {
        let target = format!("/admin/api/v1/board?{query}");
        let answer = browser.call(&controller, "GET", &target, None);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.body.len() < 64 * 1024, "{} bytes", answer.body.len());
        answer.json()
    };
    let all = board("");
    assert_eq!(all["counts"]["sessions"]["connected"], 9_000);
    assert_eq!(all["counts"]["viewers"], 10_000);
    let page = &all["sessions"];
    assert_eq!(
        (&page["total"], &page["matching"], &page["pages"]),
        (&json!(10_000), &json!(10_000), &json!(200))
    );
    assert_eq!(page["rows"].as_array().unwrap().len(), 50);
    assert_eq!(
        page["rows"][0]["created_at"], "2026-01-01T00:16:39Z",
        "the newest first"
    );
    assert_eq!(page["rows"][0]["stream_url"], "https://w.example/session/x");
    let found = board("session_filter=%C3%BCnder%20%3CTHE");
    assert_eq!(found["sessions"]["matching"], 10);
    let last = board("session_status=ready&session_order=-rtt&session_page=999");
    assert_eq!(
        (&last["sessions"]["matching"], &last["sessions"]["page"]),
        (&json!(1_000), &json!(19))
    );
    assert_eq!(last["sessions"]["rows"][49]["stats"]["rtt_ms"], 0.0);
    let three = board("session_filter=w3&worker_filter=W3");
    assert_eq!(
        (
            &three["sessions"]["matching"],
            &three["workers"]["matching"]
        ),
        (&json!(1_000), &json!(1))
    );
    for bad in [
        "session_order=x",
        "session_status=gone",
        "worker_page=-1",
        "session_page=x",
    ] {
        let target = format!("/admin/api/v1/board?{bad}");
        let answer = browser.call(&controller, "GET", &target, None);
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (400, "bad_request"),
            "{bad}"
        );
        let name = bad.split('=').next().unwrap();
        assert!(answer.text().contains(name), "{}", answer.text());
    }
}

#[test]
fn a_worker_says_where_the_dashboard_is() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    let answer = page(&worker, &[]);
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("controller"), "{}", answer.text());
    assert_eq!(sign_in(&worker, TOKEN).status, 404);
}
