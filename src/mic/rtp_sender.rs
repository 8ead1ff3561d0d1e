//! The uplink: RTP to the body over UDP, one stream a session.
//!
//! Packets leave in the order in which they came: a late packet is still of use to the
//! receiver's jitter buffer, a second copy is not and is dropped. Header extensions, CSRCs and
//! padding are left behind: they belong to the browser's transport, and the body needs none.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::AddAssign;
use std::time::Instant;

use bytes::Bytes;
use rtp::header::Header;
use rtp::packet::Packet;
use webrtc_util::marshal::Marshal as _;

use super::rtp_rewriter::{Rewrite, RtpHeader, RtpRewriter};

/// Largest datagram sent: an Ethernet frame's payload, more than Opus ever fills.
const DATAGRAM_MAX: usize = 1500;
/// RTP's version (RFC 3550).
const VERSION: u8 = 2;

/// What a microphone has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MicCounters {
    /// Packets sent to the body.
    pub packets: u64,
    /// Opus bytes in them.
    pub bytes: u64,
    /// Packets that the browser sent and that never came.
    pub lost: u64,
    /// Second copies, dropped.
    pub duplicates: u64,
    /// Packets too old to pass, dropped.
    pub late: u64,
    /// Packets of another stream or without content, dropped.
    pub strays: u64,
    /// Packets that the kernel would not send.
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

/// One session's stream to its body. It outlives the peers that feed it.
#[derive(Debug)]
pub struct RtpSender {
    socket: UdpSocket,
    target: SocketAddr,
    rebase: RtpRewriter,
    payload_type: u8,
    ssrc: u32,
    /// The only peer that may feed it.
    feeder: u64,
    refused: bool,
    counters: MicCounters,
}

impl RtpSender {
    /// A stream to `target`, from `source` when one is given.
    ///
    /// # Errors
    /// When no socket can be had on `source`, or `target` has no route.
    pub fn open(
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
        // A full send buffer must cost a packet, never time.
        socket.set_nonblocking(true)?;
        // Connected, so that the kernel says when the body refuses and nobody else is heard.
        socket.connect(target)?;
        Ok(Self {
            socket,
            target,
            rebase: RtpRewriter::new(ssrc),
            payload_type,
            ssrc,
            feeder: 0,
            refused: false,
            counters: MicCounters::default(),
        })
    }

    /// Where the stream goes.
    #[must_use]
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// What it has carried.
    #[must_use]
    pub fn counters(&self) -> MicCounters {
        self.counters
    }

    /// From now on only `feeder` feeds the stream.
    pub fn hand_over(&mut self, feeder: u64) {
        self.feeder = feeder;
        self.rebase.cut();
    }

    /// Counts a packet that is not of the negotiated stream.
    pub fn stray(&mut self) {
        self.counters.strays += 1;
    }

    /// Sends one Opus frame on. Returns the error when the body begins to refuse them.
    ///
    /// # Errors
    /// The first failed send after a good one; the next ones are only counted.
    pub fn forward(
        &mut self,
        feeder: u64,
        stamp: RtpHeader,
        payload: Bytes,
        now: Instant,
    ) -> io::Result<()> {
        if feeder != self.feeder {
            self.counters.strays += 1;
            return Ok(());
        }
        let stamp = match self.rebase.pass(stamp, now) {
            Rewrite::Pass { stamp, missing } => {
                self.counters.lost = self.counters.lost.saturating_add_signed(i64::from(missing));
                stamp
            }
            Rewrite::Duplicate => {
                self.counters.duplicates += 1;
                return Ok(());
            }
            Rewrite::Late => {
                self.counters.late += 1;
                return Ok(());
            }
            Rewrite::Stray => {
                self.counters.strays += 1;
                return Ok(());
            }
        };
        if payload.is_empty() {
            // Padding probes take a sequence number but hold no sound.
            self.counters.strays += 1;
            return Ok(());
        }
        self.send(stamp, payload)
    }

    fn send(&mut self, stamp: RtpHeader, payload: Bytes) -> io::Result<()> {
        let bytes = payload.len() as u64;
        let packet = Packet {
            header: Header {
                version: VERSION,
                marker: stamp.marker,
                payload_type: self.payload_type,
                sequence_number: stamp.sequence,
                timestamp: stamp.timestamp,
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
                self.refused = false;
                self.counters.packets += 1;
                self.counters.bytes += bytes;
                Ok(())
            }
            Err(error) => {
                self.counters.unsent += 1;
                if std::mem::replace(&mut self.refused, true) {
                    return Ok(());
                }
                Err(error)
            }
        }
    }
}

/// The address that the kernel would send from to reach `peer`: the default for the peer's and
/// the uplink's own address.
///
/// # Errors
/// When there is no route.
pub fn source_towards(peer: SocketAddr) -> io::Result<IpAddr> {
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

    fn uplink(target: SocketAddr) -> RtpSender {
        let mut uplink = RtpSender::open(target, None, 96, 0xfeed).unwrap();
        uplink.hand_over(1);
        uplink
    }

    fn stamp(sequence: u16) -> RtpHeader {
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
        let mut uplink = uplink(target);
        uplink
            .forward(1, stamp(0x1234), Bytes::from_static(b"opus"), clock::now())
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
    fn only_the_feeder_is_heard_and_copies_are_dropped() {
        let (sink, target) = sink();
        let mut uplink = uplink(target);
        let frame = Bytes::from_static(b"x");
        for (feeder, sequence) in [(1, 1), (1, 1), (2, 2), (1, 3)] {
            uplink
                .forward(feeder, stamp(sequence), frame.clone(), clock::now())
                .unwrap();
        }
        uplink
            .forward(1, stamp(4), Bytes::new(), clock::now())
            .unwrap();
        let counters = uplink.counters();
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
    fn a_body_that_refuses_is_named_once_and_counted_always() {
        let (sink, target) = sink();
        drop(sink);
        let mut uplink = uplink(target);
        let mut named = 0;
        let until = clock::now() + Duration::from_secs(5);
        let mut sequence = 0;
        // The refusal comes back with the packet after the one that was refused.
        while uplink.counters().unsent < 3 && clock::now() < until {
            sequence += 1;
            let frame = Bytes::from_static(b"x");
            named += usize::from(
                uplink
                    .forward(1, stamp(sequence), frame, clock::now())
                    .is_err(),
            );
        }
        let counters = uplink.counters();
        assert_eq!(counters.unsent, 3);
        assert!(named >= 1);
        assert_eq!(counters.packets + counters.unsent, u64::from(sequence));
    }

    #[test]
    fn the_socket_is_bound_to_the_given_source() {
        let (sink, target) = sink();
        let source: IpAddr = "127.0.0.7".parse().unwrap();
        let mut uplink = RtpSender::open(target, Some(source), 96, 1).unwrap();
        uplink.hand_over(1);
        uplink
            .forward(1, stamp(1), Bytes::from_static(b"x"), clock::now())
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
            let mut uplink = uplink(target);
            let total = packets.len() as u64;
            for (feeder, sequence, length) in packets {
                let _ = uplink.forward(feeder, stamp(sequence), vec![0; length].into(), clock::now());
            }
            let c = uplink.counters();
            prop_assert_eq!(c.packets + c.duplicates + c.late + c.strays + c.unsent, total);
        }
    }
}
