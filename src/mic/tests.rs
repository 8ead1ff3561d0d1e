//! Microphones with real peers over loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rtp::packet::Packet;
use webrtc_util::marshal::Unmarshal as _;

use self::browser::TestBrowser;
use super::error::MicError;
use super::rtp_sender::MicCounters;
use super::sdp_answer::SdpAnswer;
use super::sdp_offer::tests::{BROWSER, body};
use super::{MicSettings, Microphones};
use crate::clock;
use crate::ids::SessionId;
use crate::sync::Mutex;

pub(super) mod browser;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Longest wait for an expected event.
const PATIENCE: Duration = Duration::from_secs(20);

type Changes = Arc<Mutex<Vec<(SessionId, bool)>>>;

struct Fixture {
    microphones: Microphones,
    changes: Changes,
    body: UdpSocket,
    target: SocketAddr,
}

fn fixture_with(change: impl FnOnce(&mut MicSettings)) -> Fixture {
    let changes = Changes::default();
    let mut settings = MicSettings::on(LOOPBACK);
    settings.payload_type = 96;
    change(&mut settings);
    let log = changes.clone();
    let body = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    body.set_read_timeout(Some(PATIENCE)).unwrap();
    Fixture {
        microphones: Microphones::new(settings, move |session, on| {
            log.lock().push((session.clone(), on));
        }),
        changes,
        target: body.local_addr().unwrap(),
        body,
    }
}

fn fixture() -> Fixture {
    fixture_with(|_| {})
}

impl Fixture {
    fn offer(&self, session: &SessionId, body: &[u8]) -> Result<SdpAnswer, MicError> {
        self.microphones.offer(session, self.target, body)
    }

    /// A connected browser.
    fn browser(&self, session: &SessionId, ssrc: u32) -> TestBrowser {
        let (mut browser, offer) = TestBrowser::offering(LOOPBACK, ssrc, clock::now()).unwrap();
        let answer = self.offer(session, &offer).unwrap();
        browser.accept_answer(&answer.sdp, clock::now()).unwrap();
        eventually("no connection", || {
            browser.serve(clock::now()).unwrap();
            browser.is_connected()
        });
        browser
    }

    fn received(&self) -> Packet {
        let mut buffer = [0; 2048];
        let n = self.body.recv(&mut buffer).unwrap();
        Packet::unmarshal(&mut &buffer[..n]).unwrap()
    }

    fn is_on(&self, session: &SessionId) -> bool {
        let mut table = self.microphones.sessions.table.lock();
        table.entry(session).is_some_and(|entry| entry.is_on())
    }

    /// None once the session has ended.
    fn counters(&self, session: &SessionId) -> Option<MicCounters> {
        let mut table = self.microphones.sessions.table.lock();
        table.entry(session).map(|entry| entry.counters())
    }

    fn changes(&self) -> Vec<bool> {
        self.changes.lock().iter().map(|c| c.1).collect()
    }

    fn nothing_left(&self) {
        eventually("a peer is left open", || self.microphones.open() == 0);
    }
}

fn session() -> SessionId {
    SessionId::random().unwrap()
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = clock::now() + PATIENCE;
    while !done() {
        assert!(clock::now() < until, "{what}");
        pause(5);
    }
}

/// Waits between two polls, or two frames.
#[allow(clippy::disallowed_methods)]
fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// Sends frames with these sequence numbers, 20 ms of stream time apart, faster than real time.
fn send_frames(browser: &mut TestBrowser, numbers: std::ops::Range<u16>) {
    for n in numbers {
        let (frame, now) = (n.to_be_bytes().to_vec(), clock::now());
        browser
            .send_frame(n, u32::from(n) * 960, frame, now)
            .unwrap();
        browser.serve(now).unwrap();
        pause(1);
    }
}

fn close(browser: &mut TestBrowser) {
    browser.close().unwrap();
    browser.flush();
}

#[test]
fn five_hundred_packets_arrive_in_order_under_one_ssrc_and_the_configured_type() {
    let fixture = fixture();
    let id = session();
    let mut browser = fixture.browser(&id, 77);
    eventually("it is not on", || fixture.is_on(&id));
    let mut ssrc = None;
    // In portions that the body's socket buffer can hold. 65,535 is never sent.
    for start in (0..500_u16).step_by(50) {
        let sequence = |n: u16| 65_300_u16.wrapping_add(if n < 235 { n } else { n + 1 });
        for n in start..start + 50 {
            send_frames(&mut browser, sequence(n)..sequence(n) + 1);
        }
        for n in start..start + 50 {
            let packet = fixture.received();
            assert_eq!(packet.header.ssrc, *ssrc.get_or_insert(packet.header.ssrc));
            assert_eq!(packet.header.payload_type, 96);
            assert!(packet.header.extensions.is_empty());
            assert_eq!(packet.header.sequence_number, sequence(n));
            assert_eq!(packet.payload[..], sequence(n).to_be_bytes());
        }
    }
    let counters = fixture.counters(&id).unwrap();
    assert_eq!((counters.packets, counters.bytes), (500, 1_000));
    assert_eq!(
        (counters.lost, counters.duplicates, counters.late),
        (1, 0, 0)
    );
    assert_eq!(fixture.microphones.end(&id), counters);
    assert_eq!(fixture.microphones.total(), counters);
    fixture.nothing_left();
    assert_eq!(fixture.changes(), [true, false]);
}

#[test]
fn a_new_offer_replaces_the_microphone_and_continues_its_stream() {
    let fixture = fixture();
    let id = session();
    let mut old = fixture.browser(&id, 1);
    send_frames(&mut old, 1_000..1_050);
    (0..49).for_each(|_| drop(fixture.received()));
    let last = fixture.received();
    assert_eq!(last.header.sequence_number, 1_049);
    let mut new = fixture.browser(&id, 2);
    eventually("the old peer is open", || fixture.microphones.open() == 1);
    // The old browser may continue, its packets are dropped.
    send_frames(&mut old, 1_050..1_060);
    send_frames(&mut new, 9..59);
    let mut before = last.header;
    for n in 0..50 {
        let header = fixture.received().header;
        assert_eq!(header.ssrc, before.ssrc);
        assert_eq!(header.sequence_number, before.sequence_number + 1);
        let step = header.timestamp.wrapping_sub(before.timestamp);
        assert!(
            if n == 0 {
                (960..960_000).contains(&step)
            } else {
                step == 960
            },
            "{step}"
        );
        before = header;
    }
    assert!(fixture.is_on(&id));
    fixture.microphones.stop(&id);
    assert!(!fixture.is_on(&id));
    fixture.nothing_left();
    assert_eq!(fixture.changes(), [true, false, true, false]);
    assert_eq!(fixture.counters(&id).unwrap().packets, 100);
}

#[test]
fn a_refused_offer_leaves_nothing_open_and_the_old_microphone_on() {
    let fixture = fixture();
    let id = session();
    let _browser = fixture.browser(&id, 1);
    eventually("it is not on", || fixture.is_on(&id));
    let video = BROWSER.replace("m=audio", "m=video");
    for (bad, status, reason) in [
        (b"garbage".to_vec(), 400, "bad_request"),
        (body("answer", BROWSER), 400, "not_an_offer"),
        (body("offer", &video), 400, "no_audio"),
    ] {
        let error = fixture.offer(&id, &bad).unwrap_err();
        assert_eq!((error.status(), error.reason()), (status, reason));
    }
    assert!(fixture.is_on(&id));
    assert_eq!(fixture.microphones.open(), 1);
}

#[test]
fn ten_offers_at_once_are_answered_four_times_and_then_429() {
    let fixture = fixture();
    let id = session();
    let good = body("offer", BROWSER);
    let refused: Vec<MicError> = (0..10)
        .filter_map(|_| fixture.offer(&id, &good).err())
        .collect();
    assert!(refused.len() >= 4, "{}", refused.len());
    for error in &refused {
        assert_eq!((error.status(), error.reason()), (429, "too_many_requests"));
        assert!(error.retry_after().is_some());
    }
    eventually("replaced peers are open", || {
        fixture.microphones.open() == 1
    });
    // Another session is not limited by it.
    assert!(fixture.offer(&session(), &good).is_ok());
    drop(fixture.microphones);
    assert_eq!(fixture.changes.lock().len(), 0);
}

#[test]
fn an_ended_session_has_no_microphone_and_its_offers_are_refused() {
    let fixture = fixture();
    let id = session();
    let mut browser = fixture.browser(&id, 1);
    fixture.microphones.end(&id);
    fixture.nothing_left();
    let error = fixture.offer(&id, &body("offer", BROWSER)).unwrap_err();
    assert_eq!((error.status(), error.reason()), (410, "session_ended"));
    assert_eq!(fixture.counters(&id), None);
    assert_eq!(fixture.microphones.open(), 0);
    close(&mut browser);
}

#[test]
fn the_limit_counts_sessions_and_does_not_refuse_a_new_offer_of_one() {
    let fixture = fixture_with(|s| s.max = 1);
    let (first, second) = (session(), session());
    let good = body("offer", BROWSER);
    fixture.offer(&first, &good).unwrap();
    fixture.offer(&first, &good).unwrap();
    let error = fixture.offer(&second, &good).unwrap_err();
    assert_eq!((error.status(), error.reason()), (503, "no_capacity"));
    fixture.microphones.end(&first);
    assert!(fixture.offer(&second, &good).is_ok());
}

#[test]
fn a_port_range_limits_the_peers() {
    let free = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    let fixture = fixture_with(|s| s.ports = Some(port..=port));
    let (id, good) = (session(), body("offer", BROWSER));
    let error = fixture.offer(&id, &good).unwrap_err();
    assert_eq!((error.status(), error.reason()), (503, "no_capacity"));
    drop(free);
    assert!(fixture.offer(&id, &good).is_ok());
}

#[test]
fn a_silent_microphone_is_closed() {
    let fixture = fixture_with(|s| s.idle = Duration::from_millis(300));
    let id = session();
    let mut browser = fixture.browser(&id, 1);
    send_frames(&mut browser, 0..3);
    fixture.nothing_left();
    assert!(!fixture.is_on(&id));
    assert_eq!(fixture.changes(), [true, false]);
}

#[test]
fn a_peer_closed_by_the_page_is_closed_here() {
    let fixture = fixture();
    let id = session();
    let mut browser = fixture.browser(&id, 1);
    close(&mut browser);
    fixture.nothing_left();
    assert!(!fixture.is_on(&id));
}

#[test]
fn dropping_the_microphones_closes_every_peer() {
    let fixture = fixture();
    let good = body("offer", BROWSER);
    for _ in 0..5 {
        fixture.offer(&session(), &good).unwrap();
    }
    let sessions = fixture.microphones.sessions.clone();
    assert_eq!(sessions.open_peers.load(Ordering::Acquire), 5);
    drop(fixture);
    eventually("a peer is left open", || {
        sessions.open_peers.load(Ordering::Acquire) == 0
    });
}

#[test]
fn a_strangers_datagrams_are_neither_answered_nor_forwarded() {
    let fixture = fixture();
    let id = session();
    let answer = fixture.offer(&id, &body("offer", BROWSER)).unwrap();
    let line = answer
        .sdp
        .lines()
        .find(|l| l.starts_with("a=candidate"))
        .unwrap();
    let port: u16 = line.split(' ').nth(5).unwrap().parse().unwrap();
    let stranger = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    stranger.connect((LOOPBACK, port)).unwrap();
    for first in [0_u8, 1, 20, 22, 63, 80, 128, 144, 200, 255] {
        let mut datagram = vec![first; 200];
        stranger.send(&datagram).unwrap();
        datagram.truncate(1);
        stranger.send(&datagram).unwrap();
    }
    // A browser is still served afterwards.
    let mut browser = fixture.browser(&session(), 9);
    send_frames(&mut browser, 0..1);
    assert_eq!(fixture.received().header.payload_type, 96);
    stranger.set_nonblocking(true).unwrap();
    assert!(
        stranger.recv(&mut [0; 100]).is_err(),
        "a stranger was answered"
    );
    assert_eq!(fixture.microphones.open(), 2);
}
