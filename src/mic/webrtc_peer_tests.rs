//! One peer without sockets, mostly in virtual time.

use std::sync::LazyLock;

use super::super::sdp_answer::OPUS_FMTP;
use super::super::sdp_offer::tests::{BROWSER, body};
use super::super::tests::browser::TestBrowser;
use super::*;
use crate::clock;
use proptest::prelude::{ProptestConfig, any};

fn offer() -> SdpOffer {
    SdpOffer::parse(&body("offer", BROWSER)).unwrap()
}

fn local() -> SocketAddr {
    "127.0.0.1:39000".parse().unwrap()
}

fn accept_at(offer: SdpOffer, now: Instant) -> (WebRtcPeer, SdpAnswer) {
    static IDENTITY: LazyLock<Arc<DtlsIdentity>> =
        LazyLock::new(|| Arc::new(DtlsIdentity::new().unwrap()));
    WebRtcPeer::accept(&IDENTITY, offer, local(), IDLE, 7, now).unwrap()
}

fn accept(offer: SdpOffer) -> (WebRtcPeer, SdpAnswer) {
    accept_at(offer, clock::now())
}

#[test]
fn the_answer_receives_opus_at_one_address_of_the_worker() {
    let (_, answer) = accept(offer());
    let sdp = answer.sdp;
    let candidates: Vec<&str> = sdp.lines().filter(|l| l.contains("candidate:")).collect();
    assert_eq!(candidates.len(), 1, "{sdp}");
    assert!(candidates[0].contains(" 127.0.0.1 39000 "));
    for part in ["a=ice-lite", "a=recvonly", "opus/48000/2", OPUS_FMTP] {
        assert!(sdp.contains(part), "{part} is missing in {sdp}");
    }
    for part in ["red/48000", "PCMU", "extmap"] {
        assert!(!sdp.contains(part), "{part} is in {sdp}");
    }
}

#[test]
fn firefox_is_answered_with_its_own_payload_type() {
    let firefox = include_str!("../../tests/fuzz/offers/firefox.json");
    let (_, answer) = accept(SdpOffer::parse(firefox.as_bytes()).unwrap());
    assert!(
        answer.sdp.contains("a=rtpmap:109 opus/48000/2"),
        "{}",
        answer.sdp
    );
    assert!(
        answer.sdp.contains(&format!("a=fmtp:109 {OPUS_FMTP}")),
        "{}",
        answer.sdp
    );
}

#[test]
fn the_answer_repeats_mid_and_bundle_and_has_the_peers_address() {
    let tagged = BROWSER.replace("a=mid:0", "a=mid:voice");
    let alone = accept(SdpOffer::parse(&body("offer", &tagged)).unwrap())
        .1
        .sdp;
    assert!(
        alone.contains("a=mid:voice\r\n") && !alone.contains("a=group"),
        "{alone}"
    );
    let bundled = tagged.replace("BUNDLE 0", "BUNDLE voice");
    let both = accept(SdpOffer::parse(&body("offer", &bundled)).unwrap())
        .1
        .sdp;
    for line in [
        "a=group:BUNDLE voice\r\n",
        "m=audio 39000 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 127.0.0.1\r\n",
        "a=setup:passive\r\n",
        "a=rtcp-mux\r\n",
    ] {
        assert!(both.contains(line), "{line} is missing in {both}");
    }
}

#[test]
fn media_of_unvalidated_addresses_and_of_too_many_ssrcs_is_not_decrypted() {
    let rtp = |stream: u32| {
        let mut datagram = vec![0x80, 111, 0, 1, 0, 0, 0, 0];
        datagram.extend(stream.to_be_bytes());
        datagram.extend([0; 20]);
        datagram
    };
    let (mut peer, _) = accept(offer());
    let from: SocketAddr = "127.0.0.1:9".parse().unwrap();
    peer.ice.add_validated(from);
    peer.receive(&rtp(1), from, clock::now());
    assert!(peer.ssrcs.is_empty(), "there are no keys yet");
    let mut call = Call::up();
    call.peer.receive(&rtp(1), from, call.now);
    assert!(
        call.peer.ssrcs.is_empty(),
        "a packet of an address without checks is accepted"
    );
    for stream in 0..2 * SSRCS_MAX as u32 {
        let from = call.browser.local();
        let taken = call.peer.receive(&rtp(stream), from, call.now);
        assert!(matches!(taken, Received::Nothing), "it is not authentic");
    }
    assert_eq!(call.peer.ssrcs.len(), SSRCS_MAX);
}

/// Whether a datagram is the start of a flight.
type Begins = fn(&[u8]) -> bool;
const SERVER_HELLO: Begins = |datagram| datagram[0] == 22 && datagram.get(13) == Some(&2);
const CHANGE_CIPHER_SPEC: Begins = |datagram| datagram[0] == 20;

const IDLE: Duration = Duration::from_secs(60);
/// A step of virtual time: finer than any timer of ICE and DTLS.
const STEP: Duration = Duration::from_millis(20);

/// A peer and a browser, connected without delay, in virtual time.
struct Call {
    peer: WebRtcPeer,
    browser: TestBrowser,
    now: Instant,
}

impl Call {
    /// An answered offer; `change` modifies the parsed offer before it is answered.
    fn answered(change: impl FnOnce(&mut SdpOffer)) -> Self {
        let now = clock::now();
        let (mut browser, offer) = TestBrowser::offering(local().ip(), 7, now).unwrap();
        let mut offer = SdpOffer::parse(&offer).unwrap();
        change(&mut offer);
        let (peer, answer) = accept_at(offer, now);
        browser.accept_answer(&answer.sdp, now).unwrap();
        Self { peer, browser, now }
    }

    fn up() -> Self {
        let mut call = Self::answered(|_| {});
        let mut connected = 0;
        for _ in 0..500 {
            connected += usize::from(call.step().unwrap());
        }
        assert_eq!(connected, 1, "it connects once, within ten seconds");
        call
    }

    /// Runs one step of both sides. Returns whether the peer has just connected.
    fn step(&mut self) -> Result<bool, CloseReason> {
        self.step_losing(|_| false)
    }

    /// The same, with loss of some datagrams of the peer.
    fn step_losing(&mut self, mut loses: impl FnMut(&[u8]) -> bool) -> Result<bool, CloseReason> {
        self.now += STEP;
        // The browser may fail when it is refused.
        let _ = self.browser.handle_timeout(self.now);
        while let Some((datagram, _)) = self.browser.poll_transmit() {
            self.peer.receive(&datagram, self.browser.local(), self.now);
        }
        let settled = self.peer.handle_timeout(self.now);
        while let Some((datagram, to)) = self.peer.poll_transmit() {
            assert_eq!(to, self.browser.local(), "it sends only to the browser");
            if !loses(&datagram) {
                self.browser.receive(&datagram, local(), self.now);
            }
        }
        settled
    }

    /// Runs steps until the peer is closed. Returns the reason and the time it took.
    fn run_until_closed(&mut self) -> (CloseReason, Duration) {
        let start = self.now;
        loop {
            if let Err(ending) = self.step() {
                return (ending, self.now - start);
            }
            assert!(self.now - start < 2 * IDLE, "it is not closed");
        }
    }
}

#[test]
fn media_is_only_forwarded_and_extends_the_deadline() {
    let mut call = Call::up();
    for sequence in 0..3_000 {
        call.step().unwrap();
        let frame = vec![1, 2, 3];
        call.browser
            .send_frame(sequence, u32::from(sequence) * 960, frame, call.now)
            .unwrap();
        let (datagram, _) = call.browser.poll_transmit().unwrap();
        let from = call.browser.local();
        let Received::Rtp(packet) = call.peer.receive(&datagram, from, call.now) else {
            panic!("packet {sequence} is not forwarded");
        };
        assert_eq!(packet.header.sequence_number, sequence);
        assert_eq!(packet.payload[..], [1, 2, 3]);
        let again = call.peer.receive(&datagram, from, call.now);
        assert!(
            matches!(again, Received::Nothing),
            "a duplicate is forwarded: {again:?}"
        );
    }
    let (ending, after) = call.run_until_closed();
    assert_eq!(ending, CloseReason::Idle);
    assert!((IDLE..=IDLE + 2 * STEP).contains(&after), "{after:?}");
}

#[test]
fn a_certificate_that_the_offer_did_not_announce_gets_no_connection() {
    let mut call = Call::answered(|offer| offer.fingerprints[0][31] ^= 1);
    let (ending, _) = call.run_until_closed();
    assert_eq!(ending, CloseReason::NeverConnected);
    assert!(call.peer.ice.remote().is_some(), "the path was there");
    assert!(call.peer.srtp.is_none(), "and no keys");
}

#[test]
fn a_second_fingerprint_may_be_the_one() {
    let mut call = Call::answered(|offer| offer.fingerprints.insert(0, [0; 32]));
    let connects = (0..500).filter(|_| call.step().unwrap()).count();
    assert_eq!(connects, 1);
}

#[test]
fn a_lost_flight_is_retransmitted() {
    for (name, begins) in [("4", SERVER_HELLO), ("6", CHANGE_CIPHER_SPEC)] {
        let mut call = Call::answered(|_| {});
        let (mut lost, mut connected) = (false, 0);
        for _ in 0..700 {
            let step = call.step_losing(|datagram| {
                let loses = !lost && begins(datagram);
                lost |= loses;
                loses
            });
            connected += usize::from(step.unwrap());
        }
        assert!(lost, "there was no flight {name}");
        let both = (connected, call.browser.is_connected());
        assert_eq!(both, (1, true), "flight {name}");
    }
}

/// A flood: one handshake message in `count` fragments, the first one last, each empty but with a
/// length of one byte.
fn fragments(count: u32) -> Vec<Vec<u8>> {
    let record = |(number, offset): (u32, u32)| {
        let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0];
        record.extend(number.to_be_bytes());
        record.extend([0, 12, 1]);
        record.extend(&count.to_be_bytes()[1..]);
        record.extend([0, 0]);
        record.extend(&offset.to_be_bytes()[1..]);
        record.extend([0, 0, 1]);
        record
    };
    let offsets = (1..count).chain([0]);
    let all: Vec<Vec<u8>> = (1..).zip(offsets).map(record).collect();
    all.chunks(80).map(<[Vec<u8>]>::concat).collect()
}

#[test]
fn a_flood_of_fragments_does_not_abort_and_a_close_alert_is_still_accepted() {
    let mut call = Call::answered(|_| {});
    while call.peer.ice.remote().is_none() {
        call.step_losing(|datagram| datagram[0] == 22).unwrap();
    }
    for datagram in fragments(60_000) {
        call.peer.receive(&datagram, call.browser.local(), call.now);
    }
    let mut call = Call::up();
    for datagram in fragments(60_000) {
        call.peer.receive(&datagram, call.browser.local(), call.now);
    }
    call.step().unwrap();
    call.browser.close().unwrap();
    assert_eq!(call.run_until_closed().0, CloseReason::Closed);
}

#[test]
fn a_strangers_check_as_the_controlled_side_is_ignored() {
    let mut call = Call::answered(|_| {});
    let mut check = vec![0, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42];
    check.extend([7; 12]);
    check.extend([0x80, 0x29, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    let stranger: SocketAddr = "127.0.0.1:9".parse().unwrap();
    call.peer.receive(&check, stranger, call.now);
    assert!(call.peer.poll_transmit().is_none());
    let connects = (0..500).filter(|_| call.step().unwrap()).count();
    assert_eq!(connects, 1);
}

#[test]
fn a_browser_that_sends_media_but_no_checks_stays_connected() {
    let mut call = Call::up();
    for sequence in 0..2_000_u16 {
        let time = u32::from(sequence) * 960;
        call.now += STEP;
        call.browser
            .send_frame(sequence, time, vec![1], call.now)
            .unwrap();
        let (datagram, _) = call.browser.poll_transmit().unwrap();
        call.peer.receive(&datagram, call.browser.local(), call.now);
        while call.peer.poll_transmit().is_some() {}
        call.peer.handle_timeout(call.now).unwrap();
    }
}

#[test]
fn checks_with_a_wrong_password_are_refused() {
    let mut call = Call::answered(|offer| offer.ufrag.push('x'));
    let (ending, _) = call.run_until_closed();
    assert_eq!(ending, CloseReason::NeverConnected);
    assert!(call.peer.ice.remote().is_none());
}

#[test]
fn receiver_reports_are_sent_once_a_second_while_media_arrives() {
    let mut call = Call::up();
    let mut reports = 0;
    // Ten seconds, with media in the first five.
    for sequence in 0..500_u16 {
        if sequence < 250 {
            let time = u32::from(sequence) * 960;
            call.browser
                .send_frame(sequence, time, vec![1], call.now)
                .unwrap();
        }
        call.now += STEP;
        call.browser.handle_timeout(call.now).unwrap();
        while let Some((datagram, _)) = call.browser.poll_transmit() {
            call.peer.receive(&datagram, call.browser.local(), call.now);
        }
        call.peer.handle_timeout(call.now).unwrap();
        while let Some((datagram, _)) = call.peer.poll_transmit() {
            reports += usize::from(matches!(DatagramKind::of(&datagram), DatagramKind::Rtcp(7)));
            call.browser.receive(&datagram, local(), call.now);
        }
    }
    assert!((4..=6).contains(&reports), "{reports}");
}

#[test]
fn a_close_alert_closes_the_peer_at_once() {
    let mut call = Call::up();
    call.browser.close().unwrap();
    assert_eq!(call.run_until_closed(), (CloseReason::Closed, STEP));
}

#[test]
fn a_browser_that_disappears_is_noticed_within_ten_seconds() {
    let mut call = Call::up();
    let start = call.now;
    let ending = loop {
        call.now += STEP;
        while call.peer.poll_transmit().is_some() {}
        if let Err(ending) = call.peer.handle_timeout(call.now) {
            break ending;
        }
    };
    assert_eq!(ending, CloseReason::Disconnected);
    assert!(call.now - start < Duration::from_secs(10));
}

#[test]
fn a_browser_that_never_connects_is_given_fifteen_seconds() {
    let (mut peer, _) = accept(offer());
    let mut now = clock::now();
    assert_eq!(peer.handle_timeout(now + CONNECT_WITHIN / 2), Ok(false));
    now += CONNECT_WITHIN + STEP;
    assert_eq!(peer.handle_timeout(now), Err(CloseReason::NeverConnected));
}

proptest::proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_datagrams_are_received_without_a_panic_and_nothing_is_forwarded(
        datagrams in proptest::collection::vec(
            (0_u8..4, proptest::collection::vec(any::<u8>(), 0..200)), 0..20),
    ) {
        let (mut peer, _) = accept(offer());
        let from: SocketAddr = "127.0.0.1:9".parse().unwrap();
        // Validated, so that DTLS and SRTP are tested too.
        peer.ice.add_validated(from);
        for (kind, rest) in datagrams {
            let mut datagram: Vec<u8> = match kind {
                0 => vec![0, 1, 0, rest.len() as u8, 0x21, 0x12, 0xa4, 0x42],
                1 => vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, rest.len() as u8],
                2 => vec![0x80, 111],
                _ => vec![],
            };
            datagram.extend(rest);
            let now = clock::now();
            let taken = peer.receive(&datagram, from, now);
            proptest::prop_assert!(!matches!(taken, Received::Rtp(_) | Received::Stray));
            while peer.poll_transmit().is_some() {}
            let _ = peer.handle_timeout(now);
        }
    }
}
