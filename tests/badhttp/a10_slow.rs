//! A10: slow and silent peers cost little, and nobody else notices them.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use hydraneckwebrtc::testing::{clock, exec};

use crate::client::{self, PATIENCE, connect};
use crate::program::noted;
use crate::rig::{rig, until};

/// Idle sockets opened at each role.
const IDLE_SOCKETS: usize = 2_500;
/// What 5,000 idle sockets may cost altogether: 4 KiB each, and some slack for other tests.
const IDLE_KIB: u64 = 36 * 1024;

/// Resident memory of a process.
pub(crate) fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count()
}

fn nap(ms: u64) {
    exec::block_on(clock::sleep(Duration::from_millis(ms)));
}

fn livez(address: SocketAddr) {
    let request = b"GET /livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    assert_eq!(client::send(address, request).statuses(), [200]);
}

/// Sends one byte at a time until the server answers or the bytes are out.
fn drip(address: SocketAddr, at_once: &str, drops: usize, pause: u64) -> client::Got {
    let mut stream = connect(address);
    stream.write_all(at_once.as_bytes()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(pause)))
        .unwrap();
    let (mut bytes, mut block) = (Vec::new(), [0; 4096]);
    for _ in 0..drops {
        if stream.write_all(b"x").is_err() {
            break;
        }
        match stream.read(&mut block) {
            Ok(0) => return client::split(&bytes, true, false),
            Ok(n) => bytes.extend_from_slice(&block[..n]),
            Err(_) => {}
        }
    }
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    while let Ok(n @ 1..) = stream.read(&mut block) {
        bytes.extend_from_slice(&block[..n]);
    }
    client::split(&bytes, true, false)
}

#[test]
fn a_head_and_a_body_of_a_byte_a_second_time_out() {
    let rig = rig();
    std::thread::scope(|scope| {
        for (role, address) in rig.roles() {
            scope.spawn(move || {
                let got = drip(address, "GET /livez HTTP/1.1\r\nHost: h\r\nX: ", 40, 1_000);
                assert_eq!(got.statuses(), [408], "{role} head");
                assert!(got.answers[0].closes(), "{role} head");
            });
            for path in [rig.path("quit"), rig.path("mirror/A10-slow-body")] {
                scope.spawn(move || {
                    let head =
                        format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n");
                    let got = drip(address, &head, 60, 1_000);
                    assert_eq!(got.statuses(), [408], "{role} body {path}");
                    assert!(got.answers[0].closes(), "{role} body {path}");
                });
            }
        }
    });
    assert!(!rig.seen().contains("A10-slow-body"));
}

/// A part was forwarded, and then there is silence: the stream program is not kept waiting either.
#[test]
fn large_content_that_stalls_is_broken_off() {
    let rig = rig();
    let path = |role: &str| rig.path(&format!("mirror/A10-stall-{role}"));
    let stalled = rig.roles().map(|(role, address)| {
        let mut stream = connect(address);
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n",
            path(role)
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&[b'x'; 100_000]).unwrap();
        stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        (role, stream)
    });
    for (role, mut stream) in stalled {
        let got = client::finish(&mut stream, false);
        assert_eq!(got.statuses(), [408], "{role}");
        assert!(got.answers[0].closes() && got.closed, "{role}");
        until(role, || {
            rig.seen().contains(&noted("broken off", &path(role)))
        });
        assert!(!rig.seen().contains(&noted("whole", &path(role))), "{role}");
    }
}

#[test]
fn a_client_that_never_reads_costs_no_memory() {
    let rig = rig();
    let path = rig.path("scripted/flood/A10");
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    let before = [rss_kib(rig.controller_pid), rss_kib(rig.worker_pid)];
    let mut held = Vec::new();
    for _ in 0..16 {
        for (_, address) in rig.roles() {
            let mut stream = connect(address);
            stream.write_all(request.as_bytes()).unwrap();
            held.push(stream);
        }
    }
    for stream in &mut held {
        stream.read_exact(&mut [0; 64]).unwrap();
    }
    nap(1_000);
    let after = [rss_kib(rig.controller_pid), rss_kib(rig.worker_pid)];
    for (before, after) in before.iter().zip(after) {
        let grown = after.saturating_sub(*before);
        assert!(grown < 32 * 1024, "grew by {grown} KiB");
    }
    for (_, address) in rig.roles() {
        livez(address);
    }
}

#[test]
fn thousands_of_idle_sockets_cost_little_and_are_given_back() {
    let rig = rig();
    for (role, address, pid) in [
        ("controller", rig.controller, rig.controller_pid),
        ("worker", rig.worker, rig.worker_pid),
    ] {
        let (before, open) = (rss_kib(pid), descriptors(pid));
        let idle: Vec<TcpStream> = (0..IDLE_SOCKETS).map(|_| connect(address)).collect();
        until("idle sockets", || {
            descriptors(pid) >= open + IDLE_SOCKETS * 9 / 10
        });
        let grown = rss_kib(pid).saturating_sub(before);
        assert!(grown < IDLE_KIB, "{role} grew by {grown} KiB");
        livez(address);
        drop(idle);
        until("sockets given back", || {
            descriptors(pid) < open + IDLE_SOCKETS / 10
        });
    }
}

#[test]
fn a_thousand_pipelined_requests_are_answered_in_order() {
    let rig = rig();
    for (role, address) in rig.roles() {
        let mut requests: Vec<u8> = Vec::new();
        for n in 0..1_000 {
            let path = rig.path(&format!("mirror/A10-{n}-"));
            let path = if n % 10 == 0 {
                path
            } else {
                "/livez".to_owned()
            };
            let close = if n == 999 {
                "Connection: close\r\n"
            } else {
                ""
            };
            requests.extend(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{close}\r\n").bytes());
        }
        let mut stream = connect(address);
        let mut writer = stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || writer.write_all(&requests));
        let got = client::finish(&mut stream, false);
        sending.join().unwrap().unwrap();
        assert_eq!(got.answers.len(), 1_000, "{role}");
        assert!(got.answers.iter().all(|a| a.status == 200), "{role}");
        for n in (0..1_000).step_by(10) {
            let mirrored = got.answers[n].text();
            assert!(
                mirrored.contains(&format!("mirror/A10-{n}- ")),
                "{role} {n}"
            );
        }
    }
}

#[test]
fn a_reset_mid_body_frees_both_sides() {
    let rig = rig();
    let open = [descriptors(rig.controller_pid), descriptors(rig.worker_pid)];
    for (_, address) in rig.roles() {
        for script in ["mirror/A10-reset", "scripted/flood/A10-reset"] {
            for _ in 0..50 {
                let mut stream = connect(address);
                let head = format!(
                    "POST {} HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nxx",
                    rig.path(script)
                );
                stream.write_all(head.as_bytes()).unwrap();
                let linger = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                linger.unwrap();
            }
        }
    }
    until("descriptors given back", || {
        let now = [descriptors(rig.controller_pid), descriptors(rig.worker_pid)];
        // Other tests hold some of their own.
        now.iter().zip(open).all(|(now, open)| *now < open + 120)
    });
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    let rig = rig();
    for (role, address) in rig.roles() {
        for path in ["/livez".to_owned(), rig.path("mirror/A10-half")] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
            let got = client::send_and_end(address, request.as_bytes());
            assert_eq!(got.statuses(), [200], "{role} {path}");
            assert!(got.closed, "{role} {path}");
        }
    }
}

/// How long idle connections are left alone: longer than a stalled request may take. The whole ten
/// minutes of the catalogue: `BADHTTP_IDLE_SECS=600 cargo test --release --test badhttp idle`.
fn idle_secs() -> u64 {
    std::env::var("BADHTTP_IDLE_SECS").map_or(22, |secs| secs.parse().unwrap())
}

/// Kept for 75 s, and closed without a word then.
#[test]
fn an_idle_connection_is_kept_for_its_next_request() {
    const KEPT: u64 = 75;
    let rig = rig();
    let request = b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n";
    let idle = rig.roles().map(|(role, address)| (role, connect(address)));
    let mut answered = Vec::new();
    for (role, mut stream) in idle {
        stream.write_all(request).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200", "{role}");
        let n = stream.read(&mut [0; 4096]).unwrap();
        assert!(n > 0, "{role}");
        answered.push((role, stream));
    }
    nap(idle_secs() * 1_000);
    for (role, mut stream) in answered {
        let _ = stream.write_all(request);
        let mut status = [0; 12];
        let is_kept = stream.read_exact(&mut status).is_ok();
        assert_eq!(is_kept, idle_secs() < KEPT, "{role}");
    }
}

/// No timer ends a silent tunnel: after longer than a stalled request may take both ways still
/// work.
#[test]
fn an_idle_websocket_lives() {
    let rig = rig();
    let path = rig.path("scripted/ws-echo/A10-idle");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut tunnels: Vec<TcpStream> = rig.roles().iter().map(|(_, a)| connect(*a)).collect();
    for stream in &mut tunnels {
        stream.write_all(request.as_bytes()).unwrap();
        let (mut got, mut block) = (Vec::new(), [0; 1024]);
        while !got.ends_with(b"early") {
            let n = stream.read(&mut block).unwrap();
            assert!(n > 0, "closed");
            got.extend_from_slice(&block[..n]);
        }
    }
    nap(idle_secs() * 1_000);
    for stream in &mut tunnels {
        stream.write_all(b"alive").unwrap();
        let mut block = [0; 5];
        stream.read_exact(&mut block).unwrap();
        assert_eq!(&block, b"alive");
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut block).unwrap(), 0);
    }
}

/// A listener under TLS that is told nothing keeps nobody else waiting and lets go in time.
#[test]
fn a_stalled_tls_hello_is_let_go() {
    let dir = std::env::temp_dir().join(format!("badhttp-tls-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let config = hydraneckwebrtc::testing::tls::server(&certificate, &key).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let address = tls_listener(config);
    let mut silent = connect(address);
    let mut half = connect(address);
    half.write_all(b"\x16\x03\x01\x02\x00").unwrap();
    let mut plain = connect(address);
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    for stream in [&mut plain, &mut silent, &mut half] {
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut rest = Vec::new();
        // Ended by the server, with an alert at most.
        let ended = stream.read_to_end(&mut rest);
        assert!(
            ended.is_ok() || !matches!(ended.unwrap_err().kind(), std::io::ErrorKind::WouldBlock)
        );
        assert!(!client::latin1(&rest).contains("HTTP"));
    }
}

fn tls_listener(config: std::sync::Arc<rustls::ServerConfig>) -> SocketAddr {
    use hydraneckwebrtc::testing::http::router::Router;
    use hydraneckwebrtc::testing::http::server::{Api, Certificates, ConnectionLimits, Listener};
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let listener = listener.with_tls(Certificates::new(config));
    let (stopper, stop) = exec::stop();
    // Serves until the test process ends.
    std::mem::forget(stopper);
    let service = std::sync::Arc::new(Api(Router::default()));
    exec::spawn(listener.serve(service, ConnectionLimits::default(), stop, Duration::ZERO))
        .detach();
    address
}
