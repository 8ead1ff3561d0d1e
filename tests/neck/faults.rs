//! Faults of stream processes, ports, disks and bodies: a plain answer, and nothing left.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hydraneckwebrtc::testing::demo::body::Faults;
use hydraneckwebrtc::testing::has;
use serde_json::json;

use crate::support::*;

/// A worker whose stream program is this shell script.
fn worker_with(bench: &Bench, text: &str) -> Node {
    worker_that_waits(bench, text, "40s")
}

fn worker_that_waits(bench: &Bench, text: &str, start_timeout: &str) -> Node {
    let program = script(&bench.dir, "program", text);
    let sessions = json!({
        "web_server": program,
        "start_timeout": start_timeout,
        "log_max_bytes": "64KiB",
    });
    bench.worker("w1", None, json!({"sessions": sessions}))
}

#[test]
fn stream_programs_that_do_not_start_are_named_and_leave_nothing() {
    let foreign = r#"sed -i 's#/session/[0-9a-f]*#/session/00000000000000000000000000000000#' server/config.json; exec $CARD "$@""#;
    let rows = [
        ("exit 0", "exited with code 0"),
        ("echo no such host >&2; exit 3", "no such host"),
        ("kill -9 $$", "signal 9"),
        ("exec sleep 1000", ""),
        ("sleep 1000 & exit 0", "exited with code 0"),
        ("trap '' INT TERM; while :; do sleep 1; done", ""),
        (foreign, ""),
    ];
    at_once(rows.len(), |n| {
        let (text, says) = rows[n];
        let bench = Bench::new();
        // What says nothing is only given up when its time is over.
        let start_timeout = if says.is_empty() { "6s" } else { "40s" };
        let worker = worker_that_waits(&bench, text, start_timeout);
        let answer = worker.create();
        assert!(
            matches!(answer.status, 502 | 504),
            "{text}: {} {}",
            answer.status,
            answer.text()
        );
        assert!(answer.text().contains(says), "{text}: {}", answer.text());
        worker.has_nothing_left();
        until("the record", || bench.body.ratings().len() == 1);
        assert_eq!(bench.body.ratings()[0]["end_reason"], "start_failed");
        assert!(bench.body.clients().is_empty());
    });
}

#[test]
fn a_stream_process_that_is_killed_at_any_moment_leaves_a_plain_end() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    at_once(3, |n| {
        let id = worker.session_with(json!({"wait": false}));
        let pid = worker.stream_process(&id);
        pause(Duration::from_millis([0, 100, 1_000][n]));
        signal(pid, "KILL");
        worker.forgets(&id);
        let reason = bench.one_record(&id)["end_reason"].clone();
        assert!(
            reason == "start_failed" || reason == "process_exited",
            "{reason}"
        );
    });
    worker.has_nothing_left();
    until("no pairing to be left", || bench.body.clients().is_empty());
}

#[test]
fn what_a_stream_process_forked_and_left_ends_with_its_session() {
    let bench = Bench::new();
    let worker = worker_with(
        &bench,
        "setsid sleep 1000 & (setsid sh -c 'sleep 1000 & sleep 1000' &) ; exec $CARD \"$@\"",
    );
    let id = worker.session();
    assert!(processes_in(&worker.sessions_dir()).len() >= 4);
    assert_eq!(worker.delete(&id), 204);
    worker.has_nothing_left();
    let id = worker.session();
    signal(worker.stream_process(&id), "KILL");
    worker.forgets(&id);
    worker.has_nothing_left();
}

#[test]
fn a_stream_process_that_talks_without_end_fills_no_disk() {
    let bench = Bench::new();
    let worker = worker_with(
        &bench,
        "(head -c 1073741824 /dev/zero | tr '\\0' 'x'; echo; echo the end) & exec $CARD \"$@\"",
    );
    let id = worker.session();
    let largest = || {
        let files = std::fs::read_dir(worker.sessions_dir().join(&id))
            .unwrap()
            .flatten();
        files
            .map(|f| f.metadata().map_or(0, |m| m.len()))
            .max()
            .unwrap()
    };
    // The writer ends when all of it was taken.
    until("all to be read", || {
        assert!(largest() <= 160 * 1024, "{}", largest());
        processes_in(&worker.sessions_dir()).len() == 1
    });
    assert!(
        resident(worker.pid()) < 200 * 1024,
        "{} KiB",
        resident(worker.pid())
    );
    assert_eq!(worker.delete(&id), 204);
    worker.has_nothing_left();
}

#[test]
fn a_stream_process_that_hangs_is_found_out_and_ended() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({"log": {"level": "debug"}}));
    let (unwatched, watched) = (worker.session(), worker.session());
    let page = worker.page(&watched);
    worker.becomes(&watched, "connected");
    let stalled = worker.session();
    let stalled_page = worker.page(&stalled);
    worker.becomes(&stalled, "connected");
    let hung = worker.stream_process(&watched);
    let slow = worker.stream_process(&stalled);
    signal(worker.stream_process(&unwatched), "STOP");
    signal(hung, "STOP");
    // A second before a probe, so that it leaves two unanswered, and the third waits for 2 s.
    let log_of = |id: &str| {
        worker
            .log()
            .lines()
            .filter(|l| l.contains(id) && l.contains("ProbeOk"))
            .count()
    };
    let probes = log_of(&stalled);
    until("a probe", || log_of(&stalled) > probes);
    pause(Duration::from_secs(4));
    signal(slow, "STOP");
    pause(Duration::from_secs(13));
    signal(slow, "CONT");
    page.wait("restarting");
    worker.forgets(&unwatched);
    assert_eq!(bench.one_record(&unwatched)["end_reason"], "process_exited");
    until("another process", || {
        worker.stream_process(&watched) != hung
    });
    worker.becomes(&watched, "connected");
    assert_eq!(worker.stream_process(&stalled), slow, "{}", worker.log());
    assert_eq!(worker.view(&stalled)["status"], "connected");
    drop(stalled_page);
    assert_eq!(worker.delete(&stalled), 204);
    assert_eq!(worker.delete(&watched), 204);
    worker.has_nothing_left();
}

#[test]
fn ports_of_strangers_are_passed_over_with_one_warning_and_used_again_later() {
    let bench = Bench::new();
    let config = bench.worker_config("w1", None, json!({"sessions": {"max": 2}}));
    let first = u16::try_from(config["sessions"]["port_range_start"].as_u64().unwrap()).unwrap();
    let stranger = TcpListener::bind(("127.0.0.1", first)).unwrap();
    let worker = bench.start_worker("w1", config);
    let id = worker.session();
    assert_eq!(worker.view(&id)["port"], first + 1);
    for _ in 0..3 {
        let full = worker.create();
        assert_eq!((full.status, full.reason().as_str()), (503, "no_capacity"));
    }
    worker.says(&format!("port {first} is held"));
    let warnings = worker
        .log()
        .matches(&format!("port {first} is held"))
        .count();
    assert_eq!(warnings, 1, "{}", worker.log());
    drop(stranger);
    let other = worker.session();
    assert_eq!(worker.view(&other)["port"], first);
}

#[test]
fn a_stranger_who_takes_the_port_between_check_and_bind_gets_no_visitor() {
    let bench = Bench::new();
    let gate = bench.dir.join("gate");
    let waits = format!(
        "while [ ! -e {} ]; do sleep 0.05; done; exec $CARD \"$@\"",
        gate.display()
    );
    let worker = worker_that_waits(&bench, &waits, "6s");
    let first = u16::try_from(
        worker.config["sessions"]["port_range_start"]
            .as_u64()
            .unwrap(),
    )
    .unwrap();
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| worker.create());
        until("the stream process", || {
            !processes_in(&worker.sessions_dir()).is_empty()
        });
        let stranger = TcpListener::bind(("127.0.0.1", first)).unwrap();
        std::fs::write(&gate, "").unwrap();
        let answer = creating.join().unwrap();
        assert!(matches!(answer.status, 502 | 504), "{}", answer.text());
        drop(stranger);
    });
    worker.has_nothing_left();
    let id = worker.session();
    assert_eq!(worker.view(&id)["port"], first);
}

/// A small file system of its own; only root may.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs"])
            .arg(at);
        let done = command.output().is_ok_and(|o| o.status.success());
        has("the right to mount a disk (root)", done).then_some(Self(at))
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let _ = std::fs::write(self.0.join("ballast"), vec![0; 1024 * 1024]);
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }

    /// Lays a read-only view of it above it: files that are open stay as they are, as on a disk
    /// that the kernel makes read-only after an error.
    fn forbid(&self) {
        let at = self.0.to_str().unwrap();
        run(&["mount", "--bind", at, at]);
        run(&["mount", "-o", "remount,bind,ro", at]);
    }

    fn allow(&self) {
        run(&["umount", "-l", self.0.to_str().unwrap()]);
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}

fn run(words: &[&str]) {
    let done = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(done.status.success(), "{words:?}: {done:?}");
}

/// What a start begins with on the body; that the body is tidied later has nothing to do with it.
fn reaches(bench: &Bench) -> usize {
    let calls = bench.body.calls().into_iter();
    calls
        .filter(|c| c.to == "gamestream" && c.call.contains("/serverinfo"))
        .count()
}

fn problems(node: &Node) -> String {
    node.get("/api/v1/health")["extra"]["problems"].to_string()
}

#[test]
fn a_full_or_read_only_disk_refuses_sessions_ends_none_and_is_survived() {
    let rows = [
        ("state", true),
        ("state", false),
        ("sessions", true),
        ("sessions", false),
    ];
    at_once(rows.len(), |n| {
        let (of, is_full) = rows[n];
        let bench = Bench::new();
        let at = bench.dir.join("w1").join(of);
        let Some(disk) = SmallDisk::mount(&at) else {
            return;
        };
        let worker = bench.worker("w1", None, json!({}));
        let before = worker.session();
        let (processes, calls) = (processes_in(&worker.sessions_dir()), reaches(&bench));
        if is_full {
            disk.fill();
        } else {
            disk.forbid();
        }
        let answer = worker.create();
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (503, "disk_full"),
            "{of}: {}",
            answer.text()
        );
        assert_eq!(processes_in(&worker.sessions_dir()), processes);
        assert_eq!(reaches(&bench), calls, "nothing is said to the body");
        let ready = worker.call("GET", "/readyz", None);
        assert_eq!((ready.status, ready.reason().as_str()), (503, "disk_full"));
        assert!(
            problems(&worker).contains(at.to_str().unwrap()),
            "{}",
            problems(&worker)
        );
        assert_eq!(worker.view(&before)["status"], "ready");
        if is_full {
            disk.empty();
        } else {
            disk.allow();
        }
        until("it to be ready by itself", || {
            worker.call("GET", "/readyz", None).status == 200
        });
        assert!(!problems(&worker).contains("disk"), "{}", problems(&worker));
        let after = worker.session();
        assert_eq!(worker.delete(&after), 204);
        assert_eq!(worker.delete(&before), 204);
        bench.one_record(&before);
        worker.has_nothing_left();
        assert_eq!(
            bench.body.ratings().len(),
            2,
            "who was refused has no record"
        );
        drop((worker, disk));
    });
}

#[test]
fn a_worker_whose_disk_is_full_is_passed_over_while_others_have_room() {
    let bench = Bench::new();
    let at = bench.dir.join("w1/state");
    let Some(disk) = SmallDisk::mount(&at) else {
        return;
    };
    let controller = bench.controller();
    let full = bench.worker("w1", Some(&controller), json!({}));
    let mut other = bench.worker("w2", Some(&controller), json!({}));
    until("both workers", || {
        controller.get("/api/v1/workers").as_array().unwrap().len() == 2
    });
    controller.is_warm();
    disk.fill();
    // Nobody asks it for a session: it finds out by itself.
    until("the controller to know", || {
        problems(&controller).contains("w1 takes no sessions")
    });
    let ids: Vec<String> = (0..4).map(|_| controller.session()).collect();
    assert_eq!(other.sessions().len(), 4);
    assert!(
        !full.log().contains("POST /api/v1/sessions"),
        "{}",
        full.log()
    );
    assert_eq!(other.stop().code(), Some(0));
    let refused = controller.create();
    assert_eq!(refused.status, 503, "{}", refused.text());
    disk.empty();
    until("it to take sessions again", || {
        !problems(&controller).contains("w1 takes")
    });
    let id = controller.session();
    assert!(!full.view(&id).is_null());
    assert_eq!(controller.delete(&id), 204);
    assert_eq!(ids.len(), 4);
    drop((full, disk));
}

#[test]
fn what_ends_on_a_full_disk_is_recorded_once_there_is_room_also_by_the_next_process() {
    let bench = Bench::new();
    let at = bench.dir.join("w1/state");
    let Some(disk) = SmallDisk::mount(&at) else {
        return;
    };
    let mut worker = bench.worker("w1", None, json!({}));
    let (first, second, watched) = (worker.session(), worker.session(), worker.session());
    let process = worker.stream_process(&watched);
    disk.fill();
    assert_eq!(worker.delete(&first), 204);
    assert!(worker.view(&first).is_null());
    assert!(!worker.entry(&first).is_null(), "its entry stays");
    assert!(bench.records(&first).is_empty());
    disk.empty();
    assert_eq!(bench.one_record(&first)["end_reason"], "deleted");
    until("its entry to be gone", || worker.entry(&first).is_null());

    disk.fill();
    assert_eq!(worker.delete(&second), 204);
    worker.kill();
    worker.restart();
    assert_eq!(worker.stream_process(&watched), process, "the same process");
    assert_eq!(worker.view(&watched)["status"], "ready");
    assert!(bench.records(&second).is_empty());
    disk.empty();
    bench.one_record(&second);
    assert_eq!(worker.delete(&watched), 204);
    bench.one_record(&watched);
    worker.has_nothing_left();
    assert_eq!(bench.body.ratings().len(), 3, "nothing is told twice");
    drop((worker, disk));
}

#[test]
fn a_disk_that_hangs_keeps_no_session_from_its_end() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    let id = worker.session();
    let process = worker.stream_process(&id);
    // Who opens a pipe for writing waits until somebody reads from it.
    let pipe = worker.ledger().join(format!("{id}.tmp"));
    let made = Command::new("mkfifo").arg(&pipe).output().unwrap();
    assert!(made.status.success());
    assert_eq!(worker.delete(&id), 204);
    assert!(!is_running(process));
    worker.says("has not answered for 2s");
    // The disk is back.
    drop(std::fs::File::open(&pipe).unwrap());
    until("its entry is gone", || {
        std::fs::read_dir(worker.ledger()).unwrap().count() == 0
    });
    let next = worker.session();
    assert_eq!(worker.delete(&next), 204);
    worker.has_nothing_left();
}

#[test]
fn bodies_that_refuse_or_are_not_there_are_named_and_nothing_is_left() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    let fail = |faults: Faults| bench.body.fail(faults).unwrap();
    fail(Faults {
        wrong_password: true,
        ..Faults::default()
    });
    let refused = worker.create();
    assert_eq!(refused.status, 502, "{}", refused.text());
    assert!(refused.text().contains("sunshine"), "{}", refused.text());
    fail(Faults {
        handshake_fails: true,
        ..Faults::default()
    });
    let refused = worker.create();
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (502, "pairing_failed"),
        "{}",
        refused.text()
    );
    fail(Faults::default());
    let wrong = worker.create_with(json!({"sunshine_pass": "wrong"}));
    assert_eq!(wrong.status, 502, "{}", wrong.text());
    worker.has_nothing_left();
    assert!(bench.body.clients().is_empty());
    assert_eq!(bench.body.running(), None);
    // A restart in the middle is got over.
    fail(Faults {
        restart_during_pairing: true,
        ..Faults::default()
    });
    let answer = worker.create();
    assert!(matches!(answer.status, 201 | 502), "{}", answer.text());
    until("it to be back", || worker.create().status == 201);
    let id = worker.session();
    // Gone in the middle of a stream: the session can be ended all the same.
    fail(Faults {
        forbidden: true,
        agent_status: Some(500),
        ..Faults::default()
    });
    assert_eq!(worker.delete(&id), 204);
    assert_eq!(bench.one_record(&id)["end_reason"], "deleted");
}

#[test]
fn a_body_that_is_gone_holds_no_end_up_and_is_tidied_when_it_is_back() {
    let bench = Bench::new();
    let ways = [bench.body.sunshine(), bench.body.http(), bench.body.agent()].map(Link::to);
    let port = |n: usize| ways[n].at.port();
    let worker = bench.worker(
        "w1",
        None,
        json!({
            "sunshine": {"port": port(0), "http_port": port(1)},
            "bodies": {"agent_port": port(2)},
        }),
    );
    let id = worker.session();
    let page = worker.page(&id);
    worker.becomes(&id, "connected");
    for way in &ways {
        way.set(Carries::Nothing);
    }
    let refused = worker.create();
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (502, "body_unreachable")
    );
    assert_eq!(worker.view(&id)["status"], "connected");
    assert_eq!(worker.delete(&id), 204);
    assert_eq!(page.wait("ended")["end_reason"], "deleted");
    assert_eq!(bench.one_record(&id)["end_reason"], "deleted");
    worker.has_nothing_left();
    for way in &ways {
        way.set(Carries::Everything);
    }
    let next = worker.session();
    assert_eq!(worker.delete(&next), 204);
    until("no pairing to be left", || bench.body.clients().is_empty());
}

#[test]
fn a_body_that_does_not_answer_is_unreachable() {
    let bench = Bench::new();
    let nobody = ports(1);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for port in [nobody, silent.local_addr().unwrap().port()] {
        let worker = bench.worker(
            &format!("w{port}"),
            None,
            json!({"sunshine": {"port": port, "http_port": port}}),
        );
        let answer = worker.create();
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (502, "body_unreachable"),
            "{}",
            answer.text()
        );
        worker.has_nothing_left();
    }
}
