//! The handler of one peer: forwards its packets to the session's RTP sender and keeps the session
//! table up to date.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rtc::rtp::Packet;

use super::peer_connection::ConnectionHandler;
use super::rtp_rewriter::RtpHeader;
use super::rtp_sender::RtpSender;
use super::session_table::Sessions;
use super::webrtc_peer::CloseReason;
use crate::ids::SessionId;
use crate::sync::Mutex;

/// Its drop releases the peer, so that a panic of the WebRTC stack releases it too.
pub(super) struct RtpForwarder {
    sessions: Arc<Sessions>,
    session: SessionId,
    peer: u64,
    sender: Arc<Mutex<RtpSender>>,
}

impl RtpForwarder {
    pub(super) fn new(
        sessions: &Arc<Sessions>,
        session: &SessionId,
        peer: u64,
        sender: Arc<Mutex<RtpSender>>,
    ) -> Self {
        sessions.open_peers.fetch_add(1, Ordering::AcqRel);
        Self {
            sessions: sessions.clone(),
            session: session.clone(),
            peer,
            sender,
        }
    }
}

impl ConnectionHandler for RtpForwarder {
    fn connected(&self) {
        log::info!(target: "mic", session = self.session.as_str(); "on");
        self.sessions.with_peer(&self.session, self.peer, |active| {
            if let Some(active) = active {
                active.connected = true;
            }
        });
    }

    fn packet(&self, packet: Packet, now: Instant) {
        let header = RtpHeader {
            ssrc: packet.header.ssrc,
            sequence: packet.header.sequence_number,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
        };
        let mut sender = self.sender.lock();
        let sent = sender.forward(self.peer, header, packet.payload, now);
        drop(sender);
        if let Err(error) = sent {
            log::warn!(
                target: "mic", session = self.session.as_str();
                "the body does not take microphone packets: {error}, is hydravoice running?"
            );
        }
    }

    fn stray(&self) {
        self.sender.lock().count_stray();
    }

    fn closed(&self, reason: CloseReason) {
        let c = self.sender.lock().counters();
        log::info!(
            target: "mic", session = self.session.as_str(), packets = c.packets, bytes = c.bytes,
            lost = c.lost, duplicates = c.duplicates, late = c.late, strays = c.strays, unsent = c.unsent;
            "off: {reason}"
        );
    }
}

impl Drop for RtpForwarder {
    fn drop(&mut self) {
        self.sessions
            .with_peer(&self.session, self.peer, |active| *active = None);
        self.sessions.open_peers.fetch_sub(1, Ordering::AcqRel);
    }
}
