//! A kernel that does not say at once which network interfaces there are.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hydraneckwebrtc::testing::has;
use serde_json::{Value, json};

use crate::support::*;

/// Several times [`TIMEOUT`]: a heartbeat that waits for the kernel is missed by then.
const LONG: Duration = Duration::from_secs(10);

fn make_pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).output().unwrap();
    assert!(made.status.success());
}

/// The other end of a pipe from which somebody waits to read.
fn fed(pipe: &Path) -> Option<File> {
    let flags = nix::libc::O_NONBLOCK;
    let mut options = File::options();
    options.write(true).custom_flags(flags).open(pipe).ok()
}

#[test]
fn a_kernel_that_is_slow_to_list_interfaces_delays_neither_heartbeats_nor_health() {
    let bench = Bench::new();
    let controller = bench.controller_with(json!({"workers": {"heartbeat_timeout": TIMEOUT}}));
    // What the kernel says of the type of `lo`, in a file of this test's.
    let class = bench.dir.join("class");
    let (uevent, aside) = (class.join("lo/uevent"), class.join("lo/aside"));
    fs::create_dir_all(class.join("lo")).unwrap();
    fs::write(&uevent, "INTERFACE=lo\n").unwrap();
    let mut wrapper = ["unshare", "--mount", "sh", "-c"]
        .map(OsString::from)
        .to_vec();
    let inner = "mount --bind \"$0\" /sys/class/net && exec \"$@\"";
    wrapper.extend([inner.into(), class.clone().into_os_string()]);
    let try_it = Command::new(&wrapper[0])
        .args(&wrapper[1..])
        .arg("true")
        .status();
    if !has(
        "the right to make a mount namespace (root)",
        try_it.is_ok_and(|s| s.success()),
    ) {
        return;
    }
    let config = bench.worker_config("w1", Some(&controller), json!({}));
    let port = config["server"]["listen"]
        .as_str()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap();
    let port = port.parse().unwrap();
    let mut worker = Node::at_rest("worker", bench.dir.join("w1"), port, config);
    worker.wrapper = wrapper
        .into_iter()
        .map(|w| w.into_string().unwrap())
        .collect();
    worker.restart();
    let status = || controller.get("/api/v1/workers")[0]["status"].clone();
    let wireguard = || worker.get("/api/v1/health")["extra"]["wireguard"].clone();
    until("the worker", || status() == "healthy");
    assert_eq!(wireguard(), false);

    // Who opens a pipe for reading waits until somebody writes to it.
    let pipe = class.join("lo/pipe");
    make_pipe(&pipe);
    fs::rename(&pipe, &uevent).unwrap();
    let went = comes(LONG, || {
        status() != "healthy" || wireguard() != Value::Bool(false)
    });
    assert!(!went, "{}", worker.log());

    // The kernel answers.
    fs::rename(&uevent, &aside).unwrap();
    fs::write(&uevent, "DEVTYPE=wireguard\n").unwrap();
    let mut asked = None;
    until("the worker to have asked", || {
        asked = fed(&aside);
        asked.is_some()
    });
    asked.unwrap().write_all(b"DEVTYPE=wireguard\n").unwrap();
    until("its tunnel to be seen", || wireguard() == true);
}
