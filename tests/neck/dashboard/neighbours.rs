//! What a page of the same origin must not get through, and what a worker must not see.

use serde_json::json;

use super::*;

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
    let mut ahead = NAVIGATION.to_vec();
    ahead.extend([
        ("Cookie", browser.cookie.as_str()),
        ("Sec-Purpose", "prefetch;prerender"),
    ]);
    assert_eq!(
        page(&controller, &ahead).status,
        403,
        "fetched ahead by a page"
    );
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
