//! What a microphone costs: CPU of the relay per packet and the delay from a speaker's send call
//! to the body's socket, at 1, 15 and 100 microphones.
//!
//! `cargo run --release --example mic_bench [counts]`. Speakers and the body run in a child process, so
//! that the relay's CPU stands alone; the delay holds their encryption and wake-ups too, so a
//! second row sends plain datagrams through no relay, for comparison.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::str::FromStr as _;
use std::time::{Duration, SystemTime};

use hydraneckwebrtc::clock;
use hydraneckwebrtc::ids::SessionId;
use hydraneckwebrtc::mic::{MicSettings, Microphones};

#[path = "../src/mic/speaker.rs"]
mod speaker;
use speaker::{Outcome, Speaker};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// First argument of the child.
const SPEAK: &str = "speak";
/// One Opus frame.
const FRAME: Duration = Duration::from_millis(20);
/// Bytes of a frame at 32 kbit/s.
const FRAME_BYTES: usize = 80;
/// Frames per speaker and measurement: ten seconds.
const FRAMES: u16 = 500;
/// RTP header as the uplink writes it.
const HEADER: usize = 12;
/// Kernel clock ticks a second in /proc (`getconf CLK_TCK`, the same on every Linux).
const TICKS: f64 = 100.0;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut counts: Vec<String> = std::env::args().skip(1).collect();
    if counts.first().is_some_and(|first| first == SPEAK) {
        return child(usize::from_str(&counts.pop().unwrap_or_default())?);
    }
    if counts.is_empty() {
        counts = ["0", "1", "15", "100"].map(str::to_owned).into();
    }
    println!("microphones  packets  lost  user_us  sys_us  core_%  p50_us  p99_us  max_us");
    for count in counts {
        measure(usize::from_str(&count)?)?;
    }
    Ok(())
}

/// The relay's side: answers the child's offers and reads its own CPU time.
fn measure(count: usize) -> Outcome<()> {
    let mut settings = MicSettings::on(LOOPBACK);
    settings.max = count.max(1);
    let microphones = Microphones::new(settings, |_, _| {});
    let mut child = Command::new(std::env::current_exe()?)
        .args([SPEAK, &count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut to = child.stdin.take().ok_or("no stdin")?;
    let mut from = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
    let mut line = || -> Outcome<String> { Ok(from.next().ok_or("the child ended")??) };
    let target: SocketAddr = line()?.parse()?;
    for _ in 0..count {
        let offer = line()?;
        let answer = microphones.offer(&SessionId::random()?, target, offer.as_bytes())?;
        writeln!(to, "{}", serde_json::to_string(&answer)?)?;
    }
    line()?; // all are connected
    let (before, start) = (cpu()?, clock::now());
    writeln!(to, "go")?;
    let result = line()?;
    let (after, span) = (cpu()?, clock::now() - start);
    let spent = [after[0] - before[0], after[1] - before[1]];
    child.wait()?;
    let total = microphones.total();
    let [user, system] = [0, 1].map(|n| spent[n] * 1e6 / total.packets.max(1) as f64);
    println!(
        "{count:11}  {:7}  {:4}  {user:7.1}  {system:6.1}  {:6.2}  {result}",
        total.packets,
        total.lost + total.unsent,
        100.0 * (spent[0] + spent[1]) / span.as_secs_f64(),
    );
    Ok(())
}

/// User and system time of this process in seconds: the system's share is mostly wake-ups.
fn cpu() -> Outcome<[f64; 2]> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let ticks = |n: usize| {
        fields
            .get(n)
            .and_then(|f| f.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    Ok([ticks(11) / TICKS, ticks(12) / TICKS])
}

/// The speakers' and the body's side.
fn child(count: usize) -> Outcome<()> {
    let body = UdpSocket::bind((LOOPBACK, 0))?;
    println!("{}", body.local_addr()?);
    let mut answers = std::io::stdin().lines();
    let speakers = smol::block_on(async {
        let mut speakers = Vec::new();
        for n in 0..count {
            let (speaker, offer) = Speaker::offering(LOOPBACK, 1_000 + n as u32).await?;
            println!("{}", String::from_utf8(offer)?);
            let answer = answers.next().ok_or("no answer")??;
            let answer: serde_json::Value = serde_json::from_str(&answer)?;
            let sdp = answer["sdp"].as_str().ok_or("no sdp")?.to_owned();
            speaker.take(sdp).await?;
            speakers.push(speaker);
        }
        for speaker in &speakers {
            speaker.connected().await?;
        }
        Outcome::Ok(speakers)
    })?;
    println!("connected");
    answers.next();
    let expected = count.max(1) * usize::from(FRAMES);
    let target = body.local_addr()?;
    let listening = std::thread::spawn(move || listen(&body, expected));
    let plain = UdpSocket::bind((LOOPBACK, 0))?;
    smol::block_on(async {
        let start = clock::now();
        for n in 0..FRAMES {
            for (at, speaker) in speakers.iter().enumerate() {
                // Speakers are spread over the frame, as visitors are.
                clock::until(start + FRAME * u32::from(n) + FRAME * at as u32 / count as u32).await;
                speaker.say(n, u32::from(n) * 960, frame(&[])).await?;
            }
            if count == 0 {
                clock::until(start + FRAME * u32::from(n)).await;
                plain.send_to(&frame(&[0; HEADER]), target)?;
            }
        }
        Outcome::Ok(())
    })?;
    let mut delays = listening.join().map_err(|_| "the body failed")??;
    delays.sort_unstable();
    let at = |share: f64| {
        delays
            .get((delays.len() as f64 * share) as usize)
            .map_or(0, |d| d / 1_000)
    };
    println!(
        "{:6}  {:6}  {:6}",
        at(0.5),
        at(0.99),
        delays.last().map_or(0, |d| d / 1_000)
    );
    Ok(())
}

/// A frame that carries the time it was said.
fn frame(before: &[u8]) -> Vec<u8> {
    let mut frame = before.to_vec();
    frame.extend(nanos().to_be_bytes());
    frame.resize(before.len() + FRAME_BYTES, 0);
    frame
}

/// Delays in nanoseconds, until nothing has come for a second.
fn listen(body: &UdpSocket, expected: usize) -> Outcome<Vec<u64>> {
    body.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut delays = Vec::with_capacity(expected);
    let mut datagram = [0; 2048];
    while delays.len() < expected {
        let Ok(n) = body.recv(&mut datagram) else {
            break;
        };
        if let Some(said) = datagram[..n].get(HEADER..HEADER + 8) {
            let said = u64::from_be_bytes(said.try_into()?);
            delays.push(nanos().saturating_sub(said));
        }
    }
    Ok(delays)
}

fn nanos() -> u64 {
    clock::wall()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as u64)
}
