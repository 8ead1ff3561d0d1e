//! What must hold between keys, once each of them is right by itself.

use super::locate::Step;
use super::model::{Config, Role};
use super::reader::Reader;

/// Judges the whole; `role` adds what that role cannot do without.
pub(super) fn check(reader: &Reader<'_>, config: &Config, role: Option<Role>) {
    ports(reader, config);
    if role.is_some() {
        serving(reader, config);
    }
    if role == Some(Role::Worker) {
        relays(reader, config);
    }
}

fn path(dotted: &str) -> Vec<Step> {
    dotted.split('.').map(|k| Step::Key(k.to_owned())).collect()
}

fn serving(reader: &Reader<'_>, config: &Config) {
    let server = &config.server;
    let was_complained = |prefix: &str| {
        let problems = reader.problems.borrow();
        problems.iter().any(|p| p.key.starts_with(prefix))
    };
    if server.admin_token.is_empty() && !was_complained("server.admin_token") {
        reader.complain(
            &path("server.admin_token"),
            "is missing",
            "write a long random token here, or the path of a file with one as admin_token_file",
        );
    }
    let has_place = server.domain.is_some() || server.listen.is_some();
    if !has_place && !was_complained("server.domain") && !was_complained("server.listen") {
        reader.complain(
            &path("server.listen"),
            "is missing, and so is server.domain",
            "set server.domain to serve HTTPS under that name, or server.listen, as \":8080\", \
             to serve plain HTTP",
        );
    }
}

fn relays(reader: &Reader<'_>, config: &Config) {
    let has_relay = config.turn.is_some()
        || config
            .ice_servers
            .iter()
            .any(|s| s.urls.iter().any(|u| u.starts_with("turn")));
    if config.sessions.relay_only && !has_relay {
        reader.warn(
            &path("sessions.relay_only"),
            "is true and no TURN server is configured, so no browser gets a picture",
            "add a TURN server under ice_servers or turn, or set it to false for development",
        );
    }
}

struct Range {
    key: &'static str,
    first: u32,
    count: u32,
}

impl Range {
    fn last(&self) -> u32 {
        self.first + self.count - 1
    }
}

fn ports(reader: &Reader<'_>, config: &Config) {
    let sessions = &config.sessions;
    let max = u32::from(sessions.max);
    let first = u32::from(sessions.port_range_start);
    let own = config.server.listen.map(|l| u32::from(l.port));
    let skipped = u32::from(own.is_some_and(|p| (first..first + max).contains(&p)));
    let processes = Range {
        key: "sessions.port_range_start",
        first,
        count: max + skipped,
    };
    let media = Range {
        key: "sessions.webrtc_port_start",
        first: u32::from(sessions.webrtc_port_start),
        count: max * u32::from(sessions.webrtc_ports),
    };
    let mics = Range {
        key: "mic.port_start",
        first: u32::from(config.mic.port_start),
        count: u32::from(config.mic.max),
    };
    for range in [&processes, &media, &mics] {
        if range.last() > u32::from(u16::MAX) {
            let what = format!(
                "{} with {} ports ends at {}, beyond 65535",
                range.first,
                range.count,
                range.last()
            );
            let remedy = format!(
                "start at {} or lower, or take fewer ports",
                (u32::from(u16::MAX) + 1).saturating_sub(range.count)
            );
            reader.complain(&path(range.key), &what, &remedy);
        }
    }
    // Both are UDP; the stream processes' ports are TCP and meet nobody.
    if config.mic.enabled && media.first <= mics.last() && mics.first <= media.last() {
        let what = format!(
            "the media ports {}-{} overlap {} {}-{}",
            media.first,
            media.last(),
            mics.key,
            mics.first,
            mics.last()
        );
        reader.complain(&path(media.key), &what, "move one of the two ranges");
    }
}
