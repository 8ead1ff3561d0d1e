//! The schema of sessions: how they run, the bodies, and the relays between them and browsers.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{DAY, INSTANT, secs};
use crate::config::entry::{DefaultValue, found};
use crate::config::field_types::{
    any_text, auto_address, count, duration, flag, ice_url, network, path, size, url, video_size,
    web_server,
};
use crate::config::values::{Auto, VideoSize, WebServer};
use crate::secret::Secret;

/// Sessions of one worker: far above what one machine's uplink carries.
const SESSIONS_MAX: u16 = 1000;
/// Ports below are for services that root starts.
const UNPRIVILEGED: std::ops::RangeInclusive<u16> = 1024..=65_535;

section! {
    /// The section `sessions`.
    pub struct Sessions(key) {
        /// A session ends after this time, even while somebody is watching. 0 means no limit.
        max_duration: Option<Duration> =
            Some(key.default(duration(Duration::ZERO..=30 * DAY), Duration::ZERO))
                .filter(|d| !d.is_zero()),
        /// Most sessions that this worker runs at once.
        max: u16 = key.default(count(1..=SESSIONS_MAX), 15),
        /// First TCP port of the stream processes, on loopback. They use `max` ports from here,
        /// without the port of `server.listen`.
        port_range_start: u16 = key.default(count(UNPRIVILEGED), 8080),
        /// The target of "Start new stream" on the page after a stream has ended.
        return_url: String =
            key.default(url(), "https://hydraheadwebstream.experiencenet.com".to_owned()),
        /// The stream program. `testcard` is the built-in one, which shows a test picture.
        web_server: WebServer = key.default(
            web_server(),
            WebServer::Program(PathBuf::from("/opt/moonlight-web-stream/web-server")),
        ),
        /// Where each running session has its directory.
        dir: PathBuf = key.default(path(), PathBuf::from("/tmp/hydraneckwebrtc-sessions")),
        /// A ready session ends if no browser joins within this time.
        connect_timeout: Duration = key.default(duration(INSTANT..=DAY), secs(300)),
        /// How long a session waits for a browser to return after the last one has left.
        disconnect_grace: Duration = key.default(duration(INSTANT..=DAY), secs(30)),
        /// Longest time from the request until the session is ready. After it the start has failed.
        start_timeout: Duration = key.default(duration(INSTANT..=secs(3600)), secs(45)),
        /// How often a stream process that died is restarted before its session ends.
        restart_limit: u32 = key.default(count(0..=100), 2),
        /// First UDP port of WebRTC media.
        webrtc_port_start: u16 = key.default(count(UNPRIVILEGED), 40_000),
        /// UDP ports of each session. All sessions together use `max` times as many.
        webrtc_ports: u16 = key.default(count(1..=1000), 20),
        /// The address that a stream process offers to the relay as its own. `auto` is the address
        /// of the default route.
        public_ip: Auto = key.default(auto_address(), Auto::Auto),
        /// Largest log of one session. Further output is discarded.
        log_max_bytes: u64 = key.default(size(64 << 10..=1 << 30), 16 << 20),
        /// Browsers use TURN relay candidates only. `false` is for development without coturn;
        /// stream processes then also offer loopback addresses.
        relay_only: bool = key.default(flag(), true),
        /// Keep sessions running when the worker stops; the next worker process adopts them.
        /// `false` ends them with `worker_shutdown`.
        keep_on_shutdown: bool = key.default(flag(), true),
        /// Most processes and threads of one session. Applies where a control group can be made.
        pids_max: Option<u32> = key.optional(count(8..=100_000), "256"),
        /// Most memory of one session. Applies where a control group can be made.
        memory_max: Option<u64> = key.optional(size(16 << 20..=1 << 40), "1GiB"),
        /// What the stream page requests from the body.
        defaults: Defaults = key.section(),
    }
}

impl Sessions {
    /// The ports of the stream processes: `max` of them from `port_range_start`, without the
    /// ports that this process listens on (the runbook's colocated worker listens on `:8090`,
    /// inside the range it gives to sessions).
    pub fn ports(&self, taken: &[u16]) -> impl Iterator<Item = u16> {
        (self.port_range_start..=u16::MAX)
            .filter(|port| !taken.contains(port))
            .take(usize::from(self.max))
    }
}

fn of_the_program(example: &'static str) -> DefaultValue {
    found("the stream program's own", example)
}

section! {
    /// The section `sessions.defaults`. `None` leaves the stream program's own default.
    pub struct Defaults(key) {
        /// Bit rate of the video, in kilobits per second.
        bitrate: Option<u32> = key.optional(count(500..=500_000), of_the_program("20000")),
        /// Frames per second.
        fps: Option<u32> = key.optional(count(1..=240), of_the_program("60")),
        /// Size of the picture.
        video_size: Option<VideoSize> = key.optional(video_size(), of_the_program("1080p")),
    }
}

section! {
    /// The section `sunshine`.
    pub struct Sunshine(key) {
        // Present exactly when `password` is.
        /// The user of Sunshine's API. `sunshine_user` in a request overrides it.
        username: Option<String> = key.optional(any_text(), "sunshine"),
        /// The password of that user. `sunshine_pass` in a request overrides it.
        password: Option<Secret> = key.secret(),
        /// Port of Sunshine's API.
        port: u16 = key.default(count(1..=65_535), 47_990),
        /// Port of Sunshine's GameStream service, plain HTTP.
        http_port: u16 = key.default(count(1..=65_535), 47_989),
    }
    check(section) {
        section.needs("password", "username", "add it, or remove the password");
        section.needs("username", "password", "add it, or remove the username");
    }
}

section! {
    /// The section `bodies`.
    pub struct Bodies(key) {
        // `None`: the networks of the WireGuard interfaces and the private ranges of RFC 1918.
        /// The only addresses that a request may give as `body_ip`. Loopback, link-local and this
        /// machine's own addresses are refused unless a network listed here contains them.
        allowed_networks: Option<Vec<IpNet>> = {
            let words = "the WireGuard interfaces' networks and 10.0.0.0/8, 172.16.0.0/12, \
                         192.168.0.0/16";
            key.list(network(), found(words, "[10.10.0.0/16]"))
        },
        /// How many sessions a body may have at a time, in the whole fleet: both roles read it. A
        /// create for a body that others have is refused (409 `body_busy`), unless it asks for
        /// `takeover`. With more than one, sessions of one body share its running app.
        sessions_max: u16 = key.default(count(1..=1_000), 1),
        /// Port of hydrabody.
        agent_port: u16 = key.default(count(1..=65_535), 47_991),
        /// UDP port of hydravoice.
        mic_port: u16 = key.default(count(1..=65_535), 47_995),
        /// Pair with a body once and keep the client, instead of pairing for each session. When
        /// this is turned off, the kept client is removed from the body.
        pair_once: bool = key.default(flag(), true),
        /// When another app already runs on the body, close it and start the requested one. `false`
        /// streams the app that runs.
        close_foreign_app: bool = key.default(flag(), false),
    }
}

section! {
    /// One item of `ice_servers`.
    pub struct IceServer(key) {
        /// Addresses of one server.
        urls: Vec<String> =
            key.list(ice_url(), "[\"stun:stun.example.com:3478\"]").unwrap_or_default(),
        /// The user of a TURN server.
        username: Option<String> = key.optional(any_text(), "hydraturn"),
        /// The password of that user.
        credential: Option<Secret> = key.secret(),
    }
    check(section) {
        section.require("urls", "list the server's addresses");
        let is_turn = urls.iter().any(|url| url.starts_with("turn"));
        if is_turn && !(section.has("username") && section.has("credential")) {
            section.error(
                "urls",
                "names a TURN server without username and credential",
                "add both, or let the `turn` section mint them",
            );
        }
    }
}

section! {
    /// The section `turn`.
    pub struct Turn(key) {
        /// The secret shared with coturn (`use-auth-secret`).
        secret: Secret = key.secret().unwrap_or_default(),
        /// Addresses of the TURN server.
        urls: Vec<String> =
            key.list(ice_url(), "[\"turn:relay.example.com:3478\"]").unwrap_or_default(),
        /// How long a credential can open new relays. Relays that are open continue.
        ttl: Duration = key.default(duration(secs(30)..=DAY), secs(600)),
    }
    check(section) {
        section.needs("secret", "urls", "list the addresses of the TURN server");
        let remedy = "name the file with coturn's static-auth-secret, or use ice_servers";
        section.needs("urls", "secret_file", remedy);
    }
}

section! {
    /// The section `mic`.
    pub struct Mic(key) {
        /// Whether visitors may send their microphone.
        enabled: bool = key.default(flag(), true),
        /// The local address that receives the sound from browsers. `auto` is the address of the
        /// default route.
        bind: Auto = key.default(auto_address(), Auto::Auto),
        /// Most microphones open at once.
        max: u16 = key.default(count(1..=SESSIONS_MAX), 15),
        /// RTP payload type of the Opus packets sent to the body.
        payload_type: u8 = key.default(count(96..=127), 111),
        // Below the default WebRTC range, and separate for every `max`: 39000 to 39999 at most.
        /// First UDP port of the microphones. They use `max` ports from here.
        port_start: u16 = key.default(count(UNPRIVILEGED), 39_000),
    }
}
