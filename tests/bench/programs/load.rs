//! Load for measuring a proxy, where `wrk` has none to give.
//!
//! - `load origin LISTEN`: switches protocols; `/flood/<piece>/<total>` then sends `total` bytes
//!   in writes of `piece`, `/media/<piece>/<rate>/<total>` the same in 60 frames a second at `rate`
//!   bytes a second, anything else stays silent.
//! - `load flood ADDRESS PIECE TOTAL CONNECTIONS [CA]`: reads the first from every connection,
//!   under TLS where a file of trusted certificates is given.
//! - `load media ADDRESS PIECE RATE TOTAL`: reads the second from one connection.
//! - `load idle ADDRESS PATH CONNECTIONS`: opens connections one after the other, each with one
//!   exchange, says `ready` and holds them until its standard input ends. A path that begins with
//!   `/idle` is an upgrade.
//! - `load rate ADDRESS PATH PER_SECOND SECONDS CONNECTIONS`: requests at times fixed beforehand;
//!   prints p50 and p99 in microseconds, counted from the time a request was due.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use hydraneckwebrtc::testing::tls::{self, Trust};
use hydraneckwebrtc::testing::{clock, exec};
use rustls::{ClientConnection, StreamOwned};
use smol::Async;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The answer to the one `Sec-WebSocket-Key` that is sent here (RFC 6455 section 4.2.2).
const ACCEPT: &str = "ICX+Yqv66kxgM0FcWaLWlFLwTAI=";
/// Longest head of an answer.
const HEAD_MAX: usize = 8 * 1024;
/// Frames a second of a media session.
const FRAMES: usize = 60;

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["origin", listen] => origin(listen),
        ["flood", address, piece, total, connections, ref ca @ ..] => {
            let path = format!("/flood/{piece}/{total}");
            let ca = ca.first().map(|ca| PathBuf::from(*ca));
            read_all(address, &path, total.parse()?, connections.parse()?, ca)
        }
        ["media", address, piece, rate, total] => {
            let path = format!("/media/{piece}/{rate}/{total}");
            read_all(address, &path, total.parse()?, 1, None)
        }
        ["idle", address, path, connections] => idle(address, path, connections.parse()?),
        ["rate", address, path, rate, seconds, connections] => rate_of(
            address,
            path,
            rate.parse()?,
            seconds.parse()?,
            connections.parse()?,
        ),
        _ => Err("usage: load origin|flood|media|idle|rate ...".into()),
    }
}

fn origin(listen: &str) -> Outcome<()> {
    let listener = Async::new(TcpListener::bind(listen)?)?;
    exec::block_on(async {
        loop {
            let (stream, _) = listener.accept().await?;
            exec::spawn(async move {
                // A client that leaves early is no fault here.
                let _ = switch(stream).await;
            })
            .detach();
        }
    })
}

async fn switch(mut stream: Async<TcpStream>) -> Outcome<()> {
    let mut head = Vec::new();
    let mut block = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        let n = stream.read(&mut block).await?;
        if n == 0 || head.len() > HEAD_MAX {
            return Ok(());
        }
        head.extend_from_slice(&block[..n]);
    }
    stream
        .write_all(format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n").as_bytes())
        .await?;
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", "flood", piece, total] => {
            send(&mut stream, &vec![b'x'; piece.parse()?], total.parse()?).await?;
        }
        ["", "media", piece, rate, total] => {
            let piece = vec![b'x'; piece.parse()?];
            let (rate, mut left) = (rate.parse::<usize>()?, total.parse::<usize>()?);
            let mut due = clock::now();
            while left > 0 {
                let frame = left.min(rate / FRAMES);
                send(&mut stream, &piece, frame).await?;
                left -= frame;
                due += Duration::from_secs(1) / u32::try_from(FRAMES)?;
                clock::sleep(due.saturating_duration_since(clock::now())).await;
            }
        }
        _ => {}
    }
    while stream.read(&mut block).await? > 0 {}
    Ok(())
}

async fn send(stream: &mut Async<TcpStream>, piece: &[u8], total: usize) -> Outcome<()> {
    let mut left = total;
    while left > 0 {
        let n = left.min(piece.len());
        stream.write_all(&piece[..n]).await?;
        left -= n;
    }
    Ok(())
}

/// One exchange: the status line and fields, and the content behind them that is announced.
fn exchange(stream: &mut (impl Read + Write), path: &str, upgrade: bool) -> Outcome<Vec<u8>> {
    let more = if upgrade {
        "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    } else {
        ""
    };
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{more}\r\n").as_bytes())?;
    let mut got = Vec::new();
    let mut block = [0; 16 * 1024];
    loop {
        let n = stream.read(&mut block)?;
        if n == 0 {
            return Err("closed before an answer".into());
        }
        got.extend_from_slice(&block[..n]);
        let Some(end) = got.windows(4).position(|w| w == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&got[..end]).to_lowercase();
        if upgrade {
            return match head.contains(" 101 ") {
                true => Ok(got.split_off(end + 4)),
                false => Err(format!("no switch: {head}").into()),
            };
        }
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("content-length: "))
            .ok_or("an answer without length")?;
        let mut left = (end + 4 + length.trim().parse::<usize>()?).saturating_sub(got.len());
        while left > 0 {
            let n = stream.read(&mut block)?;
            if n == 0 {
                return Err("closed inside an answer".into());
            }
            left -= n.min(left);
        }
        return Ok(Vec::new());
    }
}

fn read_all(
    address: &str,
    path: &str,
    total: usize,
    connections: usize,
    ca: Option<PathBuf>,
) -> Outcome<()> {
    let tls = ca.map(|ca| tls::client(&Trust::CaFile(ca))).transpose()?;
    let threads: Vec<_> = (0..connections)
        .map(|_| {
            let (address, path, tls) = (address.to_owned(), path.to_owned(), tls.clone());
            thread::spawn(move || -> Outcome<()> {
                let stream = TcpStream::connect(address)?;
                match tls {
                    None => read_one(stream, &path, total),
                    Some(config) => {
                        let session = ClientConnection::new(config, "localhost".try_into()?)?;
                        read_one(StreamOwned::new(session, stream), &path, total)
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a thread died")??;
    }
    Ok(())
}

fn read_one(mut stream: impl Read + Write, path: &str, total: usize) -> Outcome<()> {
    let mut got = exchange(&mut stream, path, true)?.len();
    let mut block = vec![0; 256 * 1024];
    while got < total {
        let n = stream.read(&mut block)?;
        if n == 0 {
            return Err("closed inside the tunnel".into());
        }
        got += n;
    }
    Ok(())
}

fn idle(address: &str, path: &str, connections: usize) -> Outcome<()> {
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut stream = TcpStream::connect(address)?;
        exchange(&mut stream, path, path.starts_with("/idle"))?;
        held.push(stream);
    }
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn rate_of(address: &str, path: &str, rate: u32, seconds: u32, connections: u32) -> Outcome<()> {
    let begin = clock::now() + Duration::from_millis(50);
    let gap = Duration::from_secs(1) * connections / rate;
    let threads: Vec<_> = (0..connections)
        .map(|n| {
            let (address, path) = (address.to_owned(), path.to_owned());
            thread::spawn(move || -> Outcome<Vec<u128>> {
                let mut stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                let mut took = Vec::new();
                for i in 0..rate * seconds / connections {
                    let due = begin + gap * i + gap * n / connections;
                    let wait = due.saturating_duration_since(clock::now());
                    if !wait.is_zero() {
                        thread::park_timeout(wait);
                    }
                    exchange(&mut stream, &path, false)?;
                    took.push(clock::now().saturating_duration_since(due).as_micros());
                }
                Ok(took)
            })
        })
        .collect();
    let mut all = Vec::new();
    for thread in threads {
        all.extend(thread.join().map_err(|_| "a thread died")??);
    }
    all.sort_unstable();
    println!("{} {}", all[all.len() / 2], all[all.len() * 99 / 100]);
    Ok(())
}
