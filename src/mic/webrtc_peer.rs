//! One receive-only WebRTC peer, sans-IO: ICE, DTLS and SRTP put together (RFC 8834, RFC 5764).
//!
//! ICE validates the browser's address, a DTLS handshake over that path gives the SRTP keys. An RTP
//! packet, which is nearly all that arrives, is only decrypted and counted: it causes no answer,
//! event or timer.

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

/// Longest time from the answer to an established connection; browsers give up after 15 s too.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// Most SSRCs that are decrypted: a browser sends media with one, and RTCP with one or two more.
/// The SRTP library keeps state for each SSRC, even of packets that are not authentic.
const SSRCS_MAX: usize = 8;
/// A browser whose media is this recent is connected, even without ICE checks.
const MEDIA_WITHIN: Duration = Duration::from_secs(5);
/// How often a connected peer sends a receiver report and checks the state of ICE.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The result of a received datagram.
#[derive(Debug)]
pub(super) enum Received {
    /// It was dropped or only counted.
    Nothing,
    /// An Opus packet.
    Rtp(Packet),
    /// An RTP packet with a payload type that was not negotiated.
    Stray,
    /// The state may have changed: call [`WebRtcPeer::handle_timeout`].
    StateChanged,
}

/// Why a peer was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// The browser closed it.
    Closed,
    /// The browser sends neither checks nor media.
    Disconnected,
    /// No media for the configured time.
    Idle,
    /// The connection was not established in time.
    NeverConnected,
    /// The socket or the protocol failed.
    Broken,
    /// It was replaced or switched off, or its session ended.
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

/// The state of one peer.
pub(super) struct WebRtcPeer {
    identity: Arc<DtlsIdentity>,
    ice: IceAgent,
    dtls: DtlsServer,
    srtp: Option<Box<Srtp>>,
    stats: ReceptionStats,
    /// The negotiated payload types.
    opus: Vec<u8>,
    idle: Duration,
    connected: bool,
    closed_by_browser: bool,
    /// When it is closed unless it connects or receives media.
    deadline: Instant,
    last_media: Option<Instant>,
    /// When the next report is due, once connected.
    next_report: Instant,
    /// A report that is not sent yet.
    report: Option<BytesMut>,
    /// The SSRCs that are decrypted.
    ssrcs: Vec<u32>,
}

impl WebRtcPeer {
    /// Creates the peer, which listens on `local`, and its answer. `number` is random: the id of the
    /// description and the SSRC of reports.
    pub(super) fn accept(
        identity: &Arc<DtlsIdentity>,
        offer: SdpOffer,
        local: SocketAddr,
        idle: Duration,
        number: u32,
        now: Instant,
    ) -> Result<(Self, SdpAnswer), PeerError> {
        let ice = IceAgent::new(&offer, local, identity.provider(), now)?;
        let (ufrag, pwd) = ice.credentials();
        let own = LocalParameters {
            ufrag,
            pwd,
            fingerprint: &identity.fingerprint(),
            candidate: ice.candidate(),
        };
        let answer = SdpAnswer::new(&offer, &own, local, number);
        let dtls = DtlsServer::new(identity, offer.fingerprints)?;
        let peer = Self {
            identity: identity.clone(),
            ice,
            dtls,
            srtp: None,
            stats: ReceptionStats::new(number, now),
            opus: offer.opus,
            idle,
            connected: false,
            closed_by_browser: false,
            deadline: now + CONNECT_WITHIN,
            last_media: None,
            next_report: now,
            report: None,
            ssrcs: Vec::new(),
        };
        Ok((peer, answer))
    }

    /// Handles a received datagram. DTLS and media are accepted only from addresses that ICE has
    /// validated.
    pub(super) fn receive(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) -> Received {
        let kind = DatagramKind::of(datagram);
        if kind == DatagramKind::Stun {
            self.ice.receive(datagram, from, now);
            return Received::StateChanged;
        }
        if !self.ice.is_validated(from) {
            return Received::Nothing;
        }
        match kind {
            DatagramKind::Rtp(ssrc) if self.accepts(ssrc) => self.receive_rtp(datagram, now),
            DatagramKind::Rtcp(ssrc) if self.accepts(ssrc) => {
                self.receive_rtcp(datagram, now);
                Received::Nothing
            }
            // Only after nomination: before it there is no address to answer to.
            DatagramKind::Dtls if !self.closed_by_browser && self.ice.remote().is_some() => {
                match self.dtls.receive(&self.identity, datagram, now) {
                    DtlsEvent::Closed => self.closed_by_browser = true,
                    DtlsEvent::Keys(srtp) => self.srtp = Some(srtp),
                    DtlsEvent::Nothing => {}
                }
                Received::StateChanged
            }
            _ => Received::Nothing,
        }
    }

    /// Whether packets of an SSRC are decrypted, see [`SSRCS_MAX`].
    fn accepts(&mut self, ssrc: u32) -> bool {
        if self.ssrcs.contains(&ssrc) {
            return true;
        }
        let has_room = self.srtp.is_some() && self.ssrcs.len() < SSRCS_MAX;
        if has_room {
            self.ssrcs.push(ssrc);
        }
        has_room
    }

    fn receive_rtp(&mut self, datagram: &[u8], now: Instant) -> Received {
        let srtp = self.srtp.as_mut();
        let Some(packet) = srtp.and_then(|srtp| srtp.decrypt_rtp(datagram)) else {
            return Received::Nothing;
        };
        if !self.opus.contains(&packet.header.payload_type) {
            return Received::Stray;
        }
        self.deadline = now + self.idle;
        self.last_media = Some(now);
        self.stats.record_packet(&packet.header, now);
        Received::Rtp(packet)
    }

    fn receive_rtcp(&mut self, datagram: &[u8], now: Instant) {
        let packets = self.srtp.as_mut().map(|srtp| srtp.decrypt_rtcp(datagram));
        for report in packets.unwrap_or_default() {
            if let Some(report) = report.as_any().downcast_ref::<SenderReport>() {
                self.stats
                    .record_sender_report(report.ssrc, report.ntp_time, now);
            }
        }
    }

    /// Handles expired timers and changes of state. Returns whether it has just connected.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<bool, CloseReason> {
        let report_due = self.next_report <= now;
        if report_due || !self.connected {
            let handled = self.ice.handle_timeout(now);
            handled.map_err(|e| broken("ICE", &e))?;
        }
        let handled = self.dtls.handle_timeout(now);
        handled.map_err(|e| broken("DTLS", &e))?;
        if self.closed_by_browser {
            return Err(CloseReason::Closed);
        }
        let has_media = self.last_media.is_some_and(|at| now < at + MEDIA_WITHIN);
        if self.ice.is_disconnected() && !has_media {
            return Err(self.reason(CloseReason::Disconnected));
        }
        let connects = !self.connected && self.srtp.is_some();
        if connects {
            self.connected = true;
            self.deadline = now + self.idle;
        }
        if self.deadline <= now {
            return Err(self.reason(CloseReason::Idle));
        }
        if report_due && self.connected {
            self.next_report = now + REPORT_INTERVAL;
            self.prepare_report(now);
        }
        Ok(connects)
    }

    fn prepare_report(&mut self, now: Instant) {
        if let Some(srtp) = &mut self.srtp
            && let Some(report) = self.stats.receiver_report(now)
        {
            self.report = srtp.encrypt_rtcp(&report).ok();
        }
    }

    fn reason(&self, once_connected: CloseReason) -> CloseReason {
        if self.connected {
            once_connected
        } else {
            CloseReason::NeverConnected
        }
    }

    /// When [`Self::handle_timeout`] must be called next. Media only moves it to a later time.
    pub(super) fn next_timeout(&mut self) -> Instant {
        let ice = if self.connected {
            Some(self.next_report)
        } else {
            self.ice.next_timeout()
        };
        let timeouts = [ice, self.dtls.next_timeout()].into_iter().flatten();
        timeouts.fold(self.deadline, Instant::min)
    }

    /// The next datagram to send, and its destination.
    pub(super) fn poll_transmit(&mut self) -> Option<(BytesMut, SocketAddr)> {
        if let Some(response) = self.ice.poll_transmit() {
            return Some(response);
        }
        let remote = self.ice.remote();
        loop {
            let datagram = self.dtls.poll_transmit().or_else(|| self.report.take())?;
            // Without a remote address the datagram is lost, as on any network.
            if let Some(remote) = remote {
                return Some((datagram, remote));
            }
        }
    }

    /// Queues a DTLS close alert, so that the browser need not wait for its checks to fail.
    pub(super) fn close(&mut self, now: Instant) {
        self.dtls.close(now);
    }
}

/// Logs the failure of a protocol, which closes the peer.
fn broken(protocol: &str, error: &rtc::shared::error::Error) -> CloseReason {
    log::warn!(target: "mic", "{protocol} failed, its microphone is closed: {error}");
    CloseReason::Broken
}

#[cfg(test)]
#[path = "webrtc_peer_tests.rs"]
mod tests;
