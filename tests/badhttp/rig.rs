//! Controller and worker as child processes, a demo body, and one session that is ready.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use hydraneckwebrtc::testing::clock;
use hydraneckwebrtc::testing::demo::body::{BodyOptions, DemoBody};
use hydraneckwebrtc::testing::exec;
use hydraneckwebrtc::testing::secret::Secret;

use crate::client::{self, latin1};
use crate::program::{BINARY, RECORD};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hydraneckwebrtc");
const TOKEN: &str = "badhttp-token";
const PASSWORD: &str = "badhttp-password";
/// Sessions of the rig's worker.
const SESSIONS: u16 = 4;
/// Longest wait for a part to start on a busy machine.
const STARTED: Duration = Duration::from_secs(60);

/// The running system.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) controller: SocketAddr,
    pub(crate) worker: SocketAddr,
    pub(crate) session: String,
    pub(crate) controller_pid: u32,
    pub(crate) worker_pid: u32,
    record: PathBuf,
    body: DemoBody,
    /// Held open: the processes end when this end of their pipes closes, with the test process.
    _leashes: Vec<ChildStdin>,
}

/// The rig, started once for all tests.
pub(crate) fn rig() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(start)
}

impl Rig {
    /// Both roles, by name.
    pub(crate) fn roles(&self) -> [(&'static str, SocketAddr); 2] {
        [("controller", self.controller), ("worker", self.worker)]
    }

    /// A path below the session.
    pub(crate) fn path(&self, inner: &str) -> String {
        format!("/session/{}/{inner}", self.session)
    }

    /// One more session, with a stream program of its own.
    pub(crate) fn another(&self) -> String {
        create(self.controller, self.body.sunshine())
    }

    /// Everything the stream program was sent until now.
    pub(crate) fn seen(&self) -> String {
        latin1(&std::fs::read(&self.record).unwrap_or_default())
    }

    pub(crate) fn bearer() -> String {
        format!("Authorization: Bearer {TOKEN}\r\n")
    }
}

/// An address that was free a moment ago.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// The first of `SESSIONS` free ports in a row, below those that the kernel hands out.
fn free_range() -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let first = 20_000 + u16::try_from(std::process::id() % 500).unwrap() * 20;
    let mut starts = (first..32_000).step_by(usize::from(SESSIONS));
    starts
        .find(|start| (*start..start + SESSIONS).all(is_free))
        .unwrap()
}

fn start() -> Rig {
    let dir = std::env::temp_dir().join(format!("badhttp-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("program/static")).unwrap();
    let record = dir.join("record");
    let web_server = wrapper(&dir, &record);
    let body = DemoBody::start(BodyOptions {
        password: Secret::new(PASSWORD),
        ..BodyOptions::default()
    })
    .unwrap();
    let (controller, worker) = (free(), free());
    let config = |listen: SocketAddr| {
        format!(
            r#"
district: test
server:
  listen: "{listen}"
  admin_token: "{TOKEN}"
  connections_max: 16000
controller:
  url: "http://{controller}"
  token: "{TOKEN}"
  heartbeat_interval: 1s
worker:
  id: badhttp
  url: "http://{worker}"
  state_dir: "{dir}/state"
sessions:
  max: {SESSIONS}
  port_range_start: {first}
  web_server: "{web_server}"
  dir: "{dir}/sessions"
  webrtc_port_start: 50000
  relay_only: false
  # Rows come and go as viewers; the one session outlives them all.
  connect_timeout: 1h
  disconnect_grace: 1h
sunshine:
  username: sunshine
  password: "{PASSWORD}"
  port: {sunshine}
  http_port: {http}
bodies:
  allowed_networks: ["127.0.0.1/32"]
  sessions_max: 1000
  agent_port: {agent}
log:
  level: warn
"#,
            dir = dir.display(),
            first = free_range(),
            web_server = web_server.display(),
            sunshine = body.sunshine().port(),
            http = body.http().port(),
            agent = body.agent().port(),
        )
    };
    let mut leashes = Vec::new();
    let mut pids = Vec::new();
    for (role, listen) in [("controller", controller), ("worker", worker)] {
        let file = dir.join(format!("{role}.yaml"));
        std::fs::write(&file, config(listen)).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let (leash, pid) = leashed(role, &file, &dir);
        leashes.push(leash);
        pids.push(pid);
        until(role, || is_up(listen, "/livez"));
    }
    until("registration", || is_up(controller, "/readyz"));
    // Until it has heard from all its workers a controller answers 503 for what it does not know.
    until("a round of heartbeats", || {
        let unknown = "/session/00000000000000000000000000000000/";
        statuses(controller, unknown) == [404]
    });
    let session = create(controller, body.sunshine());
    Rig {
        controller,
        worker,
        session,
        controller_pid: pids[0],
        worker_pid: pids[1],
        record,
        body,
        _leashes: leashes,
    }
}

/// The stream program: this test binary, told what to be.
fn wrapper(dir: &Path, record: &Path) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in --version) echo web-server 2.6.0; exit;; esac\nexport {RECORD}='{}' {BINARY}='{PROGRAM}'\nexec '{}' --exact stream_program --ignored --nocapture\n",
        record.display(),
        own.display(),
    );
    let path = dir.join("program/web-server");
    for name in ["web-server", "streamer"] {
        let path = dir.join("program").join(name);
        std::fs::write(&path, &script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    path
}

/// Starts a role that ends when our end of its pipe closes, whatever becomes of this process.
#[allow(clippy::zombie_processes)] // the shell outlives this process, by design
fn leashed(role: &str, config: &Path, dir: &Path) -> (ChildStdin, u32) {
    let keep = if role == "worker" {
        "--keep-sessions=false"
    } else {
        "--json"
    };
    let mut shell = Command::new("/bin/sh")
        .arg("-c")
        .arg(
            "ulimit -n 20000; log=$1 dir=$2; shift 2; \"$@\" 2>\"$log\" & p=$!; echo $p; read _; \
             kill $p; wait $p; rm -rf \"$dir\"",
        )
        .arg("sh")
        .arg(dir.join(format!("{role}.log")))
        .arg(if role == "worker" { dir } else { config })
        .args([PROGRAM, "--config"])
        .arg(config)
        .args([role, keep])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = Vec::new();
    let mut stdout = shell.stdout.take().unwrap();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        assert_eq!(stdout.read(&mut byte).unwrap(), 1, "{role} did not start");
        line.extend_from_slice(&byte);
    }
    let pid = latin1(&line).trim().parse().unwrap();
    (shell.stdin.take().unwrap(), pid)
}

fn is_up(address: SocketAddr, path: &str) -> bool {
    statuses(address, path) == [200]
}

fn statuses(address: SocketAddr, path: &str) -> Vec<u16> {
    let Ok(mut stream) = std::net::TcpStream::connect(address) else {
        return Vec::new();
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(request.as_bytes());
    client::finish(&mut stream, false).statuses()
}

fn create(controller: SocketAddr, body: SocketAddr) -> String {
    let json = format!(r#"{{"body_ip":"{}"}}"#, body.ip());
    let request = format!(
        "POST /api/v1/sessions HTTP/1.1\r\nHost: a\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{json}",
        Rig::bearer(),
        json.len()
    );
    let mut stream = client::connect(controller);
    stream.set_read_timeout(Some(STARTED)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let got = client::finish(&mut stream, false);
    assert_eq!(got.statuses(), [201], "{got:?}");
    let created: serde_json::Value = serde_json::from_slice(&got.answers[0].body).unwrap();
    created["session_id"].as_str().unwrap().to_owned()
}

/// Waits until `done`, by looking again and again.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = clock::now() + STARTED;
    while !done() {
        assert!(clock::now() < deadline, "{what} took too long");
        exec::block_on(clock::sleep(Duration::from_millis(20)));
    }
}
