//! The peer: one receive-only WebRTC connection, sans IO.
//!
//! Its protocols are crates; this file puts them together (RFC 8834, RFC 5764): a path that checks
//! opened, a handshake over it, and sound under the handshake's keys. Sound, which is nearly all
//! that comes, is only decrypted and counted: no answer, event or timer follows from it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtp::Packet;

use super::datagram::DatagramKind;
use super::dtls::{DtlsEvent, DtlsIdentity, DtlsServer};
use super::error::PeerError;
use super::ice::IceAgent;
use super::rtcp::ReceptionStats;
use super::sdp_answer::{LocalParameters, SdpAnswer};
use super::sdp_offer::SdpOffer;
use super::srtp::Srtp;

/// Longest time from the answer to a connected peer: browsers give up after 15 s as well.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// Streams that are decrypted: a browser sends one, and reports under one or two more. SRTP keeps
/// something for each number that it sees, genuine or not.
const STREAMS_MAX: usize = 8;
/// A browser that was heard this recently is there, whether it checks or not.
const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// How often a connected peer reports, and looks whether the browser still checks.
const BEAT: Duration = Duration::from_secs(1);

/// What a peer hears.
#[derive(Debug)]
pub(super) enum Heard {
    /// An Opus packet.
    Packet(Packet),
    /// A packet that was not negotiated.
    Stray,
}

/// What a datagram came to.
#[derive(Debug)]
pub(super) enum Taken {
    /// It was dropped, or only counts.
    Nothing,
    /// It is sound.
    Rtp(Heard),
    /// Anything may have changed: the peer wants to be settled.
    Changed,
}

/// Why a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
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

impl fmt::Display for CloseReason {
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
pub(super) struct WebRtcPeer {
    identity: Arc<DtlsIdentity>,
    path: IceAgent,
    handshake: DtlsServer,
    srtp: Option<Box<Srtp>>,
    reception: ReceptionStats,
    opus: Vec<u8>,
    idle: Duration,
    connected: bool,
    hung_up: bool,
    /// When it ends unless it connects or is heard.
    deadline: Instant,
    heard: Option<Instant>,
    /// When it next reports and looks after the path, once connected.
    beat: Instant,
    report: Option<BytesMut>,
    streams: Vec<u32>,
}

impl WebRtcPeer {
    /// Takes an offer and gives the peer, which listens on `local`, with the answer. `number` is
    /// random: it names the description and the peer's reports.
    pub(super) fn answering(
        identity: &Arc<DtlsIdentity>,
        offer: SdpOffer,
        local: SocketAddr,
        idle: Duration,
        number: u32,
        now: Instant,
    ) -> Result<(Self, SdpAnswer), PeerError> {
        let ours = |e: rtc::shared::error::Error| PeerError::Stack(e.to_string());
        let path = IceAgent::new(&offer, local, identity.provider(), now).map_err(ours)?;
        let (ufrag, pwd) = path.credentials();
        let own = LocalParameters {
            ufrag,
            pwd,
            fingerprint: &identity.fingerprint(),
            candidate: path.candidate(),
        };
        let answer = SdpAnswer::to(&offer, &own, local, number);
        let handshake = DtlsServer::new(identity, offer.fingerprints).map_err(ours)?;
        let peer = Self {
            identity: identity.clone(),
            path,
            handshake,
            srtp: None,
            reception: ReceptionStats::new(number, now),
            opus: offer.opus,
            idle,
            connected: false,
            hung_up: false,
            deadline: now + CONNECT_WITHIN,
            heard: None,
            beat: now,
            report: None,
            streams: Vec::new(),
        };
        Ok((peer, answer))
    }

    /// Takes one datagram. DTLS and media count only from addresses that were answered, which
    /// they are when a check carried the password.
    pub(super) fn take(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) -> Taken {
        let kind = DatagramKind::of(datagram);
        if kind == DatagramKind::Stun {
            self.path.take(datagram, from, now);
            return Taken::Changed;
        }
        if !self.path.admits(from) {
            return Taken::Nothing;
        }
        match kind {
            DatagramKind::Rtp(stream) if self.admits(stream) => self.sound(datagram, now),
            DatagramKind::Rtcp(stream) if self.admits(stream) => {
                self.reports(datagram, now);
                Taken::Nothing
            }
            // The handshake is one with whom the browser has nominated.
            DatagramKind::Dtls if !self.hung_up && self.path.remote().is_some() => {
                match self.handshake.take(&self.identity, datagram, now) {
                    DtlsEvent::Closed => self.hung_up = true,
                    DtlsEvent::Secured(srtp) => self.srtp = Some(srtp),
                    DtlsEvent::Nothing => {}
                }
                Taken::Changed
            }
            _ => Taken::Nothing,
        }
    }

    fn admits(&mut self, stream: u32) -> bool {
        if self.streams.contains(&stream) {
            return true;
        }
        let has_room = self.srtp.is_some() && self.streams.len() < STREAMS_MAX;
        if has_room {
            self.streams.push(stream);
        }
        has_room
    }

    fn sound(&mut self, datagram: &[u8], now: Instant) -> Taken {
        let Some(packet) = self.srtp.as_mut().and_then(|srtp| srtp.open(datagram)) else {
            return Taken::Nothing;
        };
        if !self.opus.contains(&packet.header.payload_type) {
            return Taken::Rtp(Heard::Stray);
        }
        self.deadline = now + self.idle;
        self.heard = Some(now);
        self.reception.packet(&packet.header, now);
        Taken::Rtp(Heard::Packet(packet))
    }

    fn reports(&mut self, datagram: &[u8], now: Instant) {
        let reports = self.srtp.as_mut().map(|srtp| srtp.open_reports(datagram));
        for report in reports.unwrap_or_default() {
            if let Some(report) = report.as_any().downcast_ref::<SenderReport>() {
                self.reception.report(report.ssrc, report.ntp_time, now);
            }
        }
    }

    /// Serves timers and looks at what has changed. Whether it has just connected.
    pub(super) fn settle(&mut self, now: Instant) -> Result<bool, CloseReason> {
        let beats = self.beat <= now;
        if beats || !self.connected {
            self.path.tick(now).map_err(|e| broken("ICE", &e))?;
        }
        self.handshake.tick(now).map_err(|e| broken("DTLS", &e))?;
        if self.hung_up {
            return Err(CloseReason::Closed);
        }
        let is_heard = self.heard.is_some_and(|at| now < at + HEARD_WITHIN);
        if self.path.is_lost() && !is_heard {
            return Err(self.gone(CloseReason::Disconnected));
        }
        let connects = !self.connected && self.srtp.is_some();
        if connects {
            self.connected = true;
            self.deadline = now + self.idle;
        }
        if self.deadline <= now {
            return Err(self.gone(CloseReason::Idle));
        }
        if beats && self.connected {
            self.beat = now + BEAT;
            self.tell(now);
        }
        Ok(connects)
    }

    /// Tells the browser what has been received of it.
    fn tell(&mut self, now: Instant) {
        if let Some(srtp) = &mut self.srtp
            && let Some(reports) = self.reception.reports(now)
        {
            self.report = srtp.close_reports(&reports).ok();
        }
    }

    fn gone(&self, how: CloseReason) -> CloseReason {
        if self.connected {
            how
        } else {
            CloseReason::NeverConnected
        }
    }

    /// When it must be settled next. Sound only moves that away.
    pub(super) fn due(&mut self) -> Instant {
        let path = if self.connected {
            Some(self.beat)
        } else {
            self.path.due()
        };
        let dues = [path, self.handshake.due()];
        let first = dues.into_iter().flatten().min();
        first.map_or(self.deadline, |due| due.min(self.deadline))
    }

    /// The next datagram to send, and where.
    pub(super) fn said(&mut self) -> Option<(BytesMut, SocketAddr)> {
        if let Some(answer) = self.path.said() {
            return Some(answer);
        }
        let remote = self.path.remote();
        loop {
            let datagram = self.handshake.said().or_else(|| self.report.take())?;
            // What there is nobody to say to is lost, as on any path.
            if let Some(remote) = remote {
                return Some((datagram, remote));
            }
        }
    }

    /// DTLS says goodbye, so that the browser need not wait for its checks to fail.
    pub(super) fn leave(&mut self, now: Instant) {
        self.handshake.leave(now);
    }
}

/// A protocol that cannot go on, which is named as the peer ends with it.
fn broken(protocol: &str, error: &rtc::shared::error::Error) -> CloseReason {
    log::warn!(target: "mic", "{protocol} failed, its microphone is closed: {error}");
    CloseReason::Broken
}

#[cfg(test)]
#[path = "webrtc_peer_tests.rs"]
mod tests;
