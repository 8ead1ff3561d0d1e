//! The schema of the fleet: the controller and its store, the workers, and the services that get
//! records.

use std::path::PathBuf;
use std::time::Duration;

use super::{DAY, INSTANT, secs};
use crate::config::entry::found;
use crate::config::field_types::{
    any_text, base_url, credential_file, duration, key_prefix, label, path,
};
use crate::secret::Secret;

section! {
    /// The section `controller`.
    pub struct Controller(key) {
        // Empty: the worker serves alone.
        /// The controller this worker reports to. Several controllers that share one `store` are
        /// written as a list; the worker uses one that answers. Without a URL the worker serves
        /// alone.
        urls as "url": Vec<String> =
            key.list(base_url(), "https://hydraneckwebrtc.example.com").unwrap_or_default(),
        // Present when `urls` has any.
        /// The controller's `server.admin_token`.
        token: Option<Secret> = key.secret(),
        /// Trust this certificate authority for the controller, in addition to the public ones.
        ca_file: Option<PathBuf> =
            key.optional(credential_file("path"), "/etc/hydraneckwebrtc/controller-ca.pem"),
        /// How often the worker reports. The controller places no session on a worker that was
        /// silent for three intervals.
        heartbeat_interval: Duration = key.default(duration(INSTANT..=secs(300)), secs(5)),
    }
    check(section) {
        let remedy = "write the controller's admin_token here, or its path as token_file";
        section.needs("url", "token", remedy);
    }
}

section! {
    /// The section `store`.
    pub(super) struct Store(key) {
        /// An etcd (3.4 or later) that all controllers of the fleet share. The controllers are
        /// equal, and all of them serve at once; see docs/scale.md.
        etcd: Option<Etcd> = key.section_with("endpoints"),
    }
}

const PREFIX: &str = "/hydraneckwebrtc";

section! {
    /// The section `store.etcd`.
    pub struct Etcd(key) {
        // At least one.
        /// The client URLs of the etcd members. Any that answers is used.
        endpoints: Vec<String> = key
            .list(base_url(), "[\"https://etcd-1.example.com:2379\"]")
            .unwrap_or_default(),
        // Begins with a slash and does not end with one.
        /// The prefix of every key. Fleets that share one etcd need different prefixes.
        prefix: String = key.default(key_prefix(), PREFIX.to_owned()),
        // Present exactly when `password` is.
        /// The user name, if etcd requires one.
        username: Option<String> = key.optional(any_text(), "hydraneckwebrtc"),
        /// The password of that user.
        password: Option<Secret> = key.secret(),
        /// Trust this certificate authority for etcd, instead of the public ones.
        ca_file: Option<PathBuf> =
            key.optional(credential_file("path"), "/etc/hydraneckwebrtc/etcd-ca.pem"),
        // Present exactly when `private_key` is.
        /// The client certificate of this controller, PEM, if etcd requires one.
        certificate: Option<PathBuf> =
            key.optional(credential_file("path"), "/etc/hydraneckwebrtc/etcd-client.pem"),
        /// Its private key, PEM.
        private_key: Option<PathBuf> =
            key.optional(credential_file("path"), "/etc/hydraneckwebrtc/etcd-client-key.pem"),
    }
    check(section) {
        for (key, other) in [
            ("username", "password_file"),
            ("password", "username"),
            ("certificate", "private_key"),
            ("private_key", "certificate"),
        ] {
            section.needs(key, other, "write both, or neither");
        }
        // The default prefix may be written alone: `config show` prints it for `embedded`, too.
        let others = ["username", "password", "ca_file", "certificate", "private_key"];
        if prefix != PREFIX || others.into_iter().any(|key| section.has(key)) {
            let remedy = "list the URLs of etcd's members, or write `store: embedded`";
            section.require("endpoints", remedy);
        }
    }
}

section! {
    /// The section `workers`.
    pub struct Workers(key) {
        /// A worker that was silent for this long is unhealthy.
        heartbeat_timeout: Duration = key.default(duration(INSTANT..=DAY), secs(60)),
    }
}

section! {
    /// The section `worker`.
    pub struct Worker(key) {
        /// The name of this worker in the fleet. Each worker needs a different one.
        id: String = {
            let default = key.environment().host.clone();
            key.or(label(), Some(default), found("the host name", "neck-1")).unwrap_or_default()
        },
        /// Where the controller reaches this worker.
        url: Option<String> = {
            let words = "`server.public_url`, else this machine's address on the route to the \
                         controller, with the port of `server.listen`";
            key.optional(base_url(), found(words, "http://10.10.0.7:47990"))
        },
        /// Where the ledger of sessions and the unsent records are stored across restarts.
        state_dir: PathBuf = {
            let default = key.environment().state.clone();
            let words = "`$STATE_DIRECTORY`, which systemd sets, else `~/.hydraneckwebrtc/state`";
            key.or(path(), Some(default), found(words, "/var/lib/hydraneckwebrtc"))
                .unwrap_or_default()
        },
    }
}

section! {
    /// A service that gets records: the section `nps` or `experience_library`.
    pub struct Peer(key) {
        /// Its address. Without it nothing is sent.
        url: String = key.optional(base_url(), "https://records.example.com").unwrap_or_default(),
        /// The bearer token that it requires.
        token: Option<Secret> = key.secret(),
    }
    check(section) {
        section.needs("token", "url", "add it, or remove the token");
        if section.has("url") && !section.has("token") {
            section.warn("url", "has no token beside it", "add the token the service asks for");
        }
    }
}
