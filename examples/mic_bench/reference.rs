//! What a packet costs without us: the kernel's share of one receive and one send, and bare SRTP.

use std::net::UdpSocket;
use std::time::Duration;

use hydraneckwebrtc::clock;
use rtc::crypto::default_provider;
use rtc::rtp::{Packet, header::Header};
use rtc::shared::marshal::Marshal as _;
use rtc::srtp::context::Context;
use rtc::srtp::protection_profile::ProtectionProfile;

use super::machine::thread_nanos;
use super::{FRAME_BYTES, LOOPBACK, Outcome, pause};

/// Packets that SRTP is measured with.
const PACKETS: u16 = 30_000;
/// How long the plain relay is measured.
const SPAN: Duration = Duration::from_secs(3);

/// CPU in microseconds of decrypting one packet, with what browsers and we agree on.
pub(super) fn srtp() -> Outcome<f64> {
    let provider = default_provider()?;
    let profile = ProtectionProfile::AeadAes128Gcm;
    let (key, salt) = ([7; 16], [9; 12]);
    let context = || Context::new(&key, &salt, profile, None, None, provider.crypto());
    let (mut out, mut back) = (context()?, context()?);
    let mut packets = Vec::with_capacity(usize::from(PACKETS));
    for sequence_number in 0..PACKETS {
        let packet = Packet {
            header: Header {
                version: 2,
                payload_type: 111,
                sequence_number,
                ssrc: 1,
                ..Default::default()
            },
            payload: vec![0; FRAME_BYTES].into(),
        };
        packets.push(out.encrypt_rtp(&packet.marshal()?)?);
    }
    // On a thread of its own, whose time the kernel counts to the nanosecond when it waits.
    let measured = std::thread::spawn(move || -> Outcome<u64> {
        pause(Duration::from_millis(1));
        let before = thread_nanos()?;
        for packet in &packets {
            back.decrypt_rtp(packet)?;
        }
        pause(Duration::from_millis(1));
        Ok(thread_nanos()? - before)
    });
    let nanos = measured.join().map_err(|_| "the measurement failed")??;
    Ok(nanos as f64 / 1e3 / f64::from(PACKETS))
}

/// CPU in microseconds of taking a datagram and sending it on, at this many a second.
pub(super) fn plain(per_second: u32) -> Outcome<f64> {
    let (near, far) = (
        UdpSocket::bind((LOOPBACK, 0))?,
        UdpSocket::bind((LOOPBACK, 0))?,
    );
    let out = UdpSocket::bind((LOOPBACK, 0))?;
    out.connect(far.local_addr()?)?;
    let to = near.local_addr()?;
    let relay = std::thread::spawn(move || -> Outcome<f64> {
        let mut datagram = [0; 2048];
        let mut carried = 0_u32;
        let before = thread_nanos()?;
        // An empty datagram ends it.
        while let Ok(n @ 1..) = near.recv(&mut datagram) {
            out.send(&datagram[..n])?;
            carried += 1;
        }
        let spent = thread_nanos()? - before;
        Ok(spent as f64 / 1e3 / f64::from(carried.max(1)))
    });
    let sink = std::thread::spawn(move || while far.recv(&mut [0; 2048]).is_ok_and(|n| n > 1) {});
    let voice = UdpSocket::bind((LOOPBACK, 0))?;
    let (start, mut said) = (clock::now(), 0);
    while clock::now() < start + SPAN {
        said += 1;
        pause(
            (start + Duration::from_secs(1) * said / per_second)
                .saturating_duration_since(clock::now()),
        );
        voice.send_to(&[0; FRAME_BYTES + 28], to)?;
    }
    voice.send_to(&[0], to)?;
    voice.send_to(&[], to)?;
    let cost = relay.join().map_err(|_| "the plain relay failed")??;
    sink.join().map_err(|_| "the plain sink failed")?;
    Ok(cost)
}
