//! Which room may import which: the one place where the arrows are written.
//!
//! Reads every `use crate::` and every `crate::` path in `src/` and fails on an arrow that runs
//! the wrong way (docs/architecture.md shows the picture).

#![allow(clippy::unwrap_used, clippy::panic)] // a test's way of failing

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Levels from left to right: a room imports rooms to its right, and itself. Rooms of one level
/// never import each other.
const LEVELS: [&[&str]; 8] = [
    &["main"],
    &["cli"],
    &["controller", "demo", "update", "worker"],
    &[
        "body",
        "dashboard",
        "etcd",
        "mic",
        "proxy",
        "records",
        "session",
    ],
    &["acme", "http", "metrics", "page", "turn"],
    &["protocol", "tls", "wire"],
    &[
        "atomic_file",
        "clock",
        "config",
        "descriptors",
        "exec",
        "ids",
        "log",
        "secret",
    ],
    &["sync"],
];

/// Arrows inside a level: `demo` puts the roles together; the ground's files know each other, but
/// `clock` and `secret` are its floor.
const WITHIN: [(&str, &str); 9] = [
    ("demo", "controller"),
    ("demo", "worker"),
    ("config", "ids"),
    ("config", "log"),
    ("config", "secret"),
    ("descriptors", "clock"),
    ("exec", "clock"),
    ("ids", "clock"),
    ("log", "clock"),
];

fn level(room: &str) -> usize {
    let found = LEVELS.iter().position(|rooms| rooms.contains(&room));
    found.unwrap_or_else(|| panic!("room {room} has no place in tests/layers.rs"))
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn room_of(path: &Path, src: &Path) -> String {
    let inner = path.strip_prefix(src).unwrap();
    let first = inner.components().next().unwrap().as_os_str();
    Path::new(first)
        .file_stem()
        .unwrap()
        .to_string_lossy()
        .into_owned()
}

/// Rooms that a file names, outside comments and test modules.
fn imports(text: &str) -> Vec<(usize, String)> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default();
        for (at, _) in line.match_indices("crate::") {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let rest = &line[at + "crate::".len()..];
            let names: Vec<&str> = match rest.strip_prefix('{') {
                Some(list) => list
                    .split(['}', ';'])
                    .next()
                    .unwrap_or_default()
                    .split(',')
                    .collect(),
                None => vec![rest],
            };
            for name in names {
                let word: String = name
                    .trim()
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if !word.is_empty() && word != "self" {
                    found.push((number + 1, word));
                }
            }
        }
    }
    found
}

#[test]
fn every_import_runs_from_left_to_right() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let mut wrong = Vec::new();
    let mut arrows: BTreeMap<(String, String), usize> = BTreeMap::new();
    for path in all.iter().filter(|p| !p.ends_with("lib.rs")) {
        let from = room_of(path, &src);
        if path
            .file_stem()
            .is_some_and(|s| s.to_string_lossy().contains("test"))
        {
            continue;
        }
        for (line, to) in imports(&fs::read_to_string(path).unwrap()) {
            *arrows.entry((from.clone(), to.clone())).or_default() += 1;
            let within = WITHIN.contains(&(from.as_str(), to.as_str()));
            if from != to && !within && level(&to) <= level(&from) {
                wrong.push(format!("{}:{line}: {from} imports {to}", path.display()));
            }
        }
    }
    assert!(arrows.len() > 30, "the test reads no imports any more");
    assert!(
        wrong.is_empty(),
        "arrows that run the wrong way:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn sans_io_files_import_no_runtime_and_no_clock_is_read_outside_its_room() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let pure = [
        "session/lifecycle",
        "controller/fleet",
        "controller/placement",
        "controller/cluster/replica",
        "controller/cluster/schema",
        "controller/cluster/write_queue",
        "wire/head",
        "wire/chunked",
        "wire/framing",
        "wire/fields",
        "wire/target",
        "http/rate_limit",
        "wire/digits",
        "mic/datagram",
        "mic/dtls",
        "mic/ice",
        "mic/rtcp",
        "mic/sdp_answer",
        "mic/sdp_offer",
        "mic/webrtc_peer",
        "mic/rtp_rewriter",
        "mic/srtp",
        "http/idempotency/table",
    ];
    let mut all = Vec::new();
    files(&src, &mut all);
    let mut seen = 0;
    for path in &all {
        let inner = path.strip_prefix(&src).unwrap().with_extension("");
        let inner = inner.to_string_lossy();
        if !pure
            .iter()
            .any(|p| inner.as_ref() == *p || inner.starts_with(&format!("{p}/")))
        {
            continue;
        }
        seen += 1;
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for banned in ["smol::", "std::net::Tcp", "clock::now()", "std::fs"] {
            assert!(
                !code.contains(banned) || inner.contains("tests") || inner.contains("histories"),
                "{} uses {banned}",
                path.display()
            );
        }
    }
    assert!(seen >= 15, "only {seen} pure files were found");
}

#[test]
fn the_files_that_the_architecture_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let table = text.split("## Where is what").nth(1).unwrap();
    let named: Vec<&str> = table
        .split('`')
        .filter(|part| part.starts_with("src/"))
        .collect();
    assert!(named.len() >= 28, "only {} files are named", named.len());
    for file in named {
        assert!(root.join(file).is_file(), "{file} does not exist");
    }
}
