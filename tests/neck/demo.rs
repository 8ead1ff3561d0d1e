//! `hydraneckwebrtc demo --json`: one line when the first session is ready, nothing left after.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

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
