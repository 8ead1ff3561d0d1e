//! The keys: who serves, where, and whom it speaks to. The rest is in
//! `peer_keys` and `session_keys`.
//!
//! The one place where a key's meaning, bounds and default stand.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::kinds;
use super::model::{Acme, Config, Log, Metrics, Role, Server, Tls, Update, Worker, Workers};
use super::peer_keys;
use super::registry::Usual;
use super::section::Section;
use super::session_keys;
use super::store_keys;

pub(super) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Shortest interval that makes sense between machines; also what tests need to be quick.
pub(super) const INSTANT: Duration = Duration::from_millis(100);
/// The longest wait anything is configured to.
pub(super) const DAY: Duration = secs(24 * 60 * 60);

pub(super) const fn unset(example: &'static str) -> Usual {
    Usual::Unset { example }
}

pub(super) const URL: (&str, &str) = (
    "http(s) URL",
    "write it as https://host or http://host:port",
);
const LABEL: (&str, &str) = (
    "name",
    "use up to 64 letters, digits, dots, dashes and underscores",
);
/// Reads the whole document.
pub(super) fn config(s: &Section<'_>) -> Config {
    let mode = s.form_if_any(
        "mode",
        ("controller or worker", "write controller or worker"),
        unset("worker"),
        "What this machine is. The subcommand wins over it.",
        |text| match text {
            "controller" => Ok(Role::Controller),
            "worker" => Ok(Role::Worker),
            other => Err(format!("{other:?} is no mode")),
        },
    );
    let district = s.form_if_any(
        "district",
        LABEL,
        unset("bxl1"),
        "The district this machine belongs to; shown in health, events and records.",
        kinds::label,
    );
    Config {
        mode,
        district: district.unwrap_or_default(),
        server: s.section("server", "How this process is reached.", server),
        controller: s.section(
            "controller",
            "The worker's way to its controller.",
            peer_keys::controller,
        ),
        store: s.section_or_word(
            "store",
            "embedded",
            "Where controllers keep what they know of the fleet: `store: embedded`, which is the \
             default, is this process's memory; with `etcd` several controllers serve one fleet.",
            store_keys::store,
        ),
        workers: s.section("workers", "How the controller judges its workers.", workers),
        worker: s.section("worker", "Who this worker is.", worker),
        sessions: s.section(
            "sessions",
            "How sessions run and end.",
            session_keys::sessions,
        ),
        sunshine: s.section(
            "sunshine",
            "How the bodies' Sunshine is spoken to when a request does not say.",
            session_keys::sunshine,
        ),
        bodies: s.section(
            "bodies",
            "Which bodies are reached, and how.",
            session_keys::bodies,
        ),
        ice_servers: s.items(
            "ice_servers",
            "STUN and TURN servers, as browsers and stream processes get them.",
            peer_keys::ice_server,
        ),
        turn: s.section(
            "turn",
            "Per-session TURN credentials that expire, instead of a static `ice_servers` entry.",
            peer_keys::turn,
        ),
        nps: s.section(
            "nps",
            "The NPS service: gets one record for every session that ends.",
            |s| peer_keys::peer(s, "nps"),
        ),
        experience_library: s.section(
            "experience_library",
            "The experience library: gets the visitors' ratings.",
            |s| peer_keys::peer(s, "experience_library"),
        ),
        update: s.section("update", "How the binary renews itself.", update),
        metrics: s.section("metrics", "Prometheus metrics under `/metrics`.", metrics),
        log: s.section("log", "How log lines are written.", log),
        mic: s.section(
            "mic",
            "The browser's microphone on its way to the body.",
            session_keys::mic,
        ),
    }
}

fn server(s: &Section<'_>) -> Server {
    let domain = s.form_if_any(
        "domain",
        (
            "host name",
            "write the bare host name, without scheme, port and path",
        ),
        unset("hydraneckwebrtc.example.com"),
        "Serve HTTPS under this name on port 443, and redirect port 80 to it.",
        kinds::domain,
    );
    let listen = s.form_if_any(
        "listen",
        (
            "address",
            "write it as \":8080\", \"127.0.0.1:8080\" or \"[::1]:8080\"",
        ),
        unset("\":47990\""),
        "Serve plain HTTP here: behind the controller, on a private network, in development. \
         With `server.tls` it is HTTPS.",
        str::parse,
    );
    let admin_token = s.secret(
        "admin_token",
        "admin_token_file",
        "The bearer token of this process's REST API. Mandatory.",
    );
    let found = domain.as_ref().map(|d| format!("https://{d}"));
    let usual = Usual::Found {
        words: "`https://<domain>`",
        example: "https://neck-1.example.com",
    };
    let public_url = s.form_or(
        "public_url",
        URL,
        (found, usual),
        "Where browsers reach this process, when a proxy of yours stands in front of it.",
        kinds::base_url,
    );
    Server {
        domain,
        listen,
        admin_token: admin_token.unwrap_or_default(),
        public_url,
        connections_max: s.count(
            "connections_max",
            4096,
            16..=65_536,
            "Connections served at once, half of them from one address or one /64 of IPv6. When seven in eight of all or of one address are taken, or open files (`LimitNOFILE`) are short, idle ones give way. A limit of open files that is too low for them is named in `problems`.",
        ),
        acme: s.section(
            "acme",
            "Where the certificate for `server.domain` comes from.",
            acme,
        ),
        tls: s.section("tls", "A certificate of your own, instead of ACME.", tls),
    }
}

fn acme(s: &Section<'_>) -> Acme {
    Acme {
        directory: s.form(
            "directory",
            URL,
            "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            "The certificate authority's ACME directory.",
            kinds::url,
        ),
        contact: s.form_if_any(
            "contact",
            ("mail address", "write a mail address, as neck@example.com"),
            unset("neck@example.com"),
            "Where the authority writes when a certificate is about to expire.",
            |text| match text.split_once('@') {
                Some((user, host)) if !user.is_empty() && !user.contains([' ', ':']) => {
                    kinds::domain(host).map(|_| text.to_owned())
                }
                _ => Err(format!("{text:?} is no mail address")),
            },
        ),
        cache_dir: s.path(
            "cache_dir",
            s.reader.around.state.join("acme"),
            Usual::Found {
                words: "`acme` in the default `worker.state_dir`",
                example: "/var/lib/hydraneckwebrtc/acme",
            },
            "Where account key and certificates are kept, readable by this user only.",
        ),
        ca_file: s.file(
            "ca_file",
            unset("/etc/hydraneckwebrtc/acme-ca.pem"),
            "Trust this authority for the ACME directory itself; for private authorities.",
        ),
    }
}

fn tls(s: &Section<'_>) -> Option<Tls> {
    let certificate = s.file(
        "certificate",
        unset("/etc/hydraneckwebrtc/cert.pem"),
        "The certificate chain, PEM. Read again when it changes.",
    );
    let private_key = s.file(
        "private_key",
        unset("/etc/hydraneckwebrtc/key.pem"),
        "Its private key, PEM.",
    );
    match (certificate, private_key) {
        (Some(certificate), Some(private_key)) => Some(Tls {
            certificate,
            private_key,
        }),
        (None, None) => None,
        (Some(_), None) => {
            s.complain(
                "private_key",
                "is missing",
                "name the key of the certificate",
            );
            None
        }
        (None, Some(_)) => {
            s.complain(
                "certificate",
                "is missing",
                "name the certificate of the key",
            );
            None
        }
    }
}

fn workers(s: &Section<'_>) -> Workers {
    Workers {
        heartbeat_timeout: s.duration(
            "heartbeat_timeout",
            secs(60),
            INSTANT..=DAY,
            "A worker silent for this long is unhealthy.",
        ),
    }
}

fn worker(s: &Section<'_>) -> Worker {
    let around = s.reader.around;
    let usual = Usual::Found {
        words: "the host name",
        example: "neck-1",
    };
    let id = s.form_or(
        "id",
        LABEL,
        (Some(around.host.clone()), usual),
        "This worker's name in the fleet; no two may share one.",
        kinds::label,
    );
    Worker {
        id: id.unwrap_or_default(),
        url: s.form_if_any(
            "url",
            URL,
            Usual::Found {
                words: "`server.public_url`, else this machine's address on the way to the \
                        controller with the port of `server.listen`",
                example: "http://10.10.0.7:47990",
            },
            "Where the controller reaches this worker.",
            kinds::base_url,
        ),
        state_dir: s.path(
            "state_dir",
            around.state.clone(),
            Usual::Found {
                words: "`$STATE_DIRECTORY`, which systemd sets, else `~/.hydraneckwebrtc/state`",
                example: "/var/lib/hydraneckwebrtc",
            },
            "Where the ledger of sessions and unsent records are kept across restarts.",
        ),
    }
}

fn update(s: &Section<'_>) -> Update {
    /// The release server bears a look every 5 s of a fleet that waits for a fix.
    const INTERVAL: RangeInclusive<Duration> = secs(5)..=secs(30 * 24 * 60 * 60);
    Update {
        enabled: s.flag(
            "enabled",
            true,
            "Look for new releases and install them. `hydraneckwebrtc update` works either way.",
        ),
        interval: s.duration(
            "interval",
            secs(6 * 60 * 60),
            INTERVAL,
            "How often to look.",
        ),
        channel: s.form(
            "channel",
            LABEL,
            "production".to_owned(),
            "The release channel.",
            kinds::label,
        ),
        base_url: s.form(
            "base_url",
            URL,
            "https://releases.experiencenet.com/hydraneckwebrtc".to_owned(),
            "The release server's address of this project; the channel follows it.",
            kinds::base_url,
        ),
        public_key: s.form_if_any(
            "public_key",
            (
                "base64",
                "write the 32 bytes of the Ed25519 public key as base64",
            ),
            unset("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="),
            "Install only releases whose SHA256SUMS carry this key's signature \
             (`SHA256SUMS.sig`).",
            kinds::ed25519_key,
        ),
        when_idle: s.flag(
            "when_idle",
            true,
            "Wait until no session runs before a new binary is started.",
        ),
    }
}

fn metrics(s: &Section<'_>) -> Metrics {
    Metrics {
        public: s.flag(
            "public",
            false,
            "Whether `/metrics` is served without the token.",
        ),
    }
}

fn log(s: &Section<'_>) -> Log {
    use crate::log::Format;
    use log::LevelFilter;
    let levels = [
        ("error", LevelFilter::Error),
        ("warn", LevelFilter::Warn),
        ("info", LevelFilter::Info),
        ("debug", LevelFilter::Debug),
        ("trace", LevelFilter::Trace),
    ];
    let formats = [("text", Format::Text), ("json", Format::Json)];
    Log {
        level: s.choice(
            "level",
            LevelFilter::Info,
            &levels,
            "The least level that is written.",
        ),
        format: s.choice(
            "format",
            Format::Text,
            &formats,
            "Lines for people, or one JSON object a line.",
        ),
        audit_file: s
            .form_if_any(
                "audit_file",
                ("file", "write an absolute path, or one under `~/`"),
                unset("/var/log/hydraneckwebrtc/audit.jsonl"),
                "Append a JSON line here for every call that changes something, beside the log.",
                |text| {
                    let path = s.reader.around.path(text)?;
                    Ok(path.display().to_string())
                },
            )
            .map(Into::into),
    }
}
