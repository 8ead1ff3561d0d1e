//! The machine itself: WireGuard, the stream program, ports, disk.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::Finding;
use crate::body::interfaces;
use crate::config::{Config, WebServer};
use crate::http::server::listen_address;
use crate::session::stream_program::{StreamProgram, TESTCARD};
use crate::{clock, descriptors};

/// A peer that WireGuard has not heard for so long is gone: it shakes hands every two minutes
/// while there is traffic.
const HANDSHAKE_MAX: Duration = Duration::from_secs(180);
/// Room below which an operator should look, and below which sessions fail.
const DISK: (u64, u64) = (1 << 30, 100 << 20);

pub(super) async fn wireguard() -> Vec<Finding> {
    const CHECK: &str = "wireguard";
    let machine = interfaces::read();
    if machine.wireguard.is_empty() {
        return vec![Finding::warn(
            CHECK,
            "no WireGuard interface is up",
            "bodies behind it cannot be reached: systemctl start wg-quick@wg0",
        )];
    }
    let names = machine.wireguard.join(", ");
    match handshakes().await {
        None => vec![Finding::ok(
            CHECK,
            format!("{names} up; handshakes are not seen without root and `wg`"),
        )],
        Some(ages) if ages.is_empty() => vec![Finding::warn(
            CHECK,
            format!("{names} up, without peers"),
            "add the bodies' network as a peer",
        )],
        Some(ages) => {
            let newest = ages.iter().flatten().min();
            let silent = ages.iter().filter(|a| a.is_none_or(|a| a > HANDSHAKE_MAX));
            let silent = silent.count();
            let peers = ages.len();
            match newest {
                Some(age) if *age <= HANDSHAKE_MAX => vec![Finding::ok(
                    CHECK,
                    format!(
                        "{names} up, last handshake {} ago, {silent} of {peers} peers silent",
                        clock::human(*age)
                    ),
                )],
                _ => vec![Finding::warn(
                    CHECK,
                    format!("{names} up, but none of {peers} peers shook hands lately"),
                    "ping a body; if that stays silent, check endpoint and keys with `wg show`",
                )],
            }
        }
    }
}

/// Whether something keeps the clock right; nothing where systemd does not say.
pub(super) async fn clock() -> Option<Finding> {
    const CHECK: &str = "clock";
    let mut command = async_process::Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]);
    let output = command.output().await.ok()?;
    match output.stdout.trim_ascii() {
        b"yes" => Some(Finding::ok(CHECK, "synchronised")),
        b"no" => Some(Finding::warn(
            CHECK,
            "not synchronised",
            "timedatectl set-ntp true: a wrong clock breaks TURN credentials and certificates",
        )),
        _ => None,
    }
}

/// Age of each peer's last handshake; `None` inside for one that never was.
async fn handshakes() -> Option<Vec<Option<Duration>>> {
    let mut command = async_process::Command::new("wg");
    command.args(["show", "all", "latest-handshakes"]);
    let output = command.output().await.ok()?;
    if !output.status.success() {
        return None;
    }
    let now = clock::wall().duration_since(UNIX_EPOCH).ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(ages(&text, now))
}

fn ages(text: &str, now: Duration) -> Vec<Option<Duration>> {
    text.lines()
        .filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok())
        .map(|at| (at > 0).then(|| now.saturating_sub(Duration::from_secs(at))))
        .collect()
}

pub(super) async fn program(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "program";
    let (path, is_card) = match &config.sessions.web_server {
        WebServer::Program(path) => (path.clone(), false),
        WebServer::TestCard => (PathBuf::from(TESTCARD), true),
    };
    let program = match StreamProgram::locate(&path).await {
        Ok(program) => program,
        Err(error) => return vec![Finding::fail(CHECK, error.to_string(), "")],
    };
    if is_card {
        return vec![Finding::warn(
            CHECK,
            "the built-in test card",
            "name moonlight-web-stream's web-server in sessions.web_server to stream bodies",
        )];
    }
    let shown = path.display();
    vec![Finding::ok(
        CHECK,
        format!("{shown} runs, generation {:?}", program.generation),
    )]
}

pub(super) fn ports(config: &Config) -> Finding {
    const CHECK: &str = "ports";
    let listen = config.server.listen.as_ref();
    let own = listen.and_then(|l| listen_address(&l.to_string()).ok());
    let own: Vec<u16> = own.iter().map(std::net::SocketAddr::port).collect();
    let ports: Vec<u16> = config.sessions.ports(&own).collect();
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let taken: Vec<u16> = ports.iter().copied().filter(|p| !is_free(p)).collect();
    let (first, last) = (ports.first().unwrap_or(&0), ports.last().unwrap_or(&0));
    if taken.is_empty() {
        return Finding::ok(CHECK, format!("{first} to {last} are free"));
    }
    let some: Vec<String> = taken.iter().take(5).map(u16::to_string).collect();
    Finding::warn(
        CHECK,
        format!(
            "{} of {} between {first} and {last} are taken: {}",
            taken.len(),
            ports.len(),
            some.join(", ")
        ),
        "running sessions hold theirs; for others see `ss -tlnp`",
    )
}

/// Whether the limit of open files is high enough: of the unit's, which `doctor` may not have.
pub(super) fn open_files(config: &Config) -> Finding {
    const CHECK: &str = "open files";
    descriptors::raise();
    let slots = match config.mode {
        Some(crate::config::Role::Controller) => 0,
        _ => config.sessions.max.into(),
    };
    match descriptors::plan(slots, config.server.connections_max) {
        None => Finding::ok(CHECK, format!("{} may be open here", descriptors::limit())),
        Some(misfit) => Finding::warn(
            CHECK,
            misfit,
            "that is the limit of this shell; the units set LimitNOFILE=65536",
        ),
    }
}

pub(super) fn disk(config: &Config) -> Vec<Finding> {
    let mut paths = vec![config.worker.state_dir.as_path()];
    if config.mode != Some(crate::config::Role::Controller) {
        paths.push(&config.sessions.dir);
    }
    paths.into_iter().map(room).collect()
}

fn room(path: &Path) -> Finding {
    const CHECK: &str = "disk";
    // What is not made yet will be made in the nearest directory that is there.
    let Some(dir) = path.ancestors().find(|p| p.is_dir()) else {
        return Finding::fail(CHECK, format!("no directory above {}", path.display()), "");
    };
    let shown = path.display();
    let free = match rustix::fs::statvfs(dir) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(error) => return Finding::fail(CHECK, format!("{shown}: {error}"), ""),
    };
    if rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_err() {
        return Finding::warn(
            CHECK,
            format!("{shown} is not writable by this user"),
            "run doctor as the service's user, or give it the directory",
        );
    }
    let what = format!("{} MiB free for {shown}", free >> 20);
    match free {
        free if free < DISK.1 => Finding::fail(CHECK, what, "free some: sessions will fail"),
        free if free < DISK.0 => Finding::warn(CHECK, what, "free some"),
        _ => Finding::ok(CHECK, what),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn handshake_ages_are_read_and_a_peer_never_heard_is_none() {
        let text = "wg0\tkeyA=\t1000\nwg0\tkeyB=\t0\n";
        assert_eq!(
            ages(text, Duration::from_secs(1060)),
            [Some(Duration::from_secs(60)), None]
        );
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_judged_by_what_is_above_it() {
        let path = std::env::temp_dir().join("neck-doctor/none/yet");
        assert_ne!(room(&path).verdict, Verdict::Fail);
    }

    #[test]
    fn a_taken_port_is_named() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let yaml = format!("sessions: {{port_range_start: {port}, max: 1}}");
        let config = Config::parse(&yaml, None).unwrap().config;
        let finding = ports(&config);
        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(finding.what.contains(&port.to_string()));
    }
}
