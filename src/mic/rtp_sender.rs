//! Sends RTP to the body over UDP, one stream for each session.
//!
//! Packets are sent in the order of arrival: a late packet is useful to the receiver's jitter buffer,
//! a duplicate is not and is dropped. Header extensions, CSRCs and padding are removed: they belong
//! to the browser's transport.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::AddAssign;
use std::time::Instant;

use bytes::Bytes;
use rtp::header::Header;
use rtp::packet::Packet;
use webrtc_util::marshal::Marshal as _;

use super::rtp_rewriter::{Rewrite, RtpHeader, RtpRewriter};

/// Largest datagram sent, in bytes: the payload of an Ethernet frame, more than an Opus packet has.
const DATAGRAM_MAX: usize = 1500;
/// The version of RTP (RFC 3550).
const VERSION: u8 = 2;

/// What a microphone has received and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MicCounters {
    /// Packets sent to the body.
    pub packets: u64,
    /// Bytes of Opus in them.
    pub bytes: u64,
    /// Packets that the browser sent and that did not arrive.
    pub lost: u64,
    /// Duplicates, dropped.
    pub duplicates: u64,
    /// Packets that were too late, dropped.
    pub late: u64,
    /// Packets of another stream or without payload, dropped.
    pub strays: u64,
    /// Packets that the kernel refused to send.
    pub unsent: u64,
}

impl AddAssign for MicCounters {
    fn add_assign(&mut self, more: Self) {
        self.packets += more.packets;
        self.bytes += more.bytes;
        self.lost += more.lost;
        self.duplicates += more.duplicates;
        self.late += more.late;
        self.strays += more.strays;
        self.unsent += more.unsent;
    }
}

/// The RTP stream of one session to its body. It continues when a new peer replaces the old one.
#[derive(Debug)]
pub(super) struct RtpSender {
    socket: UdpSocket,
    target: SocketAddr,
    rewriter: RtpRewriter,
    payload_type: u8,
    ssrc: u32,
    /// The only peer whose packets are forwarded.
    peer: u64,
    /// The last packet could not be sent.
    is_failing: bool,
    counters: MicCounters,
}

impl RtpSender {
    /// A stream to `target`, from `source` if it is given.
    ///
    /// # Errors
    /// When `source` cannot be bound, or there is no route to `target`.
    pub(super) fn open(
        target: SocketAddr,
        source: Option<IpAddr>,
        payload_type: u8,
        ssrc: u32,
    ) -> io::Result<Self> {
        let source = source.unwrap_or(match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        });
        let socket = UdpSocket::bind((source, 0))?;
        // When the send buffer is full the packet is dropped; the thread must not block.
        socket.set_nonblocking(true)?;
        // Connected, so that the kernel reports ICMP errors of the body.
        socket.connect(target)?;
        Ok(Self {
            socket,
            target,
            rewriter: RtpRewriter::new(ssrc),
            payload_type,
            ssrc,
            peer: 0,
            is_failing: false,
            counters: MicCounters::default(),
        })
    }

    /// The address that the stream is sent to.
    #[must_use]
    pub(super) fn target(&self) -> SocketAddr {
        self.target
    }

    /// The counters.
    #[must_use]
    pub(super) fn counters(&self) -> MicCounters {
        self.counters
    }

    /// Forwards only packets of `peer` from now on.
    pub(super) fn switch_to(&mut self, peer: u64) {
        self.peer = peer;
        self.rewriter.end_input();
    }

    /// Counts a packet that was not negotiated.
    pub(super) fn count_stray(&mut self) {
        self.counters.strays += 1;
    }

    /// Sends the payload of one packet of `peer` to the body.
    ///
    /// # Errors
    /// The first failure after a success; further failures are only counted.
    pub(super) fn forward(
        &mut self,
        peer: u64,
        header: RtpHeader,
        payload: Bytes,
        now: Instant,
    ) -> io::Result<()> {
        let counters = &mut self.counters;
        let rewrite = if peer == self.peer {
            self.rewriter.rewrite(header, now)
        } else {
            Rewrite::Stray
        };
        let dropped = match rewrite {
            Rewrite::Forward { header, missing } => {
                counters.lost = counters.lost.saturating_add_signed(i64::from(missing));
                if !payload.is_empty() {
                    return self.send(header, payload);
                }
                // Padding probes use a sequence number but have no payload.
                &mut counters.strays
            }
            Rewrite::Duplicate => &mut counters.duplicates,
            Rewrite::Late => &mut counters.late,
            Rewrite::Stray => &mut counters.strays,
        };
        *dropped += 1;
        Ok(())
    }

    fn send(&mut self, header: RtpHeader, payload: Bytes) -> io::Result<()> {
        let bytes = payload.len() as u64;
        let packet = Packet {
            header: Header {
                version: VERSION,
                marker: header.marker,
                payload_type: self.payload_type,
                sequence_number: header.sequence,
                timestamp: header.timestamp,
                ssrc: self.ssrc,
                ..Header::default()
            },
            payload,
        };
        let mut datagram = [0_u8; DATAGRAM_MAX];
        let sent = packet
            .marshal_to(&mut datagram)
            .map_err(io::Error::other)
            .and_then(|n| self.socket.send(&datagram[..n]));
        match sent {
            Ok(_) => {
                self.is_failing = false;
                self.counters.packets += 1;
                self.counters.bytes += bytes;
                Ok(())
            }
            Err(error) => {
                self.counters.unsent += 1;
                if std::mem::replace(&mut self.is_failing, true) {
                    return Ok(());
                }
                Err(error)
            }
        }
    }
}

/// The local address that the kernel uses to reach `peer`: the default of `bind` and `source`.
///
/// # Errors
/// When there is no route.
pub(crate) fn source_towards(peer: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use proptest::prelude::*;
    use std::time::Duration;

    fn sink() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    fn sender(target: SocketAddr) -> RtpSender {
        let mut sender = RtpSender::open(target, None, 96, 0xfeed).unwrap();
        sender.switch_to(1);
        sender
    }

    fn header(sequence: u16) -> RtpHeader {
        RtpHeader {
            ssrc: 5,
            sequence,
            timestamp: u32::from(sequence) * 960,
            marker: false,
        }
    }

    #[test]
    fn the_body_gets_a_plain_twelve_byte_header_and_the_frame() {
        let (sink, target) = sink();
        let mut sender = sender(target);
        sender
            .forward(1, header(0x1234), Bytes::from_static(b"opus"), clock::now())
            .unwrap();
        let mut buffer = [0; 100];
        let n = sink.recv(&mut buffer).unwrap();
        let mut expected = vec![0x80, 96, 0x12, 0x34];
        expected.extend((0x1234_u32 * 960).to_be_bytes());
        expected.extend(0xfeed_u32.to_be_bytes());
        expected.extend(b"opus");
        assert_eq!(&buffer[..n], expected);
    }

    #[test]
    fn packets_of_other_peers_and_duplicates_are_dropped() {
        let (sink, target) = sink();
        let mut sender = sender(target);
        let frame = Bytes::from_static(b"x");
        for (peer, sequence) in [(1, 1), (1, 1), (2, 2), (1, 3)] {
            sender
                .forward(peer, header(sequence), frame.clone(), clock::now())
                .unwrap();
        }
        sender
            .forward(1, header(4), Bytes::new(), clock::now())
            .unwrap();
        let counters = sender.counters();
        assert_eq!((counters.packets, counters.bytes), (2, 2));
        assert_eq!(
            (counters.lost, counters.duplicates, counters.strays),
            (1, 1, 2)
        );
        let mut buffer = [0; 100];
        for sequence in [1, 3] {
            sink.recv(&mut buffer).unwrap();
            assert_eq!(buffer[3], sequence);
        }
    }

    #[test]
    fn a_body_that_refuses_packets_is_reported_once_and_every_packet_is_counted() {
        let (sink, target) = sink();
        drop(sink);
        let mut sender = sender(target);
        let mut named = 0;
        let until = clock::now() + Duration::from_secs(5);
        let mut sequence = 0;
        // The kernel reports the ICMP error with the next packet.
        while sender.counters().unsent < 3 && clock::now() < until {
            sequence += 1;
            let frame = Bytes::from_static(b"x");
            named += usize::from(
                sender
                    .forward(1, header(sequence), frame, clock::now())
                    .is_err(),
            );
        }
        let counters = sender.counters();
        assert_eq!(counters.unsent, 3);
        assert!(named >= 1);
        assert_eq!(counters.packets + counters.unsent, u64::from(sequence));
    }

    #[test]
    fn the_socket_is_bound_to_the_given_source() {
        let (sink, target) = sink();
        let source: IpAddr = "127.0.0.7".parse().unwrap();
        let mut sender = RtpSender::open(target, Some(source), 96, 1).unwrap();
        sender.switch_to(1);
        sender
            .forward(1, header(1), Bytes::from_static(b"x"), clock::now())
            .unwrap();
        assert_eq!(sink.recv_from(&mut [0; 100]).unwrap().1.ip(), source);
        assert!(source_towards(target).unwrap().is_loopback());
    }

    proptest! {
        #[test]
        fn any_packet_is_forwarded_or_counted(
            packets in proptest::collection::vec((0_u64..3, any::<u16>(), 0_usize..2_000), 0..60),
        ) {
            let (_sink, target) = sink();
            let mut sender = sender(target);
            let total = packets.len() as u64;
            for (peer, sequence, length) in packets {
                let _ = sender.forward(peer, header(sequence), vec![0; length].into(), clock::now());
            }
            let c = sender.counters();
            prop_assert_eq!(c.packets + c.duplicates + c.late + c.strays + c.unsent, total);
        }
    }
}
