//! `hydraneckwebrtc demo --json`: one line when the first session is ready, nothing left after.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use hydraneckwebrtc::testing::has;
use serde_json::{Value, json};

use crate::support::*;

struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_demo_shows_a_session_takes_another_port_when_one_is_taken_and_cleans_up() {
    let bench = Bench::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut command = Command::new(BINARY);
    command.args(["demo", "--json", "--port", &port.to_string()]);
    command.env("TMPDIR", &bench.dir).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut demo = Demo(command.spawn().unwrap());
    let mut line = String::new();
    let stdout = demo.0.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    let text = |field: &str| told[field].as_str().unwrap().to_owned();
    let url = text("stream_url");
    let base = text("controller_url");
    let at = base.strip_prefix("http://").unwrap().parse().unwrap();
    assert_ne!(base, format!("http://127.0.0.1:{port}"));
    let page = call(at, "GET", url.strip_prefix(&base).unwrap(), &[], None).unwrap();
    assert_eq!(page.status, 200);
    assert!(page.text().contains("_neck/"));
    let bearer = format!("Bearer {}", text("token"));
    let target = format!("/api/v1/sessions/{}", text("session_id"));
    let seen = call(at, "GET", &target, &[("Authorization", &bearer)], None).unwrap();
    assert_eq!(seen.json()["body_ip"], told["body_ip"]);
    let worker: std::net::SocketAddr = text("worker_url")
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap();
    assert!(!processes_in(&bench.dir).is_empty());
    signal(demo.0.id(), "TERM");
    until("the demo to end", || demo.0.try_wait().unwrap().is_some());
    assert!(demo.0.wait().unwrap().success());
    assert!(processes_in(&bench.dir).is_empty());
    assert_eq!(entries(&bench.dir), [""; 0]);
    assert!(is_free(worker.port()));
    let mut said = String::new();
    let stderr = BufReader::new(demo.0.stderr.take().unwrap());
    for line in stderr.lines().map_while(Result::ok) {
        said.push_str(&line);
    }
    assert!(
        said.contains(&port.to_string()),
        "the taken port is named: {said}"
    );
}

#[test]
fn a_terminal_that_is_closed_ends_the_demo_and_nothing_is_left() {
    let bench = Bench::new();
    // The demo outlives its terminal when it is told to (nohup), and so may this test have been.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", BINARY, "demo", "--port", "0"]);
    command.env("TMPDIR", &bench.dir).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut demo = Demo(command.spawn().unwrap());
    let stdout = demo.0.stdout.take().unwrap();
    let mut said = BufReader::new(stdout).lines();
    assert!(said.any(|line| line.unwrap().contains("Ctrl-C")));
    assert!(!processes_in(&bench.dir).is_empty());
    // Nobody reads any more, as on a terminal that is gone; and both the shell and the kernel say so.
    drop((said, demo.0.stderr.take()));
    signal(demo.0.id(), "HUP");
    signal(demo.0.id(), "HUP");
    until("the demo to end", || demo.0.try_wait().unwrap().is_some());
    assert!(processes_in(&bench.dir).is_empty());
    assert_eq!(entries(&bench.dir), [""; 0]);
}

/// What a browser that wants a data channel offers.
const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n\
    a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=ice-options:trickle\r\na=fingerprint:sha-256 \
    00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\
    \r\na=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n";

#[test]
fn the_test_card_answers_on_a_machine_that_has_loopback_and_nothing_else() {
    let mut command = Command::new("unshare");
    let inner = "ip link set lo up && echo up && exec \"$@\"";
    command.args([
        "--net", "sh", "-c", inner, "sh", BINARY, "testcard", "streamer",
    ]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = command.stderr(Stdio::null()).spawn();
    if !has("unshare (package util-linux)", child.is_ok()) {
        return;
    }
    let mut streamer = Demo(child.unwrap());
    let mut said = BufReader::new(streamer.0.stdout.take().unwrap()).lines();
    if !has(OWN_NETWORK, said.next().is_some()) {
        return;
    }
    let mut stdin = streamer.0.stdin.take().unwrap();
    for order in [
        json!({"Init": {
            "config": {"webrtc": {}}, "host_address": "127.0.0.1", "host_http_port": 1,
            "client_unique_id": "x", "app_id": 1,
        }}),
        json!({"WebSocket": {"SetTransport": "WebRTC"}}),
        json!({"WebSocket": {"WebRtc": {"Description": {"ty": "offer", "sdp": OFFER}}}}),
    ] {
        writeln!(stdin, "{order}").unwrap();
    }
    let mut signals = said.map_while(Result::ok).filter_map(|line| {
        let line: Value = serde_json::from_str(&line).unwrap();
        line["WebSocket"].get("WebRtc").cloned()
    });
    // A streamer that cannot answer says nothing: its orders end, and so does it.
    let answer = signals.next().unwrap();
    assert_eq!(answer["Description"]["ty"], "answer");
    let has_loopback = |signal: Value| {
        let candidate = signal["AddIceCandidate"]["candidate"].to_string();
        candidate.contains(" 127.0.0.1 ")
    };
    assert!(signals.any(has_loopback));
}
