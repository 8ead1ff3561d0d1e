//! What operators do with a running chain: remote commands, metrics, the API document.

#![allow(clippy::expect_used, clippy::panic)] // a test fails by panicking
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hydraneckwebrtc");

/// One demo at a time: each looks for free ports of its own.
static TURN: Mutex<()> = Mutex::new(());

/// The demo, ended when dropped.
struct Demo {
    child: Child,
    told: Value,
    _turn: MutexGuard<'static, ()>,
}

impl Demo {
    fn start() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = Command::new(PROGRAM)
            .args(["demo", "--json", "--port", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the demo starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout is a pipe"))
            .read_line(&mut line)
            .expect("the demo speaks");
        let told = serde_json::from_str(&line).expect("a line of JSON");
        Self {
            child,
            told,
            _turn: turn,
        }
    }

    fn of(&self, key: &str) -> String {
        self.told[key].as_str().expect(key).to_owned()
    }

    fn at(&self, url: &str, arguments: &[&str]) -> Output {
        Command::new(PROGRAM)
            .args(arguments)
            .env("HYDRANECKWEBRTC_URL", self.of(url))
            .env("HYDRANECKWEBRTC_TOKEN", self.of("token"))
            .env("HOME", "/nonexistent")
            .output()
            .expect("the program runs")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.at("controller_url", arguments)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
    }
}

fn out(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{:?}: {}",
        output.status,
        err(output)
    );
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&out(output)).expect("JSON")
}

/// One line on stderr, nothing on stdout, and the code.
fn assert_fails(output: &Output, code: i32, says: &str) {
    let text = err(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(output.stdout.is_empty());
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(says), "{text}");
}

#[test]
fn the_remote_commands_do_what_they_say_and_exit_with_what_they_mean() {
    let demo = Demo::start();
    let first = demo.of("session_id");

    // Sessions, on both roles, as a table and as JSON.
    for url in ["controller_url", "worker_url"] {
        let table = out(&demo.at(url, &["sessions", "list"]));
        assert!(
            table.starts_with("SESSION") && table.contains(&first),
            "{table}"
        );
    }
    let list = json(&demo.run(&["sessions", "list", "--json"]));
    assert_eq!(list[0]["sessions"][0]["id"], first.as_str());
    let shown = out(&demo.run(&["sessions", "get", &first]));
    assert!(
        shown.contains("demo-worker") && shown.contains("127.0.0.1"),
        "{shown}"
    );
    assert_eq!(
        json(&demo.run(&["--json", "sessions", "get", &first]))["id"],
        first.as_str()
    );

    let body = demo.of("free_body_ip");
    let created = json(&demo.run(&[
        "sessions",
        "create",
        &body,
        "--json",
        "--experience",
        "Moon",
    ]));
    let second = created["session_id"].as_str().expect("an id").to_owned();
    assert!(
        created["stream_url"]
            .as_str()
            .expect("a url")
            .contains(&second)
    );
    assert!(out(&demo.run(&["sessions", "end", &second])).is_empty());
    let gone = demo.at("worker_url", &["sessions", "end", &second]);
    assert_fails(&gone, 1, "404 not_found");

    // Workers.
    let table = out(&demo.run(&["workers", "list"]));
    assert!(
        table.contains("demo-worker") && table.contains("healthy"),
        "{table}"
    );
    out(&demo.run(&["workers", "drain", "demo-worker", "--deadline", "1h"]));
    assert_eq!(
        json(&demo.run(&["workers", "list", "--json"]))[0]["status"],
        "draining"
    );
    let full = demo.run(&["sessions", "create", &body]);
    assert_fails(&full, 1, "503");
    out(&demo.run(&["workers", "undrain", "demo-worker"]));
    assert_eq!(
        json(&demo.run(&["workers", "list", "--json"]))[0]["status"],
        "healthy"
    );
    out(&demo.at("worker_url", &["workers", "drain"]));
    out(&demo.at("worker_url", &["workers", "undrain"]));

    // Events: the past, and then an end.
    let events = out(&demo.run(&["events", "--json"]));
    let names: Vec<String> = events
        .lines()
        .map(|l| {
            serde_json::from_str::<Value>(l).expect("JSON")["event"]
                .as_str()
                .expect("a name")
                .to_owned()
        })
        .collect();
    for wanted in [
        "worker_up",
        "session_ready",
        "session_ended",
        "worker_draining",
    ] {
        assert!(
            names.iter().any(|n| n == wanted),
            "{wanted} not in {names:?}"
        );
    }

    // Errors.
    assert_fails(&demo.run(&["sessions", "get", "a/b"]), 2, "no id");
    assert_fails(&demo.run(&["sessions", "create", "8.8.8.8"]), 1, "400");
    assert_fails(
        &demo.run(&["workers", "list", "--token", "wrong"]),
        1,
        "401",
    );
    assert_fails(
        &demo.run(&["workers", "list", "--url", "http://127.0.0.1:1"]),
        69,
        "127.0.0.1:1",
    );
}

#[test]
fn events_are_followed_over_a_running_stream() {
    let demo = Demo::start();
    let mut follow = Command::new(PROGRAM)
        .args(["events", "--follow", "--since", "0"])
        .env("HYDRANECKWEBRTC_URL", demo.of("controller_url"))
        .env("HYDRANECKWEBRTC_TOKEN", demo.of("token"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let mut lines = BufReader::new(follow.stdout.take().expect("a pipe")).lines();
    let mut wait_for = |word: &str| {
        // Ends with the stream: a listener that got nothing fails here.
        lines
            .by_ref()
            .map_while(Result::ok)
            .find(|l| l.contains(word))
            .expect(word)
    };
    wait_for("session_ready");
    out(&demo.run(&["sessions", "end", &demo.of("session_id")]));
    assert!(wait_for("session_ended").contains("deleted"));
    let _ = follow.kill();
    let _ = follow.wait();
}

#[test]
fn without_a_configuration_the_one_line_names_the_remedy() {
    let output = Command::new(PROGRAM)
        .args(["workers", "list"])
        .env_remove("HYDRANECKWEBRTC_URL")
        .env_remove("HYDRANECKWEBRTC_TOKEN")
        .env_remove("HYDRANECKWEBRTC_CONFIG")
        .env("HOME", "/nonexistent")
        .output()
        .expect("the program runs");
    assert_fails(&output, 78, "--url");
    let usage = Command::new(PROGRAM)
        .args(["workers", "fly"])
        .output()
        .expect("runs");
    assert_eq!(usage.status.code(), Some(2));
}

/// Status and content of a GET.
fn get(url: &str, path: &str, token: Option<&str>) -> (u16, String) {
    let address = url.strip_prefix("http://").expect("plain HTTP");
    let mut stream = TcpStream::connect(address).expect("a server");
    let bearer = token.map(|t| format!("Authorization: Bearer {t}\r\n"));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{}\r\n",
        bearer.unwrap_or_default()
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, content) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    (status.expect("a status"), content.to_owned())
}

/// The answer that has this line, or the last one before patience ends.
fn once_it_says(line: &str, ask: impl Fn() -> (u16, String)) -> (u16, String) {
    let patience = hydraneckwebrtc::testing::clock::now() + std::time::Duration::from_secs(10);
    loop {
        let answer = ask();
        if answer.1.lines().any(|l| l == line) || hydraneckwebrtc::testing::clock::now() > patience
        {
            return answer;
        }
        std::thread::yield_now();
    }
}

#[test]
fn metrics_count_what_happened_and_name_no_session() {
    let demo = Demo::start();
    let (token, first) = (demo.of("token"), demo.of("session_id"));
    let stats = demo.of("stream_url");
    let page = stats.split("/session/").next().expect("a base");
    // A page that claims to be something else.
    let address = page.strip_prefix("http://").expect("plain HTTP");
    let digest = r#"{"rtt_ms":12.5,"ice_candidate_type":"x\"}y"}"#;
    let mut stream = TcpStream::connect(address).expect("a server");
    let request = format!(
        "POST /session/{first}/stats HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{digest}",
        digest.len()
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    out(&demo.run(&["sessions", "end", &first]));

    let has = |text: &str, line: &str| {
        assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
    };
    for url in ["controller_url", "worker_url"] {
        assert_eq!(get(&demo.of(url), "/metrics", None).0, 401);
        let ended = "hydraneckwebrtc_session_ends_total{reason=\"deleted\"} 1";
        let (status, text) = once_it_says(ended, || get(&demo.of(url), "/metrics", Some(&token)));
        assert_eq!(status, 200);
        assert!(
            text.ends_with("# EOF\n") && !text.contains(&first),
            "{text}"
        );
        has(
            &text,
            "hydraneckwebrtc_session_ends_total{reason=\"deleted\"} 1",
        );
        has(
            &text,
            "hydraneckwebrtc_session_ends_total{reason=\"quit\"} 0",
        );
        has(&text, "hydraneckwebrtc_sessions{state=\"ready\"} 0");
        has(&text, "hydraneckwebrtc_sessions_max 4.0");
    }
    let (_, worker) = get(&demo.of("worker_url"), "/metrics", Some(&token));
    for phase in ["reaching", "spawning", "pairing", "whole"] {
        has(
            &worker,
            &format!("hydraneckwebrtc_session_start_seconds_count{{phase=\"{phase}\"}} 1"),
        );
    }
    has(
        &worker,
        "hydraneckwebrtc_client_rtt_seconds_count{candidate_type=\"other\"} 1",
    );
    let (_, controller) = get(&demo.of("controller_url"), "/metrics", Some(&token));
    has(
        &controller,
        "hydraneckwebrtc_placements_total{result=\"placed\"} 1",
    );
    has(&controller, "hydraneckwebrtc_workers{status=\"healthy\"} 1");
    has(
        &controller,
        "hydraneckwebrtc_proxy_requests_total{class=\"2xx\"} 1",
    );
    // What dashboard and alerts show is there.
    let both = format!("{worker}{controller}");
    for file in [
        include_str!("../docs/grafana.json"),
        include_str!("../docs/alerts.yaml"),
    ] {
        let named = file.split("hydraneckwebrtc_").skip(1);
        for name in named.map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            rest[..end.unwrap_or(rest.len())].to_owned()
        }) {
            let found = both.contains(&format!("\nhydraneckwebrtc_{name}"));
            assert!(found, "no metric {name:?}");
        }
    }
}

#[test]
fn doctor_names_what_is_wrong_and_exits_with_it() {
    let dir = std::env::temp_dir().join(format!(
        "neck-doctor-{}",
        hydraneckwebrtc::testing::ids::label()
    ));
    std::fs::create_dir(&dir).expect("a directory");
    let path = dir.join("config.yaml");
    let doctor = |yaml: &str, more: &[&str]| {
        std::fs::write(&path, yaml).expect("a file");
        let mut command = Command::new(PROGRAM);
        command.arg("--config").arg(&path).arg("doctor").args(more);
        command.output().expect("the program runs")
    };
    let broken = doctor("servr: 1\n", &[]);
    assert_eq!(broken.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&broken.stdout).starts_with("fail  configuration"));

    // Below the ports that the kernel gives out, and one that nobody has now.
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).expect("below 10,000");
    let mut ports = first..u16::MAX;
    let port = ports
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port");
    let worker = format!(
        "mode: worker\nserver: {{listen: '127.0.0.1:1', admin_token: t}}\ncontroller: {{url: 'http://127.0.0.1:1', token: t}}\nworker: {{state_dir: '{0}'}}\nsessions: {{web_server: testcard, dir: '{0}', max: 1, port_range_start: {port}}}\nturn: {{secret: s, urls: ['turn:127.0.0.1:1']}}\nsunshine: {{username: u, password: p}}\n",
        dir.display()
    );
    let report = doctor(&worker, &["--json", "--body", "8.8.8.8"]);
    assert_eq!(report.status.code(), Some(1), "{}", err(&report));
    let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    assert_eq!(report["ok"], false);
    let verdict = |check: &str| {
        let all = report["checks"].as_array().expect("checks");
        let found = all.iter().find(|c| c["check"] == check);
        found.unwrap_or_else(|| panic!("no {check} in {all:?}"))["verdict"].clone()
    };
    for (check, wanted) in [
        ("configuration", "ok"),
        ("process", "warn"),
        ("program", "warn"),
        ("ports", "ok"),
        ("turn", "fail"),
        ("controller", "fail"),
        ("body", "fail"),
    ] {
        assert_eq!(verdict(check), wanted, "{check}");
    }
    std::fs::remove_dir_all(dir).expect("gone");
}
