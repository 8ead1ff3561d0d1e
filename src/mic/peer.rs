//! The peer: one receive-only WebRTC connection, sans IO.
//!
//! The protocol is the sans-IO core of the WebRTC crate; this file decides what reaches it and
//! what it is asked. It is ICE-lite and knows no remote candidate: it answers checks that carry
//! its password, and speaks to nobody else. Sound, which is nearly all that comes, is only
//! decrypted: no answer, event or timer follows from it.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{
    CandidateConfig, CandidateHostConfig, RTCDtlsTransportState, RTCIceCandidate,
};
use rtc::sansio::Protocol as _;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

use super::error::PeerError;
use super::offer::{Answer, Offer, OfferError};
use super::stack::core;

/// Longest time from the answer to a connected peer: browsers give up after 15 s as well.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// Remote addresses that may speak DTLS and SRTP: one path, and those it moved to.
const PATHS_MAX: usize = 8;
/// Streams that are decrypted: a browser sends one, and reports under one or two more. The core
/// keeps something for each number that it sees, genuine or not.
const STREAMS_MAX: usize = 8;

/// What a peer hears.
#[derive(Debug)]
pub(super) enum Heard {
    /// An Opus packet.
    Packet(rtc::rtp::Packet),
    /// A packet that was not negotiated.
    Stray,
}

/// What is to be done after a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// It was dropped.
    Nothing,
    /// Something may be heard.
    Hearing,
    /// Anything may have changed.
    Everything,
}

/// Why a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The browser closed it.
    Closed,
    /// The browser went silent or failed.
    Disconnected,
    /// No sound for the configured time.
    Idle,
    /// It never came up.
    NeverConnected,
    /// The socket or the protocol failed.
    Broken,
    /// It was replaced, switched off, or its session ended.
    Stopped,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed by the browser",
            Self::Disconnected => "disconnected",
            Self::Idle => "idle",
            Self::NeverConnected => "never connected",
            Self::Broken => "broken",
            Self::Stopped => "stopped",
        })
    }
}

/// One connection.
pub(super) struct Peer {
    core: RTCPeerConnection,
    local: SocketAddr,
    opus: Vec<u8>,
    idle: Duration,
    connected: bool,
    /// When it ends unless it connects or is heard.
    deadline: Instant,
    paths: Vec<SocketAddr>,
    streams: Vec<u32>,
}

impl Peer {
    /// Takes an offer and gives the peer, which listens on `local`, with the answer.
    pub(super) fn answering(
        offer: Offer,
        local: SocketAddr,
        idle: Duration,
        now: Instant,
    ) -> Result<(Self, Answer), PeerError> {
        let ours = |e: rtc::shared::error::Error| PeerError::Stack(e.to_string());
        let mut core = core(local.ip(), now).map_err(ours)?;
        core.set_remote_description(now, offer.description)
            .map_err(|e| PeerError::Offer(OfferError::BadSdp(e.to_string())))?;
        let candidate = CandidateHostConfig {
            base_config: CandidateConfig {
                network: "udp".to_owned(),
                address: local.ip().to_string(),
                port: local.port(),
                component: 1,
                ..Default::default()
            },
            ..Default::default()
        };
        let candidate = candidate.new_candidate_host().map_err(ours)?;
        let candidate = RTCIceCandidate::from(&candidate).to_json().map_err(ours)?;
        core.add_local_candidate(candidate).map_err(ours)?;
        // The empty candidate says that this was all.
        core.add_local_candidate(Default::default()).map_err(ours)?;
        let answer = core.create_answer(None).map_err(ours)?;
        core.set_local_description(now, answer).map_err(ours)?;
        let answer = core
            .local_description()
            .ok_or_else(|| PeerError::Stack("no local description".into()))?;
        let answer = Answer::of(&answer.sdp, &offer.opus);
        let peer = Self {
            core,
            local,
            opus: offer.opus,
            idle,
            connected: false,
            deadline: now + CONNECT_WITHIN,
            paths: Vec::new(),
            streams: Vec::new(),
        };
        Ok((peer, answer))
    }

    /// Gives one datagram to the core, unless it is media of a stranger: media counts only from
    /// addresses that the core answered, which it does when a check carried its password.
    pub(super) fn take(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) -> Asks {
        let kind = Kind::of(datagram);
        let is_welcome = match kind {
            Kind::Stun => true,
            Kind::Dtls => self.paths.contains(&from),
            Kind::Report(stream) | Kind::Sound(stream) => {
                self.paths.contains(&from) && self.admits(stream)
            }
            Kind::Noise => false,
        };
        if !is_welcome {
            return Asks::Nothing;
        }
        let tagged = TaggedBytesMut {
            now,
            transport: TransportContext {
                local_addr: self.local,
                peer_addr: from,
                transport_protocol: TransportProtocol::UDP,
                ecn: None,
            },
            message: BytesMut::from(datagram),
        };
        // Garbage of a stranger is no reason to end.
        let _ = self.core.handle_read(tagged);
        match kind {
            Kind::Sound(_) => Asks::Hearing,
            _ => Asks::Everything,
        }
    }

    fn admits(&mut self, stream: u32) -> bool {
        if self.streams.contains(&stream) {
            return true;
        }
        let has_room = self.streams.len() < STREAMS_MAX;
        if has_room {
            self.streams.push(stream);
        }
        has_room
    }

    /// What has been heard and not yet asked for.
    pub(super) fn heard(&mut self, now: Instant) -> Option<Heard> {
        loop {
            // Sound is whole once it was taken; `poll_read` would go through all layers again.
            let RTCMessage::RtpPacket(_, packet) = self.core.poll_media_read()?.message else {
                continue;
            };
            if !self.opus.contains(&packet.header.payload_type) {
                return Some(Heard::Stray);
            }
            self.deadline = now + self.idle;
            return Some(Heard::Packet(packet));
        }
    }

    /// Serves timers and looks at what has changed. Whether it has just connected.
    pub(super) fn settle(&mut self, now: Instant) -> Result<bool, Ending> {
        let due = self.core.poll_timeout();
        if due.is_some_and(|due| due <= now) && self.core.handle_timeout(now).is_err() {
            return Err(Ending::Broken);
        }
        let was_connected = self.connected;
        while let Some(event) = self.core.poll_event() {
            let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event else {
                continue;
            };
            match state {
                RTCPeerConnectionState::Connected if !self.connected => {
                    self.connected = true;
                    self.deadline = now + self.idle;
                }
                RTCPeerConnectionState::Closed => return Err(Ending::Closed),
                RTCPeerConnectionState::Disconnected | RTCPeerConnectionState::Failed => {
                    return Err(self.gone(Ending::Disconnected));
                }
                _ => {}
            }
        }
        if self.connected && self.is_hung_up() {
            return Err(Ending::Closed);
        }
        if self.deadline <= now {
            return Err(self.gone(Ending::Idle));
        }
        Ok(self.connected && !was_connected)
    }

    /// Whether the browser's DTLS has said goodbye: the core still counts as connected then,
    /// until checks fail.
    fn is_hung_up(&mut self) -> bool {
        let receiver = self.core.get_receivers().next();
        let receiver = receiver.and_then(|id| self.core.rtp_receiver(id));
        let transport = receiver.as_ref().and_then(|receiver| receiver.transport());
        transport.is_some_and(|dtls| dtls.state() == RTCDtlsTransportState::Closed)
    }

    fn gone(&self, how: Ending) -> Ending {
        if self.connected {
            how
        } else {
            Ending::NeverConnected
        }
    }

    /// When it must be settled next. Sound only moves that away.
    pub(super) fn due(&mut self) -> Instant {
        let core = self.core.poll_timeout();
        core.map_or(self.deadline, |due| due.min(self.deadline))
    }

    /// The next datagram to send, and where.
    pub(super) fn said(&mut self) -> Option<(BytesMut, SocketAddr)> {
        let message = self.core.poll_write()?;
        let to = message.transport.peer_addr;
        if !self.paths.contains(&to) {
            if self.paths.len() == PATHS_MAX {
                self.paths.remove(0);
            }
            self.paths.push(to);
        }
        Some((message.message, to))
    }

    /// DTLS says goodbye, so that the browser need not wait for its checks to fail.
    pub(super) fn leave(&mut self) {
        let _ = self.core.close();
    }
}

/// What a datagram is by its first bytes (RFC 7983, RFC 5761).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Dtls,
    Noise,
    /// SRTCP of the sender with this number.
    Report(u32),
    /// SRTP of the stream with this number.
    Sound(u32),
    Stun,
}

impl Kind {
    fn of(datagram: &[u8]) -> Self {
        let number = |at: usize| {
            let bytes = datagram.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_be_bytes(bytes))
        };
        match datagram {
            [0..=3, ..] => Self::Stun,
            [20..=63, ..] => Self::Dtls,
            [128..=191, second, ..] if (64..96).contains(&(second & 0x7f)) => {
                number(4).map_or(Self::Noise, Self::Report)
            }
            [128..=191, _, ..] => number(8).map_or(Self::Noise, Self::Sound),
            _ => Self::Noise,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::offer::OPUS_WISHES;
    use super::super::offer::tests::{BROWSER, body};
    use super::super::speaker::Speaker;
    use super::*;
    use crate::clock;
    use proptest::prelude::{ProptestConfig, any};

    fn offer() -> Offer {
        Offer::parse(&body("offer", BROWSER)).unwrap()
    }

    fn local() -> SocketAddr {
        "127.0.0.1:39000".parse().unwrap()
    }

    fn answering(offer: Offer) -> Result<(Peer, Answer), PeerError> {
        Peer::answering(offer, local(), Duration::from_secs(60), clock::now())
    }

    #[test]
    fn the_answer_receives_opus_on_one_address_of_ours() {
        let (_, answer) = answering(offer()).unwrap();
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
        let (_, answer) = answering(Offer::parse(firefox.as_bytes()).unwrap()).unwrap();
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
    fn an_offer_without_opus_at_the_core_still_names_the_offer() {
        let torn = BROWSER
            .replace("a=mid:0\r\n", "")
            .replace("a=group:BUNDLE 0\r\n", "");
        if let Ok(offer) = Offer::parse(&body("offer", &torn)) {
            match answering(offer) {
                Ok(_) | Err(PeerError::Offer(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn datagrams_are_told_apart_by_their_first_bytes() {
        let with = |first: &[u8]| {
            let mut datagram = first.to_vec();
            datagram.extend([0, 0, 0, 0, 0, 7, 0, 0, 0, 9]);
            Kind::of(&datagram)
        };
        for (first, kind) in [
            ([0, 1], Kind::Stun),
            ([3, 1], Kind::Stun),
            ([4, 1], Kind::Noise),
            ([22, 254], Kind::Dtls),
            ([64, 0], Kind::Noise),
            ([0x80, 111], Kind::Sound(9)),
            ([0x90, 111 | 0x80], Kind::Sound(9)),
            ([0x81, 200], Kind::Report(7)),
            ([0xbf, 207], Kind::Report(7)),
            ([0xc0, 111], Kind::Noise),
        ] {
            assert_eq!(with(&first), kind, "{first:?}");
        }
        for short in [
            &[][..],
            &[0x80],
            &[0x80, 111, 0, 0, 0, 0, 0, 0],
            &[0x80, 200, 0],
        ] {
            assert_eq!(Kind::of(short), Kind::Noise, "{short:?}");
        }
    }

    #[test]
    fn media_of_strangers_and_of_more_streams_than_a_browser_has_does_not_reach_the_core() {
        let (mut peer, _) = answering(offer()).unwrap();
        let from: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let sound = |stream: u32| {
            let mut datagram = vec![0x80, 111, 0, 1, 0, 0, 0, 0];
            datagram.extend(stream.to_be_bytes());
            datagram.extend([0; 20]);
            datagram
        };
        assert_eq!(peer.take(&sound(1), from, clock::now()), Asks::Nothing);
        assert!(peer.streams.is_empty());
        peer.paths.push(from);
        let taken: Vec<Asks> = (0..2 * STREAMS_MAX as u32)
            .map(|stream| peer.take(&sound(stream), from, clock::now()))
            .collect();
        let heard = taken.iter().filter(|asks| **asks == Asks::Hearing).count();
        assert_eq!(heard, STREAMS_MAX);
        assert_eq!(peer.take(&sound(0), from, clock::now()), Asks::Hearing);
    }

    const IDLE: Duration = Duration::from_secs(60);
    /// A step of virtual time: finer than any timer of ICE and DTLS.
    const STEP: Duration = Duration::from_millis(20);

    /// A peer and a browser on a path of no length, in virtual time.
    struct Call {
        peer: Peer,
        speaker: Speaker,
        now: Instant,
    }

    impl Call {
        fn up() -> Self {
            let now = clock::now();
            let (mut speaker, offer) = Speaker::offering(local().ip(), 7, now).unwrap();
            let offer = Offer::parse(&offer).unwrap();
            let (peer, answer) = Peer::answering(offer, local(), IDLE, now).unwrap();
            speaker.take(&answer.sdp, now).unwrap();
            let mut call = Self { peer, speaker, now };
            let mut connected = 0;
            for _ in 0..500 {
                connected += usize::from(call.step().unwrap());
            }
            assert_eq!(connected, 1, "it connects once, within ten seconds");
            call
        }

        /// Both sides do what is due. Whether the peer has just connected.
        fn step(&mut self) -> Result<bool, Ending> {
            self.now += STEP;
            self.speaker.settle(self.now).unwrap();
            while let Some((datagram, _)) = self.speaker.said() {
                self.peer.take(&datagram, self.speaker.local(), self.now);
            }
            let settled = self.peer.settle(self.now);
            while let Some((datagram, to)) = self.peer.said() {
                assert_eq!(to, self.speaker.local(), "it speaks to the browser alone");
                self.speaker.hear(&datagram, local(), self.now);
            }
            settled
        }

        /// Steps until the peer ends, and how long that took.
        fn runs_out(&mut self) -> (Ending, Duration) {
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
            assert_eq!(call.peer.take(&datagram, from, call.now), Asks::Hearing);
            let Some(Heard::Packet(packet)) = call.peer.heard(call.now) else {
                panic!("packet {sequence} is not heard");
            };
            assert_eq!(packet.header.sequence_number, sequence);
            assert_eq!(packet.payload[..], [1, 2, 3]);
            assert!(call.peer.heard(call.now).is_none());
        }
        let (ending, after) = call.runs_out();
        assert_eq!(ending, Ending::Idle);
        assert!((IDLE..=IDLE + 2 * STEP).contains(&after), "{after:?}");
    }

    #[test]
    fn a_goodbye_ends_it_at_once() {
        let mut call = Call::up();
        call.speaker.close().unwrap();
        assert_eq!(call.runs_out(), (Ending::Closed, STEP));
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
        assert_eq!(ending, Ending::Disconnected);
        assert!(call.now - start < Duration::from_secs(10));
    }

    #[test]
    fn a_browser_that_never_comes_is_waited_for_fifteen_seconds() {
        let (mut peer, _) = answering(offer()).unwrap();
        let mut now = clock::now();
        assert_eq!(peer.settle(now + CONNECT_WITHIN / 2), Ok(false));
        now += CONNECT_WITHIN + STEP;
        assert_eq!(peer.settle(now), Err(Ending::NeverConnected));
    }

    proptest::proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_datagrams_are_taken_without_a_panic_and_nothing_is_heard(
            datagrams in proptest::collection::vec(
                (0_u8..4, proptest::collection::vec(any::<u8>(), 0..200)), 0..20),
        ) {
            let (mut peer, _) = answering(offer()).unwrap();
            let from: SocketAddr = "127.0.0.1:9".parse().unwrap();
            // As if it had proved itself, so that DTLS and SRTP are reached too.
            peer.paths.push(from);
            for (kind, rest) in datagrams {
                let mut datagram: Vec<u8> = match kind {
                    0 => vec![0, 1, 0, rest.len() as u8, 0x21, 0x12, 0xa4, 0x42],
                    1 => vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, rest.len() as u8],
                    2 => vec![0x80, 111],
                    _ => vec![],
                };
                datagram.extend(rest);
                let now = clock::now();
                peer.take(&datagram, from, now);
                while peer.said().is_some() {}
                let _ = peer.settle(now);
                proptest::prop_assert!(peer.heard(now).is_none());
            }
        }
    }
}
