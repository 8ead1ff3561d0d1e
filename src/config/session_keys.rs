//! The keys of sessions and bodies. See `keys`.

use std::path::PathBuf;
use std::time::Duration;

use super::keys::{DAY, INSTANT, URL, secs, unset};
use super::kinds::{self, Auto};
use super::model::{Bodies, Defaults, Mic, Sessions, Sunshine, TEST_CARD, WebServer};
use super::registry::Usual;
use super::section::Section;

/// Sessions of one worker: far above what one machine's uplink carries.
const SESSIONS_MAX: u16 = 1000;

const AUTO: (&str, &str) = ("auto or IP address", "write auto or an IP address");
const DEFAULTS: Usual = Usual::Found {
    words: "the stream program's own",
    example: "60",
};

pub(super) fn sessions(s: &Section<'_>) -> Sessions {
    let max_duration = s.duration(
        "max_duration",
        Duration::ZERO,
        Duration::ZERO..=30 * DAY,
        "A session ends after this long, whoever is watching. 0 means never.",
    );
    Sessions {
        max: s.count(
            "max",
            15,
            1..=SESSIONS_MAX,
            "Sessions this worker runs at once.",
        ),
        port_range_start: s.count(
            "port_range_start",
            8080,
            1024..=65_535,
            "First TCP port of the stream processes, on loopback; `max` ports from here, \
             leaving out the one of `server.listen`.",
        ),
        return_url: s.form(
            "return_url",
            URL,
            "https://hydraheadwebstream.experiencenet.com".to_owned(),
            "Where \"Start new stream\" leads when a stream has ended.",
            kinds::url,
        ),
        web_server: s.form(
            "web_server",
            (
                "path or testcard",
                "write an absolute path, one under `~/`, or testcard",
            ),
            WebServer::Program(PathBuf::from("/opt/moonlight-web-stream/web-server")),
            "The stream program; `testcard` is the built-in one, which shows a test picture.",
            |text| match text {
                TEST_CARD => Ok(WebServer::TestCard),
                path => s.reader.around.path(path).map(WebServer::Program),
            },
        ),
        dir: s.path(
            "dir",
            PathBuf::from("/tmp/hydraneckwebrtc-sessions"),
            Usual::Fixed("/tmp/hydraneckwebrtc-sessions".to_owned()),
            "Where each running session has its directory.",
        ),
        connect_timeout: s.duration(
            "connect_timeout",
            secs(300),
            INSTANT..=DAY,
            "A ready session that no browser joins within this time ends.",
        ),
        disconnect_grace: s.duration(
            "disconnect_grace",
            secs(30),
            INSTANT..=DAY,
            "A session whose last browser has left waits this long for one to return.",
        ),
        max_duration: Some(max_duration).filter(|d| !d.is_zero()),
        start_timeout: s.duration(
            "start_timeout",
            secs(45),
            INSTANT..=secs(3600),
            "From the request to a session that is ready; longer is a failed start.",
        ),
        restart_limit: s.count(
            "restart_limit",
            2,
            0..=100,
            "How often a stream process that died is started again before its session ends.",
        ),
        webrtc_port_start: s.count(
            "webrtc_port_start",
            40_000,
            1024..=65_535,
            "First UDP port of WebRTC media.",
        ),
        webrtc_ports: s.count(
            "webrtc_ports",
            20,
            1..=1000,
            "UDP ports of each session; `max` times as many are taken in all.",
        ),
        public_ip: s.form(
            "public_ip",
            AUTO,
            Auto::Auto,
            "The address offered to the relay as the stream process's own; `auto` takes the one \
             of the default route.",
            str::parse,
        ),
        log_max_bytes: s.size(
            "log_max_bytes",
            16 << 20,
            64 << 10..=1 << 30,
            "The log of one session is cut here.",
        ),
        relay_only: s.flag(
            "relay_only",
            true,
            "Browsers use TURN relay candidates only. `false` is for development without coturn; \
             then stream processes offer loopback addresses, too.",
        ),
        keep_on_shutdown: s.flag(
            "keep_on_shutdown",
            true,
            "Leave sessions running when the worker stops, to be adopted by the next one. \
             `false` ends them with `worker_shutdown`.",
        ),
        pids_max: s.count_if_any(
            "pids_max",
            8..=100_000,
            unset("256"),
            "Processes and threads of one session, where a control group can be made.",
        ),
        memory_max: s.size_if_any(
            "memory_max",
            16 << 20..=1 << 40,
            unset("1GiB"),
            "Memory of one session, where a control group can be made.",
        ),
        defaults: s.section(
            "defaults",
            "What the stream page asks of the body.",
            defaults,
        ),
    }
}

fn defaults(s: &Section<'_>) -> Defaults {
    Defaults {
        bitrate: s.count_if_any(
            "bitrate",
            500..=500_000,
            Usual::Found {
                words: "the stream program's own",
                example: "20000",
            },
            "Video, in kilobits a second.",
        ),
        fps: s.count_if_any("fps", 1..=240, DEFAULTS, "Pictures a second."),
        video_size: s.form_if_any(
            "video_size",
            (
                "720p, 1080p, 1440p, 4k, native or WIDTHxHEIGHT",
                "use 720p, 1080p, 1440p, 4k, native, or a size as 1920x1080",
            ),
            Usual::Found {
                words: "the stream program's own",
                example: "1080p",
            },
            "The picture's size.",
            str::parse,
        ),
    }
}

pub(super) fn sunshine(s: &Section<'_>) -> Sunshine {
    let username = s.form_if_any(
        "username",
        ("text", ""),
        unset("sunshine"),
        "The user of Sunshine's API; a request's `sunshine_user` wins.",
        |text| Ok(text.to_owned()),
    );
    let password = s.secret(
        "password",
        "password_file",
        "The user's password; a request's `sunshine_pass` wins.",
    );
    let has_password = s.has("password") || s.has("password_file");
    if has_password && !s.has("username") {
        s.complain("username", "is missing", "add it, or remove the password");
    }
    if s.has("username") && !has_password {
        s.complain("password", "is missing", "add it, or remove the username");
    }
    Sunshine {
        username,
        password,
        port: s.count("port", 47_990, 1..=65_535, "Port of Sunshine's API."),
        http_port: s.count(
            "http_port",
            47_989,
            1..=65_535,
            "Port of Sunshine's GameStream service, plain HTTP.",
        ),
    }
}

pub(super) fn bodies(s: &Section<'_>) -> Bodies {
    let allowed_networks = s.list(
        "allowed_networks",
        ("networks", "write networks as 10.10.0.0/16 or fd00::/8"),
        Usual::Found {
            words: "the WireGuard interfaces' networks and 10.0.0.0/8, 172.16.0.0/12, \
                    192.168.0.0/16",
            example: "[10.10.0.0/16]",
        },
        "The only addresses a request may name as `body_ip`. Loopback, link-local and this \
         machine's own addresses are refused unless a network listed here holds them.",
        |text| {
            let one = || text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
            text.parse::<ipnet::IpNet>()
                .or_else(|_| one())
                .map(|net| net.trunc())
                .map_err(|_| format!("{text:?} is no network"))
        },
    );
    Bodies {
        allowed_networks,
        agent_port: s.count("agent_port", 47_991, 1..=65_535, "Port of hydrabody."),
        mic_port: s.count("mic_port", 47_995, 1..=65_535, "UDP port of hydravoice."),
        pair_once: s.flag(
            "pair_once",
            true,
            "Pair with a body once and remember it, instead of at every session; turned off, the remembered client is taken off the body.",
        ),
        close_foreign_app: s.flag(
            "close_foreign_app",
            false,
            "Close an app that runs on the body and is not of the session's asking.",
        ),
    }
}

pub(super) fn mic(s: &Section<'_>) -> Mic {
    Mic {
        enabled: s.flag(
            "enabled",
            true,
            "Whether visitors may send their microphone.",
        ),
        bind: s.form(
            "bind",
            AUTO,
            Auto::Auto,
            "The local address browsers' sound arrives at; `auto` takes the one of the default \
             route.",
            str::parse,
        ),
        max: s.count("max", 15, 1..=SESSIONS_MAX, "Microphones open at once."),
        payload_type: s.count(
            "payload_type",
            111,
            96..=127,
            "RTP payload type of the Opus packets sent to the body.",
        ),
        // Below the WebRTC range, so that no number of sessions grows into it: 39000 to 39999
        // at most, since `max` is at most 1000.
        port_start: s.count(
            "port_start",
            39_000,
            1024..=65_535,
            "First UDP port of microphones; `max` ports from here.",
        ),
    }
}
