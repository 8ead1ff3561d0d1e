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

use super::answer::Answer;
use super::datagram::Kind;
use super::error::PeerError;
use super::offer::{Offer, OfferError};
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
        if answer.candidates() != 1 {
            let why = "nothing in it can be agreed on, offer opus/48000/2".to_owned();
            return Err(PeerError::Offer(OfferError::BadSdp(why)));
        }
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

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
