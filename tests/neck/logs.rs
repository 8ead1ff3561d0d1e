//! What a log collector gets: JSON lines, and one request id through both roles.

use std::io::{BufRead as _, BufReader, PipeReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::*;

/// The lines of a log that carry this request's id.
fn of_request(log: &str, id: &str) -> Vec<Value> {
    let lines = log.lines().map(serde_json::from_str::<Value>);
    let lines = lines.map(|l| l.expect("each line is a JSON object"));
    lines.filter(|l| l["request_id"] == id).collect()
}

#[test]
fn one_request_id_is_in_the_lines_of_controller_and_worker() {
    let bench = Bench::new();
    let json_lines = json!({"log": {"format": "json"}});
    let controller = bench.controller_with(json_lines.clone());
    let worker = bench.worker("w1", Some(&controller), json_lines);
    controller.is_warm();
    let body = json!({"body_ip": "127.0.0.1"});
    let id = [("X-Request-Id", "ticket-7")];
    let made = controller.call_with("POST", "/api/v1/sessions", &id, Some(body));
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.field("x-request-id"), Some("ticket-7"));
    let session = &made.json()["session_id"];
    for (node, target, says) in [
        (&controller, "controller", "placing a session"),
        (&worker, "worker", "admitted"),
    ] {
        let (lines, audit) = {
            let all = of_request(&node.log(), "ticket-7").into_iter();
            all.partition::<Vec<_>, _>(|l| l["target"] != "audit")
        };
        let line = lines.iter().find(|l| l["target"] == target);
        let line = line.unwrap_or_else(|| panic!("no line of {target}: {lines:?}"));
        let said = line["message"].as_str().unwrap();
        assert!(said.starts_with(says), "{line}");
        assert_eq!(line["level"], "info");
        assert_eq!(audit.len(), 1, "{audit:?}");
        assert_eq!(audit[0]["audit"]["status"], 201);
        if target == "worker" {
            assert_eq!(&line["session"], session);
        }
    }
}

/// Refused calls of a stranger: each is a line of the audit of more than 300 bytes, and all of them
/// are far more than a pipe of 64 KiB and the queue before it hold.
const REFUSED: usize = 6_000;

/// A worker whose log goes into a pipe.
fn worker_with_pipe(bench: &Bench, more: Value) -> (Node, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let config = bench.worker_config("w1", None, more);
    let listen = config["server"]["listen"].as_str().unwrap();
    let port = listen.rsplit(':').next().unwrap().parse().unwrap();
    let mut worker = Node::at_rest("worker", bench.dir.join("w1"), port, config);
    worker.stderr = Some(writer);
    worker.restart();
    (worker, reader)
}

/// Makes [`REFUSED`] calls without a token, with the request ids `refused-0`, `refused-1`, ...
#[track_caller]
fn refuse(worker: &Node) {
    let socket = TcpStream::connect(worker.at).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut answers = BufReader::new(socket.try_clone().unwrap());
    let path = format!("/api/v1/sessions/{}", "x".repeat(200));
    for first in (0..REFUSED).step_by(10) {
        let requests: String = (first..first + 10)
            .map(|n| {
                format!("DELETE {path} HTTP/1.1\r\nHost: w\r\nX-Request-Id: refused-{n}\r\n\r\n")
            })
            .collect();
        (&socket).write_all(requests.as_bytes()).unwrap();
        for n in first..first + 10 {
            let mut length = 0;
            let mut status = String::new();
            answers
                .read_line(&mut status)
                .unwrap_or_else(|e| panic!("refused-{n}: {e}"));
            assert!(status.contains(" 401 "), "refused-{n}: {status:?}");
            for field in answers
                .by_ref()
                .lines()
                .map(Result::unwrap)
                .take_while(|l| !l.is_empty())
            {
                if let Some(value) = field.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            answers
                .by_ref()
                .take(length)
                .read_to_end(&mut Vec::new())
                .unwrap();
        }
    }
}

/// The numbers of the refused calls that this text has lines of.
fn refused(text: &str) -> Vec<usize> {
    let ids = text.lines().filter_map(|l| l.split("\"refused-").nth(1));
    ids.map(|rest| rest.split('"').next().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn a_log_that_nobody_reads_stops_nobody_and_later_says_how_many_lines_were_dropped() {
    let bench = Bench::new();
    let (mut worker, reader) = worker_with_pipe(&bench, json!({}));
    refuse(&worker);
    // Calls and sessions are served as ever, though they log.
    let id = worker.session();
    assert_eq!(worker.delete(&id), 204);
    let text = Arc::new(Mutex::new(String::new()));
    let reading = std::thread::spawn({
        let text = Arc::clone(&text);
        move || {
            for line in BufReader::new(reader).lines() {
                let mut text = text.lock().unwrap();
                text.push_str(&line.unwrap());
                text.push('\n');
            }
        }
    });
    // Now that somebody reads, there is room for what is said at the end.
    until("the number of dropped lines", || {
        text.lock().unwrap().contains("lines dropped")
    });
    assert!(worker.stop().success());
    // The pipe ends with its last writer.
    worker.stderr = None;
    reading.join().unwrap();
    let text = text.lock().unwrap();
    let read = refused(&text);
    assert!(
        !read.is_empty() && read.iter().copied().eq(0..read.len()),
        "{read:?}"
    );
    let dropped: Vec<_> = text
        .lines()
        .filter(|l| l.contains("lines dropped"))
        .collect();
    assert_eq!(dropped.len(), 1, "{dropped:?}");
    let said: usize = dropped[0]
        .strip_prefix("[log] WARNING: ")
        .and_then(|rest| rest.split(' ').next())
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| panic!("{dropped:?}"));
    assert!(
        read.len() + said > REFUSED,
        "the session's lines are dropped, too"
    );
    assert!(said < REFUSED + 100, "{said}");
    assert!(
        text.contains("\n[worker] stopping\n"),
        "{}",
        &text[text.len() - 300..]
    );
}

#[test]
fn a_log_that_nobody_reads_keeps_no_process_from_its_end() {
    let bench = Bench::new();
    let (mut worker, reader) = worker_with_pipe(&bench, json!({}));
    refuse(&worker);
    assert!(worker.stop().success());
    drop(reader);
}

#[test]
fn an_audit_file_that_takes_nothing_stops_nobody() {
    let bench = Bench::new();
    let file = bench.dir.join("audit");
    let made = std::process::Command::new("mkfifo").arg(&file).status();
    assert!(made.unwrap().success());
    // A reader that only opens it.
    let pipe = std::fs::File::options().read(true).write(true).open(&file);
    let mut worker = bench.worker("w1", None, json!({"log": {"audit_file": file}}));
    refuse(&worker);
    let mut pipe = BufReader::new(pipe.unwrap());
    let mut text = String::new();
    while !text.contains("dropped") {
        assert!(pipe.read_line(&mut text).unwrap() > 0);
    }
    let (lines, said) = text.trim_end().rsplit_once('\n').unwrap();
    let read = refused(lines);
    assert!(read.iter().copied().eq(0..read.len()), "{read:?}");
    let said: Value = serde_json::from_str(said).unwrap();
    assert_eq!(said["dropped"], REFUSED - read.len(), "{said}");
    worker.says("lines dropped");
    assert!(worker.stop().success());
}
