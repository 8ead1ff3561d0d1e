//! Against a double of the release server that tells the truth, lies, or breaks off.

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::*;
use crate::config::Config;
use crate::http::client::Outgoing;
use crate::tls::Trust;
use crate::{exec, ids};

#[derive(Clone)]
enum Answer {
    Body(Vec<u8>),
    Redirect(&'static str),
    /// Says more than it sends.
    Truncated(Vec<u8>),
}

type Files = Arc<Mutex<HashMap<String, Answer>>>;

pub(super) struct ReleaseServer {
    base: String,
    files: Files,
}

impl ReleaseServer {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let files = Files::default();
        let served = Arc::clone(&files);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let answer = served.lock().unwrap().get(&path).cloned();
                let (line, more, body) = match answer {
                    Some(Answer::Body(body)) => {
                        ("200 OK", format!("Content-Length: {}", body.len()), body)
                    }
                    Some(Answer::Truncated(body)) => (
                        "200 OK",
                        format!("Content-Length: {}", body.len() + 100),
                        body,
                    ),
                    Some(Answer::Redirect(to)) => (
                        "302 Found",
                        format!("Content-Length: 0\r\nLocation: {to}"),
                        Vec::new(),
                    ),
                    None => ("404 Not Found", "Content-Length: 0".to_owned(), Vec::new()),
                };
                let head = format!("HTTP/1.1 {line}\r\n{more}\r\nConnection: close\r\n\r\n");
                let _ = stream
                    .write_all(head.as_bytes())
                    .and_then(|()| stream.write_all(&body));
            }
        });
        Self { base, files }
    }

    fn put(&self, path: &str, answer: Answer) {
        self.files.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// A whole, honest release.
    pub(super) fn release(&self, version: &str, binary: &[u8]) {
        let name = fetch::binary_name().unwrap();
        let dir = format!("/production/v{version}");
        self.put(
            "/production/latest.json",
            Answer::Body(format!("{{\"version\":\"v{version}\",\"build_number\":7}}").into_bytes()),
        );
        self.put(&format!("{dir}/{name}"), Answer::Body(binary.to_vec()));
        let sum = ring::digest::digest(&ring::digest::SHA256, binary);
        let hex: String = sum.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        self.put(
            &format!("{dir}/SHA256SUMS"),
            Answer::Body(format!("{hex}  {name}\n").into_bytes()),
        );
    }

    pub(super) fn settings(&self, more: &str) -> config::Update {
        let yaml = format!("update: {{base_url: '{}'{more}}}", self.base);
        Config::parse(&yaml, None).unwrap().config.update
    }
}

/// An installed binary in a directory of its own.
pub(super) struct Installed {
    pub(super) dir: PathBuf,
    pub(super) place: Installation,
}

pub(super) const OLD: &str = "#!/bin/sh\necho hydraneckwebrtc 1.0.0\n";

impl Installed {
    pub(super) fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("neck-update-{}", ids::label()));
        fs::create_dir(&dir).unwrap();
        let exe = dir.join("hydraneckwebrtc");
        fs::write(&exe, OLD).unwrap();
        fs::set_permissions(&exe, fs::Permissions::from_mode(0o755)).unwrap();
        let place = Installation::at(&exe).unwrap();
        Self { dir, place }
    }

    pub(super) fn text(&self) -> String {
        fs::read_to_string(self.place.exe()).unwrap()
    }

    pub(super) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).unwrap().flatten();
        let mut names: Vec<_> = entries
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Nothing but the old binary, and the locks.
    fn assert_untouched(&self) {
        assert_eq!(self.text(), OLD);
        let others: Vec<_> = self
            .files()
            .into_iter()
            .filter(|f| !f.ends_with(".lock"))
            .collect();
        assert_eq!(others, ["hydraneckwebrtc"]);
    }

    pub(super) fn backup(&self) -> String {
        fs::read_to_string(self.place.backup()).unwrap()
    }

    pub(super) fn beside(&self, suffix: &str, text: &str) {
        fs::write(self.dir.join(format!("hydraneckwebrtc.{suffix}")), text).unwrap();
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub(super) fn script(version: &str) -> Vec<u8> {
    format!("#!/bin/sh\necho hydraneckwebrtc {version}\n").into_bytes()
}

pub(super) fn client() -> Client {
    Client::new(&Trust::WebPki).unwrap()
}

pub(super) fn version(text: &str) -> ReleaseVersion {
    ReleaseVersion::parse(text).unwrap()
}

pub(super) fn install_at(
    installed: &Installed,
    settings: &config::Update,
) -> Result<bool, UpdateError> {
    install_version(installed, settings, "2.0.0")
}

pub(super) fn install_version(
    installed: &Installed,
    settings: &config::Update,
    text: &str,
) -> Result<bool, UpdateError> {
    let (client, place) = (client(), &installed.place);
    exec::block_on(install(settings, &client, place, &version(text)))
}

#[test]
fn a_release_is_found_installed_and_the_old_binary_kept() {
    let server = ReleaseServer::start();
    let installed = Installed::new();
    server.release("2.0.0", &script("2.0.0"));
    let settings = server.settings("");
    let news = exec::block_on(check_from(&settings, &client(), version("1.0.0"))).unwrap();
    assert!(news.is_newer());
    assert!(
        !exec::block_on(check_from(&settings, &client(), version("2.0.0")))
            .unwrap()
            .is_newer()
    );
    assert!(install_at(&installed, &settings).unwrap());
    assert_eq!(installed.text().as_bytes(), script("2.0.0"));
    assert_eq!(installed.backup(), OLD);
    let files = ["", ".backup", ".lock", ".trial", ".update.lock"];
    assert_eq!(
        installed.files(),
        files.map(|f| format!("hydraneckwebrtc{f}"))
    );
    installed.place.roll_back().unwrap();
    assert_eq!(installed.text(), OLD);
}

#[test]
fn redirects_to_a_mirror_are_followed_and_loops_are_not() {
    let server = ReleaseServer::start();
    let installed = Installed::new();
    server.release("2.0.0", &script("2.0.0"));
    let name = format!("/production/v2.0.0/{}", fetch::binary_name().unwrap());
    server.put(&name, Answer::Redirect("/mirror/file"));
    server.put("/mirror/file", Answer::Body(script("2.0.0")));
    install_at(&installed, &server.settings("")).unwrap();
    server.put(
        "/production/latest.json",
        Answer::Redirect("/production/latest.json"),
    );
    let news = exec::block_on(check(&server.settings(""), &client()));
    assert!(news.unwrap_err().to_string().contains("times"));
}

#[test]
fn whatever_is_wrong_with_a_release_the_old_binary_stays() {
    type Break = fn(&ReleaseServer, &str);
    let cases: [(&str, Break, &str); 7] = [
        (
            "truncated",
            |s, f| s.put(f, Answer::Truncated(script("2.0.0"))),
            "127.0.0.1",
        ),
        (
            "other bytes",
            |s, f| s.put(f, Answer::Body(script("2.0.0 ").to_vec())),
            "sum",
        ),
        (
            "no sums",
            |s, _| {
                drop(
                    s.files
                        .lock()
                        .unwrap()
                        .remove("/production/v2.0.0/SHA256SUMS"),
                )
            },
            "404",
        ),
        (
            "sums of others",
            |s, _| {
                s.put(
                    "/production/v2.0.0/SHA256SUMS",
                    Answer::Body(b"ab  other\n".to_vec()),
                )
            },
            "no sum",
        ),
        (
            "another architecture",
            |s, _| s.release("2.0.0", b"\x7fELF\x02\x01\x01\0not for us"),
            "does not run",
        ),
        (
            "a version that lies",
            |s, _| s.release("2.0.0", &script("1.5.0")),
            "1.5.0",
        ),
        (
            "a binary that fails",
            |s, _| s.release("2.0.0", b"#!/bin/sh\nexit 3\n"),
            "does not run",
        ),
    ];
    for (name, break_it, says) in cases {
        let server = ReleaseServer::start();
        let installed = Installed::new();
        server.release("2.0.0", &script("2.0.0"));
        let file = format!("/production/v2.0.0/{}", fetch::binary_name().unwrap());
        break_it(&server, &file);
        let error = install_at(&installed, &server.settings(""))
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{name}: {error}");
        installed.assert_untouched();
    }
}

#[test]
fn with_a_key_only_signed_sums_count() {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
    let more = format!(", public_key: '{}'", STANDARD.encode(key.public_key()));
    let server = ReleaseServer::start();
    server.release("2.0.0", &script("2.0.0"));
    let sums = "/production/v2.0.0/SHA256SUMS";
    let Some(Answer::Body(text)) = server.files.lock().unwrap().get(sums).cloned() else {
        panic!("no sums");
    };
    let settings = server.settings(&more);
    let installed = Installed::new();
    assert!(install_at(&installed, &settings).is_err());
    let signature = format!("{sums}.sig");
    server.put(
        &signature,
        Answer::Body(other.sign(&text).as_ref().to_vec()),
    );
    let error = install_at(&installed, &settings).unwrap_err().to_string();
    assert!(error.contains("signed"), "{error}");
    installed.assert_untouched();
    server.put(&signature, Answer::Body(key.sign(&text).as_ref().to_vec()));
    install_at(&installed, &settings).unwrap();
    let as_text = STANDARD.encode(key.sign(&text)) + "\n";
    server.put(&signature, Answer::Body(as_text.into_bytes()));
    assert!(install_at(&Installed::new(), &settings).unwrap());
}

#[test]
fn a_full_disk_is_said() {
    let server = ReleaseServer::start();
    server.put("/file", Answer::Body(vec![7; 100_000]));
    let poured = exec::block_on(async {
        let file = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let url = format!("{}/file", server.base);
        let call = Outgoing::new(http_types::Method::Get, url.as_str());
        let mut incoming = client().open(call).await.unwrap();
        fetch::pour(&url, &mut incoming, file, "/x/neck.update".as_ref()).await
    });
    let error = poured.unwrap_err().to_string();
    assert!(
        error.contains("/x/neck.update") && error.contains("No space"),
        "{error}"
    );
}

#[test]
fn a_binary_that_is_not_ours_to_change_is_left_alone() {
    let place = Installation::at("/proc/self/exe".as_ref()).unwrap();
    assert!(place.exe().is_absolute());
    // Nobody writes into /proc, root neither.
    let place = Installation::at("/proc/self/status".as_ref()).unwrap();
    let refused = place.check();
    assert!(
        matches!(refused, Err(UpdateError::NotWritable(_))),
        "{refused:?}"
    );
    let said = UpdateError::NixStore("/nix/store/x".into()).to_string();
    assert!(said.contains("flake"), "{said}");
}

#[test]
fn the_loop_installs_what_is_new_and_waits_until_it_is_quiet() {
    let server = ReleaseServer::start();
    let installed = Installed::new();
    server.release("99.0.0", &script("99.0.0"));
    let mut settings = server.settings("");
    settings.interval = std::time::Duration::from_millis(20);
    let (_stopper, stop) = exec::stop();
    let client = client();
    let waiting = auto::wait(&settings, &client, &installed.place, || true, &stop);
    assert_eq!(exec::block_on(waiting), Some(version("99.0.0")));
    assert_eq!(installed.text().as_bytes(), script("99.0.0"));
    assert!(
        installed
            .files()
            .contains(&"hydraneckwebrtc.trial".to_owned())
    );
    let (stopper, stop) = exec::stop();
    drop(stopper);
    let waiting = auto::wait(&settings, &client, &installed.place, || true, &stop);
    assert_eq!(exec::block_on(waiting), None);
}
