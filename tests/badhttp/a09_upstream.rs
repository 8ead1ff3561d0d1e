//! A9: whatever the stream program answers, browsers get one whole, honest answer or a clear end.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use crate::client::{self, Response, connect, latin1};
use crate::program::Act;
use crate::rig::rig;

/// What the stream program does when it is asked for `scripted/<name>/`.
pub(crate) fn script(name: &str) -> Vec<Act> {
    let send = |text: &str| Act::Send(text.chars().map(|c| c as u8).collect());
    let once = |text: &str| vec![send(text)];
    let last = |text: &str| vec![send(text), Act::Close];
    let wait = |ms: u64| Act::Wait(Duration::from_millis(ms));
    let html = |lines: &str, page: &str| {
        once(&format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html{lines}\r\nContent-Length: {}\r\n\r\n{page}",
            page.chars().count()
        ))
    };
    let big = format!("X-Big: {}\r\n", "b".repeat(100_000));
    match name {
        "no-date" => once("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        "until-close" => last("HTTP/1.1 200 OK\r\n\r\nuntil close"),
        "interim" => once(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ),
        "interim-only" => once(&"HTTP/1.1 102 Processing\r\n\r\n".repeat(20)),
        "head" => once("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"),
        "204-body" => last("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nbody"),
        "304-body" => {
            last("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\nETag: \"e\"\r\n\r\nbody")
        }
        "too-short" => last("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
        "too-long" => vec![send(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        )],
        "too-long-later" => vec![
            send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            wait(50),
            send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
        ],
        "bad-chunk" => {
            last("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n")
        }
        "cut-chunk" => last("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"),
        "bare-lf" => {
            last("HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: evil=1\r\nContent-Length: 2\r\n\r\nok")
        }
        "bare-cr" => last("HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok"),
        "obs-fold" => last("HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok"),
        "two-lengths" => {
            last("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\noky")
        }
        "te-and-cl" => last(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        "big-header" => last(&format!(
            "HTTP/1.1 200 OK\r\n{big}Content-Length: 2\r\n\r\nok"
        )),
        "no-http" => last("SSH-2.0-OpenSSH_9\r\n\r\n"),
        "drop" => vec![Act::Close],
        "reset" => vec![Act::Reset],
        "reset-mid-body" => vec![
            send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
            wait(50),
            Act::Reset,
        ],
        "silent" => vec![wait(40_000)],
        "gzip" => html("\r\nContent-Encoding: gzip", "\x1f\u{8b}<head>not html"),
        "brotli" => html("\r\nContent-Encoding: br", "<head>not html"),
        "html" => html(
            "; charset=utf-8\r\nETag: \"e\"\r\nLast-Modified: x\r\nAccept-Ranges: bytes",
            "<!doctype html><html><head><title>t</title></head><body>x</body></html>",
        ),
        "html-no-head" => html("", "<!doctype html><title>t</title><p>x"),
        "html-latin1" => html("; charset=iso-8859-1", "<head></head>caf\u{e9}"),
        "html-utf16" => html("; charset=utf-16le", "<\0h\0e\0a\0d\0>\0"),
        "html-utf16-bom" => html("", "\u{ff}\u{fe}<\0h\0e\0a\0d\0>\0"),
        "html-until-close" => {
            last("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<head></head>x")
        }
        "html-empty" => html("", ""),
        "html-404" => once(
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<head></head>",
        ),
        "csp" => html(
            "\r\nContent-Security-Policy: default-src 'none'; script-src 'self'",
            "<head></head>",
        ),
        "location" => once(
            "HTTP/1.1 302 Found\r\nLocation: /session/x/stream.html?a=b\r\nContent-Length: 0\r\n\r\n",
        ),
        "set-cookie" => once(
            "HTTP/1.1 200 OK\r\nSet-Cookie: mlSession=a; Path=/session/x; HttpOnly\r\nSet-Cookie: b=c\r\nContent-Length: 2\r\n\r\nok",
        ),
        "299" => once("HTTP/1.1 299 Fine\r\nContent-Length: 2\r\n\r\nok"),
        "520" => once("HTTP/1.1 520 Odd\r\nContent-Length: 2\r\n\r\nok"),
        "999" => once("HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok"),
        "099" => last("HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\nok"),
        "hop-by-hop" => once(
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
        ),
        "trailers" => once(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nX-T: 1\r\nSet-Cookie: a\r\nContent-Length: 9\r\n\r\n",
        ),
        "early-413" => vec![
            send("HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"),
            wait(200),
            Act::Close,
        ],
        "flood" => vec![
            send("HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n"),
            Act::Flood,
        ],
        "ws-echo" => vec![send(SWITCH), send("early"), Act::Echo],
        "ws-late" => vec![wait(300), send(SWITCH), Act::Echo],
        "ws-200" => once("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        "ws-403" => once("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"),
        "ws-426" => once(
            "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 2\r\n\r\nno",
        ),
        "ws-drop" => vec![Act::Close],
        "ws-half" => last("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websock"),
        "ws-other" => {
            last("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n")
        }
        "ws-no-upgrade" => last("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        _ => once("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    }
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";

fn ask(address: SocketAddr, name: &str) -> client::Got {
    ask_of(&rig().session, address, name)
}

fn ask_of(session: &str, address: SocketAddr, name: &str) -> client::Got {
    let path = format!("/session/{session}/scripted/{name}/A9");
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    client::send(address, request.as_bytes())
}

/// Runs `check` on the one whole answer to each script, through both roles.
fn each(names: &[&str], check: impl Fn(&str, &Response) -> bool) {
    let mut wrong = Vec::new();
    for (role, address) in rig().roles() {
        for name in names {
            let got = ask(address, name);
            match got.answers.as_slice() {
                [answer] if got.closed && got.rest.is_empty() && check(name, answer) => {}
                _ => wrong.push(format!("{role} {name}: {got:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn answers_of_every_framing_and_status_pass() {
    each(
        &["no-date", "until-close", "interim", "299", "520"],
        |name, answer| {
            let (status, body) = match name {
                "until-close" => (200, "until close"),
                "299" => (299, "ok"),
                "520" => (520, "ok"),
                _ => (200, "ok"),
            };
            let date = answer.field("date").is_some_and(|d| d.ends_with(" GMT"));
            answer.status == status && answer.text() == body && date && answer.closes()
        },
    );
}

#[test]
fn interim_answers_pass_but_for_100_and_only_to_those_who_know_them() {
    for (role, address) in rig().roles() {
        assert_eq!(ask(address, "interim").interim, [103], "{role}");
        let path = rig().path("scripted/interim/A9");
        let old = client::send(address, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
        assert!(old.interim.is_empty(), "{role}");
        assert_eq!(old.statuses(), [200], "{role}");
    }
}

#[test]
fn an_answer_that_may_have_no_body_has_none() {
    each(&["204-body", "304-body"], |name, answer| {
        let length = answer.field("content-length");
        match name {
            "204-body" => answer.status == 204 && length.is_none(),
            _ => answer.status == 304 && answer.field("etag") == Some("\"e\""),
        }
    });
    for (role, address) in rig().roles() {
        let path = rig().path("scripted/head/A9");
        let request = format!("HEAD {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let got = client::send_head(address, request.as_bytes());
        assert_eq!(got.statuses(), [200], "{role}");
        assert_eq!(
            got.answers[0].field("content-length"),
            Some("12345"),
            "{role}"
        );
        assert!(got.rest.is_empty() && got.closed, "{role}");
    }
}

#[test]
fn what_is_no_answer_becomes_502() {
    let names = [
        "bare-lf",
        "bare-cr",
        "obs-fold",
        "two-lengths",
        "te-and-cl",
        "big-header",
        "no-http",
        "drop",
        "reset",
        "099",
        "interim-only",
    ];
    each(&names, |_, answer| {
        answer.status == 502
            && answer.text().contains("request_id")
            && !answer.head.contains("evil")
    });
}

#[test]
fn an_answer_that_breaks_off_never_looks_whole() {
    for (role, address) in rig().roles() {
        for name in ["too-short", "bad-chunk", "cut-chunk", "reset-mid-body"] {
            let got = ask(address, name);
            assert!(got.closed, "{role} {name}");
            // What is bad before anything was passed on is answered for.
            if name == "bad-chunk" && got.statuses() == [502] {
                continue;
            }
            assert!(got.answers.is_empty(), "{role} {name}: {got:?}");
            assert!(
                latin1(&got.rest).starts_with("HTTP/1.1 200 "),
                "{role} {name}: {got:?}"
            );
        }
    }
}

#[test]
fn bytes_beyond_an_answer_are_nobodys_answer() {
    let rig = rig();
    // Of their own: bytes that come while somebody's answer is awaited are that answer, for any
    // proxy, and must not meet other tests.
    let session = rig.another();
    for (role, address) in rig.roles() {
        for name in ["too-long", "too-long-later"] {
            for n in 0..8 {
                let got = ask_of(&session, address, name);
                assert_eq!(got.statuses(), [200], "{role} {name} {n}");
                assert_eq!(got.answers[0].text(), "ok", "{role} {name} {n}");
                if name == "too-long-later" {
                    // Give the late bytes time to lie in wait on a pooled connection.
                    hydraneckwebrtc::testing::exec::block_on(
                        hydraneckwebrtc::testing::clock::sleep(Duration::from_millis(100)),
                    );
                }
            }
        }
    }
}

#[test]
fn html_gets_one_script_tag_and_loses_what_described_it_before() {
    each(
        &["html", "html-no-head", "html-until-close", "csp"],
        |name, answer| {
            let page = answer.text();
            let after = match name {
                "html-no-head" => "<!doctype html>",
                "html" => "<html><head>",
                _ => "<head>",
            };
            let placed = page
                .split_once(after)
                .is_some_and(|(_, rest)| rest.contains("_neck/"));
            // A policy that forbids inline scripts lets ours pass: it is a file of the same origin.
            let external = page.matches("<script").count() == 1 && page.contains(" src=");
            answer.field("etag").is_none()
                && answer.field("last-modified").is_none()
                && placed
                && external
        },
    );
}

#[test]
fn what_cannot_take_a_script_tag_passes_byte_for_byte() {
    each(
        &["gzip", "brotli", "html-utf16", "html-utf16-bom", "html-404"],
        |name, answer| {
            let page = answer.text();
            let wanted = match name {
                "gzip" => "\x1f\u{8b}<head>not html",
                "brotli" => "<head>not html",
                "html-utf16" => "<\0h\0e\0a\0d\0>\0",
                "html-utf16-bom" => "\u{ff}\u{fe}<\0h\0e\0a\0d\0>\0",
                _ => "<head></head>",
            };
            page == wanted
        },
    );
    each(&["html-latin1"], |_, answer| {
        answer.body.ends_with(b"</head>caf\xe9")
    });
}

#[test]
fn redirects_cookies_and_hop_by_hop_fields_are_as_they_should() {
    each(
        &["location", "set-cookie", "hop-by-hop", "trailers"],
        |name, answer| {
            let lower = answer.head.to_lowercase();
            match name {
                "location" => answer.field("location") == Some("/session/x/stream.html?a=b"),
                "set-cookie" => {
                    lower.contains("set-cookie: mlsession=a; path=/session/x; httponly")
                        && lower.contains("set-cookie: b=c")
                }
                "hop-by-hop" => !["x-hop", "keep-alive", "proxy-authenticate", "upgrade"]
                    .iter()
                    .any(|never| lower.contains(never)),
                _ => answer.text() == "ok" && !lower.contains("set-cookie"),
            }
        },
    );
}

#[test]
fn an_early_refusal_reaches_a_client_that_is_still_sending() {
    let rig = rig();
    for (role, address) in rig.roles() {
        let path = rig.path("scripted/early-413/A9");
        let mut stream = connect(address);
        let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.write_all(&[b'x'; 100_000]);
        let got = client::finish(&mut stream, false);
        assert_eq!(got.statuses(), [413], "{role}");
        assert!(got.answers[0].closes() && got.closed, "{role}");
    }
}

#[test]
fn a_silent_upstream_is_504_and_nobody_else_waits() {
    let rig = rig();
    std::thread::scope(|scope| {
        for (role, address) in rig.roles() {
            scope.spawn(move || {
                let path = rig.path("scripted/silent/A9");
                let request =
                    format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
                let mut stream = connect(address);
                stream
                    .set_read_timeout(Some(Duration::from_secs(60)))
                    .unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                let got = client::finish(&mut stream, false);
                assert_eq!(got.statuses(), [504], "{role}");
            });
        }
        for (role, address) in rig.roles() {
            assert_eq!(ask(address, "no-date").statuses(), [200], "{role}");
        }
    });
}
