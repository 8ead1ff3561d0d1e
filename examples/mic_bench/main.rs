//! What a microphone costs: CPU of the worker per packet, and the delay that it adds.
//!
//! `tests/bench/mic [--seconds N] [COUNTS]`. Drives the real worker with real sessions: voices are
//! DTLS-SRTP connections of the sans-IO core, all bodies are one socket of this process. Beside
//! them, plain datagrams go straight to that socket, so that the machine's own noise is seen in
//! the same seconds; bare SRTP and a plain relay of one receive and one send are measured in the
//! same run, because absolute figures say more about the machine than about a worker.

mod machine;
mod reference;
#[path = "../../src/mic/speaker.rs"]
mod speaker;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hydraneckwebrtc::clock;

use machine::Machine;
use speaker::{Outcome, Speaker};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// One Opus frame.
const FRAME: Duration = Duration::from_millis(20);
/// Its samples at 48 kHz.
const SAMPLES: u32 = 960;
/// Bytes of a frame at 32 kbit/s, the page's bit rate.
const FRAME_BYTES: usize = 80;
/// RTP header as the uplink writes it.
const HEADER: usize = 12;
/// Voices for each stream of plain datagrams.
const PER_PLAIN: usize = 10;
/// Longest wait for a connection of all voices: a hundred handshakes on a loaded machine.
const CONNECT: Duration = Duration::from_secs(30);

fn main() -> Outcome<()> {
    let mut counts = Vec::new();
    let mut seconds = 10_u16;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => seconds = words.next().ok_or("--seconds N")?.parse()?,
            count => counts.push(count.parse::<u16>()?),
        }
    }
    if counts.is_empty() {
        counts = vec![1, 15, 100];
    }
    let most = counts.iter().copied().max().unwrap_or(1);
    let sink = UdpSocket::bind((LOOPBACK, 0))?;
    let machine = Machine::start(most, sink.local_addr()?.port())?;
    let srtp = reference::srtp()?;
    println!("bare SRTP: {srtp:.2} us a packet");
    println!(
        "microphones  packets  lost  core_%  mic_us  process_us  plain_relay_us  beyond_srtp_us  beyond_both_us  \
         p50_us  p99_us  direct_p50_us  direct_p99_us"
    );
    for count in counts {
        measure(&machine, &sink, usize::from(count), seconds * 50, srtp)?;
    }
    Ok(())
}

fn measure(
    machine: &Machine,
    sink: &UdpSocket,
    count: usize,
    frames: u16,
    srtp: f64,
) -> Outcome<()> {
    let mut voices = Vec::new();
    for (n, session) in machine.sessions.iter().take(count).enumerate() {
        let (mut voice, offer) = Speaker::offering(LOOPBACK, 1_000 + n as u32, clock::now())?;
        voice.take(&machine.offer(session, &offer)?, clock::now())?;
        voices.push(voice);
        // The first would lose patience while the last offer.
        serve(&mut voices)?;
    }
    let deadline = clock::now() + CONNECT;
    while !voices.iter().all(Speaker::is_connected) {
        if clock::now() > deadline {
            return Err("not all microphones came up".into());
        }
        serve(&mut voices)?;
        pause(Duration::from_millis(2));
    }
    let plain = count.div_ceil(PER_PLAIN);
    let said = Arc::new(Said::new(count + plain, frames));
    let listening = {
        let (said, sink) = (said.clone(), sink.try_clone()?);
        std::thread::spawn(move || listen(&sink, &said))
    };
    let (before, start) = (machine.nanos()?, clock::now());
    speak(&mut voices, plain, sink, &said)?;
    let (after, span) = (machine.nanos()?, clock::now() - start);
    let delays = listening.join().map_err(|_| "the body failed")??;
    for voice in &mut voices {
        voice.close()?;
        voice.flush();
    }
    let (mut ours, mut direct): (Vec<_>, Vec<_>) = delays.into_iter().partition(|d| d.0 < count);
    let packets = ours.len() as f64;
    let [mic, process] = [0, 1].map(|n| (after[n] - before[n]) as f64 / 1e3 / packets.max(1.0));
    let floor = reference::plain(50 * count as u32)?;
    println!(
        "{count:11}  {:7}  {:4}  {:6.2}  {mic:6.1}  {process:10.1}  {floor:14.1}  {:14.1}  {:14.1}  {:6}  {:6}  {:13}  {:13}",
        ours.len(),
        count * usize::from(frames) - ours.len(),
        mic * packets / span.as_secs_f64() / 1e4,
        mic - srtp,
        mic - srtp - floor,
        percentile(&mut ours, 0.5),
        percentile(&mut ours, 0.99),
        percentile(&mut direct, 0.5),
        percentile(&mut direct, 0.99),
    );
    Ok(())
}

fn serve(voices: &mut [Speaker]) -> Outcome<()> {
    let now = clock::now();
    voices.iter_mut().try_for_each(|voice| voice.serve(now))
}

/// When each frame of each voice was sent, in nanoseconds since the start.
struct Said {
    start: Instant,
    frames: u16,
    at: Vec<AtomicU64>,
}

impl Said {
    fn new(voices: usize, frames: u16) -> Self {
        let all = voices * usize::from(frames);
        Self {
            start: clock::now(),
            frames,
            at: (0..all).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn nanos(&self) -> u64 {
        u64::try_from((clock::now() - self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    fn of(&self, voice: usize, frame: u16) -> Option<&AtomicU64> {
        self.at
            .get(voice * usize::from(self.frames) + usize::from(frame))
    }

    fn note(&self, voice: usize, frame: u16) {
        if let Some(at) = self.of(voice, frame) {
            at.store(self.nanos(), Ordering::Release);
        }
    }
}

/// All voices say all frames. They are spread over the frame's time, as visitors are.
fn speak(voices: &mut [Speaker], plain: usize, sink: &UdpSocket, said: &Said) -> Outcome<()> {
    let (straight, target) = (UdpSocket::bind((LOOPBACK, 0))?, sink.local_addr()?);
    let (count, start) = (voices.len(), clock::now());
    for frame in 0..said.frames {
        for (n, voice) in voices.iter_mut().enumerate() {
            voice.serve(clock::now())?;
            let due = start + FRAME * u32::from(frame) + FRAME * n as u32 / count as u32;
            pause(due.saturating_duration_since(clock::now()));
            let timestamp = u32::from(frame) * SAMPLES;
            voice.say(frame, timestamp, content(n, frame, 0), clock::now())?;
            said.note(n, frame);
            voice.flush();
            if n % PER_PLAIN == 0 && n / PER_PLAIN < plain {
                // In a pause of the others, as they are in each other's.
                pause(FRAME / (2 * count as u32));
                let n = count + n / PER_PLAIN;
                said.note(n, frame);
                straight.send_to(&content(n, frame, HEADER), target)?;
            }
        }
    }
    Ok(())
}

/// A frame that says which it is.
fn content(voice: usize, frame: u16, before: usize) -> Vec<u8> {
    let mut content = vec![0; before];
    content.extend((voice as u32).to_be_bytes());
    content.extend(frame.to_be_bytes());
    content.resize(before + FRAME_BYTES, 0);
    content
}

/// Each packet's voice and delay in nanoseconds, until nothing has come for a second.
fn listen(sink: &UdpSocket, said: &Said) -> Outcome<Vec<(usize, u64)>> {
    sink.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut delays = Vec::with_capacity(said.at.len());
    let mut datagram = [0; 2048];
    while delays.len() < said.at.len() {
        let Ok(n) = sink.recv(&mut datagram) else {
            break;
        };
        let now = said.nanos();
        let Some(content) = datagram[..n].get(HEADER..HEADER + 6) else {
            continue;
        };
        let voice = u32::from_be_bytes(content[..4].try_into()?) as usize;
        let frame = u16::from_be_bytes(content[4..].try_into()?);
        if let Some(at) = said.of(voice, frame) {
            delays.push((voice, now.saturating_sub(at.load(Ordering::Acquire))));
        }
    }
    Ok(delays)
}

/// In microseconds.
fn percentile(delays: &mut [(usize, u64)], share: f64) -> u64 {
    delays.sort_unstable_by_key(|d| d.1);
    delays
        .get((delays.len() as f64 * share) as usize)
        .map_or(0, |d| d.1 / 1_000)
}

/// Waits: this is a schedule, not a wait for something.
#[allow(clippy::disallowed_methods)]
fn pause(span: Duration) {
    if !span.is_zero() {
        std::thread::sleep(span);
    }
}
