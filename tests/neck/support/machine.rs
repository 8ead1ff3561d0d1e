//! What the kernel knows: processes, ports, descriptors.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use hydraneckwebrtc::testing::ids;

/// Ports that nothing else on the machine is given by chance: below the kernel's ephemeral range.
const PORTS: std::ops::Range<u16> = 10_000..20_000;
/// Ports that one run of the tests takes at a time, so that other runs beside it take others.
const BLOCK: u16 = 100;

/// What a test needs that makes a network namespace.
pub const OWN_NETWORK: &str =
    "the right to make a network namespace (root), and ip (package iproute2)";

static MINE: Mutex<Mine> = Mutex::new(Mine {
    free: 0..0,
    leases: Vec::new(),
});

/// The ports of this run.
struct Mine {
    free: std::ops::Range<u16>,
    /// A name in the kernel for each block; free again when this process is gone.
    leases: Vec<UnixListener>,
}

/// The first of `n` free ports in a row, never given twice.
pub fn ports(n: u16) -> u16 {
    let mut mine = MINE.lock().unwrap();
    loop {
        if let Some(first) = mine.take(n) {
            return first;
        }
        mine.lease();
    }
}

impl Mine {
    fn take(&mut self, n: u16) -> Option<u16> {
        while self.free.start + n <= self.free.end {
            let wanted = self.free.start..self.free.start + n;
            match wanted.clone().rev().find(|port| !is_free(*port)) {
                Some(held) => self.free.start = held + 1,
                None => {
                    self.free.start = wanted.end;
                    return Some(wanted.start);
                }
            }
        }
        None
    }

    fn lease(&mut self) {
        let blocks = (PORTS.end - PORTS.start) / BLOCK;
        let random = u16::from_str_radix(&ids::label()[..4], 16).unwrap();
        let mut all = (0..blocks).map(|n| PORTS.start + (random % blocks + n) % blocks * BLOCK);
        let leased = all.find_map(|first| {
            let name = format!("neck-test-ports-{first}");
            let name = SocketAddr::from_abstract_name(name).unwrap();
            Some((first, UnixListener::bind_addr(&name).ok()?))
        });
        let (first, lease) = leased.expect("a block of ports that no other run has");
        self.free = first..first + BLOCK;
        self.leases.push(lease);
    }
}

/// Whether nobody listens there.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Every process that works below `dir`. Zombies have no directory.
pub fn processes_in(dir: &Path) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let works =
        |pid: &u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
    pids.filter(works).collect()
}

/// Whether the process is there and no zombie.
pub fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default();
    !state.is_empty() && !state.trim_start().starts_with('Z')
}

/// Whether the process was started with this argument.
pub fn has_argument(pid: u32, argument: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|b| *b == 0).any(|a| a == argument.as_bytes())
}

/// The file of each descriptor of a process.
pub fn descriptors(pid: u32) -> Vec<String> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let mut open: Vec<_> = open
        .filter_map(|e| Some(fs::read_link(e.path()).ok()?.display().to_string()))
        .collect();
    open.sort();
    open
}

/// Resident memory of a process in KiB.
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Files and directories below `dir`.
pub fn files_in(dir: &Path) -> usize {
    let all = fs::read_dir(dir).into_iter().flatten().flatten();
    all.map(|entry| {
        let inner = entry.file_type().is_ok_and(|kind| kind.is_dir());
        1 + if inner { files_in(&entry.path()) } else { 0 }
    })
    .sum()
}

/// Children of a process that have ended and were not waited for.
pub fn zombies(of: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let is_one = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default().to_owned();
        let mut fields = after.split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(&of.to_string())
    };
    pids.filter(is_one).collect()
}

/// Sends a signal by its name. The kernel's own tool keeps this file free of unsafe code.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill")
        .args(["-s", name, "--", &pid.to_string()])
        .output();
}

/// The directories of sessions in `dir`.
pub fn entries(dir: &Path) -> Vec<String> {
    let found = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<_> = found
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    found.sort();
    found
}
