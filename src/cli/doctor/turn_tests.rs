//! Against a real coturn, where it is installed.

use std::net::UdpSocket as StdSocket;
use std::process::{Child, Command, Stdio};

use super::super::Verdict;
use super::*;
use crate::exec;

/// A coturn on loopback, ended when dropped.
struct Coturn {
    child: Child,
    port: u16,
    dir: std::path::PathBuf,
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A port that nothing holds when this returns.
fn free_port() -> u16 {
    let socket = StdSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// Starts one. Its port may have been taken by another test since it was seen free: then another
/// one is tried.
fn coturn(more: &[&str]) -> Coturn {
    (0..3)
        .map(|_| launch(more))
        .find(answers)
        .expect("coturn answers on one of three ports")
}

fn launch(more: &[&str]) -> Coturn {
    let port = free_port();
    let dir = std::env::temp_dir().join(format!("neck-coturn-{}", crate::ids::label()));
    std::fs::create_dir(&dir).unwrap();
    let child = Command::new("turnserver")
        .args([
            "-n",
            "--no-tls",
            "--no-dtls",
            "--no-cli",
            "--use-auth-secret",
        ])
        .args([
            "--static-auth-secret=north",
            "--realm=neck.test",
            "--allow-loopback-peers",
        ])
        .args(["-L", "127.0.0.1", "-E", "127.0.0.1", "--log-file=stdout"])
        .arg(format!("--listening-port={port}"))
        .arg(format!("--pidfile={}/pid", dir.display()))
        .arg(format!("--userdb={}/db", dir.display()))
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("coturn is installed: apt-get install coturn");
    Coturn { child, port, dir }
}

fn answers(coturn: &Coturn) -> bool {
    let deadline = clock::now() + Duration::from_secs(20);
    exec::block_on(async {
        let mut client = Client::open("127.0.0.1", coturn.port).await.unwrap();
        while clock::now() < deadline {
            if client.bind().await.is_ok() {
                return true;
            }
        }
        false
    })
}

fn findings(port: u16, secret: &str) -> Vec<Finding> {
    let yaml = format!("turn: {{secret: {secret}, urls: ['turn:127.0.0.1:{port}']}}");
    let config = crate::config::Config::parse(&yaml, None).unwrap().config;
    exec::block_on(check(&config))
}

fn verdicts(findings: &[Finding]) -> Vec<Verdict> {
    findings.iter().map(|f| f.verdict).collect()
}

#[test]
fn a_closed_relay_passes_and_an_open_one_fails() {
    let closed = coturn(&[
        "--denied-peer-ip=0.0.0.0-255.255.255.255",
        "--allowed-peer-ip=127.0.0.1",
    ]);
    let seen = findings(closed.port, "north");
    assert_eq!(verdicts(&seen), [Verdict::Ok; 3], "{seen:?}");
    assert!(seen[1].what.contains("403"), "{seen:?}");
    let open = coturn(&[]);
    let seen = findings(open.port, "north");
    assert_eq!(
        verdicts(&seen),
        [Verdict::Ok, Verdict::Fail, Verdict::Ok],
        "{seen:?}"
    );
    assert!(seen[1].remedy.as_ref().unwrap().contains("denied-peer-ip"));
}

#[test]
fn a_wrong_secret_and_a_dead_relay_are_told_apart() {
    let relay = coturn(&[]);
    let seen = findings(relay.port, "south");
    assert_eq!(verdicts(&seen), [Verdict::Fail], "{seen:?}");
    assert!(seen[0].what.contains("401"), "{seen:?}");
    drop(relay);
    let seen = findings(free_port(), "north");
    assert_eq!(verdicts(&seen), [Verdict::Fail], "{seen:?}");
    assert!(seen[0].what.contains("no answer"), "{seen:?}");
}

#[test]
fn urls_are_read_as_rfc_7065_writes_them() {
    for (url, wanted) in [
        ("turn:relay.test:3479", Some(("relay.test", 3479, true))),
        ("turn:relay.test", Some(("relay.test", 3478, true))),
        ("turn:[::1]:5?transport=udp", Some(("::1", 5, true))),
        ("stun:10.0.0.1:3478", Some(("10.0.0.1", 3478, false))),
        ("turn:relay.test?transport=tcp", None),
        ("turns:relay.test", None),
    ] {
        let wanted = wanted.map(|(h, p, t)| (h.to_owned(), p, t));
        assert_eq!(parse(url), wanted, "{url}");
    }
}
