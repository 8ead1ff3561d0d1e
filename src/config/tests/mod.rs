//! The room's promises on whole documents.

mod files;
mod fuzz;
mod printed;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::environment::Environment;
use super::loader::{FILE_MAX, read};
use super::*;

const CONTROLLER: &str = include_str!("../../../tests/configs/controller.yaml");
const WORKER: &str = include_str!("../../../tests/configs/worker.yaml");
const COLOCATED: &str = include_str!("../../../tests/configs/colocated-worker.yaml");
const DEV: &str = include_str!("../../../tests/configs/dev.yaml");

fn environment() -> Environment {
    Environment {
        credentials: None,
        files: SecretFiles::Read,
        home: Some("/home/neck".into()),
        host: "neck-1".to_owned(),
        state: "/var/lib/hydraneckwebrtc".into(),
    }
}

fn parse(text: &str, role: Option<Role>) -> Result<Loaded, Problems> {
    read(text, role, &environment()).map(|(loaded, _)| loaded)
}

fn load(text: &str) -> Loaded {
    parse(text, None).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn problems(text: &str) -> Vec<Problem> {
    parse(text, None).err().map_or_else(Vec::new, |e| e.list)
}

/// The one problem of a text, as `line: key: what; remedy`.
fn only(text: &str) -> String {
    let list = problems(text);
    assert_eq!(list.len(), 1, "{list:#?}\n{text}");
    list[0].to_string()
}

#[test]
fn the_runbooks_controller_loads_unchanged() {
    let loaded = parse(CONTROLLER, Some(Role::Controller)).unwrap();
    let config = loaded.config;
    assert_eq!(config.mode, Some(Role::Controller));
    assert_eq!(
        config.server.public_url.as_deref(),
        Some("https://hydraneckwebrtc.experiencenet.com")
    );
    assert!(config.server.admin_token.matches(b"<secure-token>"));
    assert_eq!(config.workers.heartbeat_timeout, Duration::from_secs(60));
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].key, "server.admin_token");
}

#[test]
fn the_runbooks_worker_loads_unchanged() {
    let config = parse(WORKER, Some(Role::Worker)).unwrap().config;
    assert_eq!(config.server.listen.unwrap().to_string(), ":47990");
    assert!(
        config
            .controller
            .token
            .unwrap()
            .matches(b"<controller-admin-token>")
    );
    assert_eq!(
        (config.sessions.max, config.sessions.port_range_start),
        (15, 8080)
    );
    assert!(config.sunshine.password.unwrap().matches(b"sunshine"));
    assert_eq!(config.ice_servers.len(), 2);
    assert_eq!(config.ice_servers[1].urls, ["turn:<server-public-ip>:3478"]);
    assert_eq!(
        config.nps.unwrap().url,
        "https://hydranps.experiencenet.com"
    );
    assert!(config.turn.is_none() && config.experience_library.is_none());
}

#[test]
fn the_runbooks_colocated_worker_loads_and_does_not_give_its_own_port_to_a_session() {
    let config = parse(COLOCATED, Some(Role::Worker)).unwrap().config;
    let own = config.server.listen.unwrap().port;
    let ports: Vec<u16> = config.sessions.ports(&[own]).collect();
    assert_eq!(ports.len(), 15);
    assert!(!ports.contains(&8090) && ports.contains(&8095));
}

#[test]
fn the_runbooks_dev_mode_loads_for_either_role() {
    for role in [Role::Controller, Role::Worker] {
        let config = parse(DEV, Some(role)).unwrap().config;
        assert_eq!(config.server.listen.unwrap().port, 8080);
        assert!(config.server.domain.is_none() && config.server.public_url.is_none());
    }
}

#[test]
fn an_empty_file_has_every_default() {
    for text in ["", "\n# nothing\n", "---\n", "server:\nsessions: ~\n", "{}"] {
        let config = load(text).config;
        assert_eq!(config.worker.id, "neck-1");
        assert_eq!(config.sessions.max, 15);
        assert_eq!(config.sessions.max_duration, None);
        assert_eq!(config.sessions.log_max_bytes, 16 << 20);
        assert_eq!(config.sessions.public_ip, Auto::Auto);
        assert_eq!(
            config.worker.state_dir,
            Path::new("/var/lib/hydraneckwebrtc")
        );
        assert!(config.sessions.relay_only && config.bodies.pair_once);
        assert!(config.bodies.allowed_networks.is_none());
    }
}

#[test]
fn every_problem_is_told_at_once_in_the_order_of_lines() {
    let text = "mode: wroker\nserver:\n  listen: 8080\n  admin_tokn: hunter2\nsessions:\n  max: 0\n  \
                connect_timeout: 60\nreturn_url: https://x.test\nice_servers:\n  - urls: [\"http://x\"]\n";
    let error = parse(text, Some(Role::Worker)).unwrap_err();
    let told: Vec<(Option<usize>, &str)> = error
        .list
        .iter()
        .map(|p| (p.line, p.key.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (Some(1), "mode"),
            (Some(2), "server.admin_token"),
            (Some(3), "server.listen"),
            (Some(4), "server.admin_tokn"),
            (Some(6), "sessions.max"),
            (Some(7), "sessions.connect_timeout"),
            (Some(8), "return_url"),
            (Some(10), "ice_servers[0].urls[0]"),
        ]
    );
    let all = error.to_string();
    for said in [
        "line 4, column 3: server.admin_tokn: is not a known key; did you mean `admin_token`?",
        "return_url: is not a known key; did you mean `sessions.return_url`?",
        "sessions.max: 0 is out of bounds; use a whole number from 1 to 1000",
        "\"60\" has no unit; use a duration from 100ms to 1day, written as",
    ] {
        assert!(all.contains(said), "{said}\n{all}");
    }
    assert!(!all.contains("hunter2"));
}

#[test]
fn the_store_is_memory_unless_etcd_is_named() {
    for text in ["", "store: embedded", "store:"] {
        assert!(parse(text, None).unwrap().config.store.is_none(), "{text}");
    }
    let text =
        "store: {etcd: {endpoints: [http://a:2379/, http://b:2379], password: p, username: u}}";
    let etcd = parse(text, None).unwrap().config.store.unwrap();
    assert_eq!(etcd.endpoints, ["http://a:2379", "http://b:2379"]);
    assert_eq!(etcd.prefix, "/hydraneckwebrtc");
}

#[test]
fn a_worker_may_know_several_controllers() {
    for (url, known) in [("http://a/", 1), ("[http://a, http://b]", 2)] {
        let text = format!("controller: {{url: {url}, token: t}}");
        let urls = parse(&text, None).unwrap().config.controller.urls;
        assert_eq!((urls.len(), urls[0].as_str()), (known, "http://a"));
    }
}

#[test]
fn each_wrong_value_names_its_line_key_and_remedy() {
    for (text, said) in [
        (
            "server: 5",
            "server: must be a section, not a single value; write its keys",
        ),
        ("server: []", "server: must be a section, not a list"),
        (
            "sessions: {max: [1]}",
            "sessions.max: must be a single value, not a list",
        ),
        (
            "sessions:\n  max: !big 5",
            "line 2, column 8: sessions.max: must be a single value, not a value with a `!`",
        ),
        ("sessions: {max: 1e3}", "\"1e3\" is not a whole number"),
        ("sessions: {max: 015}", "\"015\" is not a whole number"),
        (
            "sessions: {max: 99999999999999999999999}",
            "99999999999999999999999 is out of bounds",
        ),
        (
            "metrics: {public: yes}",
            "\"yes\" is not a valid value; write true or false",
        ),
        (
            "log: {level: loud}",
            "\"loud\" is not a valid value; write error, warn, info, debug or trace",
        ),
        (
            "controller: {url: ftp://x, token: t}",
            "only http and https are supported",
        ),
        (
            "controller: {url: https://x}",
            "controller.token: is missing",
        ),
        ("store: redis", "store: must be a section"),
        (
            "store: {etcd: {prefix: /x}}",
            "store.etcd.endpoints: is missing",
        ),
        (
            "store: {etcd: {endpoints: etcd:2379}}",
            "store.etcd.endpoints: has the scheme \"etcd\"",
        ),
        (
            "store: {etcd: {endpoints: http://e, prefix: fleet}}",
            "store.etcd.prefix: \"fleet\" is not a path",
        ),
        (
            "store: {etcd: {endpoints: http://e, username: u}}",
            "store.etcd.password_file: is missing beside username",
        ),
        (
            "store: {etcd: {endpoints: http://e, certificate: /c}}",
            "store.etcd.private_key: is missing beside certificate",
        ),
        ("turn: {secret: s}", "turn.urls: is missing"),
        ("turn: {urls: \"turn:h\"}", "turn.secret_file: is missing"),
        (
            "ice_servers: [{urls: \"turn:h:1\"}]",
            "without username and credential",
        ),
        ("ice_servers: [{}]", "ice_servers[0].urls: is missing"),
        ("ice_servers: [x]", "ice_servers[0]: must be a section"),
        ("ice_servers: {urls: x}", "ice_servers: must be a list"),
        ("sunshine: {username: u}", "sunshine.password: is missing"),
        ("nps: {token: t}", "nps.url: is missing"),
        (
            "server: {tls: {certificate: /c}}",
            "server.tls.private_key: is missing",
        ),
        (
            "server: {admin_token: \"\"}",
            "server.admin_token: is empty",
        ),
        ("server: {admin_token: \"a\\nb\"}", "line break"),
        (
            "bodies: {allowed_networks: [10.0.0.0/33]}",
            "allowed_networks[0]: \"10.0.0.0/33\" is not a network",
        ),
        ("bodies: {allowed_networks: []}", "is an empty list"),
        (
            "sessions: {web_server: bin/x}",
            "\"bin/x\" is a relative path",
        ),
        (
            "sessions: {port_range_start: 65530}",
            "ends at 65544, beyond 65535; start at 65521 or lower",
        ),
        (
            "sessions: {webrtc_ports: 1000, max: 100}",
            "sessions.webrtc_port_start: 40000 with 100000 ports",
        ),
        (
            "mic: {port_start: 40290}",
            "media ports 40000-40299 overlap mic.port_start 40290-40304",
        ),
        (
            "5: x",
            "5: is not a known key; the known keys here are mode, district",
        ),
        ("- a", "must be a mapping of keys, not a list"),
        ("<<: {max: 1}", "<<: is not a known key"),
    ] {
        assert!(only(text).contains(said), "{said}\n{}", only(text));
    }
}

#[test]
fn a_missing_key_is_reported_though_the_one_that_needs_it_is_wrong() {
    for (text, wrong, missing) in [
        (
            "server: {tls: {private_key: rel/x}}",
            "server.tls.private_key",
            "server.tls.certificate",
        ),
        ("nps: {token_file: /nowhere}", "nps.token_file", "nps.url"),
        ("turn: {urls: x}", "turn.urls", "turn.secret_file"),
    ] {
        let mut keys: Vec<String> = problems(text).into_iter().map(|p| p.key).collect();
        keys.sort();
        let mut expected = [wrong, missing];
        expected.sort_unstable();
        assert_eq!(keys, expected, "{text}");
    }
}

#[test]
fn a_broken_document_is_one_clear_problem_with_its_line() {
    for (text, line, said) in [
        ("a: 1\n b: [\n", 2, "not valid YAML"),
        ("server:\n\tlisten: x\n", 2, "not valid YAML"),
        (
            "mode: worker\nmode: worker\n",
            2,
            "mode: this key is written twice",
        ),
        (
            "mode: worker\n---\nmode: worker\n",
            3,
            "a second YAML document",
        ),
        ("mode: *nobody\n", 1, "not valid YAML: unknown anchor"),
        ("? [a, b]\n: c\n", 1, "not valid YAML"),
    ] {
        let list = problems(text);
        assert_eq!(list.len(), 1, "{list:?}");
        assert_eq!(list[0].line, Some(line), "{}", list[0]);
        assert!(list[0].to_string().contains(said), "{}", list[0]);
    }
    assert!(only(&"#".repeat(FILE_MAX + 1)).contains("larger than 65536 bytes"));
    let deep = format!("mode: {}", "[".repeat(5000));
    assert!(only(&deep).contains("not valid YAML"));
}

#[test]
fn no_more_problems_than_a_person_reads() {
    let text: String = (0..3000).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "k{n}: 1");
        text
    });
    let error = parse(&text, None).unwrap_err();
    assert_eq!((error.list.len(), error.left_out), (100, 2900));
    assert!(error.to_string().ends_with("and 2900 more"));
}

#[test]
fn a_password_keeps_its_text_whatever_yaml_makes_of_it() {
    for text in [
        "0123",
        "1e3",
        "no",
        "true",
        "0x10",
        "1_000",
        "+5",
        "'~'",
        ".5",
        "2026-01-02",
    ] {
        let config = load(&format!("sunshine: {{username: u, password: {text}}}")).config;
        let password = config.sunshine.password.unwrap();
        assert_eq!(password.expose(), text.trim_matches('\''));
    }
}

#[test]
fn a_serving_role_needs_a_token_and_an_address() {
    for role in [Role::Controller, Role::Worker] {
        let error = parse("district: a\n", Some(role)).unwrap_err();
        let keys: Vec<&str> = error.list.iter().map(|p| p.key.as_str()).collect();
        assert_eq!(keys, ["server.admin_token", "server.listen"]);
    }
    // The file's own mode counts as the role; the caller's wins.
    assert!(parse("mode: worker\n", None).is_err());
    assert!(parse("district: a\n", None).is_ok());
}

#[test]
fn a_worker_without_a_relay_is_warned() {
    let base = "server: {listen: \":1\", admin_token: t}\n";
    let warned = |text: &str, role| {
        let list = parse(text, Some(role)).unwrap().warnings;
        list.iter().any(|w| w.key == "sessions.relay_only")
    };
    assert!(warned(base, Role::Worker));
    assert!(!warned(base, Role::Controller));
    assert!(!warned(
        &format!("{base}sessions: {{relay_only: false}}\n"),
        Role::Worker
    ));
    assert!(!warned(
        &format!("{base}turn: {{secret: s, urls: \"turn:h\"}}\n"),
        Role::Worker
    ));
}
