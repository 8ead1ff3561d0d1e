//! What a microphone costs: CPU of the worker per packet, and the delay that it adds.
//!
//! `tests/bench/mic [--seconds N] [COUNTS]`. Drives the real worker with real sessions: voices are
//! DTLS-SRTP connections of the sans-IO core, all bodies are one socket of this process. Absolute
//! figures say more about the machine than about a worker, so each voice has a twin that says the
//! same at the same pace through the least that a relay can be, and both are counted in the same
//! seconds.

#[path = "../../../../src/mic/tests/browser.rs"]
mod browser;
mod machine;
mod reference;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hydraneckwebrtc::testing::clock;

use browser::{Outcome, TestBrowser};
use machine::Machine;
use reference::{Least, Twin};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// One Opus frame.
const FRAME: Duration = Duration::from_millis(20);
/// Its samples at 48 kHz.
const SAMPLES: u32 = 960;
/// Bytes of a frame at 32 kbit/s, the page's bit rate.
const FRAME_BYTES: usize = 80;
/// RTP header as the uplink writes it.
const HEADER: usize = 12;
/// Longest wait for a connection of all voices: a hundred handshakes on a loaded machine.
const CONNECT: Duration = Duration::from_secs(30);

fn main() -> Outcome<()> {
    let mut counts = Vec::new();
    let mut seconds = 10_u16;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => seconds = words.next().ok_or("--seconds N")?.parse()?,
            reference::RELAY => {
                let streams = words.next().ok_or("streams")?.parse()?;
                return reference::relay(streams, words.next().ok_or("sink")?.parse()?);
            }
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
    println!("bare SRTP: {srtp:.2} us a packet; CPU in us a packet, delays in us:");
    println!(
        "microphones  packets  lost  core_%  thread  process  least  beyond_srtp  beyond_least     \
         p50     p99  least_p50  least_p99"
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
        let (mut voice, offer) = TestBrowser::offering(LOOPBACK, 1_000 + n as u32, clock::now())?;
        voice.accept_answer(&machine.offer(session, &offer)?, clock::now())?;
        voices.push(voice);
        // The first would lose patience while the last offer.
        serve(&mut voices)?;
    }
    let deadline = clock::now() + CONNECT;
    while !voices.iter().all(TestBrowser::is_connected) {
        if clock::now() > deadline {
            return Err("not all microphones came up".into());
        }
        serve(&mut voices)?;
        pause(Duration::from_millis(2));
    }
    let mut least = Least::start(count, sink.local_addr()?)?;
    let said = Arc::new(Said::new(2 * count, frames));
    let listening = {
        let (said, sink) = (said.clone(), sink.try_clone()?);
        std::thread::spawn(move || listen(&sink, &said))
    };
    let (before, least_before, start) = (machine.nanos()?, least.nanos()?, clock::now());
    speak(&mut voices, &mut least.twins, &said)?;
    let (after, least_after, span) = (machine.nanos()?, least.nanos()?, clock::now() - start);
    let delays = listening.join().map_err(|_| "the body failed")??;
    for voice in &mut voices {
        voice.close()?;
        voice.flush();
    }
    let (mut ours, mut twins): (Vec<_>, Vec<_>) = delays.into_iter().partition(|d| d.0 < count);
    let per = |nanos: u64, packets: usize| nanos as f64 / 1e3 / packets.max(1) as f64;
    let [thread, process] = [0, 1].map(|n| per(after[n] - before[n], ours.len()));
    let floor = per(least_after - least_before, twins.len());
    println!(
        "{count:11}  {:7}  {:4}  {:6.2}  {thread:6.1}  {process:7.1}  {floor:5.1}  {:11.1}  {:12.1}  \
         {:6}  {:6}  {:9}  {:9}",
        ours.len(),
        count * usize::from(frames) - ours.len(),
        thread * ours.len() as f64 / span.as_secs_f64() / 1e4,
        thread - srtp,
        thread - floor,
        percentile(&mut ours, 0.5),
        percentile(&mut ours, 0.99),
        percentile(&mut twins, 0.5),
        percentile(&mut twins, 0.99),
    );
    Ok(())
}

fn serve(voices: &mut [TestBrowser]) -> Outcome<()> {
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

/// All voices and their twins say all frames. They are spread over the frame's time, as visitors
/// are.
fn speak(voices: &mut [TestBrowser], twins: &mut [Twin], said: &Said) -> Outcome<()> {
    let (count, start) = (voices.len(), clock::now());
    let until = |due| pause(Instant::saturating_duration_since(&due, clock::now()));
    let turn = FRAME / count as u32;
    for frame in 0..said.frames {
        let begin = start + FRAME * u32::from(frame);
        for (n, (voice, twin)) in voices.iter_mut().zip(&mut *twins).enumerate() {
            voice.serve(clock::now())?;
            until(begin + turn * n as u32);
            let timestamp = u32::from(frame) * SAMPLES;
            voice.send_frame(frame, timestamp, content(n, frame), clock::now())?;
            said.note(n, frame);
            voice.flush();
            // In a pause of the others, as they are in each other's.
            until(begin + turn * n as u32 + turn / 2);
            let n = count + n;
            twin.say(frame, content(n, frame), || said.note(n, frame))?;
        }
    }
    Ok(())
}

/// A frame that says which it is.
fn content(voice: usize, frame: u16) -> Vec<u8> {
    let mut content = Vec::with_capacity(FRAME_BYTES);
    content.extend((voice as u32).to_be_bytes());
    content.extend(frame.to_be_bytes());
    content.resize(FRAME_BYTES, 0);
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
