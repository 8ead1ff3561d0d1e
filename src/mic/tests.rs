//! Microphones against real peers over loopback.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use rtp::packet::Packet;
use webrtc_util::marshal::Unmarshal as _;

use self::browser::TestBrowser;
use super::sdp_offer::tests::{BROWSER, body};
use super::*;
use std::time::Duration;

pub(super) mod browser;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Longest wait for something that must come; never met unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

type Changes = Arc<Mutex<Vec<(SessionId, bool)>>>;

struct Stage {
    microphones: Microphones,
    changes: Changes,
    body: UdpSocket,
    target: SocketAddr,
}

fn stage_with(change: impl FnOnce(&mut MicSettings)) -> Stage {
    let changes = Changes::default();
    let mut settings = MicSettings::on(LOOPBACK);
    settings.payload_type = 96;
    change(&mut settings);
    let heard = changes.clone();
    let body = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    body.set_read_timeout(Some(PATIENCE)).unwrap();
    Stage {
        microphones: Microphones::new(settings, move |session, on| {
            heard.lock().unwrap().push((session.clone(), on));
        }),
        changes,
        target: body.local_addr().unwrap(),
        body,
    }
}

fn stage() -> Stage {
    stage_with(|_| {})
}

impl Stage {
    fn offer(&self, session: &SessionId, body: &[u8]) -> Result<SdpAnswer, MicError> {
        self.microphones.offer(session, self.target, body)
    }

    /// A connected speaker.
    fn speaker(&self, session: &SessionId, ssrc: u32) -> TestBrowser {
        let (mut speaker, offer) = TestBrowser::offering(LOOPBACK, ssrc, clock::now()).unwrap();
        let answer = self.offer(session, &offer).unwrap();
        speaker.take(&answer.sdp, clock::now()).unwrap();
        eventually("no connection", || {
            speaker.serve(clock::now()).unwrap();
            speaker.is_connected()
        });
        speaker
    }

    fn heard(&self) -> Packet {
        let mut buffer = [0; 2048];
        let n = self.body.recv(&mut buffer).unwrap();
        Packet::unmarshal(&mut &buffer[..n]).unwrap()
    }

    fn changes(&self) -> Vec<bool> {
        self.changes.lock().unwrap().iter().map(|c| c.1).collect()
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

/// Lets time pass between two looks, or two frames.
#[allow(clippy::disallowed_methods)]
fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// Says frames with these sequence numbers, 20 ms of stream time apart and faster than life.
fn say(speaker: &mut TestBrowser, numbers: std::ops::Range<u16>) {
    for n in numbers {
        let (frame, now) = (n.to_be_bytes().to_vec(), clock::now());
        speaker.say(n, u32::from(n) * 960, frame, now).unwrap();
        speaker.serve(now).unwrap();
        pause(1);
    }
}

fn hang_up(speaker: &mut TestBrowser) {
    speaker.close().unwrap();
    speaker.flush();
}

#[test]
fn five_hundred_packets_arrive_in_order_under_one_ssrc_and_the_configured_type() {
    let stage = stage();
    let id = session();
    let mut speaker = stage.speaker(&id, 77);
    eventually("it is not on", || stage.microphones.is_on(&id));
    let mut ssrc = None;
    // In portions that the body's socket can hold. 65,535 is never said.
    for start in (0..500_u16).step_by(50) {
        let said = |n: u16| 65_300_u16.wrapping_add(if n < 235 { n } else { n + 1 });
        for n in start..start + 50 {
            say(&mut speaker, said(n)..said(n) + 1);
        }
        for n in start..start + 50 {
            let packet = stage.heard();
            assert_eq!(packet.header.ssrc, *ssrc.get_or_insert(packet.header.ssrc));
            assert_eq!(packet.header.payload_type, 96);
            assert!(packet.header.extensions.is_empty());
            assert_eq!(packet.header.sequence_number, said(n));
            assert_eq!(packet.payload[..], said(n).to_be_bytes());
        }
    }
    let counters = stage.microphones.counters(&id).unwrap();
    assert_eq!((counters.packets, counters.bytes), (500, 1_000));
    assert_eq!(
        (counters.lost, counters.duplicates, counters.late),
        (1, 0, 0)
    );
    assert_eq!(stage.microphones.end(&id), counters);
    assert_eq!(stage.microphones.total(), counters);
    stage.nothing_left();
    assert_eq!(stage.changes(), [true, false]);
}

#[test]
fn a_new_offer_replaces_the_microphone_and_continues_its_stream() {
    let stage = stage();
    let id = session();
    let mut old = stage.speaker(&id, 1);
    say(&mut old, 1_000..1_050);
    (0..49).for_each(|_| drop(stage.heard()));
    let last = stage.heard();
    assert_eq!(last.header.sequence_number, 1_049);
    let mut new = stage.speaker(&id, 2);
    eventually("the old peer is open", || stage.microphones.open() == 1);
    // The old speaker may go on, it is not heard.
    say(&mut old, 1_050..1_060);
    say(&mut new, 9..59);
    let mut before = last.header;
    for n in 0..50 {
        let header = stage.heard().header;
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
    assert!(stage.microphones.is_on(&id));
    stage.microphones.stop(&id);
    assert!(!stage.microphones.is_on(&id));
    stage.nothing_left();
    assert_eq!(stage.changes(), [true, false, true, false]);
    assert_eq!(stage.microphones.counters(&id).unwrap().packets, 100);
}

#[test]
fn a_refused_offer_leaves_nothing_open_and_the_old_microphone_on() {
    let stage = stage();
    let id = session();
    let _speaker = stage.speaker(&id, 1);
    eventually("it is not on", || stage.microphones.is_on(&id));
    let video = BROWSER.replace("m=audio", "m=video");
    for (bad, status, reason) in [
        (b"garbage".to_vec(), 400, "bad_request"),
        (body("answer", BROWSER), 400, "not_an_offer"),
        (body("offer", &video), 400, "no_audio"),
    ] {
        let error = stage.offer(&id, &bad).unwrap_err();
        assert_eq!((error.status(), error.reason()), (status, reason));
    }
    assert!(stage.microphones.is_on(&id));
    assert_eq!(stage.microphones.open(), 1);
}

#[test]
fn ten_offers_at_once_are_answered_four_times_and_then_429() {
    let stage = stage();
    let id = session();
    let good = body("offer", BROWSER);
    let refused: Vec<MicError> = (0..10)
        .filter_map(|_| stage.offer(&id, &good).err())
        .collect();
    assert!(refused.len() >= 4, "{}", refused.len());
    for error in &refused {
        assert_eq!((error.status(), error.reason()), (429, "too_many_requests"));
        assert!(error.retry_after().is_some());
    }
    eventually("replaced peers are open", || stage.microphones.open() == 1);
    // Another session is not punished for it.
    assert!(stage.offer(&session(), &good).is_ok());
    drop(stage.microphones);
    assert_eq!(stage.changes.lock().unwrap().len(), 0);
}

#[test]
fn an_ended_session_has_no_microphone_and_gets_none() {
    let stage = stage();
    let id = session();
    let mut speaker = stage.speaker(&id, 1);
    stage.microphones.end(&id);
    stage.nothing_left();
    let error = stage.offer(&id, &body("offer", BROWSER)).unwrap_err();
    assert_eq!((error.status(), error.reason()), (410, "session_ended"));
    assert_eq!(stage.microphones.counters(&id), None);
    assert_eq!(stage.microphones.open(), 0);
    hang_up(&mut speaker);
}

#[test]
fn the_limit_counts_sessions_and_lets_a_session_offer_again() {
    let stage = stage_with(|s| s.max = 1);
    let (first, second) = (session(), session());
    let good = body("offer", BROWSER);
    stage.offer(&first, &good).unwrap();
    stage.offer(&first, &good).unwrap();
    let error = stage.offer(&second, &good).unwrap_err();
    assert_eq!((error.status(), error.reason()), (503, "no_capacity"));
    stage.microphones.end(&first);
    assert!(stage.offer(&second, &good).is_ok());
}

#[test]
fn a_port_range_bounds_the_peers() {
    let free = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    let stage = stage_with(|s| s.ports = Some(port..=port));
    let (id, good) = (session(), body("offer", BROWSER));
    let error = stage.offer(&id, &good).unwrap_err();
    assert_eq!((error.status(), error.reason()), (503, "no_capacity"));
    drop(free);
    assert!(stage.offer(&id, &good).is_ok());
}

#[test]
fn a_silent_microphone_is_closed() {
    let stage = stage_with(|s| s.idle = Duration::from_millis(300));
    let id = session();
    let mut speaker = stage.speaker(&id, 1);
    say(&mut speaker, 0..3);
    stage.nothing_left();
    assert!(!stage.microphones.is_on(&id));
    assert_eq!(stage.changes(), [true, false]);
}

#[test]
fn a_page_that_closes_its_peer_is_noticed() {
    let stage = stage();
    let id = session();
    let mut speaker = stage.speaker(&id, 1);
    hang_up(&mut speaker);
    stage.nothing_left();
    assert!(!stage.microphones.is_on(&id));
}

#[test]
fn dropping_the_microphones_closes_every_peer() {
    let stage = stage();
    let good = body("offer", BROWSER);
    for _ in 0..5 {
        stage.offer(&session(), &good).unwrap();
    }
    let shared = stage.microphones.shared.clone();
    assert_eq!(shared.open.load(Ordering::Acquire), 5);
    drop(stage);
    eventually("a peer is left open", || {
        shared.open.load(Ordering::Acquire) == 0
    });
}

#[test]
fn a_strangers_datagrams_are_neither_answered_nor_forwarded() {
    let stage = stage();
    let id = session();
    let answer = stage.offer(&id, &body("offer", BROWSER)).unwrap();
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
    // Whatever it does with them, it still serves a speaker afterwards.
    let mut speaker = stage.speaker(&session(), 9);
    say(&mut speaker, 0..1);
    assert_eq!(stage.heard().header.payload_type, 96);
    stranger.set_nonblocking(true).unwrap();
    assert!(
        stranger.recv(&mut [0; 100]).is_err(),
        "a stranger was answered"
    );
    assert_eq!(stage.microphones.open(), 2);
}
