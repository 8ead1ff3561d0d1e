//! What the room's tests share: scratch directories, scripts, strays, and waiting without sleeping.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::cgroup::Cgroups;
use super::program_config::{ProgramSettings, StreamerAddress, StreamerIceServer};
use super::stream_program::{ConfigFormat, StreamProgram};
use super::workspace::SessionsDir;
use crate::ids::SessionId;
use crate::secret::Secret;
use crate::testing::has;
use crate::{clock, ids};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that is gone when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let name = format!("neck-session-{}", ids::label());
        let path = fs::canonicalize(std::env::temp_dir()).unwrap().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A sessions directory with its state directory.
    pub(crate) fn sessions(&self) -> SessionsDir {
        let state = self.0.join("state");
        fs::create_dir_all(&state).unwrap();
        SessionsDir::open(&self.0.join("sessions"), &state).unwrap()
    }

    /// An executable shell script.
    pub(crate) fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Written by a child: a thread that forks meanwhile cannot hold it open for writing, which
        // would make the exec fail with "text file busy".
        let text = format!("#!/bin/sh\n{body}\n");
        let mut tee = Command::new("tee")
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut tee.stdin.take().unwrap(), text.as_bytes()).unwrap();
        assert!(tee.wait().unwrap().success());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A stream program that is this shell script.
    pub(crate) fn program(&self, body: &str) -> StreamProgram {
        let executable = self.script(&format!("program-{}", ids::label()), body);
        StreamProgram {
            streamer: executable.with_file_name("streamer"),
            executable,
            args: Vec::new(),
            static_dir: None,
            generation: ConfigFormat::Fork,
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A child that is killed and reaped when dropped.
pub(crate) struct Stray(Child);

impl Stray {
    pub(crate) fn sleeping(cwd: &Path) -> Self {
        Self(
            Command::new("sleep")
                .arg("300")
                .current_dir(cwd)
                .spawn()
                .unwrap(),
        )
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn wait(&mut self) {
        self.0.wait().unwrap();
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where this machine lets us make cgroups. By hand tests without them test the process groups only.
pub(crate) fn cgroups() -> Option<Cgroups> {
    let found = Cgroups::find();
    has("a writable cgroup v2 (root)", found.is_some());
    found
}

/// Looks until `happened`, at most [`PATIENCE`].
#[track_caller]
pub(crate) fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !happened() {
        assert!(clock::now() < deadline, "waited in vain for {what}");
        smol::block_on(clock::sleep(Duration::from_millis(5)));
    }
}

pub(crate) fn settings(port: u16) -> ProgramSettings {
    ProgramSettings {
        id: SessionId::random().unwrap(),
        port,
        user_header: "X-Neck-User".into(),
        user: "neck-1".into(),
        ice_servers: vec![StreamerIceServer {
            urls: vec!["turn:192.0.2.1:3478".into()],
            username: "user".into(),
            credential: Secret::new("secret"),
        }],
        ice_server_script: None,
        udp_ports: 40_000..=40_019,
        reach: StreamerAddress::Direct,
        include_loopback_candidates: false,
        ice_disconnected_timeout: Duration::from_secs(15),
        bitrate: None,
        fps: Some(60),
        video_size: None,
        seed: None,
    }
}

/// A stream program of that generation, to render files for.
pub(crate) fn program(generation: ConfigFormat) -> StreamProgram {
    StreamProgram {
        executable: "/opt/x/web-server".into(),
        args: Vec::new(),
        static_dir: None,
        streamer: "/opt/x/streamer".into(),
        generation,
    }
}
