//! The owner of a peer: what it hears goes to the uplink, and its end is the release.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::Shared;
use super::rtp_rewriter::RtpHeader;
use super::rtp_sender::RtpSender;
use super::session_table::locked;
use super::webrtc_peer::{CloseReason, Heard};
use crate::ids::SessionId;

/// The one that releases a peer, also when it panics.
pub(super) struct RtpForwarder {
    shared: Arc<Shared>,
    session: SessionId,
    peer: u64,
    uplink: Arc<Mutex<RtpSender>>,
}

impl RtpForwarder {
    pub(super) fn new(
        shared: &Arc<Shared>,
        session: &SessionId,
        peer: u64,
        uplink: Arc<Mutex<RtpSender>>,
    ) -> Self {
        shared.open.fetch_add(1, Ordering::AcqRel);
        Self {
            shared: shared.clone(),
            session: session.clone(),
            peer,
            uplink,
        }
    }

    /// ICE and DTLS are up.
    pub(super) fn connected(&self) {
        log::info!(target: "mic", session = self.session.as_str(); "on");
        self.shared.with_peer(&self.session, self.peer, |live| {
            if let Some(live) = live {
                live.connected = true;
            }
        });
    }

    /// Sends sound on.
    pub(super) fn hear(&self, heard: Heard, now: Instant) {
        let packet = match heard {
            Heard::Packet(packet) => packet,
            Heard::Stray => return locked(&self.uplink).stray(),
        };
        let stamp = RtpHeader {
            ssrc: packet.header.ssrc,
            sequence: packet.header.sequence_number,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
        };
        let sent = locked(&self.uplink).forward(self.peer, stamp, packet.payload, now);
        if let Err(error) = sent {
            log::warn!(
                target: "mic", session = self.session.as_str();
                "the body does not take microphone packets: {error}, is hydravoice running?"
            );
        }
    }

    /// Says in the log why it ended and what it had carried. Dropping this releases the peer.
    pub(super) fn ended(self, ending: CloseReason) {
        let c = locked(&self.uplink).counters();
        log::info!(
            target: "mic", session = self.session.as_str(), packets = c.packets, bytes = c.bytes,
            lost = c.lost, duplicates = c.duplicates, late = c.late, strays = c.strays, unsent = c.unsent;
            "off: {ending}"
        );
    }
}

impl Drop for RtpForwarder {
    fn drop(&mut self) {
        self.shared
            .with_peer(&self.session, self.peer, |live| *live = None);
        self.shared.open.fetch_sub(1, Ordering::AcqRel);
    }
}
