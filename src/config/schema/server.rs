//! The schema of the process itself: its server, its updates, its metrics and its log.

use std::path::PathBuf;

use log::LevelFilter;

use super::secs;
use crate::config::entry::found;
use crate::config::field_types::{
    base_url, choice, count, credential_file, duration, flag, host_name, label, listen,
    mail_address, path, public_key, url,
};
use crate::config::values::Listen;
use crate::log::Format;
use crate::secret::Secret;

section! {
    /// The section `server`.
    pub struct Server(key) {
        /// Serve HTTPS under this name on port 443, and redirect port 80 to it.
        domain: Option<String> = key.optional(host_name(), "hydraneckwebrtc.example.com"),
        /// Serve plain HTTP on this address: behind the controller, on a private network, or in
        /// development. With `server.tls` it is HTTPS.
        listen: Option<Listen> = key.optional(listen(), "\":47990\""),
        // Never empty in a configuration that was loaded for a role.
        /// The bearer token of this process's REST API. Required.
        admin_token: Secret = key.secret().unwrap_or_default(),
        /// Where browsers reach this process, if you run a proxy in front of it.
        public_url: Option<String> = key.or(
            base_url(),
            domain.as_ref().map(|domain| format!("https://{domain}")),
            found("`https://<domain>`", "https://neck-1.example.com"),
        ),
        /// Most connections served at once; at most half of them from one address or one IPv6 /64.
        /// When seven eighths of all or of one address are in use, or open files (`LimitNOFILE`) are
        /// short, idle connections are closed. A limit of open files that is too low for them is
        /// named in `problems`.
        connections_max: usize = key.default(count(16..=65_536), 4096),
        /// Where the certificate for `server.domain` comes from.
        acme: Acme = key.section(),
        /// Your own certificate, instead of ACME.
        tls: Option<Tls> = key.section_with("certificate"),
    }
}

section! {
    /// The section `server.acme`.
    pub struct Acme(key) {
        /// The certificate authority's ACME directory.
        directory: String = key.default(
            url(),
            "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
        ),
        /// The address that the authority warns before a certificate expires.
        contact: Option<String> = key.optional(mail_address(), "neck@example.com"),
        /// Where the account key and the certificates are stored, readable by this user only.
        cache_dir: PathBuf = {
            let default = key.environment().state.join("acme");
            let words = "`acme` in the default `worker.state_dir`";
            key.or(path(), Some(default), found(words, "/var/lib/hydraneckwebrtc/acme"))
                .unwrap_or_default()
        },
        /// Trust this certificate authority for the ACME directory itself, for example a private
        /// one.
        ca_file: Option<PathBuf> =
            key.optional(credential_file("path"), "/etc/hydraneckwebrtc/acme-ca.pem"),
    }
}

section! {
    /// The section `server.tls`.
    pub struct Tls(key) {
        /// The certificate chain, PEM. Read again when the file changes.
        certificate: PathBuf = key
            .optional(credential_file("path"), "/etc/hydraneckwebrtc/cert.pem")
            .unwrap_or_default(),
        /// Its private key, PEM.
        private_key: PathBuf = key
            .optional(credential_file("path"), "/etc/hydraneckwebrtc/key.pem")
            .unwrap_or_default(),
    }
    check(section) {
        section.needs("certificate", "private_key", "name the key of the certificate");
        section.needs("private_key", "certificate", "name the certificate of the key");
    }
}

section! {
    /// The section `update`.
    pub struct Update(key) {
        /// Check for new releases and install them. `hydraneckwebrtc update` works in both cases.
        enabled: bool = key.default(flag(), true),
        // 5 s is for a fleet that waits for a fix: the release server can serve that many requests.
        /// How often to check.
        interval: std::time::Duration =
            key.default(duration(secs(5)..=30 * super::DAY), secs(6 * 60 * 60)),
        /// The release channel.
        channel: String = key.default(label(), "production".to_owned()),
        /// The address of this project on the release server. The channel is appended to it.
        base_url: String = key.default(
            base_url(),
            "https://releases.experiencenet.com/hydraneckwebrtc".to_owned(),
        ),
        /// Install only releases whose SHA256SUMS is signed with this key (`SHA256SUMS.sig`).
        public_key: Option<String> =
            key.optional(public_key(), "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="),
        /// Wait until no session is running before the new binary is started.
        when_idle: bool = key.default(flag(), true),
    }
}

section! {
    /// The section `metrics`.
    pub struct Metrics(key) {
        /// Serve `/metrics` without a token.
        public: bool = key.default(flag(), false),
    }
}

section! {
    /// The section `log`.
    pub struct Log(key) {
        /// The least severe level that is written.
        level: LevelFilter = key.default(
            choice(&[
                ("error", LevelFilter::Error),
                ("warn", LevelFilter::Warn),
                ("info", LevelFilter::Info),
                ("debug", LevelFilter::Debug),
                ("trace", LevelFilter::Trace),
            ]),
            LevelFilter::Info,
        ),
        /// `text` is for people; `json` is one JSON object per line.
        format: Format =
            key.default(choice(&[("text", Format::Text), ("json", Format::Json)]), Format::Text),
        /// Append one JSON line to this file for every call that changes something, in addition to
        /// the log.
        audit_file: Option<PathBuf> =
            key.optional(path(), "/var/log/hydraneckwebrtc/audit.jsonl"),
    }
}
