//! A bench for each test: own directory, own ports, own body, and the real binary in its roles.

mod link;
mod machine;
mod net;
mod node;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use hydraneckwebrtc::testing::clock;
use hydraneckwebrtc::testing::demo::body::{BodyOptions, DemoBody};
use hydraneckwebrtc::testing::ids;
use hydraneckwebrtc::testing::secret::Secret;
use serde_json::{Value, json};

pub use link::*;
pub use machine::*;
pub use net::*;
pub use node::*;

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_hydraneckwebrtc");
/// The program as it is released, without the demo: what $NECK_RELEASE names (tests/run sets it), else
/// a build of its own beside the one under test, which takes minutes the first time.
pub fn release_binary() -> PathBuf {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("without-demo");
        let profile = if cfg!(debug_assertions) {
            "dev"
        } else {
            "release"
        };
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--locked",
            "--no-default-features",
            "--profile",
            profile,
        ]);
        build.arg("--target-dir").arg(&target);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        let status = build.status().unwrap();
        assert!(status.success(), "{build:?} ends with {status}");
        let dir = if profile == "dev" { "debug" } else { profile };
        target.join(dir).join("hydraneckwebrtc")
    });
    let named = std::env::var_os("NECK_RELEASE").map(PathBuf::from);
    let path = named.unwrap_or_else(|| BUILT.clone());
    assert!(
        path.exists(),
        "$NECK_RELEASE: {} is not there: `tests/run rust` builds it; without the variable this test builds its own",
        path.display()
    );
    path
}

/// Token of every API on a bench.
pub const TOKEN: &str = "bench-token";
/// Longest wait for anything that is to come by itself: far more than a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(40);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// Interval of heartbeats. Three of them silent and a worker gets no sessions, so it must be longer
/// than a third of what a loaded machine lets a process wait for its turn.
pub const BEAT: &str = "500ms";
/// `bodies.sessions_max` of tests that are about slots: any number of sessions shares the one body.
pub const SHARED: u16 = 1_000;
/// `workers.heartbeat_timeout` of tests that wait for it: a stall of this machine is shorter.
pub const TIMEOUT: &str = "4s";

/// Waits until `seen`, and panics with `what` when it does not come.
#[track_caller]
pub fn until(what: &str, seen: impl FnMut() -> bool) {
    assert!(comes(PATIENCE, seen), "waited in vain for {what}");
}

/// Whether it comes within `patience`.
pub fn comes(patience: Duration, mut seen: impl FnMut() -> bool) -> bool {
    let deadline = clock::now() + patience;
    loop {
        if seen() {
            return true;
        }
        if clock::now() > deadline {
            return false;
        }
        pause(LOOK);
    }
}

/// Lets time pass, for tests of what must *not* happen in it.
#[allow(clippy::disallowed_methods)]
pub fn pause(span: Duration) {
    std::thread::sleep(span);
}

/// Runs `work` `n` times at once.
pub fn at_once<T: Send>(n: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..n).map(|i| scope.spawn(move || work(i))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

/// Everything of one test. Fields drop in order: processes first, files last.
pub struct Bench {
    pub body: DemoBody,
    pub dir: PathBuf,
}

impl Bench {
    pub fn new() -> Self {
        let name = format!("neck-test-{}-{}", std::process::id(), ids::label());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).unwrap();
        let body = DemoBody::start(BodyOptions {
            password: Secret::new("sunshine"),
            token: Some(Secret::new(TOKEN)),
            ..BodyOptions::default()
        });
        Self {
            body: body.unwrap(),
            dir,
        }
    }

    /// A controller that hears its workers at every [`BEAT`].
    /// A controller of a fleet whose bodies any number of sessions may share.
    pub fn controller(&self) -> Node {
        self.controller_with(json!({}))
    }

    pub fn controller_with(&self, more: Value) -> Node {
        if more["bodies"]["sessions_max"].is_null() {
            self.body.lock_certificates();
        }
        let port = ports(1);
        let mut config = json!({
            "mode": "controller",
            "district": "test1",
            "server": {"listen": format!("127.0.0.1:{port}"), "admin_token": TOKEN},
            "controller": {"heartbeat_interval": BEAT},
            "workers": {"heartbeat_timeout": "10s"},
            "bodies": {"sessions_max": SHARED},
        });
        merge(&mut config, more);
        Node::start("controller", self.dir.join("controller"), port, config)
    }

    /// A worker with 15 slots, the built-in stream program and an own range of ports.
    pub fn worker(&self, id: &str, controller: Option<&Node>, more: Value) -> Node {
        let config = self.worker_config(id, controller, more);
        self.start_worker(id, config)
    }

    pub fn start_worker(&self, id: &str, config: Value) -> Node {
        let listen = config["server"]["listen"].as_str().unwrap();
        let port = listen.rsplit(':').next().unwrap().parse().unwrap();
        Node::start("worker", self.dir.join(id), port, config)
    }

    pub fn worker_config(&self, id: &str, controller: Option<&Node>, more: Value) -> Value {
        let max = more["sessions"]["max"].as_u64().unwrap_or(15);
        let port = ports(u16::try_from(max).unwrap() + 1);
        let dir = self.dir.join(id);
        let agent = format!("http://{}", self.body.agent());
        let mut config = json!({
            "mode": "worker",
            "district": "test1",
            "server": {"listen": format!("127.0.0.1:{port}"), "admin_token": TOKEN},
            "worker": {"id": id, "state_dir": dir.join("state")},
            "sessions": {
                "max": max,
                "port_range_start": port + 1,
                "web_server": "testcard",
                "dir": dir.join("sessions"),
                "webrtc_port_start": port,
                "webrtc_ports": 1,
                "public_ip": "127.0.0.1",
                "relay_only": false,
            },
            "sunshine": {
                "username": "sunshine",
                "password": "sunshine",
                "port": self.body.sunshine().port(),
                "http_port": self.body.http().port(),
            },
            "bodies": {
                "allowed_networks": ["127.0.0.1/32"],
                "agent_port": self.body.agent().port(),
                "pair_once": false,
                "sessions_max": SHARED,
            },
            "mic": {"bind": "127.0.0.1"},
            "nps": {"url": agent, "token": TOKEN},
            "experience_library": {"url": agent, "token": TOKEN},
        });
        if let Some(controller) = controller {
            config["controller"] = json!({
                "url": format!("http://{}", controller.at),
                "token": TOKEN,
                "heartbeat_interval": BEAT,
            });
            config["worker"]["url"] = format!("http://127.0.0.1:{port}").into();
        }
        merge(&mut config, more);
        config
    }

    /// The records that the NPS service got of this session; ratings of the experience library
    /// come to the same double and have no `end_reason`.
    pub fn records(&self, id: &str) -> Vec<Value> {
        let all = self.body.ratings().into_iter();
        all.filter(|r| r["session_id"] == id && !r["end_reason"].is_null())
            .collect()
    }

    /// Waits for the record of a session and checks that it stays the only one.
    #[track_caller]
    pub fn one_record(&self, id: &str) -> Value {
        until("the NPS record", || !self.records(id).is_empty());
        let records = self.records(id);
        assert_eq!(records.len(), 1, "{records:?}");
        records[0].clone()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Sessions outlive a killed worker on purpose; they do not outlive the test.
        for pid in processes_in(&self.dir) {
            signal(pid, "KILL");
        }
        if std::thread::panicking() {
            eprintln!("kept for a look: {}", self.dir.display());
        } else {
            let _ = comes(Duration::from_secs(5), || {
                std::fs::remove_dir_all(&self.dir).is_ok()
            });
        }
    }
}

/// Lays `more` over `base`.
pub fn merge(base: &mut Value, more: Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, more) => *base = more,
    }
}

/// `/session/<id>` of a stream URL.
pub fn prefix(id: &str) -> String {
    format!("/session/{id}")
}

pub fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}
