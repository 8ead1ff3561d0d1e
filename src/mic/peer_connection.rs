//! A line: one peer with its socket and the one who hears it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use super::rtp_forwarder::RtpForwarder;
use super::webrtc_peer::{CloseReason, Taken, WebRtcPeer};

/// Largest datagram received: above every path MTU that DTLS and SRTP use.
pub(super) const DATAGRAM_MAX: usize = 2048;

/// One microphone that is served.
pub(super) struct PeerConnection {
    peer: WebRtcPeer,
    socket: UdpSocket,
    owner: RtpForwarder,
}

impl PeerConnection {
    /// `socket` must not block.
    pub(super) fn new(peer: WebRtcPeer, socket: UdpSocket, owner: RtpForwarder) -> Self {
        Self {
            peer,
            socket,
            owner,
        }
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Takes one datagram. Says when the line wants to be served again if that has changed.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8; DATAGRAM_MAX],
        now: Instant,
    ) -> Result<Option<Instant>, CloseReason> {
        let (n, from) = match self.socket.recv_from(buffer) {
            Ok(datagram) => datagram,
            // Nothing after all, or an ICMP answer to something that was sent: the path may
            // still come back.
            Err(error) => return passing(error).map(|()| None),
        };
        match self.peer.take(&buffer[..n], from, now) {
            Taken::Nothing => Ok(None),
            Taken::Rtp(heard) => {
                self.owner.hear(heard, now);
                Ok(None)
            }
            Taken::Changed => self.settle(now).map(Some),
        }
    }

    /// Serves everything but the socket. Says when the next time is.
    pub(super) fn settle(&mut self, now: Instant) -> Result<Instant, CloseReason> {
        let settled = self.peer.settle(now);
        self.flush();
        if settled? {
            self.owner.connected();
        }
        Ok(self.peer.due())
    }

    /// Sends what the peer has to say. What the kernel does not take at once is lost, as on any
    /// path.
    fn flush(&mut self) {
        while let Some((datagram, to)) = self.peer.said() {
            let _: io::Result<usize> = self.send(&datagram, to);
        }
    }

    fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.socket.send_to(datagram, to)
    }

    /// Says goodbye and ends.
    pub(super) fn close(mut self, ending: CloseReason, now: Instant) {
        self.peer.leave(now);
        self.flush();
        self.owner.ended(ending);
    }
}

fn passing(error: io::Error) -> Result<(), CloseReason> {
    match error.kind() {
        io::ErrorKind::WouldBlock
        | io::ErrorKind::Interrupted
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => Ok(()),
        _ => Err(CloseReason::Broken),
    }
}
