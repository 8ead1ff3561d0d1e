//! Rules between sections, checked after each key by itself.

use super::document::Step;
use super::report::Report;
use super::schema::Config;
use super::values::Role;

/// Checks the whole configuration; `role` adds what that role requires.
pub(super) fn check(report: &mut Report<'_>, config: &Config, role: Option<Role>) {
    ports(report, config);
    if role.is_some() {
        server(report, config);
    }
    if role == Some(Role::Worker) {
        relays(report, config);
    }
}

fn path(dotted: &str) -> Vec<Step> {
    dotted.split('.').map(|k| Step::Key(k.to_owned())).collect()
}

/// A process that serves needs a token and an address. A key that is wrong is not missing.
fn server(report: &mut Report<'_>, config: &Config) {
    let server = &config.server;
    if server.admin_token.is_empty() && !report.has_error("server.admin_token") {
        report.error(
            &path("server.admin_token"),
            "is missing",
            "write a long random token here, or the path of a file with one as admin_token_file",
        );
    }
    let is_wrong = report.has_error("server.domain") || report.has_error("server.listen");
    if server.domain.is_none() && server.listen.is_none() && !is_wrong {
        report.error(
            &path("server.listen"),
            "is missing, and so is server.domain",
            "set server.domain to serve HTTPS under that name, or server.listen, as \":8080\", \
             to serve plain HTTP",
        );
    }
}

fn relays(report: &mut Report<'_>, config: &Config) {
    let mut urls = config.ice_servers.iter().flat_map(|s| &s.urls);
    let has_relay = config.turn.is_some() || urls.any(|u| u.starts_with("turn"));
    if config.sessions.relay_only && !has_relay {
        report.warn(
            &path("sessions.relay_only"),
            "is true and no TURN server is configured, so no browser can receive a picture",
            "add a TURN server under ice_servers or turn, or set it to false for development",
        );
    }
}

/// Consecutive ports from the one that a key names.
struct Range {
    key: &'static str,
    first: u32,
    count: u32,
}

impl Range {
    fn new(key: &'static str, first: u16, count: u32) -> Self {
        let first = u32::from(first);
        Self { key, first, count }
    }

    fn last(&self) -> u32 {
        self.first + self.count - 1
    }
}

fn ports(report: &mut Report<'_>, config: &Config) {
    let (sessions, mic) = (&config.sessions, &config.mic);
    let max = u32::from(sessions.max);
    let mut processes = Range::new("sessions.port_range_start", sessions.port_range_start, max);
    let own = config.server.listen.map(|l| u32::from(l.port));
    if own.is_some_and(|port| (processes.first..=processes.last()).contains(&port)) {
        // `Sessions::ports` leaves it out and takes one more at the end.
        processes.count += 1;
    }
    let media_count = max * u32::from(sessions.webrtc_ports);
    let media = Range::new(
        "sessions.webrtc_port_start",
        sessions.webrtc_port_start,
        media_count,
    );
    let mics = Range::new("mic.port_start", mic.port_start, u32::from(mic.max));
    for range in [&processes, &media, &mics] {
        let (first, count, last) = (range.first, range.count, range.last());
        if last > u32::from(u16::MAX) {
            let what = format!("{first} with {count} ports ends at {last}, beyond 65535");
            let highest = (u32::from(u16::MAX) + 1).saturating_sub(count);
            let remedy = format!("start at {highest} or lower, or take fewer ports");
            report.error(&path(range.key), &what, &remedy);
        }
    }
    // Both are UDP; the ports of the stream processes are TCP.
    if mic.enabled && media.first <= mics.last() && mics.first <= media.last() {
        let (first, last, key) = (media.first, media.last(), mics.key);
        let what = format!(
            "the media ports {first}-{last} overlap {key} {}-{}",
            mics.first,
            mics.last()
        );
        report.error(&path(media.key), &what, "move one of the two ranges");
    }
}
