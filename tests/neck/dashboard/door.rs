//! Its door: what opens it, and for how long.

use std::fs;

use serde_json::{Value, json};

use super::*;

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
fn wrong_tokens_are_slowed_down_and_the_right_one_is_accepted_all_the_same() {
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
    // Whoever failed before from this address: the right token is no guess.
    assert_eq!(sign_in(&controller, TOKEN).status, 204);
    // The API is not locked either.
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
