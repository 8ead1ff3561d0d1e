//! The peer: one receive-only WebRTC connection, owned by one task.
//!
//! The protocol is the sans-IO core of the WebRTC crate; this file owns its socket and its
//! clock. One task owns all of it, so that releasing is dropping. The peer is ICE-lite and
//! knows no remote candidate: it answers checks that carry its password, and speaks to nobody
//! else.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate};
use rtc::sansio::Protocol as _;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use smol::Async;
use smol::channel::Receiver;

use super::error::PeerError;
use super::offer::{Answer, Offer, OfferError};
use super::stack::{bound, core};
use crate::clock;

/// Longest time from the answer to a connected peer: browsers give up after 15 s as well.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// Largest datagram received: above every path MTU that DTLS and SRTP use.
const DATAGRAM_MAX: usize = 2048;
/// Remote addresses that may speak DTLS and SRTP: one path, and those it moved to.
const PATHS_MAX: usize = 8;
/// Datagrams taken in one go before other tasks get their turn.
const BURST: u32 = 32;
/// First bytes from here on are DTLS, SRTP and SRTCP, below is STUN (RFC 7983).
const FIRST_NOT_STUN: u8 = 4;
/// Pause before an expired timer of the core is served again, against spinning.
const TICK: Duration = Duration::from_millis(1);

/// What a peer tells the one who runs it.
#[derive(Debug)]
pub(super) enum Heard {
    /// ICE and DTLS are up.
    Connected,
    /// An Opus packet.
    Packet(rtc::rtp::Packet),
    /// A packet that was not negotiated.
    Stray,
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

/// One connection with its socket.
pub(super) struct Peer {
    core: RTCPeerConnection,
    socket: Async<UdpSocket>,
    local: SocketAddr,
    opus: Vec<u8>,
    paths: Vec<SocketAddr>,
}

impl Peer {
    /// Takes an offer and gives the peer with the answer.
    pub(super) fn answering(
        offer: Offer,
        bind: IpAddr,
        ports: Option<&RangeInclusive<u16>>,
    ) -> Result<(Self, Answer), PeerError> {
        let socket = bound(bind, ports)?;
        let local = socket.local_addr().map_err(|e| PeerError::Bind(bind, e))?;
        let socket = Async::new(socket).map_err(|e| PeerError::Bind(bind, e))?;
        let now = clock::now();
        let ours = |e: rtc::shared::error::Error| PeerError::Stack(e.to_string());

        let mut core = core(bind, now).map_err(ours)?;
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
            socket,
            local,
            opus: offer.opus,
            paths: Vec::new(),
        };
        Ok((peer, answer))
    }

    /// The port it listens on.
    pub(super) fn port(&self) -> u16 {
        self.local.port()
    }

    /// Runs until `stop` closes or the peer ends by itself.
    pub(super) async fn run(
        mut self,
        stop: Receiver<()>,
        idle: Duration,
        mut hear: impl FnMut(Heard, Instant),
    ) -> Ending {
        let ending = self.serve(&stop, idle, &mut hear).await;
        // DTLS says goodbye, so that the browser need not wait for its checks to fail.
        let _ = self.core.close();
        self.flush();
        ending
    }

    async fn serve(
        &mut self,
        stop: &Receiver<()>,
        idle: Duration,
        hear: &mut impl FnMut(Heard, Instant),
    ) -> Ending {
        let mut now = clock::now();
        let mut deadline = now + CONNECT_WITHIN;
        let mut connected = false;
        let mut armed = deadline;
        let mut alarm = pin!(clock::until(armed));
        // Nothing is ever sent on it: the channel closes.
        let mut stopped = pin!(stop.recv());
        let mut buffer = [0_u8; DATAGRAM_MAX];
        let mut burst = 0;
        loop {
            self.flush();
            while let Some(event) = self.core.poll_event() {
                let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event else {
                    continue;
                };
                match state {
                    RTCPeerConnectionState::Connected if !connected => {
                        connected = true;
                        deadline = now + idle;
                        hear(Heard::Connected, now);
                    }
                    RTCPeerConnectionState::Closed => return Ending::Closed,
                    RTCPeerConnectionState::Disconnected | RTCPeerConnectionState::Failed => {
                        return if connected {
                            Ending::Disconnected
                        } else {
                            Ending::NeverConnected
                        };
                    }
                    _ => {}
                }
            }
            while let Some(message) = self.core.poll_read() {
                if let RTCMessage::RtpPacket(_, packet) = message.message {
                    if self.opus.contains(&packet.header.payload_type) {
                        deadline = now + idle;
                        hear(Heard::Packet(packet), now);
                    } else {
                        hear(Heard::Stray, now);
                    }
                }
            }

            let due = self.core.poll_timeout().unwrap_or(deadline);
            if due <= now {
                if self.core.handle_timeout(now).is_err() {
                    return Ending::Broken;
                }
                self.flush();
            }
            if deadline <= now {
                return if connected {
                    Ending::Idle
                } else {
                    Ending::NeverConnected
                };
            }
            // An alarm that rings too early costs less than a timer set anew for every packet.
            let due = due.max(now + TICK).min(deadline);
            if due < armed || armed <= now {
                armed = due;
                alarm.set(clock::until(armed));
            }

            let next = smol::future::or(
                async {
                    let _ = stopped.as_mut().await;
                    Next::Stop
                },
                smol::future::or(
                    async { Next::Datagram(self.socket.recv_from(&mut buffer).await) },
                    async {
                        alarm.as_mut().await;
                        Next::Alarm
                    },
                ),
            )
            .await;
            now = clock::now();
            match next {
                Next::Alarm => {
                    armed = now;
                    burst = 0;
                }
                Next::Datagram(Ok((n, from))) => {
                    self.take(&buffer[..n], from, now);
                    burst += 1;
                    if burst == BURST {
                        burst = 0;
                        smol::future::yield_now().await;
                    }
                }
                // An ICMP answer to something we sent; the path may still come back.
                Next::Datagram(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => {}
                Next::Datagram(Err(_)) => return Ending::Broken,
                Next::Stop => return Ending::Stopped,
            }
        }
    }

    /// Gives one datagram to the core. Media counts only from addresses that the core answered,
    /// which it does when a check carried its password.
    fn take(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        let is_stun = datagram.first().is_some_and(|b| *b < FIRST_NOT_STUN);
        if !is_stun && !self.paths.contains(&from) {
            return;
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
    }

    /// Sends what the core has to say. What the kernel does not take at once is lost, as on
    /// any path.
    fn flush(&mut self) {
        while let Some(message) = self.core.poll_write() {
            let to = message.transport.peer_addr;
            if !self.paths.contains(&to) {
                if self.paths.len() == PATHS_MAX {
                    self.paths.remove(0);
                }
                self.paths.push(to);
            }
            let _ = self.socket.get_ref().send_to(&message.message, to);
        }
    }
}

enum Next {
    Alarm,
    Datagram(io::Result<(usize, SocketAddr)>),
    Stop,
}

#[cfg(test)]
mod tests {
    use super::super::offer::OPUS_WISHES;
    use super::super::offer::tests::{BROWSER, body};
    use super::*;
    use proptest::prelude::{ProptestConfig, any};

    fn offer() -> Offer {
        Offer::parse(&body("offer", BROWSER)).unwrap()
    }

    fn loopback() -> IpAddr {
        "127.0.0.1".parse().unwrap()
    }

    #[test]
    fn the_answer_receives_opus_on_one_address_of_ours() {
        let (peer, answer) = Peer::answering(offer(), loopback(), None).unwrap();
        let sdp = answer.sdp;
        let candidates: Vec<&str> = sdp.lines().filter(|l| l.contains("candidate:")).collect();
        assert_eq!(candidates.len(), 1, "{sdp}");
        assert!(candidates[0].contains(&format!(" 127.0.0.1 {} ", peer.port())));
        for part in ["a=ice-lite", "a=recvonly", "opus/48000/2", OPUS_WISHES] {
            assert!(sdp.contains(part), "{part} is missing in {sdp}");
        }
        for part in ["red/48000", "PCMU", "extmap"] {
            assert!(!sdp.contains(part), "{part} is in {sdp}");
        }
    }

    #[test]
    fn an_offer_without_opus_at_the_core_still_names_the_offer() {
        let torn = BROWSER
            .replace("a=mid:0\r\n", "")
            .replace("a=group:BUNDLE 0\r\n", "");
        if let Ok(offer) = Offer::parse(&body("offer", &torn)) {
            match Peer::answering(offer, loopback(), None) {
                Ok(_) | Err(PeerError::Offer(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn ports_come_from_the_range_and_return_to_it() {
        // A range that is free now: the kernel names its first port.
        let first = bound(loopback(), None)
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let range = first..=first;
        let (peer, _) = Peer::answering(offer(), loopback(), Some(&range)).unwrap();
        assert_eq!(peer.port(), first);
        let full = Peer::answering(offer(), loopback(), Some(&range)).err();
        assert!(matches!(full, Some(PeerError::NoPort(_))), "{full:?}");
        drop(peer);
        assert!(Peer::answering(offer(), loopback(), Some(&range)).is_ok());
    }

    #[test]
    fn an_address_that_is_not_ours_is_named() {
        let error = Peer::answering(offer(), "192.0.2.1".parse().unwrap(), None).err();
        assert!(error.unwrap().to_string().contains("192.0.2.1"));
    }

    proptest::proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_datagrams_are_taken_without_a_panic_and_nothing_is_heard(
            datagrams in proptest::collection::vec(
                (0_u8..4, proptest::collection::vec(any::<u8>(), 0..200)), 0..20),
        ) {
            let (mut peer, _) = Peer::answering(offer(), loopback(), None).unwrap();
            let from: SocketAddr = (loopback(), 9).into();
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
                peer.take(&datagram, from, clock::now());
                let _ = peer.core.handle_timeout(clock::now());
                while peer.core.poll_write().is_some() {}
                while peer.core.poll_event().is_some() {}
                proptest::prop_assert!(peer.core.poll_read().is_none());
            }
        }
    }
}
