//! An etcd of one or more members: Debian's `etcd-server`, in a directory of the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::*;

/// Members on loopback, killed when dropped.
pub struct Cluster {
    members: Vec<Member>,
}

struct Member {
    client: u16,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Cluster {
    /// Starts `n` members and waits until each answers.
    pub fn start(dir: &Path, n: usize) -> Self {
        Self::start_with(dir, n, "http", &[])
    }

    pub fn start_with(dir: &Path, n: usize, scheme: &str, more: &[&str]) -> Self {
        let first = ports(u16::try_from(2 * n).unwrap());
        let client = |m: usize| first + u16::try_from(2 * m).unwrap();
        let peers: Vec<String> = (0..n)
            .map(|m| format!("m{m}=http://127.0.0.1:{}", client(m) + 1))
            .collect();
        let members = (0..n).map(|m| {
            let home = dir.join(format!("etcd-{m}"));
            std::fs::create_dir_all(&home).unwrap();
            let (at, peer) = (client(m), client(m) + 1);
            let mut arguments: Vec<String> = Vec::new();
            for (name, value) in [
                ("name", format!("m{m}")),
                ("data-dir", home.join("data").display().to_string()),
                ("listen-client-urls", format!("{scheme}://127.0.0.1:{at}")),
                (
                    "advertise-client-urls",
                    format!("{scheme}://127.0.0.1:{at}"),
                ),
                ("listen-peer-urls", format!("http://127.0.0.1:{peer}")),
                (
                    "initial-advertise-peer-urls",
                    format!("http://127.0.0.1:{peer}"),
                ),
                ("initial-cluster", peers.join(",")),
                ("initial-cluster-token", format!("t{first}")),
                ("log-level", "error".to_owned()),
            ] {
                arguments.extend([format!("--{name}"), value]);
            }
            arguments.extend(more.iter().map(|a| (*a).to_owned()));
            Member {
                client: at,
                arguments,
                log: home.join("log"),
                child: None,
            }
        });
        let mut cluster = Self {
            members: members.collect(),
        };
        for m in 0..n {
            cluster.launch(m);
        }
        for m in 0..n {
            cluster.listens(m);
        }
        cluster
    }

    fn launch(&mut self, m: usize) {
        let member = &mut self.members[m];
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&member.log)
            .unwrap();
        let child = Command::new("etcd")
            .args(&member.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("etcd: install Debian's etcd-server");
        member.child = Some(child);
    }

    fn listens(&self, m: usize) {
        let at = loopback(self.members[m].client);
        until("an etcd member to listen", || {
            std::net::TcpStream::connect(at).is_ok()
        });
    }

    /// Starts a member again.
    pub fn restart(&mut self, m: usize) {
        self.launch(m);
        self.listens(m);
    }

    pub fn kill(&mut self, m: usize) {
        let mut child = self.members[m].child.take().unwrap();
        let _ = child.kill();
        child.wait().unwrap();
    }

    pub fn kill_all(&mut self) {
        for m in 0..self.members.len() {
            self.kill(m);
        }
    }

    pub fn restart_all(&mut self) {
        for m in 0..self.members.len() {
            self.launch(m);
        }
        for m in 0..self.members.len() {
            self.listens(m);
        }
    }

    /// A signal for every member.
    pub fn signal(&self, name: &str) {
        for member in &self.members {
            signal(member.child.as_ref().unwrap().id(), name);
        }
    }

    pub fn at(&self, m: usize) -> std::net::SocketAddr {
        loopback(self.members[m].client)
    }

    pub fn urls(&self, scheme: &str) -> Vec<String> {
        let all = self.members.iter();
        all.map(|m| format!("{scheme}://127.0.0.1:{}", m.client))
            .collect()
    }

    /// The `store` section of a controller that uses every member.
    pub fn store(&self) -> Value {
        json!({"store": {"etcd": {"endpoints": self.urls("http")}}})
    }

    /// Runs `etcdctl`.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let endpoints = self.urls("http").join(",");
        let done = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &endpoints])
            .args(arguments)
            .output()
            .expect("etcdctl: install Debian's etcd-client");
        assert!(done.status.success(), "{arguments:?}: {done:?}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut child) = member.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
