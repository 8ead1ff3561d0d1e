//! Every shell command of README.md and docs/operations.md, run as it stands against a controller
//! and a worker. A command that has no rule here fails the test, so the pages cannot promise what
//! nobody tried.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::*;

/// How a command is tried.
enum Rule {
    /// It ends with success and prints this.
    Ends(&'static str),
    /// It may find something wrong on this machine, and prints this.
    Reports(&'static str),
    /// It goes on; it prints this and is ended.
    Goes(&'static str),
    /// It goes on beside the commands after it, and in the end has printed this.
    Follows(&'static str),
    /// Something else runs it.
    Elsewhere,
}

use Rule::{Elsewhere, Ends, Follows, Goes, Reports};

/// By how the command starts; the first that fits counts.
const RULES: &[(&str, Rule)] = &[
    // tests/neck/demo.rs
    ("cargo run --release -- demo", Elsewhere),
    // What is running now.
    ("tests/run", Elsewhere),
    // tests/nix/operations.py, on a machine with systemd.
    ("journalctl", Elsewhere),
    ("hydraneckwebrtc config example > ", Ends("")),
    (
        "hydraneckwebrtc --config config.yaml config check",
        Ends(""),
    ),
    (
        "hydraneckwebrtc --config config.yaml controller",
        Goes("listening"),
    ),
    (
        "hydraneckwebrtc --config config.yaml worker",
        Goes("listening"),
    ),
    ("hydraneckwebrtc doctor", Reports("ok    configuration")),
    ("hydraneckwebrtc workers list", Ends("neck-1")),
    ("hydraneckwebrtc workers drain neck-1", Ends("")),
    ("hydraneckwebrtc workers undrain neck-1", Ends("")),
    ("hydraneckwebrtc sessions create", Ends("/session/")),
    ("hydraneckwebrtc sessions get", Ends("Cathedral")),
    ("hydraneckwebrtc sessions list", Ends("SESSION")),
    ("hydraneckwebrtc sessions end", Ends("")),
    ("hydraneckwebrtc events --follow", Follows("session_ended")),
    ("hydraneckwebrtc check-update", Ends("is the newest")),
    ("hydraneckwebrtc update", Ends("is the newest")),
    (
        "curl -s $CONTROLLER/api/v1/health | jq .",
        Ends("\"status\""),
    ),
    ("curl -X POST", Ends("\"stream_url\"")),
    ("curl -X DELETE", Ends("")),
    ("curl -H", Ends("neck-1")),
];

/// What the pages leave to the reader.
fn filled_in(command: &str, session: &str) -> String {
    let command = command.strip_prefix("sudo ").unwrap_or(command);
    command
        .replace("10.0.1.50", "127.0.0.1")
        .replace("<id>", session)
}

/// The commands of a page's shell blocks, continued lines joined, comments gone.
fn commands(page: &str) -> Vec<String> {
    let blocks = page.split("\n```sh\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("\n```").next().unwrap_or_default());
    let mut commands: Vec<String> = Vec::new();
    for block in blocks {
        for line in block.replace("\\\n", " ").lines() {
            let line = line.split(" # ").next().unwrap_or_default().trim();
            if !line.is_empty() && !line.starts_with('#') {
                commands.push(line.to_owned());
            }
        }
    }
    commands
}

/// A release server whose newest release is this version; answers its address.
fn releases() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            let latest = json!({"version": env!("CARGO_PKG_VERSION")}).to_string();
            assert!(line.starts_with("GET /production/latest.json "), "{line}");
            let size = latest.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
            let _ = stream.write_all(format!("{head}{latest}").as_bytes());
        }
    });
    base
}

/// An operator's shell on the worker's machine.
struct Shell<'a> {
    home: &'a Path,
    controller: String,
}

impl Shell<'_> {
    fn start(&self, command: &str, session: &str) -> Child {
        let path = std::env::var("PATH").unwrap();
        let mut shell = Command::new("bash");
        shell.args(["-o", "pipefail", "-c", &filled_in(command, session)]);
        shell.current_dir(self.home).env("HOME", self.home);
        shell.env(
            "PATH",
            format!("{}:{path}", self.home.join("bin").display()),
        );
        shell
            .env("CONTROLLER", &self.controller)
            .env("TOKEN", TOKEN);
        shell.env("ID", session).process_group(0);
        shell.stdin(Stdio::null()).stdout(Stdio::piped());
        shell.stderr(Stdio::piped()).spawn().unwrap()
    }

    fn run(&self, command: &str, session: &str, wants_success: bool) -> String {
        let done = self.start(command, session).wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&done.stderr);
        let is_well = done.status.success() || !wants_success && done.status.code() == Some(1);
        assert!(is_well, "{command}: {}\n{err}", done.status);
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Starts what does not end by itself.
    fn follow(&self, command: &str, session: &str) -> Follower {
        let mut child = self.start(&format!("{{ {command}; }} 2>&1"), session);
        let said = Arc::new(Mutex::new(String::new()));
        let (out, heard) = (child.stdout.take().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                heard.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Follower { child, said }
    }
}

/// A command that goes on; ended with all that it started when dropped.
struct Follower {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Follower {
    #[track_caller]
    fn says(&self, command: &str, says: &str) {
        let heard = || self.said.lock().unwrap().clone();
        let came = comes(std::time::Duration::from_secs(40), || {
            heard().contains(says)
        });
        assert!(came, "{command} does not say {says:?}: {}", heard());
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        let _ = self.child.wait();
    }
}

#[test]
fn every_command_of_the_pages_runs_as_it_stands() {
    let bench = Bench::new();
    let one = json!({"bodies": {"sessions_max": 1}});
    let controller = bench.controller_with(one.clone());
    let mut more = json!({"update": {"base_url": releases()}});
    merge(&mut more, one);
    let worker = bench.worker("neck-1", Some(&controller), more);
    controller.is_warm();
    let home = bench.dir.join("operator");
    fs::create_dir_all(home.join("bin")).unwrap();
    symlink(BINARY, home.join("bin/hydraneckwebrtc")).unwrap();
    fs::create_dir(home.join(".hydraneckwebrtc")).unwrap();
    fs::write(
        home.join(".hydraneckwebrtc/config.yaml"),
        worker.config.to_string(),
    )
    .unwrap();
    let shell = Shell {
        home: &home,
        controller: format!("http://{}", controller.at),
    };
    for page in ["README.md", "docs/operations.md"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        let all = commands(&text);
        assert!(all.len() > 10, "{page} has no commands any more");
        let mut following = Vec::new();
        for command in all {
            let plain = command.strip_prefix("sudo ").unwrap_or(&command);
            let rule = RULES.iter().find(|(start, _)| plain.starts_with(start));
            let Some((_, rule)) = rule else {
                panic!("{page} has a command that nothing runs: {command}");
            };
            let sessions = controller.sessions();
            let session = sessions
                .last()
                .map(|s| s["id"].as_str().unwrap().to_owned());
            let session = session.unwrap_or_default();
            let (said, says) = match rule {
                Ends(says) => (shell.run(&command, &session, true), says),
                Reports(says) => (shell.run(&command, &session, false), says),
                Goes(says) => {
                    // What the reader has filled in.
                    let port = ports(1);
                    let own = match command.rsplit(' ').next() {
                        Some("worker") => bench.worker_config("by-hand", None, json!({})),
                        _ => {
                            json!({"server": {"listen": format!("127.0.0.1:{port}"), "admin_token": TOKEN}})
                        }
                    };
                    fs::write(home.join("config.yaml"), own.to_string()).unwrap();
                    shell.follow(&command, &session).says(&command, says);
                    continue;
                }
                Follows(says) => {
                    following.push((shell.follow(&command, &session), command, says));
                    continue;
                }
                Elsewhere => continue,
            };
            assert!(said.contains(says), "{page}: {command} says {said:?}");
        }
        for (follower, command, says) in following {
            follower.says(&command, says);
        }
    }
    until("the pages to end what they began", || {
        worker.sessions().is_empty()
    });
}
