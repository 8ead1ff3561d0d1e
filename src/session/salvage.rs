//! What a ledger entry does not say of its session, looked up where the session is: in its directory
//! and among the processes. Entries of other versions may lack what this one needs, and some make no
//! sense at all. Blocking.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use super::cgroup::Cgroups;
use super::ledger::LedgerEntry;
use super::process_tree::Tree;
use super::processes;
use super::workspace::SessionsDir;

/// Largest file of a stream program that is read: some hosts and users are below 100 KiB.
const FILE_MAX: u64 = 1024 * 1024;

/// Completes the entry.
pub(crate) fn complete(entry: &mut LedgerEntry, sessions: &SessionsDir, cgroups: Option<&Cgroups>) {
    if entry.workspace.as_os_str().is_empty() {
        entry.workspace = sessions.of(&entry.id).path().to_owned();
    }
    if entry.cgroup.is_none() {
        let group = cgroups.and_then(|all| all.existing(&entry.id));
        entry.cgroup = group.map(|group| group.path().to_owned());
    }
    if entry.is_process_unknown {
        entry.process = processes::leader_in(&entry.workspace);
    }
    if entry.port == 0 || entry.udp == (0, 0) {
        complete_ports(entry);
    }
    if entry.user.is_empty() || entry.body_ip.is_unspecified() {
        complete_names(entry);
    }
}

/// Whether a stream runs: a process of the session's is the streamer.
#[must_use]
pub(crate) fn is_streaming(entry: &LedgerEntry, streamer: &Path) -> bool {
    let tree = Tree {
        leader: entry.process,
        is_leader_pinned: false,
        workspace: entry.workspace.clone(),
        cgroup: None,
    };
    !tree.streamers(streamer).is_empty()
}

/// The ports are in the configuration that the worker wrote for the program.
fn complete_ports(entry: &mut LedgerEntry) {
    let config = json_of(&entry.workspace.join("server/config.json"));
    let address = config["web_server"]["bind_address"].as_str();
    let port = address.and_then(|at| at.rsplit(':').next()?.parse().ok());
    if entry.port == 0 {
        entry.port = port.unwrap_or(0);
    }
    let range = &config["webrtc"]["port_range"];
    let end = |name: &str| range[name].as_u64().and_then(|port| port.try_into().ok());
    if let (true, Some(min), Some(max)) = (entry.udp == (0, 0), end("min"), end("max")) {
        entry.udp = (min, max);
    }
}

/// The program keeps its user and the body that it paired with.
fn complete_names(entry: &mut LedgerEntry) {
    let data = json_of(&entry.workspace.join("server/data.json"));
    let first = |list: &str, name: &str| {
        let all = data[list].as_object()?.values();
        let mut texts = all.filter_map(|one| one[name].as_str());
        texts.next().map(str::to_owned)
    };
    if entry.user.is_empty() {
        entry.user = first("users", "name").unwrap_or_default();
    }
    if entry.body_ip.is_unspecified() {
        let asked = entry.extra.get("request");
        let asked = asked.and_then(|request| request["body_ip"].as_str());
        let address = asked
            .map(str::to_owned)
            .or_else(|| first("hosts", "address"));
        let address = address.and_then(|text| text.parse().ok());
        entry.body_ip = address.unwrap_or(entry.body_ip);
    }
}

fn json_of(path: &Path) -> Value {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut text));
    let value = read.ok().and_then(|_| serde_json::from_slice(&text).ok());
    value.unwrap_or_default()
}
