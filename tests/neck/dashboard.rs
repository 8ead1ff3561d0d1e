//! The dashboard's door: what opens it, and what a page of the same origin must not get through.

use std::fs;

use serde_json::{Value, json};

use crate::support::*;

/// What a browser sends with a call of a page of this origin.
struct Browser {
    origin: String,
    cookie: String,
    proof: String,
}

/// What a browser says of a navigation by a person (Fetch Metadata).
const NAVIGATION: [(&str, &str); 3] = [
    ("Sec-Fetch-Site", "none"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
];
const JSON: (&str, &str) = ("Content-Type", "application/json");

fn origin(node: &Node) -> String {
    format!("http://{}", node.at)
}

fn sign_in(node: &Node, token: &str) -> Answer {
    let origin = origin(node);
    let fields = [JSON, ("Origin", &origin), ("Sec-Fetch-Site", "same-origin")];
    let body = json!({"token": token}).to_string();
    let target = "/admin/api/session";
    call(node.at, "POST", target, &fields, Some(body.as_bytes())).unwrap()
}

/// The cookie of an answer, as a browser sends it back.
fn cookie(answer: &Answer) -> String {
    let set = answer.field("set-cookie").expect("a cookie");
    set.split(';').next().unwrap().to_owned()
}

fn page(node: &Node, fields: &[(&str, &str)]) -> Answer {
    call(node.at, "GET", "/admin", fields, None).unwrap()
}

/// The value that the page holds under this name.
fn meta(page: &Answer, name: &str) -> Option<String> {
    let text = page.text();
    let (_, rest) = text.split_once(&format!("<meta name=\"{name}\" content=\""))?;
    Some(rest.split('"').next().unwrap().to_owned())
}

impl Browser {
    fn signed_in(node: &Node) -> Self {
        let answer = sign_in(node, TOKEN);
        assert_eq!(answer.status, 204, "{}", answer.text());
        let cookie = cookie(&answer);
        let mut fields = NAVIGATION.to_vec();
        fields.push(("Cookie", &cookie));
        let proof = meta(&page(node, &fields), "neck-proof").expect("a proof");
        Self {
            origin: origin(node),
            cookie,
            proof,
        }
    }

    /// The fields of a call, without those named.
    fn fields(&self, without: &[&str]) -> Vec<(&str, &str)> {
        let all = [
            JSON,
            ("Origin", self.origin.as_str()),
            ("Sec-Fetch-Site", "same-origin"),
            ("Cookie", self.cookie.as_str()),
            ("X-Neck-Proof", self.proof.as_str()),
        ];
        let keep = |(name, _): &(&str, &str)| !without.contains(name);
        all.into_iter().filter(keep).collect()
    }

    fn call(&self, node: &Node, method: &str, target: &str, body: Option<Value>) -> Answer {
        let body = body.map(|b| b.to_string());
        let body = body.as_ref().map(String::as_bytes);
        call(node.at, method, target, &self.fields(&[]), body).unwrap()
    }
}

#[test]
fn a_token_becomes_a_cookie_that_opens_the_dashboard_and_nothing_else() {
    let bench = Bench::new();
    let controller = bench.controller();
    for (token, status) in [("wrong", 401), ("", 401), (&TOKEN[1..], 401), (TOKEN, 204)] {
        let answer = sign_in(&controller, token);
        assert_eq!(answer.status, status, "{token:?}");
        assert_eq!(answer.field("set-cookie").is_some(), status == 204);
        assert_eq!(answer.field("cache-control"), Some("no-store"));
    }
    let set = sign_in(&controller, TOKEN);
    let set = set.field("set-cookie").unwrap();
    assert!(!set.contains(TOKEN), "{set}");
    let (_, flags) = set.split_once("; ").unwrap();
    let wanted = "Path=/admin; Max-Age=43200; HttpOnly; SameSite=Strict";
    assert_eq!(flags, wanted);
    // A proxy before us may end TLS: the browser's own word on it counts.
    let https = format!("https://{}", controller.at);
    let body = json!({"token": TOKEN}).to_string();
    let fields = [JSON, ("Origin", https.as_str())];
    let target = "/admin/api/session";
    let secure = call(
        controller.at,
        "POST",
        target,
        &fields,
        Some(body.as_bytes()),
    )
    .unwrap();
    let set = secure.field("set-cookie").unwrap();
    assert!(
        set.starts_with("__Secure-neck_admin=") && set.ends_with("; Secure"),
        "{set}"
    );

    let browser = Browser::signed_in(&controller);
    let board = browser.call(&controller, "GET", "/admin/api/v1/board", None);
    assert_eq!(board.status, 200, "{}", board.text());
    assert_eq!(board.field("cache-control"), Some("no-store"));
    assert_eq!(board.json()["workers"]["total"], 0);
    let listed = browser.call(&controller, "GET", "/admin/api/v1/workers", None);
    assert_eq!(listed.status, 200);
    // The API proper knows no cookies, and the dashboard no bearer tokens.
    let outside = browser.call(&controller, "GET", "/api/v1/workers", None);
    assert_eq!(outside.status, 401);
    let bearer = controller.call("GET", "/admin/api/v1/workers", None);
    assert_eq!(bearer.status, 401, "{}", bearer.text());
}

#[test]
fn a_call_needs_the_cookie_the_proof_and_our_own_origin() {
    let bench = Bench::new();
    let controller = bench.controller();
    let worker = json!({"worker_id": "w1", "process_id": "p1", "url": "http://127.0.0.1:9", "max_sessions": 3});
    let beat = controller.call("POST", "/api/v1/workers/heartbeat", Some(worker));
    assert_eq!(beat.status, 200);
    let browser = Browser::signed_in(&controller);
    let target = "/admin/api/v1/workers/w1/drain";
    let drain = |fields: &[(&str, &str)]| {
        let answer = call(controller.at, "POST", target, fields, Some(b"{}")).unwrap();
        (answer.status, answer.reason())
    };
    let with = |name: &'static str, value: &'static str| {
        let mut fields = browser.fields(&[name]);
        fields.push((name, value));
        drain(&fields)
    };
    let refused = |status: u16, reason: &str| (status, reason.to_owned());
    assert_eq!(
        drain(&browser.fields(&["Cookie"])),
        refused(401, "unauthorized")
    );
    assert_eq!(
        with("Cookie", "neck_admin=1.AAAA.AAAA"),
        refused(401, "unauthorized")
    );
    assert_eq!(
        drain(&browser.fields(&["X-Neck-Proof"])),
        refused(403, "forbidden")
    );
    assert_eq!(with("X-Neck-Proof", "AAAA"), refused(403, "forbidden"));
    let other = Browser::signed_in(&controller).proof;
    let mut fields = browser.fields(&["X-Neck-Proof"]);
    fields.push(("X-Neck-Proof", &other));
    assert_eq!(
        drain(&fields),
        refused(403, "forbidden"),
        "another pass's proof"
    );
    assert_eq!(
        drain(&browser.fields(&["Origin"])),
        refused(403, "forbidden_origin")
    );
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        assert_eq!(
            with("Origin", origin),
            refused(403, "forbidden_origin"),
            "{origin}"
        );
    }
    for site in ["cross-site", "same-site", "none"] {
        assert_eq!(
            with("Sec-Fetch-Site", site),
            refused(403, "forbidden_origin"),
            "{site}"
        );
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        assert_eq!(
            with("Content-Type", kind),
            refused(415, "unsupported_media_type"),
            "{kind}"
        );
    }
    assert_eq!(controller.get("/api/v1/workers")[0]["status"], "healthy");
    // What reads is no less closed: the list of sessions is the list of keys to them.
    let reads = browser.fields(&["X-Neck-Proof"]);
    for target in ["board", "sessions", "events", "workers"] {
        let target = format!("/admin/api/v1/{target}");
        assert_eq!(
            call(controller.at, "GET", &target, &reads, None)
                .unwrap()
                .status,
            403
        );
    }
    assert_eq!(drain(&browser.fields(&[])).0, 202);
    // A script of this origin may put cookies of the same name in front of ours.
    let tossed = format!("neck_admin=x; other=1; {}; neck_admin=", browser.cookie);
    let mut fields = browser.fields(&["Cookie"]);
    fields.push(("Cookie", &tossed));
    assert_eq!(drain(&fields).0, 202);
    let too_large = vec![b' '; 20_000];
    let answer = call(
        controller.at,
        "POST",
        target,
        &browser.fields(&[]),
        Some(&too_large),
    );
    assert_eq!(answer.unwrap().status, 413);
}

#[test]
fn only_a_window_of_its_own_gets_the_proof() {
    let bench = Bench::new();
    let controller = bench.controller();
    let browser = Browser::signed_in(&controller);
    let ask = |site, mode, dest| {
        page(
            &controller,
            &[
                ("Cookie", browser.cookie.as_str()),
                ("Sec-Fetch-Site", site),
                ("Sec-Fetch-Mode", mode),
                ("Sec-Fetch-Dest", dest),
            ],
        )
    };
    let shown = ask("same-origin", "navigate", "document");
    assert!(meta(&shown, "neck-proof").is_some());
    for (mode, dest) in [
        ("cors", "empty"),
        ("no-cors", "empty"),
        ("same-origin", "empty"),
        ("navigate", "iframe"),
        ("navigate", "frame"),
        ("navigate", "object"),
        ("navigate", "embed"),
        ("no-cors", "script"),
    ] {
        let answer = ask("same-origin", mode, dest);
        assert_eq!(answer.status, 403, "{mode} {dest}");
        assert_eq!(meta(&answer, "neck-proof"), None);
    }
    let policy = shown.field("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let again = ask("same-origin", "navigate", "document");
    assert_ne!(
        again.field("content-security-policy"),
        Some(policy),
        "a nonce is used once"
    );
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(shown.field(name), Some(value), "{name}");
    }
    // Who comes from elsewhere brings no strict cookie: the form asks once more from here.
    let linked = page(&controller, &[("Sec-Fetch-Site", "cross-site")]);
    assert_eq!(meta(&linked, "neck-again").as_deref(), Some("yes"));
    let typed = page(&controller, &[("Sec-Fetch-Site", "none")]);
    assert_eq!(meta(&typed, "neck-again").as_deref(), Some("no"));
    let html = shown.text();
    assert!(!html.contains(" style=") && !html.contains(" onclick="));
    assert_eq!(
        html.matches("<script").count(),
        html.matches("<script src=").count()
    );
}

#[test]
fn a_pass_outlives_a_restart_but_neither_its_end_nor_its_token() {
    let bench = Bench::new();
    let mut controller = bench.controller();
    let browser = Browser::signed_in(&controller);
    let looks = |node: &Node, browser: &Browser| {
        browser
            .call(node, "GET", "/admin/api/v1/board", None)
            .status
    };
    controller.kill();
    controller.restart();
    assert_eq!(looks(&controller, &browser), 200);

    let other = Browser::signed_in(&controller);
    let out = browser.call(&controller, "DELETE", "/admin/api/session", None);
    assert_eq!(out.status, 204);
    let cleared = out.field("set-cookie").unwrap();
    assert!(
        cleared.starts_with("neck_admin=; Path=/admin; Max-Age=0"),
        "{cleared}"
    );
    assert_eq!(
        looks(&controller, &browser),
        401,
        "a copy of the cookie is worthless"
    );
    assert_eq!(looks(&controller, &other), 200, "others stay");

    controller.stop();
    controller.config["server"]["admin_token"] = "another-token".into();
    controller.restart();
    assert_eq!(looks(&controller, &other), 401);
}

#[test]
fn wrong_tokens_are_slowed_down_and_the_right_one_waits_with_them() {
    let bench = Bench::new();
    let controller = bench.controller();
    let mut tries = 0;
    let refused = loop {
        let answer = sign_in(&controller, "guess");
        if answer.status == 429 {
            break answer;
        }
        assert_eq!(answer.status, 401);
        tries += 1;
        assert!(tries < 100, "guesses go on and on");
    };
    let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=15).contains(&wait), "{wait}");
    assert_eq!(sign_in(&controller, TOKEN).status, 429);
    // The API is not locked with it.
    assert_eq!(controller.get("/api/v1/workers"), json!([]));
}

#[test]
fn the_audit_names_the_cookie_and_never_the_token() {
    let bench = Bench::new();
    let file = std::env::temp_dir().join(format!("neck-audit-{}", std::process::id()));
    let controller = bench.controller_with(json!({"log": {"audit_file": file}}));
    sign_in(&controller, "guess-that-is-secret");
    let browser = Browser::signed_in(&controller);
    browser.call(
        &controller,
        "POST",
        "/admin/api/v1/workers/none/drain",
        Some(json!({})),
    );
    let unproven = browser.fields(&["X-Neck-Proof"]);
    let target = "/admin/api/v1/sessions";
    call(controller.at, "POST", target, &unproven, Some(b"{}")).unwrap();
    browser.call(&controller, "DELETE", "/admin/api/session", None);
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let told: Vec<[&str; 4]> = lines
        .iter()
        .map(|l| ["who", "method", "path", "result"].map(|k| l[k].as_str().unwrap()))
        .collect();
    let cookie = "admin_token via cookie";
    assert_eq!(
        told,
        [
            ["nobody", "POST", "/admin/api/session", "unauthorized"],
            [cookie, "POST", "/admin/api/session", "ok"],
            [
                cookie,
                "POST",
                "/admin/api/v1/workers/none/drain",
                "not_found"
            ],
            ["nobody", "POST", "/admin/api/v1/sessions", "forbidden"],
            [cookie, "DELETE", "/admin/api/session", "ok"],
        ]
    );
    let secrets = [
        TOKEN,
        "guess-that-is-secret",
        &browser.proof,
        &browser.cookie,
    ];
    let log = controller.log();
    for secret in secrets {
        assert!(!text.contains(secret) && !log.contains(secret), "{secret}");
    }
}

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

#[test]
fn what_a_visitor_sends_brings_no_cookie_of_the_dashboard_to_a_worker() {
    let bench = Bench::new();
    let controller = bench.controller();
    let link = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", link.local_addr().unwrap());
    let id = "0123456789abcdef0123456789abcdef";
    let beat = json!({
        "worker_id": "w1", "process_id": "p", "url": url, "max_sessions": 3,
        "sessions": [{
            "id": id, "status": "connected", "body_ip": "10.0.0.7", "created_at": "2026-01-01T00:00:00Z",
            "connected": true, "viewers": 1, "disconnect_count": 0, "duration_ms": 1, "port": 9, "mic": false,
        }],
    });
    assert_eq!(
        controller
            .call("POST", "/api/v1/workers/heartbeat", Some(beat))
            .status,
        200
    );
    let browser = Browser::signed_in(&controller);
    let seen = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut socket, _) = link.accept().unwrap();
        let mut head = Vec::new();
        let mut piece = [0; 1024];
        while !head.windows(4).any(|w| w == b"\r\n\r\n") {
            let n = socket.read(&mut piece).unwrap();
            assert!(n > 0);
            head.extend_from_slice(&piece[..n]);
        }
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\nService-Worker-Allowed: /\r\nClear-Site-Data: \"*\"\r\nCross-Origin-Opener-Policy: same-origin\r\nConnection: close\r\n\r\nok";
        socket.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&head).into_owned()
    });
    let cookies = format!("{}; mlSession=abc", browser.cookie);
    let fields = [
        ("Cookie", cookies.as_str()),
        ("X-Neck-Proof", &browser.proof),
    ];
    let answer = call(
        controller.at,
        "GET",
        &format!("/session/{id}/x.txt"),
        &fields,
        None,
    )
    .unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    let head = seen.join().unwrap();
    assert!(
        head.contains("mlSession=abc") && !head.contains("neck_admin"),
        "{head}"
    );
    for name in [
        "service-worker-allowed",
        "clear-site-data",
        "cross-origin-opener-policy",
    ] {
        assert_eq!(answer.field(name), None, "{name}");
    }
}
