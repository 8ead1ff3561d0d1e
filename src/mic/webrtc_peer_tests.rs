//! One peer without a socket, mostly in virtual time.

use std::sync::LazyLock;

use super::super::sdp_answer::OPUS_WISHES;
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

fn answering_at(offer: SdpOffer, now: Instant) -> (WebRtcPeer, SdpAnswer) {
    static IDENTITY: LazyLock<Arc<DtlsIdentity>> =
        LazyLock::new(|| Arc::new(DtlsIdentity::new().unwrap()));
    WebRtcPeer::answering(&IDENTITY, offer, local(), IDLE, 7, now).unwrap()
}

fn answering(offer: SdpOffer) -> (WebRtcPeer, SdpAnswer) {
    answering_at(offer, clock::now())
}

#[test]
fn the_answer_receives_opus_on_one_address_of_ours() {
    let (_, answer) = answering(offer());
    let sdp = answer.sdp;
    let candidates: Vec<&str> = sdp.lines().filter(|l| l.contains("candidate:")).collect();
    assert_eq!(candidates.len(), 1, "{sdp}");
    assert!(candidates[0].contains(" 127.0.0.1 39000 "));
    for part in ["a=ice-lite", "a=recvonly", "opus/48000/2", OPUS_WISHES] {
        assert!(sdp.contains(part), "{part} is missing in {sdp}");
    }
    for part in ["red/48000", "PCMU", "extmap"] {
        assert!(!sdp.contains(part), "{part} is in {sdp}");
    }
}

#[test]
fn a_firefox_is_answered_under_its_own_payload_type() {
    let firefox = include_str!("../../tests/fuzz/offers/firefox.json");
    let (_, answer) = answering(SdpOffer::parse(firefox.as_bytes()).unwrap());
    assert!(
        answer.sdp.contains("a=rtpmap:109 opus/48000/2"),
        "{}",
        answer.sdp
    );
    assert!(
        answer.sdp.contains(&format!("a=fmtp:109 {OPUS_WISHES}")),
        "{}",
        answer.sdp
    );
}

#[test]
fn the_answer_repeats_the_offers_tag_and_bundle_and_names_the_peers_address() {
    let tagged = BROWSER.replace("a=mid:0", "a=mid:voice");
    let alone = answering(SdpOffer::parse(&body("offer", &tagged)).unwrap())
        .1
        .sdp;
    assert!(
        alone.contains("a=mid:voice\r\n") && !alone.contains("a=group"),
        "{alone}"
    );
    let bundled = tagged.replace("BUNDLE 0", "BUNDLE voice");
    let both = answering(SdpOffer::parse(&body("offer", &bundled)).unwrap())
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
fn media_of_strangers_and_of_more_streams_than_a_browser_has_is_not_decrypted() {
    let sound = |stream: u32| {
        let mut datagram = vec![0x80, 111, 0, 1, 0, 0, 0, 0];
        datagram.extend(stream.to_be_bytes());
        datagram.extend([0; 20]);
        datagram
    };
    let (mut peer, _) = answering(offer());
    let from: SocketAddr = "127.0.0.1:9".parse().unwrap();
    peer.path.welcome(from);
    peer.take(&sound(1), from, clock::now());
    assert!(peer.streams.is_empty(), "there are no keys yet");
    let mut call = Call::up();
    call.peer.take(&sound(1), from, call.now);
    assert!(
        call.peer.streams.is_empty(),
        "a stranger is not listened to"
    );
    for stream in 0..2 * STREAMS_MAX as u32 {
        let from = call.speaker.local();
        let taken = call.peer.take(&sound(stream), from, call.now);
        assert!(matches!(taken, Taken::Nothing), "it is not genuine");
    }
    assert_eq!(call.peer.streams.len(), STREAMS_MAX);
}

/// What a datagram of the handshake begins with.
type Begins = fn(&[u8]) -> bool;
const SERVER_HELLO: Begins = |datagram| datagram[0] == 22 && datagram.get(13) == Some(&2);
const CHANGE_CIPHER_SPEC: Begins = |datagram| datagram[0] == 20;

const IDLE: Duration = Duration::from_secs(60);
/// A step of virtual time: finer than any timer of ICE and DTLS.
const STEP: Duration = Duration::from_millis(20);

/// A peer and a browser on a path of no length, in virtual time.
struct Call {
    peer: WebRtcPeer,
    speaker: TestBrowser,
    now: Instant,
}

impl Call {
    /// Answered, but for what `change` does to what the worker reads.
    fn answered(change: impl FnOnce(&mut SdpOffer)) -> Self {
        let now = clock::now();
        let (mut speaker, offer) = TestBrowser::offering(local().ip(), 7, now).unwrap();
        let mut offer = SdpOffer::parse(&offer).unwrap();
        change(&mut offer);
        let (peer, answer) = answering_at(offer, now);
        speaker.take(&answer.sdp, now).unwrap();
        Self { peer, speaker, now }
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

    /// Both sides do what is due. Whether the peer has just connected.
    fn step(&mut self) -> Result<bool, CloseReason> {
        self.step_losing(|_| false)
    }

    /// The same, on a path that loses some of what the peer says.
    fn step_losing(&mut self, mut loses: impl FnMut(&[u8]) -> bool) -> Result<bool, CloseReason> {
        self.now += STEP;
        // A browser that was refused fails, and that is its own affair.
        let _ = self.speaker.settle(self.now);
        while let Some((datagram, _)) = self.speaker.said() {
            self.peer.take(&datagram, self.speaker.local(), self.now);
        }
        let settled = self.peer.settle(self.now);
        while let Some((datagram, to)) = self.peer.said() {
            assert_eq!(to, self.speaker.local(), "it speaks to the browser alone");
            if !loses(&datagram) {
                self.speaker.hear(&datagram, local(), self.now);
            }
        }
        settled
    }

    /// Steps until the peer ends, and how long that took.
    fn runs_out(&mut self) -> (CloseReason, Duration) {
        let start = self.now;
        loop {
            if let Err(ending) = self.step() {
                return (ending, self.now - start);
            }
            assert!(self.now - start < 2 * IDLE, "it does not end");
        }
    }
}

#[test]
fn sound_is_only_heard_and_moves_the_end_away() {
    let mut call = Call::up();
    for sequence in 0..3_000 {
        call.step().unwrap();
        let frame = vec![1, 2, 3];
        call.speaker
            .say(sequence, u32::from(sequence) * 960, frame, call.now)
            .unwrap();
        let (datagram, _) = call.speaker.said().unwrap();
        let from = call.speaker.local();
        let Taken::Rtp(Heard::Packet(packet)) = call.peer.take(&datagram, from, call.now) else {
            panic!("packet {sequence} is not heard");
        };
        assert_eq!(packet.header.sequence_number, sequence);
        assert_eq!(packet.payload[..], [1, 2, 3]);
        let again = call.peer.take(&datagram, from, call.now);
        assert!(
            matches!(again, Taken::Nothing),
            "a copy is no sound: {again:?}"
        );
    }
    let (ending, after) = call.runs_out();
    assert_eq!(ending, CloseReason::Idle);
    assert!((IDLE..=IDLE + 2 * STEP).contains(&after), "{after:?}");
}

#[test]
fn a_certificate_that_the_offer_did_not_announce_gets_no_connection() {
    let mut call = Call::answered(|offer| offer.fingerprints[0][31] ^= 1);
    let (ending, _) = call.runs_out();
    assert_eq!(ending, CloseReason::NeverConnected);
    assert!(call.peer.path.remote().is_some(), "the path was there");
    assert!(call.peer.srtp.is_none(), "and no keys");
}

#[test]
fn a_second_fingerprint_may_be_the_one() {
    let mut call = Call::answered(|offer| offer.fingerprints.insert(0, [0; 32]));
    let connects = (0..500).filter(|_| call.step().unwrap()).count();
    assert_eq!(connects, 1);
}

#[test]
fn a_flight_that_is_lost_is_said_again() {
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
        let both = (connected, call.speaker.is_connected());
        assert_eq!(both, (1, true), "flight {name}");
    }
}

/// A handshake's flood: one message in as many fragments as there are, the first one last, each
/// empty and said to be a byte long.
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
fn a_flood_of_fragments_neither_ends_the_process_nor_hides_a_goodbye() {
    let mut call = Call::answered(|_| {});
    while call.peer.path.remote().is_none() {
        call.step_losing(|datagram| datagram[0] == 22).unwrap();
    }
    for datagram in fragments(60_000) {
        call.peer.take(&datagram, call.speaker.local(), call.now);
    }
    let mut call = Call::up();
    for datagram in fragments(60_000) {
        call.peer.take(&datagram, call.speaker.local(), call.now);
    }
    call.step().unwrap();
    call.speaker.close().unwrap();
    assert_eq!(call.runs_out().0, CloseReason::Closed);
}

#[test]
fn a_strangers_check_as_the_controlled_side_changes_nothing() {
    let mut call = Call::answered(|_| {});
    let mut check = vec![0, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42];
    check.extend([7; 12]);
    check.extend([0x80, 0x29, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    let stranger: SocketAddr = "127.0.0.1:9".parse().unwrap();
    call.peer.take(&check, stranger, call.now);
    assert!(call.peer.said().is_none());
    let connects = (0..500).filter(|_| call.step().unwrap()).count();
    assert_eq!(connects, 1);
}

#[test]
fn a_browser_that_is_heard_but_does_not_check_stays() {
    let mut call = Call::up();
    for sequence in 0..2_000_u16 {
        let time = u32::from(sequence) * 960;
        call.now += STEP;
        call.speaker.say(sequence, time, vec![1], call.now).unwrap();
        let (datagram, _) = call.speaker.said().unwrap();
        call.peer.take(&datagram, call.speaker.local(), call.now);
        while call.peer.said().is_some() {}
        call.peer.settle(call.now).unwrap();
    }
}

#[test]
fn checks_with_another_password_open_no_path() {
    let mut call = Call::answered(|offer| offer.ufrag.push('x'));
    let (ending, _) = call.runs_out();
    assert_eq!(ending, CloseReason::NeverConnected);
    assert!(call.peer.path.remote().is_none());
}

#[test]
fn the_browser_is_told_of_its_reception_once_a_second_while_it_speaks() {
    let mut call = Call::up();
    let mut reports = 0;
    // Ten seconds, of which the first five are spoken in.
    for sequence in 0..500_u16 {
        if sequence < 250 {
            let time = u32::from(sequence) * 960;
            call.speaker.say(sequence, time, vec![1], call.now).unwrap();
        }
        call.now += STEP;
        call.speaker.settle(call.now).unwrap();
        while let Some((datagram, _)) = call.speaker.said() {
            call.peer.take(&datagram, call.speaker.local(), call.now);
        }
        call.peer.settle(call.now).unwrap();
        while let Some((datagram, _)) = call.peer.said() {
            reports += usize::from(matches!(DatagramKind::of(&datagram), DatagramKind::Rtcp(7)));
            call.speaker.hear(&datagram, local(), call.now);
        }
    }
    assert!((4..=6).contains(&reports), "{reports}");
}

#[test]
fn a_goodbye_ends_it_at_once() {
    let mut call = Call::up();
    call.speaker.close().unwrap();
    assert_eq!(call.runs_out(), (CloseReason::Closed, STEP));
}

#[test]
fn a_browser_that_falls_silent_is_gone_within_ten_seconds() {
    let mut call = Call::up();
    let start = call.now;
    let ending = loop {
        call.now += STEP;
        while call.peer.said().is_some() {}
        if let Err(ending) = call.peer.settle(call.now) {
            break ending;
        }
    };
    assert_eq!(ending, CloseReason::Disconnected);
    assert!(call.now - start < Duration::from_secs(10));
}

#[test]
fn a_browser_that_never_comes_is_waited_for_fifteen_seconds() {
    let (mut peer, _) = answering(offer());
    let mut now = clock::now();
    assert_eq!(peer.settle(now + CONNECT_WITHIN / 2), Ok(false));
    now += CONNECT_WITHIN + STEP;
    assert_eq!(peer.settle(now), Err(CloseReason::NeverConnected));
}

proptest::proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_datagrams_are_taken_without_a_panic_and_nothing_is_heard(
        datagrams in proptest::collection::vec(
            (0_u8..4, proptest::collection::vec(any::<u8>(), 0..200)), 0..20),
    ) {
        let (mut peer, _) = answering(offer());
        let from: SocketAddr = "127.0.0.1:9".parse().unwrap();
        // As if it had proved itself, so that DTLS and SRTP are reached too.
        peer.path.welcome(from);
        for (kind, rest) in datagrams {
            let mut datagram: Vec<u8> = match kind {
                0 => vec![0, 1, 0, rest.len() as u8, 0x21, 0x12, 0xa4, 0x42],
                1 => vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, rest.len() as u8],
                2 => vec![0x80, 111],
                _ => vec![],
            };
            datagram.extend(rest);
            let now = clock::now();
            let taken = peer.take(&datagram, from, now);
            proptest::prop_assert!(!matches!(taken, Taken::Rtp(_)));
            while peer.said().is_some() {}
            let _ = peer.settle(now);
        }
    }
}
