//! A controller or worker: the real binary as a child process, and what is said to it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{PipeWriter, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::{Value, json};

use super::{
    Answer, BINARY, Feed, TOKEN, call, comes, descriptors, entries, files_in, is_free, loopback,
    processes_in, resident, signal, until, zombies,
};

/// One role on one machine. Killed when dropped.
pub struct Node {
    pub at: SocketAddr,
    pub dir: PathBuf,
    pub config: Value,
    /// A program and its arguments that becomes the role: prlimit, setpriv.
    pub wrapper: Vec<String>,
    /// Variables that it finds besides the test's own.
    pub env: Vec<(&'static str, OsString)>,
    /// Where it logs, in place of the file that [`Node::log`] reads.
    pub stderr: Option<PipeWriter>,
    role: &'static str,
    child: Option<Child>,
}

impl Node {
    /// Starts it and waits until it answers.
    pub fn start(role: &'static str, dir: PathBuf, port: u16, config: Value) -> Self {
        let mut node = Self::at_rest(role, dir, port, config);
        node.restart();
        node
    }

    /// One that is not started yet.
    pub fn at_rest(role: &'static str, dir: PathBuf, port: u16, config: Value) -> Self {
        Self {
            at: loopback(port),
            dir,
            config,
            wrapper: Vec::new(),
            env: Vec::new(),
            stderr: None,
            role,
            child: None,
        }
    }

    /// Starts it again after it was stopped, and waits until it answers.
    pub fn restart(&mut self) {
        self.child = Some(self.launch(&[]));
        self.answers();
    }

    /// Starts another process with this configuration.
    pub fn launch(&self, more: &[&str]) -> Child {
        fs::create_dir_all(&self.dir).unwrap();
        let file = self.dir.join("config.yaml");
        // JSON is YAML.
        fs::write(&file, self.config.to_string()).unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .unwrap();
        let mut words = self.wrapper.iter().map(String::as_str).chain([BINARY]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .args(["--config", file.to_str().unwrap(), self.role])
            .args(more);
        command.env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdout(log.try_clone().unwrap());
        match &self.stderr {
            Some(pipe) => command.stderr(pipe.try_clone().unwrap()),
            None => command.stderr(log),
        };
        command.spawn().unwrap()
    }

    #[track_caller]
    pub fn answers(&mut self) {
        let came = comes(std::time::Duration::from_secs(40), || {
            let ended = self.child.as_mut().and_then(|c| c.try_wait().unwrap());
            assert!(
                ended.is_none(),
                "{} ended with {ended:?}:\n{}",
                self.role,
                self.log()
            );
            call(self.at, "GET", "/livez", &[], None).is_ok_and(|a| a.status == 200)
        });
        assert!(came, "{} does not answer:\n{}", self.role, self.log());
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        let _ = child.kill();
        child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        signal(self.pid(), "TERM");
        self.ended()
    }

    /// Waits until it ends by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        until("the process to end", || child.try_wait().unwrap().is_some());
        child.wait().unwrap()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// All it has said.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    #[track_caller]
    pub fn says(&self, what: &str) {
        let came = comes(std::time::Duration::from_secs(40), || {
            self.log().contains(what)
        });
        assert!(came, "{} does not say {what:?}:\n{}", self.role, self.log());
    }

    /// Calls the API with the token.
    pub fn call(&self, method: &str, target: &str, body: Option<Value>) -> Answer {
        self.call_with(method, target, &[], body)
    }

    pub fn call_with(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let bearer = format!("Bearer {TOKEN}");
        let mut all = vec![("Authorization", bearer.as_str())];
        if body.is_some() {
            all.push(("Content-Type", "application/json"));
        }
        all.extend_from_slice(fields);
        let bytes = body.map(|b| b.to_string().into_bytes());
        call(self.at, method, target, &all, bytes.as_deref())
            .unwrap_or_else(|e| panic!("{method} {target}: {e}\n{}", self.log()))
    }

    /// Calls as a browser's page does: without the token.
    pub fn browse(&self, method: &str, target: &str, body: Option<Value>) -> Answer {
        let bytes = body.map(|b| b.to_string().into_bytes());
        let fields: &[_] = if bytes.is_some() {
            &[("Content-Type", "application/json")]
        } else {
            &[]
        };
        call(self.at, method, target, fields, bytes.as_deref()).unwrap()
    }

    pub fn get(&self, target: &str) -> Value {
        let answer = self.call("GET", target, None);
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        answer.json()
    }

    /// Asks for a session.
    pub fn create(&self) -> Answer {
        self.create_with(json!({}))
    }

    pub fn create_with(&self, mut more: Value) -> Answer {
        more["body_ip"] = "127.0.0.1".into();
        self.call("POST", "/api/v1/sessions", Some(more))
    }

    /// A session that is ready: its id.
    #[track_caller]
    pub fn session(&self) -> String {
        self.session_with(json!({}))
    }

    #[track_caller]
    pub fn session_with(&self, more: Value) -> String {
        let answer = self.create_with(more);
        assert_eq!(answer.status, 201, "{}\n{}", answer.text(), self.log());
        answer.json()["session_id"].as_str().unwrap().to_owned()
    }

    pub fn delete(&self, id: &str) -> u16 {
        self.call("DELETE", &format!("/api/v1/sessions/{id}"), None)
            .status
    }

    /// The sessions that a worker lists, or all of a controller's workers.
    pub fn sessions(&self) -> Vec<Value> {
        let all = self.get("/api/v1/sessions");
        let all = all.as_array().unwrap().iter();
        match self.role {
            "worker" => all.cloned().collect(),
            _ => all
                .flat_map(|w| w["sessions"].as_array().unwrap().clone())
                .collect(),
        }
    }

    /// One session, or null.
    pub fn view(&self, id: &str) -> Value {
        let answer = self.call("GET", &format!("/api/v1/sessions/{id}"), None);
        if answer.status == 200 {
            answer.json()
        } else {
            Value::Null
        }
    }

    /// Waits until the session has this status.
    #[track_caller]
    pub fn becomes(&self, id: &str, status: &str) {
        let came = comes(std::time::Duration::from_secs(40), || {
            self.view(id)["status"] == status
        });
        assert!(
            came,
            "session {id} does not become {status}: {}\n{}",
            self.view(id),
            self.log()
        );
    }

    /// Waits until the session is not known any more.
    #[track_caller]
    pub fn forgets(&self, id: &str) {
        let came = comes(std::time::Duration::from_secs(40), || {
            self.view(id).is_null()
        });
        assert!(
            came,
            "session {id} stays: {}\n{}",
            self.view(id),
            self.log()
        );
    }

    /// Waits until a controller knows its workers, and that what it does not know is not there.
    #[track_caller]
    pub fn is_warm(&self) {
        until("a healthy worker", || {
            self.call("GET", "/readyz", None).status == 200
        });
        let nobody = format!("/api/v1/sessions/{}", "0".repeat(32));
        until("certainty", || {
            self.call("GET", &nobody, None).status == 404
        });
    }

    pub fn events(&self) -> Feed {
        let bearer = format!("Bearer {TOKEN}");
        Feed::open(self.at, "/api/v1/events", &[("Authorization", &bearer)])
    }

    /// What a page hears of its session.
    pub fn page(&self, id: &str) -> Feed {
        Feed::open(self.at, &format!("/session/{id}/events"), &[])
    }

    /// What a worker's ledger keeps of a session.
    pub fn entry(&self, id: &str) -> Value {
        let entry = fs::read(self.ledger().join(format!("{id}.json"))).unwrap_or_default();
        serde_json::from_slice(&entry).unwrap_or_default()
    }

    /// A worker's stream process of a session: leader of its group.
    #[track_caller]
    pub fn stream_process(&self, id: &str) -> u32 {
        let pid = || self.entry(id)["process"]["pid"].as_u64();
        let mut found = None;
        // One look: while the process is replaced the entry has none.
        until("the stream process", || {
            found = pid();
            found.is_some()
        });
        u32::try_from(found.unwrap()).unwrap()
    }

    pub fn ledger(&self) -> PathBuf {
        self.dir.join("state/sessions")
    }

    pub fn sessions_dir(&self) -> PathBuf {
        self.dir.join("sessions")
    }

    fn slots(&self) -> std::ops::Range<u16> {
        let number =
            |key: &str| u16::try_from(self.config["sessions"][key].as_u64().unwrap()).unwrap();
        let first = number("port_range_start");
        first..first + number("max")
    }

    /// Descriptors of sessions that are still open: what is kept for good and idle connections
    /// of clients do not count.
    pub fn descriptors(&self) -> usize {
        descriptors(self.pid()).len()
    }

    /// What it has of the machine.
    pub fn counts(&self) -> Counts {
        let slots = match self.role {
            "worker" => self.slots(),
            _ => 0..0,
        };
        Counts {
            descriptors: self.descriptors(),
            resident: resident(self.pid()),
            processes: processes_in(&self.dir).len(),
            ports: slots.filter(|port| !is_free(*port)).count(),
            files: files_in(&self.dir),
        }
    }

    /// What a worker without sessions still has of any: nothing, in the end (I4: within 10 s).
    #[track_caller]
    pub fn has_nothing_left(&self) {
        let look = || -> Vec<String> {
            let mut left: Vec<String> = Vec::new();
            left.extend(
                processes_in(&self.sessions_dir())
                    .iter()
                    .map(|p| format!("process {p}")),
            );
            left.extend(
                entries(&self.sessions_dir())
                    .iter()
                    .map(|e| format!("directory {e}")),
            );
            left.extend(
                entries(&self.ledger())
                    .iter()
                    .map(|e| format!("ledger {e}")),
            );
            left.extend(
                self.slots()
                    .filter(|p| !is_free(*p))
                    .map(|p| format!("port {p}")),
            );
            if let Some(child) = &self.child {
                left.extend(zombies(child.id()).iter().map(|p| format!("zombie {p}")));
            }
            left
        };
        let clean = comes(std::time::Duration::from_secs(10), || look().is_empty());
        assert!(clean, "left: {:?}\n{}", look(), self.log());
    }
}

/// What a role has of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    pub descriptors: usize,
    /// KiB.
    pub resident: u64,
    /// Of its sessions.
    pub processes: usize,
    /// Of its slots, taken.
    pub ports: usize,
    /// Below its directory: configuration, log, state, sessions.
    pub files: usize,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {} {}\n{}", self.role, self.dir.display(), self.log());
        }
    }
}

/// A program for `sessions.web_server`, in a shell. `$CARD` runs the built-in stream program in
/// its place.
pub fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let home = dir.join(name);
    fs::create_dir_all(home.join("static")).unwrap();
    let path = home.join("web-server");
    let text = text.replace("$CARD", &format!("{BINARY} testcard"));
    let version = "case \"$1\" in --version) echo web-server 2.6.0; exit 0;; esac";
    executable(&path, &format!("#!/bin/sh\n{version}\n{text}\n"));
    executable(&home.join("streamer"), "#!/bin/sh\nexit 0\n");
    path
}

/// Written by a child: a process that another test forks meanwhile cannot hold it open for writing,
/// which would make its execution fail with "text file busy".
fn executable(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let mut tee = Command::new("tee")
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = tee.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    assert!(tee.wait().unwrap().success());
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
