//! What is printed of the registry is true: example, reference, effective values.

use super::*;
use crate::config::document::{Step, dotted};
use crate::config::entry::{DefaultValue, Entry, Shape};
use crate::config::render::all_keys;

/// The environment variable that makes the reference test write the file instead.
const WRITE_REFERENCE: &str = "HYDRANECKWEBRTC_WRITE_REFERENCE";

#[test]
fn what_show_prints_loads_again_as_the_same_without_a_secret() {
    let full = format!(
        "{WORKER}district: bxl1\nupdate: {{channel: \"no\"}}\nbodies: {{allowed_networks: [10.1.2.3/8, \"fd00::1\"]}}\n\
         mic: {{bind: 10.0.0.1}}\nturn: {{secret: hunter2, urls: \"turn:h\"}}\n"
    );
    for text in [CONTROLLER, &full, COLOCATED, DEV, ""] {
        let shown = show(&load(text));
        assert!(
            !shown.contains("hunter2") && !shown.contains("token>"),
            "{shown}"
        );
        let again = load(&shown);
        assert_eq!(show(&again), shown);
    }
    let shown = show(&load(&full));
    for line in [
        "  admin_token: \"***\"\n",
        "ice_servers:\n  - urls: [\"stun:stun.l.google.com:19302\"]\n",
        "    credential: \"***\"\n",
        "  allowed_networks: [\"10.0.0.0/8\", \"fd00::1/128\"]\n",
        "  channel: \"no\"\n",
        "  domain: null\n",
        "  id: neck-1\n",
    ] {
        let (shown, line) = (shown.replace('"', ""), line.replace('"', ""));
        assert!(shown.contains(&line), "{line}\n{shown}");
    }
}

#[test]
fn the_example_loads_and_so_does_every_key_of_it() {
    assert_eq!(show(&load(&example())), show(&load("")));
    for entry in all_keys() {
        let Shape::Value { default, .. } = &entry.shape else {
            continue;
        };
        let example = match default {
            DefaultValue::Fixed(value) => value.as_str(),
            DefaultValue::Found { example, .. } | DefaultValue::Unset { example } => example,
        };
        let text = alone(&entry, example);
        let name = dotted(&entry.path);
        let environment = Environment {
            files: SecretFiles::Skip,
            ..environment()
        };
        let wrong = read(&text, None, &environment)
            .err()
            .map_or_else(Vec::new, |e| e.list);
        // Keys that need a companion may miss it; none may be strange or have a wrong example.
        assert!(
            wrong.iter().all(|p| p.what.contains("is missing")),
            "{name}: {wrong:?}\n{text}"
        );
    }
}

#[test]
fn the_example_names_every_key_with_its_example_in_place() {
    // Uncommenting every key line gives a document in which no key is strange or misplaced.
    let bare: String = example()
        .lines()
        .filter(|l| !l.contains("_file:"))
        .map(|line| {
            let body = line.trim_start();
            let indent = &line[..line.len() - body.len()];
            match body.strip_prefix('#') {
                Some(key) if !key.starts_with(' ') => format!("{indent}{key}\n"),
                _ => format!("{line}\n"),
            }
        })
        .collect();
    let told = problems(&bare);
    assert!(told.is_empty(), "{told:#?}\n{bare}");
}

#[test]
fn the_reference_in_docs_is_the_codes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    if std::env::var_os(WRITE_REFERENCE).is_some() {
        std::fs::write(&path, reference()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == reference(),
        "docs/configuration.md is stale: run `{WRITE_REFERENCE}=1 cargo test --release \
         the_reference_in_docs`"
    );
}

/// A document with just this key.
fn alone(entry: &Entry, value: &str) -> String {
    let mut text = String::new();
    let mut indent = 0;
    let mut dash = "";
    let (last, before) = entry.path.split_last().unwrap();
    for step in before {
        match step {
            Step::Key(key) => {
                let _ = writeln!(text, "{}{key}:", " ".repeat(indent));
                indent += 2;
            }
            _ => dash = "- ",
        }
    }
    let Step::Key(key) = last else {
        panic!("an entry ends in a key");
    };
    let _ = writeln!(text, "{}{dash}{key}: {value}", " ".repeat(indent));
    text
}
