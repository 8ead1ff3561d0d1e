//! What a page asks for without end.

use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::*;

#[test]
fn a_flood_from_a_page_is_held_back_and_the_visitor_can_still_leave() {
    let bench = Bench::new();
    let controller = bench.controller();
    let worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    let id = controller.session();
    let post = |inner: &str, body: Option<Value>| {
        controller.browse("POST", &format!("/session/{id}/{inner}"), body)
    };
    let answers: Vec<_> = (0..60)
        .map(|_| post("rating", Some(json!({"score": 5}))))
        .collect();
    let taken = answers.iter().filter(|a| a.status == 204).count();
    assert!(taken < 60, "all were taken");
    let refused = answers.iter().find(|a| a.status != 204).unwrap();
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (429, "too_many_requests")
    );
    assert!(refused.field("retry-after").is_some());
    assert_eq!(worker.view(&id)["rating"], 5);
    until("the refusals to be logged", || {
        let log = worker.log();
        log.lines()
            .any(|l| l.contains("[audit]") && l.contains("/rating"))
    });
    let lines = worker.log();
    let noted = lines
        .lines()
        .filter(|l| l.contains("[audit]") && l.contains("/rating"));
    assert_eq!(noted.count(), taken, "a flood fills no log");
    assert_eq!(post("quit", None).status, 204);
    until("the session to be gone", || {
        controller.sessions().is_empty()
    });
}

/// Strangers: more than the worker below has descriptors, from the address of everybody else.
const STRANGERS: usize = 400;

fn stranger(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

fn was_closed(stream: &mut TcpStream) -> bool {
    !matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn strangers_who_use_up_the_descriptors_end_no_session_and_keep_nobody_out() {
    let bench = Bench::new();
    let more = json!({"log": {"level": "debug"}, "sessions": {"max": 4}});
    let config = bench.worker_config("w1", None, more);
    let port = config["server"]["listen"].as_str().unwrap();
    let port = port.rsplit(':').next().unwrap().parse().unwrap();
    let mut worker = Node::at_rest("worker", bench.dir.join("w1"), port, config);
    worker.wrapper = ["prlimit", "--nofile=256:256"].map(str::to_owned).into();
    worker.restart();
    let problems = || worker.get("/api/v1/health")["extra"]["problems"].to_string();
    assert!(
        problems().contains("server.connections_max 4096"),
        "{}",
        problems()
    );
    let (watched, other) = (worker.session(), worker.session());
    let page = worker.page(&watched);
    worker.becomes(&watched, "connected");
    let process = worker.stream_process(&watched);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Raise(&over);
        scope.spawn(|| {
            let mut all: Vec<_> = (0..STRANGERS).map(|_| stranger(worker.at)).collect();
            // Whoever is sent away comes again.
            while !over.load(Ordering::Relaxed) {
                for one in &mut all {
                    if was_closed(one) {
                        *one = stranger(worker.at);
                    }
                }
                pause(std::time::Duration::from_millis(100));
            }
        });
        worker.says("open files are in use");
        // Probes go on, a process that dies is replaced, a session is made, one is ended.
        let probed = worker.log().matches("ProbeOk").count();
        until("two more probes of each", || {
            worker.log().matches("ProbeOk").count() >= probed + 4
        });
        signal(process, "KILL");
        page.wait("restarting");
        until("another process", || {
            worker.stream_process(&watched) != process
        });
        assert_eq!(worker.delete(&other), 204);
        bench.one_record(&other);
        let next = worker.session();
        assert_eq!(worker.delete(&next), 204);
        bench.one_record(&next);
        assert!(
            problems().contains("open files are in use"),
            "{}",
            problems()
        );
        worker.becomes(&watched, "connected");
    });
    assert!(!worker.log().contains("ProbeFailed"), "{}", worker.log());
    assert!(!worker.log().contains("record is lost"), "{}", worker.log());
    drop(page);
    assert_eq!(worker.delete(&watched), 204);
    bench.one_record(&watched);
    worker.has_nothing_left();
}

#[test]
fn a_worker_raises_its_limit_of_open_files_and_not_that_of_its_stream_processes() {
    let bench = Bench::new();
    let mut worker = bench.worker("w1", None, json!({}));
    worker.kill();
    worker.wrapper = ["prlimit", "--nofile=300:16384"].map(str::to_owned).into();
    worker.restart();
    let limit = |pid: u32| {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|l| l.starts_with("Max open files"));
        let numbers = line.unwrap().split_whitespace().skip(3).take(2);
        numbers.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(limit(worker.pid()), ["16384", "16384"]);
    let id = worker.session();
    assert_eq!(limit(worker.stream_process(&id)), ["300", "16384"]);
    assert_eq!(worker.delete(&id), 204);
}

/// Set when it is dropped, also by a failed assertion.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
