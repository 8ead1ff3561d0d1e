//! What the API is sent that it must not take, and odd things that it must.

use serde_json::{Value, json};

use crate::support::*;

#[test]
fn only_the_right_token_opens_the_api() {
    let bench = Bench::new();
    let controller = bench.controller();
    let worker = bench.worker("w1", Some(&controller), json!({}));
    let right = format!("Bearer {TOKEN}");
    let lower = format!("bearer {TOKEN}");
    let half = &right[..right.len() - 1];
    let long = format!("{right}x");
    let upper = format!("Bearer {}", TOKEN.to_uppercase());
    for node in [&controller, &worker] {
        let ask = |target: &str, value: Option<&str>| {
            let fields: Vec<_> = value.iter().map(|v| ("Authorization", *v)).collect();
            call(node.at, "GET", target, &fields, None).unwrap()
        };
        for target in ["/api/v1/sessions", "/api/v1/events", "/api/v1/sessions/x"] {
            for value in [
                None,
                Some("Bearer wrong"),
                Some(half),
                Some(&long),
                Some(&upper),
                Some("Bearer "),
                Some("Basic eDp5"),
            ] {
                let answer = ask(target, value);
                assert_eq!(answer.status, 401, "{target} {value:?}");
                assert_eq!(answer.reason(), "unauthorized");
                assert_eq!(answer.field("www-authenticate"), Some("Bearer"));
            }
            let in_the_query = format!("{target}?token={TOKEN}&access_token={TOKEN}");
            assert_eq!(ask(&in_the_query, None).status, 401);
        }
        // The scheme's name is case-insensitive (RFC 9110 section 11.1).
        assert_eq!(ask("/api/v1/sessions", Some(&lower)).status, 200);
        assert_eq!(ask("/api/v1/health", None).status, 200);
    }
    for method in ["POST", "DELETE"] {
        let answer = call(worker.at, method, "/api/v1/sessions", &[], Some(b"{}")).unwrap();
        assert!(
            matches!(answer.status, 401 | 405),
            "{method} {}",
            answer.status
        );
    }
}

#[test]
fn an_empty_token_refuses_to_start() {
    let bench = Bench::new();
    for role in ["controller", "worker"] {
        let mut config = bench.worker_config("w1", None, json!({}));
        config["server"]["admin_token"] = "".into();
        config.as_object_mut().unwrap().remove("mode");
        let file = bench.dir.join("empty.yaml");
        std::fs::write(&file, config.to_string()).unwrap();
        let done = std::process::Command::new(BINARY)
            .args([role, "--config", file.to_str().unwrap()])
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(78));
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(said.contains("admin_token"), "{said}");
    }
}

#[test]
fn a_create_that_is_wrong_is_answered_with_the_field_and_makes_nothing() {
    let bench = Bench::new();
    let controller = bench.controller();
    let worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    let rows: &[(&str, u16, &str)] = &[
        ("", 400, "invalid JSON"),
        ("{", 400, "invalid JSON"),
        ("[]", 400, ""),
        (
            r#"["127.0.0.1",null,null,null,null,null,null,true]"#,
            400,
            "list",
        ),
        ("null", 400, ""),
        ("{} {}", 400, ""),
        ("{}", 400, "body_ip"),
        (r#"{"body_ip":7}"#, 400, "body_ip"),
        (r#"{"body_ip":null}"#, 400, "body_ip"),
        (r#"{"body_ip":"127.0.0.1","boddy":1}"#, 400, "boddy"),
        (r#"{"body_ip":"127.0.0.1","wait":"yes"}"#, 400, "wait"),
        (
            r#"{"body_ip":"127.0.0.1","experience":7}"#,
            400,
            "experience",
        ),
        (
            r#"{"body_ip":"127.0.0.1","body_ip":"127.0.0.1"}"#,
            400,
            "body_ip",
        ),
        (r#"{"body_ip":"body.example"}"#, 400, "body_ip"),
        (r#"{"body_ip":"localhost"}"#, 400, "body_ip"),
        (r#"{"body_ip":"127.0.0.1:80"}"#, 400, "body_ip"),
        (r#"{"body_ip":"127.1"}"#, 400, "body_ip"),
        (r#"{"body_ip":"2130706433"}"#, 400, "body_ip"),
        (r#"{"body_ip":"0.0.0.0"}"#, 400, "body_ip"),
        (r#"{"body_ip":"127.0.0.2"}"#, 400, "body_ip"),
        (r#"{"body_ip":"::1"}"#, 400, "body_ip"),
        (r#"{"body_ip":"169.254.1.1"}"#, 400, "body_ip"),
        (r#"{"body_ip":"169.254.169.254"}"#, 400, "body_ip"),
        (r#"{"body_ip":"224.0.0.1"}"#, 400, "body_ip"),
        (r#"{"body_ip":"255.255.255.255"}"#, 400, "body_ip"),
        (r#"{"body_ip":"::ffff:169.254.169.254"}"#, 400, "body_ip"),
        (r#"{"body_ip":"fe80::1"}"#, 400, "body_ip"),
        (r#"{"body_ip":"8.8.8.8"}"#, 400, "body_ip"),
        (r#"{"body_ip":"10.1.2.3"}"#, 400, "body_ip"),
    ];
    let bearer = format!("Bearer {TOKEN}");
    for node in [&controller, &worker] {
        for (body, status, names) in rows {
            let fields = [
                ("Authorization", bearer.as_str()),
                ("Content-Type", "application/json"),
            ];
            let answer = call(
                node.at,
                "POST",
                "/api/v1/sessions",
                &fields,
                Some(body.as_bytes()),
            )
            .unwrap();
            assert_eq!(answer.status, *status, "{body}: {}", answer.text());
            let error = answer.json();
            assert_eq!(error["code"], *status);
            assert!(
                error["error"].as_str().unwrap().contains(names),
                "{body}: {error}"
            );
            assert_eq!(answer.field("x-request-id"), error["request_id"].as_str());
        }
        let wish = br#"{"body_ip":"127.0.0.1"}"#;
        for kind in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
        ] {
            let mut fields = vec![("Authorization", bearer.as_str())];
            fields.extend(kind.map(|k| ("Content-Type", k)));
            let answer = call(node.at, "POST", "/api/v1/sessions", &fields, Some(wish)).unwrap();
            assert_eq!(
                (answer.status, answer.reason().as_str()),
                (415, "unsupported_media_type"),
                "{kind:?}"
            );
        }
        let large = format!(
            r#"{{"body_ip":"127.0.0.1","app":"{}"}}"#,
            "x".repeat(1024 * 1024)
        );
        let fields = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
        ];
        let answer = call(
            node.at,
            "POST",
            "/api/v1/sessions",
            &fields,
            Some(large.as_bytes()),
        )
        .unwrap();
        assert_eq!(answer.status, 413, "{}", answer.text());
    }
    assert!(worker.sessions().is_empty());
    worker.has_nothing_left();
    // Allowed addresses in an unusual form are taken for what they are.
    let mapped = controller.call(
        "POST",
        "/api/v1/sessions",
        Some(json!({"body_ip": "::ffff:127.0.0.1"})),
    );
    assert_eq!(mapped.status, 201, "{}", mapped.text());
}

#[test]
fn a_path_of_an_executable_is_data_and_nothing_else() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    let marker = bench.dir.join("marker");
    for path in [
        r#"C:\Program Files\"My" Game\game.exe"#.to_owned(),
        format!(
            "C:\\x\n$(touch {m})`touch {m}`;touch {m}",
            m = marker.display()
        ),
        "C:\\Spiele\\Mönd–Fährt 月.exe".to_owned(),
    ] {
        let id = worker.session_with(json!({"exe_path": path, "experience": "A \"moon\""}));
        let launched: Vec<String> = bench
            .body
            .calls()
            .into_iter()
            .filter(|c| c.call.contains("/launch"))
            .map(|c| c.body)
            .collect();
        let last: serde_json::Value = serde_json::from_str(launched.last().unwrap()).unwrap();
        assert!(
            last.as_object()
                .unwrap()
                .values()
                .any(|v| *v == json!(path)),
            "{last}"
        );
        assert_eq!(worker.delete(&id), 204);
        until("the experience to be stopped", || {
            bench
                .body
                .calls()
                .iter()
                .filter(|c| c.call.contains("/api/v1/stop"))
                .count()
                == launched.len()
        });
    }
    assert!(!marker.exists());
    let too_long = worker.create_with(json!({"exe_path": "x".repeat(40_000)}));
    assert_eq!(too_long.status, 400);
}

#[test]
fn browsers_of_other_origins_and_wrong_values_are_refused() {
    let bench = Bench::new();
    let controller = bench.controller();
    let worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    let id = controller.session();
    let own = format!("http://{}", worker.at);
    for (inner, body) in [
        ("quit", ""),
        ("rating", r#"{"score":5}"#),
        ("stats", "{}"),
        ("mic/offer", "{}"),
    ] {
        let target = format!("/session/{id}/{inner}");
        for origin in [
            "http://evil.example",
            "null",
            "https://",
            &format!("{own}.evil.example"),
            &format!("http://evil.example/{own}"),
        ] {
            let fields = [("Origin", origin), ("Content-Type", "application/json")];
            let answer = call(worker.at, "POST", &target, &fields, Some(body.as_bytes())).unwrap();
            assert_eq!(
                (answer.status, answer.reason().as_str()),
                (403, "forbidden_origin"),
                "{inner} {origin}"
            );
        }
    }
    let rate = |body: &str| {
        let fields = [
            ("Origin", own.as_str()),
            ("Content-Type", "application/json"),
        ];
        call(
            worker.at,
            "POST",
            &format!("/session/{id}/rating"),
            &fields,
            Some(body.as_bytes()),
        )
        .unwrap()
        .status
    };
    for wrong in [
        r#"{"score":0}"#,
        r#"{"score":11}"#,
        r#"{"score":"5"}"#,
        r#"{"score":5.5}"#,
        r#"{"score":-1}"#,
        r#"{"score":5,"x":1}"#,
        "{}",
        "",
    ] {
        assert_eq!(rate(wrong), 400, "{wrong}");
    }
    assert_eq!(rate(r#"{"score":1}"#), 204);
    assert_eq!(rate(r#"{"score":10}"#), 204);
    assert_eq!(worker.view(&id)["rating"], 10, "the last one counts");
    let stats = |body: String| {
        worker.browse(
            "POST",
            &format!("/session/{id}/stats"),
            Some(serde_json::from_str(&body).unwrap()),
        )
    };
    let flood: Vec<u16> = (0..10)
        .map(|_| stats(r#"{"rtt_ms":12.5}"#.into()).status)
        .collect();
    assert_eq!(flood[0], 204);
    assert!(flood.contains(&429), "{flood:?}");
    let wide = json!({"connection_state": "x".repeat(5_000)}).to_string();
    assert_eq!(stats(wide).status, 413);
    for wrong in [
        r#"{"rtt_ms":-1}"#,
        r#"{"bitrate_kbps":-0.5}"#,
        r#"{"fps":-30}"#,
        r#"{"disconnect_count":-1}"#,
        r#"["connected"]"#,
    ] {
        assert_eq!(stats(wrong.into()).status, 400, "{wrong}");
    }
    let strange = r#"{"connection_state":"<script>","ice_candidate_type":"evil","rtt_ms":7}"#;
    until("the digest to be taken", || {
        stats(strange.into()).status == 204
    });
    assert_eq!(
        worker.view(&id)["stats"],
        json!({"rtt_ms": 7.0}),
        "words that no browser has go nowhere"
    );
    let garbage = [
        (json!({"type": "offer", "sdp": "garbage"}).to_string(), 400),
        (json!({"type": "answer", "sdp": "v=0\r\n"}).to_string(), 400),
        (
            json!({"type": "offer", "sdp": "x".repeat(100_000)}).to_string(),
            413,
        ),
    ];
    for (offer, status) in garbage {
        let answer = worker.browse(
            "POST",
            &format!("/session/{id}/mic/offer"),
            Some(serde_json::from_str(&offer).unwrap()),
        );
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    assert_eq!(
        worker.view(&id)["status"],
        "ready",
        "nothing of this ended it"
    );
}

#[test]
fn a_heartbeat_that_says_nonsense_harms_nobody() {
    let bench = Bench::new();
    let controller = bench.controller();
    let _worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    let beat = |worker: &str, process: &str| {
        let beat = json!({
            "worker_id": worker, "process_id": process, "max_sessions": usize::MAX,
            "drain_ordered": true, "drain_deadline": "garbage",
        });
        controller.call("POST", "/api/v1/workers/heartbeat", Some(beat))
    };
    let long = "x".repeat(65);
    for (worker, process) in [
        ("", "p"),
        ("v", ""),
        ("v\n[audit] {}", "p"),
        (&long, "p"),
        ("v", &long),
        ("a/b", "p"),
        ("..", "p"),
        ("v\u{202e}", "p"),
        ("v\u{200b}", "p"),
        ("v", "p q"),
    ] {
        let answer = beat(worker, process);
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (400, "bad_request"),
            "{worker:?} {process:?}"
        );
    }
    assert_eq!(beat("v", "p").status, 200);
    let health = controller.get("/api/v1/health");
    assert_eq!(health["extra"]["max_sessions"], usize::MAX);
    assert_eq!(controller.create().status, 201);
}

#[test]
fn a_heartbeat_is_refused_for_a_url_or_name_that_nobody_could_use() {
    let bench = Bench::new();
    let controller = bench.controller();
    let beat = |field: &str, value: Value| {
        let mut beat = json!({
            "worker_id": "v", "process_id": "p", "url": "http://127.0.0.1:9", "max_sessions": 1,
        });
        beat[field] = value;
        controller.call("POST", "/api/v1/workers/heartbeat", Some(beat))
    };
    let long = "x".repeat(65);
    for (field, wrong) in [
        ("url", json!("http://[::1")),
        ("url", json!("ftp://worker")),
        ("url", json!("http://user:word@worker")),
        ("url", json!("http://wor\nker")),
        ("public_url", json!("javascript:alert(1)")),
        ("public_url", json!("https://a\u{202e}b")),
        ("public_url", json!("")),
        ("district", json!("a/b")),
        ("district", json!(long)),
        ("version", json!("1.0\u{2066}")),
        ("version", json!("1 0")),
        ("replaces", json!(["p", "a\nb"])),
    ] {
        let answer = beat(field, wrong.clone());
        let text = answer.text().to_owned();
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (400, "bad_request"),
            "{field} {wrong}: {text}"
        );
        assert!(text.contains(field), "{text}");
        assert!(!text.contains("word@"), "{text}");
    }
    assert_eq!(controller.get("/api/v1/workers"), json!([]));
    for (field, right) in [
        ("url", json!("")),
        ("url", json!("https://[2001:db8::1]:8443/neck")),
        ("public_url", json!("https://xn--bcher-kva.example")),
        ("district", json!("")),
        ("version", json!("0.2.0-rc.1+abc")),
    ] {
        let answer = beat(field, right.clone());
        assert_eq!(answer.status, 200, "{field} {right}: {}", answer.text());
    }
}

#[test]
fn a_drains_deadline_is_a_time_that_can_be_written() {
    let bench = Bench::new();
    let controller = bench.controller();
    let worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    for (node, target) in [
        (&controller, "/api/v1/workers/w1/drain"),
        (&worker, "/api/v1/drain"),
    ] {
        for wrong in ["yesterday", "", "-1s", "9000years", "18446744073709551615s"] {
            let answer = node.call("POST", target, Some(json!({"deadline": wrong})));
            assert_eq!(
                (answer.status, answer.reason().as_str()),
                (400, "bad_request"),
                "{wrong}: {}",
                answer.text()
            );
        }
        for right in ["1h", "1000years", "9999-12-31T23:59:59Z"] {
            let answer = node.call("POST", target, Some(json!({"deadline": right})));
            assert_eq!(answer.status, 202, "{right}: {}", answer.text());
        }
        assert_eq!(node.call("DELETE", target, None).status, 204);
    }
}

#[test]
fn without_a_list_of_networks_the_machine_itself_is_no_body() {
    let bench = Bench::new();
    let mut config = bench.worker_config("w1", None, json!({}));
    config["bodies"]
        .as_object_mut()
        .unwrap()
        .remove("allowed_networks");
    let worker = bench.start_worker("w1", config);
    // The address that leads elsewhere, if there is one; nothing is sent.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = probe
        .connect("192.0.2.1:9")
        .and_then(|()| probe.local_addr());
    let own = own.map_or("127.0.0.1".to_owned(), |a| a.ip().to_string());
    for address in ["127.0.0.1", "169.254.169.254", &own] {
        let wish = json!({"body_ip": address});
        let answer = worker.call("POST", "/api/v1/sessions", Some(wish));
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (400, "forbidden_address"),
            "{address}: {}",
            answer.text()
        );
    }
}
