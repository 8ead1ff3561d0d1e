//! The keys: who serves, where, and whom it speaks to. The ones of sessions are in `session_keys`.
//!
//! The one place where a key's meaning, bounds and default stand.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::kinds;
use super::model::{
    Acme, Config, Controller, IceServer, Log, Metrics, Peer, Role, Server, Tls, Turn, Update,
    Worker, Workers,
};
use super::registry::Usual;
use super::section::Section;
use super::session_keys;

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
const ICE: (&str, &str) = (
    "stun: or turn: addresses",
    "write it as stun:host:port, turn:host:port or turns:host:port?transport=tcp",
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
            controller,
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
            ice_server,
        ),
        turn: s.section(
            "turn",
            "Per-session TURN credentials that expire, instead of a static `ice_servers` entry.",
            turn,
        ),
        nps: s.section(
            "nps",
            "The NPS service: gets one record for every session that ends.",
            |s| peer(s, "nps"),
        ),
        experience_library: s.section(
            "experience_library",
            "The experience library: gets the visitors' ratings.",
            |s| peer(s, "experience_library"),
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
    let public_url = s.form_if_any(
        "public_url",
        URL,
        Usual::Found {
            words: "`https://<domain>`",
            example: "https://neck-1.example.com",
        },
        "Where browsers reach this process, when a proxy of yours stands in front of it.",
        kinds::base_url,
    );
    let public_url = public_url.or_else(|| domain.as_ref().map(|d| format!("https://{d}")));
    Server {
        domain,
        listen,
        admin_token: admin_token.unwrap_or_default(),
        public_url,
        connections_max: s.count(
            "connections_max",
            4096,
            16..=65_536,
            "Connections served at once; more wait in the kernel's queue.",
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

fn controller(s: &Section<'_>) -> Controller {
    let url = s.form_if_any(
        "url",
        URL,
        unset("https://hydraneckwebrtc.example.com"),
        "The controller this worker reports to. Without it the worker serves alone.",
        kinds::base_url,
    );
    let token = s.secret(
        "token",
        "token_file",
        "The controller's `server.admin_token`.",
    );
    let is_written = s.has("token") || s.has("token_file");
    if url.is_some() && !is_written {
        s.complain(
            "token",
            "is missing",
            "write the controller's admin_token here, or its path as token_file",
        );
    }
    Controller {
        url,
        token,
        ca_file: s.file(
            "ca_file",
            unset("/etc/hydraneckwebrtc/controller-ca.pem"),
            "Trust this authority for the controller, beside the public ones.",
        ),
        heartbeat_interval: s.duration(
            "heartbeat_interval",
            secs(5),
            INSTANT..=secs(300),
            "How often the worker reports. The controller places no session on a worker that \
             was silent for three of these.",
        ),
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
    let id = s.form_if_any(
        "id",
        LABEL,
        Usual::Found {
            words: "the host name",
            example: "neck-1",
        },
        "This worker's name in the fleet; no two may share one.",
        kinds::label,
    );
    Worker {
        id: id.unwrap_or_else(|| around.host.clone()),
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

fn ice_server(s: &Section<'_>) -> IceServer {
    let urls = s.list(
        "urls",
        ICE,
        unset("[\"turn:relay.example.com:3478\"]"),
        "Addresses of one server.",
        kinds::ice_url,
    );
    let is_turn = urls.iter().flatten().any(|u| u.starts_with("turn"));
    if !s.has("urls") && !s.is_template() {
        s.complain("urls", "is missing", "list the server's addresses");
    }
    let username = s.form_if_any(
        "username",
        ("text", ""),
        unset("hydraturn"),
        "The user of a TURN server.",
        |text| Ok(text.to_owned()),
    );
    let credential = s.secret("credential", "credential_file", "The user's password.");
    let is_complete = s.has("username") && (s.has("credential") || s.has("credential_file"));
    if is_turn && !is_complete {
        s.complain(
            "urls",
            "names a TURN server without username and credential",
            "add both, or let the `turn` section mint them",
        );
    }
    IceServer {
        urls: urls.unwrap_or_default(),
        username,
        credential,
    }
}

fn turn(s: &Section<'_>) -> Option<Turn> {
    let secret = s.secret(
        "secret",
        "secret_file",
        "The secret shared with coturn (`use-auth-secret`).",
    );
    let urls = s.list(
        "urls",
        ICE,
        unset("[\"turn:relay.example.com:3478\"]"),
        "Addresses of the TURN server.",
        kinds::ice_url,
    );
    let has_secret = s.has("secret") || s.has("secret_file");
    if has_secret && !s.has("urls") {
        s.complain(
            "urls",
            "is missing",
            "list the addresses of the TURN server",
        );
    }
    if s.has("urls") && !has_secret {
        s.complain(
            "secret_file",
            "is missing",
            "name the file with coturn's static-auth-secret, or use ice_servers",
        );
    }
    let ttl = s.duration(
        "ttl",
        secs(600),
        secs(30)..=DAY,
        "How long a minted credential opens new relays; running ones go on.",
    );
    secret
        .zip(urls)
        .map(|(secret, urls)| Turn { secret, urls, ttl })
}

fn peer(s: &Section<'_>, name: &'static str) -> Option<Peer> {
    let example = match name {
        "nps" => "https://hydranps.example.com",
        _ => "https://library.example.com",
    };
    let url = s.form_if_any(
        "url",
        URL,
        unset(example),
        "Its address. Without it nothing is sent.",
        kinds::base_url,
    );
    let token = s.secret("token", "token_file", "The bearer token it asks for.");
    if url.is_some() && !(s.has("token") || s.has("token_file")) {
        s.warn(
            "url",
            "has no token beside it",
            "add the token the service asks for",
        );
    }
    if !s.has("url") && token.is_some() {
        s.complain("url", "is missing", "add it, or remove the token");
    }
    url.map(|url| Peer { url, token })
}

fn update(s: &Section<'_>) -> Update {
    const INTERVAL: RangeInclusive<Duration> = secs(60)..=secs(30 * 24 * 60 * 60);
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
    }
}
