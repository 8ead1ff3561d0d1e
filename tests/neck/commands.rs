//! The command line when something is wrong: one clear line, nothing on stdout, the right exit code;
//! and what scripts read when nothing is.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::*;

const ID: &str = "0123456789abcdef0123456789abcdef";

/// Every command that speaks to a server, and ends.
const REMOTE: &[&[&str]] = &[
    &["sessions", "list"],
    &["sessions", "get", ID],
    &["sessions", "create", "10.0.1.50"],
    &["sessions", "end", ID],
    &["workers", "list"],
    &["workers", "drain", "w1"],
    &["workers", "undrain", "w1"],
    &["events"],
];

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments).env("HOME", "/nonexistent");
    command.envs(environment.iter().copied());
    command.output().unwrap()
}

#[track_caller]
fn fails(arguments: &[&str], done: &Output, code: i32, says: &str) {
    let err = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(code), "{arguments:?}: {err}");
    assert!(done.stdout.is_empty(), "{arguments:?}");
    assert_eq!(err.lines().count(), 1, "{arguments:?}: {err}");
    assert!(err.contains(says), "{arguments:?}: {err}");
}

#[track_caller]
fn succeeds(arguments: &[&str], done: &Output) -> String {
    let err = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{arguments:?}: {err}");
    String::from_utf8(done.stdout.clone()).unwrap()
}

/// A server that says this to everybody, and hangs up; answers its address.
fn server(says: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(says.as_bytes());
        }
    });
    url
}

#[test]
fn every_remote_command_answers_bad_servers_and_tokens_with_one_line_and_its_code() {
    let bench = Bench::new();
    let controller = bench.controller();
    let living = format!("http://{}", controller.at);
    let mute = server("");
    let strange = server("SSH-2.0-OpenSSH_9.2\r\n");
    let page = server("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 7\r\n\r\n<html>\n");
    for (url, token, code, says) in [
        (living.as_str(), "wrong", 1, "server.admin_token"),
        ("http://127.0.0.1:1", TOKEN, 69, "127.0.0.1:1"),
        (&mute, TOKEN, 69, &mute),
        (&strange, TOKEN, 69, &strange),
        (&page, TOKEN, 1, "502"),
        ("neck.test", TOKEN, 2, "neck.test"),
    ] {
        let environment = [
            ("HYDRANECKWEBRTC_URL", url),
            ("HYDRANECKWEBRTC_TOKEN", token),
        ];
        for arguments in REMOTE {
            for more in [&[][..], &["--json"]] {
                let all = [arguments, more].concat();
                fails(&all, &run(&all, &environment), code, says);
            }
        }
    }
    let follow = ["events", "--follow", "--url", &living, "--token", "wrong"];
    fails(&follow, &run(&follow, &[]), 1, "401");
}

#[test]
fn every_command_that_reads_a_configuration_answers_a_broken_one_with_one_line_and_78() {
    let bench = Bench::new();
    let broken = bench.dir.join("broken.yaml");
    std::fs::write(
        &broken,
        "server: {listen: ':1', admin_token: x, admin_tokn: x}\n",
    )
    .unwrap();
    let torn = bench.dir.join("torn.yaml");
    std::fs::write(&torn, "server: [\n").unwrap();
    let local: &[&[&str]] = &[
        &["controller"],
        &["worker"],
        &["config", "check"],
        &["config", "show"],
        &["check-update"],
        &["update"],
    ];
    for (file, says) in [
        (broken.as_path(), "admin_token"),
        (&torn, "torn.yaml"),
        (Path::new("/nonexistent/config.yaml"), "/nonexistent"),
        (&bench.dir, "neck-test"),
    ] {
        let environment = [("HYDRANECKWEBRTC_CONFIG", file.to_str().unwrap())];
        for arguments in local.iter().chain(REMOTE) {
            fails(arguments, &run(arguments, &environment), 78, says);
        }
        // Here the verdict is the data.
        for arguments in [&["doctor"][..], &["doctor", "--json"]] {
            let done = run(arguments, &environment);
            assert_eq!(done.status.code(), Some(78), "{arguments:?}");
            let said = String::from_utf8_lossy(&done.stdout).into_owned();
            assert!(said.contains("fail") && said.contains(says), "{said}");
        }
        let done = run(&["config", "check", "--json"], &environment);
        assert_eq!(done.status.code(), Some(78));
        let said: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(said["ok"], false);
        assert!(said["problems"][0]["what"].is_string(), "{said}");
        assert!(said.to_string().contains(says), "{said}");
    }
    for usage in [
        &["workers", "fly"][..],
        &["sessions", "create", "no-ip"],
        &[],
    ] {
        let done = run(usage, &[]);
        assert_eq!(done.status.code(), Some(2), "{usage:?}");
        assert!(done.stdout.is_empty(), "{usage:?}");
    }
}

#[test]
fn json_is_one_line_of_json_wherever_it_is_asked_for() {
    let bench = Bench::new();
    let controller = bench.controller();
    let worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    let own = bench.dir.join("w1/config.yaml");
    let environment = [("HYDRANECKWEBRTC_CONFIG", own.to_str().unwrap())];
    let id = controller.session();
    for arguments in [
        &["version"][..],
        &["config", "check"],
        &["config", "show"],
        &["sessions", "list"],
        &["sessions", "get", &id],
        &["workers", "list"],
        &["workers", "drain", "w1"],
        &["workers", "undrain", "w1"],
        &["sessions", "end", &id],
    ] {
        let all = [arguments, &["--json"]].concat();
        let said = succeeds(&all, &run(&all, &environment));
        assert_eq!(said.lines().count(), 1, "{all:?}: {said}");
        serde_json::from_str::<Value>(&said).unwrap_or_else(|e| panic!("{all:?}: {e}: {said}"));
    }
    let shown = run(&["config", "show", "--json"], &environment);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["worker"]["id"], "w1");
    assert_eq!(shown["server"]["admin_token"], "***");

    let url = format!("http://{}", worker.at);
    let asked = ["workers", "list", "--url", &url, "--token", TOKEN];
    fails(&asked, &run(&asked, &environment), 1, "name its controller");
    for verb in ["drain", "undrain"] {
        let nobody = ["workers", verb];
        fails(&nobody, &run(&nobody, &environment), 1, "name the worker");
    }
}

#[test]
fn shells_and_man_get_what_they_read() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let arguments = ["completions", shell];
        let said = succeeds(&arguments, &run(&arguments, &[]));
        assert!(said.contains("check-update"), "{shell}");
    }
    let man = succeeds(&["man"], &run(&["man"], &[]));
    assert!(man.starts_with(".ie") && man.contains("NAME"), "{man}");
}
