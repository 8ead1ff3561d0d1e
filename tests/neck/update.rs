//! An update on a machine where both roles run from one installed binary: real processes under a
//! supervisor with the units' rules, a release server, and the same program with another version.
//! The program is the one that is released: a build with the demo does not update itself.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::*;

const OLD: &str = env!("CARGO_PKG_VERSION");
/// `RestartPreventExitStatus` of both units.
const FINAL: [i32; 2] = [2, 78];
/// `RestartSec`, shorter.
const PAUSE: Duration = Duration::from_millis(200);

/// The next minor version: as long as ours, so that it can be written in its place.
fn next() -> String {
    let (major, rest) = OLD.split_once('.').unwrap();
    let (minor, patch) = rest.split_once('.').unwrap();
    let next = format!("{major}.{}.{patch}", minor.parse::<u32>().unwrap() + 1);
    assert_eq!(next.len(), OLD.len());
    next
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8], fits: impl Fn(Option<u8>) -> bool) -> usize {
    let places: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(at, found)| *found == from && fits(at.checked_sub(1).map(|b| bytes[b])))
        .map(|(at, _)| at)
        .collect();
    for at in &places {
        bytes[*at..at + to.len()].copy_from_slice(to);
    }
    places.len()
}

/// This program as the next version. Its version stands in the binary as text and, where the
/// compiler copies five bytes by two instructions, as text without its last byte.
fn next_binary() -> Vec<u8> {
    let mut bytes = fs::read(release_binary()).unwrap();
    let (from, to) = (&OLD[..OLD.len() - 1], next());
    let is_no_number =
        |before: Option<u8>| !before.is_some_and(|b| b == b'.' || b.is_ascii_digit());
    let n = replace(
        &mut bytes,
        from.as_bytes(),
        &to.as_bytes()[..from.len()],
        is_no_number,
    );
    assert!(n > 0, "no version in the binary");
    bytes
}

/// The next version, which does not know a key of the worker's configuration: a worker ends with
/// 78, a controller runs.
fn next_without_worker() -> Vec<u8> {
    let mut bytes = next_binary();
    assert!(
        replace(&mut bytes, b"allowed_networks", b"allowed_netw0rks", |_| {
            true
        }) > 0
    );
    bytes
}

/// Serves this release and no other.
fn releases(version: &str, binary: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let arch = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let name = format!("hydraneckwebrtc-linux-{arch}");
    let sum = ring::digest::digest(&ring::digest::SHA256, &binary);
    let hex: String = sum.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let files = [
        (
            "latest.json".to_owned(),
            json!({ "version": version }).to_string().into_bytes(),
        ),
        (
            format!("v{version}/SHA256SUMS"),
            format!("{hex}  {name}\n").into_bytes(),
        ),
        (format!("v{version}/{name}"), binary),
    ];
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            let target = line.split(' ').nth(1).unwrap_or_default();
            let file = files
                .iter()
                .find(|(file, _)| target == format!("/production/{file}"));
            let (status, body) = file.map_or((404, &[][..]), |(_, body)| (200, body));
            let size = body.len();
            let head = format!(
                "HTTP/1.1 {status} -\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(body));
        }
    });
    base
}

/// A role as its unit runs it: started again after a failure, but not after [`FINAL`].
struct Unit {
    at: SocketAddr,
    log: PathBuf,
    pid: Arc<AtomicU32>,
    is_over: Arc<AtomicBool>,
    end: Arc<Mutex<Option<i32>>>,
}

impl Unit {
    fn start(exe: &Path, role: &'static str, dir: &Path, config: &Value) -> Self {
        let listen = config["server"]["listen"].as_str().unwrap();
        fs::create_dir_all(dir).unwrap();
        let (file, log) = (dir.join("config.yaml"), dir.join("log"));
        fs::write(&file, config.to_string()).unwrap();
        let unit = Self {
            at: listen.parse().unwrap(),
            log: log.clone(),
            pid: Arc::default(),
            is_over: Arc::default(),
            end: Arc::default(),
        };
        let (pid, is_over) = (Arc::clone(&unit.pid), Arc::clone(&unit.is_over));
        let (end, exe) = (Arc::clone(&unit.end), exe.to_owned());
        let launch = move || -> Child {
            let log = fs::File::options()
                .create(true)
                .append(true)
                .open(&log)
                .unwrap();
            let mut command = Command::new(&exe);
            command.args(["--config", file.to_str().unwrap(), role]);
            command.env("INVOCATION_ID", "test").stdin(Stdio::null());
            command.stdout(log.try_clone().unwrap()).stderr(log);
            command.spawn().unwrap()
        };
        std::thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                let mut child = launch();
                pid.store(child.id(), Ordering::SeqCst);
                let code = child.wait().unwrap().code();
                if code.is_some_and(|c| c == 0 || FINAL.contains(&c)) {
                    *end.lock().unwrap() = code;
                    return;
                }
                pause(PAUSE);
            }
        });
        unit
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The version that answers.
    fn version(&self) -> Option<String> {
        let bearer = format!("Bearer {TOKEN}");
        let fields = [("Authorization", bearer.as_str())];
        let answer = call(self.at, "GET", "/api/v1/health", &fields, None).ok()?;
        answer.json()["version"].as_str().map(str::to_owned)
    }

    #[track_caller]
    fn runs(&self, version: &str) {
        let came = comes(Duration::from_secs(60), || {
            self.end.lock().unwrap().is_none() && self.version().as_deref() == Some(version)
        });
        let end = *self.end.lock().unwrap();
        assert!(
            came,
            "{version} does not run, ended {end:?}:\n{}",
            self.log()
        );
    }

    #[track_caller]
    fn says(&self, what: &str) {
        let came = comes(Duration::from_secs(60), || self.log().contains(what));
        assert!(came, "does not say {what:?}:\n{}", self.log());
    }

    /// Kills it, and waits until another process with this version answers.
    #[track_caller]
    fn crashes_and_runs(&self, version: &str) {
        let before = self.pid.load(Ordering::SeqCst);
        signal(before, "KILL");
        until("another process", || {
            self.pid.load(Ordering::SeqCst) != before
        });
        self.runs(version);
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        signal(self.pid.load(Ordering::SeqCst), "KILL");
    }
}

/// Both roles of one machine, and their binary. Fields drop in order.
struct Machine {
    controller: Unit,
    worker: Unit,
    exe: PathBuf,
    _bench: Bench,
}

impl Machine {
    fn start(release: Vec<u8>) -> Self {
        let bench = Bench::new();
        let exe = bench.dir.join("bin/hydraneckwebrtc");
        fs::create_dir(exe.parent().unwrap()).unwrap();
        fs::copy(release_binary(), &exe).unwrap();
        fs::set_permissions(&exe, fs::Permissions::from_mode(0o755)).unwrap();
        let base = releases(&next(), release);
        let update = json!({"base_url": base, "interval": "5s", "when_idle": false});
        let controller = json!({
            "mode": "controller",
            "server": {"listen": format!("127.0.0.1:{}", ports(1)), "admin_token": TOKEN},
            "update": update,
        });
        // The built-in stream program is the demo's; no session is made here.
        let program = script(&bench.dir, "program", "exit 1");
        let more = json!({"update": update, "sessions": {"web_server": program}});
        let worker = bench.worker_config("w1", None, more);
        Self {
            controller: Unit::start(
                &exe,
                "controller",
                &bench.dir.join("controller"),
                &controller,
            ),
            worker: Unit::start(&exe, "worker", &bench.dir.join("w1"), &worker),
            exe,
            _bench: bench,
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        PathBuf::from(format!("{}.{suffix}", self.exe.display()))
    }
}

/// What a binary says of itself.
fn version_of(exe: &Path) -> String {
    let done = Command::new(exe).arg("version").output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    said.split_whitespace()
        .last()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_version_that_fails_for_one_of_two_roles_is_taken_back_for_both() {
    let machine = Machine::start(next_without_worker());
    let refused = machine.beside("refused");
    let came = comes(Duration::from_secs(60), || refused.exists());
    assert!(came, "not taken back:\n{}", machine.worker.log());
    assert_eq!(fs::read_to_string(refused).unwrap(), next());
    for unit in [&machine.worker, &machine.controller] {
        // Only the old version says so, at its next look.
        unit.says(&format!("{} was taken back and is left out", next()));
        unit.runs(OLD);
    }
    assert_eq!(version_of(&machine.exe), OLD);
}

#[test]
fn a_version_that_runs_is_kept_though_two_roles_start_it_more_often_than_one_may() {
    let machine = Machine::start(next_binary());
    let units = [&machine.worker, &machine.controller];
    for unit in units {
        unit.runs(&next());
    }
    assert_eq!(version_of(&machine.beside("backup")), OLD);
    // Three starts each is what a trial allows.
    for unit in [units, units].concat() {
        unit.crashes_and_runs(&next());
    }
    assert_eq!(version_of(&machine.exe), next());
    assert_eq!(version_of(&machine.beside("backup")), OLD);
    assert!(!machine.beside("refused").exists());
}

#[test]
fn a_build_with_the_demo_does_not_update_itself() {
    let bench = Bench::new();
    let exe = bench.dir.join("hydraneckwebrtc");
    fs::copy(BINARY, &exe).unwrap();
    let update = json!({"base_url": releases(&next(), next_binary()), "interval": "5s"});
    let config = bench.worker_config("w1", None, json!({ "update": update }));
    let worker = Unit::start(&exe, "worker", &bench.dir.join("w1"), &config);
    worker.says("no updates by itself: this build has the feature `demo`");
    let config = bench.dir.join("w1/config.yaml");
    let done = Command::new(&exe)
        .args(["--config", config.to_str().unwrap(), "update"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("does not update itself"), "{said}");
    assert!(fs::read(&exe).unwrap() == fs::read(BINARY).unwrap());
}
