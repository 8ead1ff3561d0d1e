//! The least that a relay must do, measured beside ours in the same seconds: one thread that waits
//! for the sockets of as many streams, decrypts SRTP with bare contexts, and sends on.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hydraneckwebrtc::testing::clock;
use rtc::crypto::default_provider;
use rtc::rtp::{Packet, header::Header};
use rtc::shared::marshal::Marshal as _;
use rtc::srtp::context::Context;
use rtc::srtp::protection_profile::ProtectionProfile;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::machine::nanos_of;
use super::{FRAME_BYTES, LOOPBACK, Outcome, SAMPLES, pause};

/// Packets that SRTP alone is measured with.
const PACKETS: u16 = 30_000;
/// What the core and we agree on.
const PROFILE: ProtectionProfile = ProtectionProfile::AeadAes128Gcm;

fn context() -> Outcome<Context> {
    let provider = default_provider()?;
    Ok(Context::new(
        &[7; 16],
        &[9; 12],
        PROFILE,
        None,
        None,
        provider.crypto(),
    )?)
}

fn packet(ssrc: u32, sequence_number: u16, frame: Vec<u8>) -> Packet {
    Packet {
        header: Header {
            version: 2,
            payload_type: 111,
            sequence_number,
            timestamp: u32::from(sequence_number) * SAMPLES,
            ssrc,
            ..Default::default()
        },
        payload: frame.into(),
    }
}

/// CPU in microseconds of decrypting one packet after the other of one stream.
pub(super) fn srtp() -> Outcome<f64> {
    let (mut out, mut back) = (context()?, context()?);
    let mut packets = Vec::with_capacity(usize::from(PACKETS));
    for n in 0..PACKETS {
        packets.push(out.encrypt_rtp(&packet(1, n, vec![0; FRAME_BYTES]).marshal()?)?);
    }
    // On a thread of its own, whose time the kernel counts to the nanosecond when it waits.
    let measured = std::thread::spawn(move || -> Outcome<u64> {
        pause(Duration::from_millis(1));
        let before = nanos_of("/proc/thread-self")?;
        for packet in &packets {
            back.decrypt_rtp(packet)?;
        }
        pause(Duration::from_millis(1));
        Ok(nanos_of("/proc/thread-self")? - before)
    });
    let nanos = measured.join().map_err(|_| "the measurement failed")??;
    Ok(nanos as f64 / 1e3 / f64::from(PACKETS))
}

/// A stream through the least relay: its speaking side.
pub(super) struct Twin {
    socket: UdpSocket,
    to: SocketAddr,
    context: Context,
    ssrc: u32,
}

impl Twin {
    pub(super) fn say(
        &mut self,
        sequence: u16,
        frame: Vec<u8>,
        sent: impl FnOnce(),
    ) -> Outcome<()> {
        let packet = packet(self.ssrc, sequence, frame).marshal()?;
        let datagram = self.context.encrypt_rtp(&packet)?;
        sent();
        self.socket.send_to(&datagram, self.to)?;
        Ok(())
    }
}

/// The least relay: a process of its own, as the worker is, so that both find the caches as cold.
pub(super) struct Least {
    pub(super) twins: Vec<Twin>,
    relay: Child,
}

impl Least {
    pub(super) fn start(streams: usize, sink: SocketAddr) -> Outcome<Self> {
        let mut relay = Command::new(std::env::current_exe()?)
            .args([RELAY, &streams.to_string(), &sink.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = relay.stdout.take().ok_or("the least relay says nothing")?;
        let mut twins = Vec::with_capacity(streams);
        for line in BufReader::new(out).lines().take(streams) {
            twins.push(Twin {
                socket: UdpSocket::bind((LOOPBACK, 0))?,
                to: line?.parse()?,
                context: context()?,
                ssrc: twins.len() as u32,
            });
        }
        if twins.len() < streams {
            return Err("the least relay did not start".into());
        }
        Ok(Self { twins, relay })
    }

    /// CPU nanoseconds of its relaying thread.
    pub(super) fn nanos(&self) -> Outcome<u64> {
        nanos_of(&format!("/proc/{}", self.relay.id()))
    }
}

impl Drop for Least {
    fn drop(&mut self) {
        let _ = self.relay.kill();
        let _ = self.relay.wait();
    }
}

/// What this program is called with to be the least relay: then the streams and the sink.
pub(super) const RELAY: &str = "--relay";

/// Says where it listens, a line for each stream, and relays until the program that started it
/// ends.
pub(super) fn relay(streams: usize, sink: SocketAddr) -> Outcome<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut lines = Vec::new();
    for n in 0..streams {
        let near = UdpSocket::bind((LOOPBACK, 0))?;
        let out = UdpSocket::bind((LOOPBACK, 0))?;
        out.connect(sink)?;
        epoll::add(&epoll, &near, EventData::new_u64(n as u64), EventFlags::IN)?;
        println!("{}", near.local_addr()?);
        lines.push((near, out, context()?));
    }
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let mut events = Vec::with_capacity(64);
    let mut datagram = [0; 2048];
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let (near, out, context) = &mut lines[event.data.u64() as usize];
            let (n, _) = near.recv_from(&mut datagram)?;
            let _ = clock::now();
            out.send(&context.decrypt_rtp(&datagram[..n])?)?;
        }
    }
}
