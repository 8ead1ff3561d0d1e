//! The keys of the store that several controllers share. See `keys`.

use super::keys::{URL, unset};
use super::kinds;
use super::model::Etcd;
use super::section::Section;

const PREFIX: &str = "/hydraneckwebrtc";
/// Longest prefix of the keys in etcd: room for a path of a few names.
const PREFIX_MAX: usize = 128;

pub(super) fn store(s: &Section<'_>) -> Option<Etcd> {
    s.section(
        "etcd",
        "An etcd (3.4 or later) that all controllers of the fleet share. They are equal and \
         serve at once; see docs/scale.md.",
        etcd,
    )
}

fn etcd(s: &Section<'_>) -> Option<Etcd> {
    let endpoints = s.list(
        "endpoints",
        URL,
        unset("[\"https://etcd-1.example.com:2379\"]"),
        "The client URLs of its members; any that answers is used.",
        kinds::base_url,
    );
    let prefix = s.form(
        "prefix",
        (
            "path",
            "write it as /name, of letters, digits, dots, dashes and underscores",
        ),
        PREFIX.to_owned(),
        "What every key begins with; fleets that share one etcd differ in it.",
        prefix,
    );
    let username = s.form_if_any(
        "username",
        ("text", ""),
        unset("hydraneckwebrtc"),
        "The user, when etcd asks for one.",
        |text| Ok(text.to_owned()),
    );
    let password = s.secret("password", "password_file", "The user's password.");
    let has_password = s.has("password") || s.has("password_file");
    for (missing, present, is_wrong) in [
        (
            "password_file",
            "username",
            s.has("username") && !has_password,
        ),
        ("username", "a password", has_password && !s.has("username")),
        (
            "private_key",
            "certificate",
            s.has("certificate") && !s.has("private_key"),
        ),
        (
            "certificate",
            "private_key",
            s.has("private_key") && !s.has("certificate"),
        ),
    ] {
        if is_wrong {
            let what = format!("is missing beside {present}");
            s.complain(missing, &what, "write both, or neither");
        }
    }
    // `config show` prints the prefix of an embedded store, too.
    let is_meant = etcd_is_meant(s, &prefix);
    if is_meant && !s.has("endpoints") {
        s.complain(
            "endpoints",
            "is missing",
            "list the URLs of etcd's members, or write `store: embedded`",
        );
    }
    let file = |key, example, doc| s.file(key, unset(example), doc);
    let etcd = Etcd {
        endpoints: endpoints.unwrap_or_default(),
        prefix,
        username,
        password,
        ca_file: file(
            "ca_file",
            "/etc/hydraneckwebrtc/etcd-ca.pem",
            "Trust this authority for etcd, instead of the public ones.",
        ),
        certificate: file(
            "certificate",
            "/etc/hydraneckwebrtc/etcd-client.pem",
            "This controller's client certificate, PEM, when etcd asks for one.",
        ),
        private_key: file(
            "private_key",
            "/etc/hydraneckwebrtc/etcd-client-key.pem",
            "Its private key, PEM.",
        ),
    };
    (!etcd.endpoints.is_empty()).then_some(etcd)
}

/// Whether anything is written that makes sense with etcd only.
fn etcd_is_meant(s: &Section<'_>, prefix: &str) -> bool {
    let keys = [
        "username",
        "password",
        "password_file",
        "ca_file",
        "certificate",
        "private_key",
    ];
    prefix != PREFIX || keys.into_iter().any(|key| s.has(key))
}

fn prefix(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let name_ok = |name: &str| !name.is_empty() && name.bytes().all(plain);
    let names = text.strip_prefix('/').map(|rest| rest.split('/'));
    if text.len() <= PREFIX_MAX && names.is_some_and(|mut names| names.all(name_ok)) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no path of plain names"))
    }
}
