//! The real worker with its sessions, and what the kernel says it spends.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hydraneckwebrtc::testing::demo::body::{BodyOptions, DemoBody};
use hydraneckwebrtc::testing::secret::Secret;
use hydraneckwebrtc::testing::{clock, ids};
use serde_json::{Value, json};

use super::{Outcome, pause};

const TOKEN: &str = "bench-token";
/// First of the ports that the worker and its sessions take: below the kernel's own range.
const PORTS: u16 = 21_000;
/// Longest wait for the worker, and for one of its answers.
const PATIENCE: Duration = Duration::from_secs(90);

/// A worker with as many sessions as microphones are wanted. Killed when dropped.
pub(super) struct Machine {
    child: Child,
    at: SocketAddr,
    dir: PathBuf,
    pub(super) sessions: Vec<String>,
    _body: DemoBody,
}

impl Machine {
    /// Starts the program beside this one; bodies hear microphones at `sink`.
    pub(super) fn start(sessions: u16, sink: u16) -> Outcome<Self> {
        let body = DemoBody::start(BodyOptions {
            password: Secret::new("sunshine"),
            ..BodyOptions::default()
        })?;
        let dir = std::env::temp_dir().join(format!("neck-mic-bench-{}", ids::label()));
        fs::create_dir(&dir)?;
        let config = json!({
            "mode": "worker",
            "district": "bench",
            "server": {"listen": format!("127.0.0.1:{PORTS}"), "admin_token": TOKEN},
            "worker": {"id": "bench", "state_dir": dir.join("state")},
            "sessions": {
                "max": sessions, "port_range_start": PORTS + 1, "web_server": "testcard",
                "dir": dir.join("sessions"), "webrtc_port_start": PORTS + 2_000, "webrtc_ports": 1,
                "public_ip": "127.0.0.1", "relay_only": false, "start_timeout": "80s",
                "connect_timeout": "1h",
            },
            "sunshine": {
                "username": "sunshine", "password": "sunshine",
                "port": body.sunshine().port(), "http_port": body.http().port(),
            },
            "bodies": {
                "allowed_networks": ["127.0.0.1/32"], "agent_port": body.agent().port(),
                "mic_port": sink, "pair_once": false,
            },
            "mic": {"bind": "127.0.0.1", "max": sessions, "port_start": PORTS + 4_000},
        });
        // JSON is YAML.
        let file = dir.join("config.yaml");
        fs::write(&file, config.to_string())?;
        let log = File::create(dir.join("log"))?;
        let program = std::env::current_exe()?;
        let program = program
            .parent()
            .and_then(|p| p.parent())
            .ok_or("no place")?;
        let child = Command::new(program.join("hydraneckwebrtc"))
            .arg("--config")
            .arg(&file)
            .arg("worker")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut machine = Self {
            child,
            at: ([127, 0, 0, 1], PORTS).into(),
            dir,
            sessions: Vec::new(),
            _body: body,
        };
        let deadline = clock::now() + PATIENCE;
        while machine.call("GET", "/livez", None).is_err() {
            if clock::now() > deadline || machine.child.try_wait()?.is_some() {
                return Err(
                    format!("the worker does not start, see {}", machine.dir.display()).into(),
                );
            }
            pause(Duration::from_millis(50));
        }
        for _ in 0..sessions {
            let wanted = json!({"body_ip": "127.0.0.1"});
            let made = machine.call("POST", "/api/v1/sessions", Some(wanted))?;
            let id = made["session_id"].as_str().ok_or("no session")?.to_owned();
            machine.sessions.push(id);
        }
        Ok(machine)
    }

    /// Posts a voice's offer; gives the answer's SDP.
    pub(super) fn offer(&self, session: &str, offer: &[u8]) -> Outcome<String> {
        let target = format!("/session/{session}/mic/offer");
        let answer = self.call("POST", &target, Some(serde_json::from_slice(offer)?))?;
        Ok(answer["sdp"].as_str().ok_or("no sdp")?.to_owned())
    }

    fn call(&self, method: &str, target: &str, body: Option<Value>) -> Outcome<Value> {
        let mut socket = TcpStream::connect(self.at)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let body = body.map(|b| b.to_string()).unwrap_or_default();
        write!(
            socket,
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.at,
            body.len()
        )?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let content = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        if !status.starts_with('2') {
            return Err(format!("{method} {target}: {status} {content}").into());
        }
        // Chunked or not: the JSON is what stands between the first and the last brace.
        let json = content.find('{').zip(content.rfind('}'));
        Ok(json.map_or(Ok(Value::Null), |(a, z)| {
            serde_json::from_str(&content[a..=z])
        })?)
    }

    /// CPU nanoseconds of the microphones' thread, and of the whole process.
    pub(super) fn nanos(&self) -> Outcome<[u64; 2]> {
        let mut spent = [0; 2];
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))?.flatten() {
            let path = task.path().display().to_string();
            // A thread may end meanwhile.
            let nanos = nanos_of(&path).unwrap_or(0);
            spent[1] += nanos;
            if fs::read_to_string(format!("{path}/comm")).is_ok_and(|name| name.trim() == "mic") {
                spent[0] += nanos;
            }
        }
        Ok(spent)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for session in &self.sessions {
            let _ = self.call("DELETE", &format!("/api/v1/sessions/{session}"), None);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// CPU nanoseconds of a thread.
pub(super) fn nanos_of(path: &str) -> Outcome<u64> {
    let text = fs::read_to_string(format!("{path}/schedstat"))?;
    Ok(text.split(' ').next().ok_or("no schedstat")?.parse()?)
}
