//! One peer connection: the sans-IO peer, its UDP socket, and the handler of what it receives.

use std::io;
use std::net::UdpSocket;
use std::time::Instant;

use rtc::rtp::Packet;

use super::webrtc_peer::{CloseReason, Received, WebRtcPeer};

/// Largest datagram received, in bytes: more than any path MTU that DTLS and SRTP use.
pub(super) const DATAGRAM_MAX: usize = 2048;

/// Handles the events of one peer connection. It is dropped when the connection is closed, or when
/// a call panicked.
pub(super) trait ConnectionHandler: Send {
    /// ICE and DTLS are established.
    fn connected(&self);
    /// An Opus packet was received.
    fn packet(&self, packet: Packet, now: Instant);
    /// A packet was received that was not negotiated.
    fn stray(&self);
    /// The connection was closed.
    fn closed(&self, reason: CloseReason);
}

/// One microphone that is served by the event loop.
pub(super) struct PeerConnection {
    peer: WebRtcPeer,
    socket: UdpSocket,
    handler: Box<dyn ConnectionHandler>,
}

impl PeerConnection {
    /// `socket` must be non-blocking.
    pub(super) fn new(
        peer: WebRtcPeer,
        socket: UdpSocket,
        handler: Box<dyn ConnectionHandler>,
    ) -> Self {
        Self {
            peer,
            socket,
            handler,
        }
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Receives one datagram. Returns the next timeout if it may have changed.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8; DATAGRAM_MAX],
        now: Instant,
    ) -> Result<Option<Instant>, CloseReason> {
        let (n, from) = match self.socket.recv_from(buffer) {
            Ok(datagram) => datagram,
            Err(error) if is_temporary(&error) => return Ok(None),
            Err(_) => return Err(CloseReason::Broken),
        };
        match self.peer.receive(&buffer[..n], from, now) {
            Received::Nothing => {}
            Received::Rtp(packet) => self.handler.packet(packet, now),
            Received::Stray => self.handler.stray(),
            Received::StateChanged => return self.handle_timeout(now).map(Some),
        }
        Ok(None)
    }

    /// Handles timers and state changes. Returns the next timeout.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<Instant, CloseReason> {
        let handled = self.peer.handle_timeout(now);
        self.flush();
        if handled? {
            self.handler.connected();
        }
        Ok(self.peer.next_timeout())
    }

    /// Sends the peer's datagrams. One that the kernel does not accept at once is lost, as on any
    /// network.
    fn flush(&mut self) {
        while let Some((datagram, to)) = self.peer.poll_transmit() {
            let _ = self.socket.send_to(&datagram, to);
        }
    }

    /// Sends the DTLS close alert and closes.
    pub(super) fn close(mut self, reason: CloseReason, now: Instant) {
        self.peer.close(now);
        self.flush();
        self.handler.closed(reason);
    }
}

/// Whether receiving may succeed again: there was no datagram, or an ICMP error answered a sent
/// one, and the path may recover.
fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}
