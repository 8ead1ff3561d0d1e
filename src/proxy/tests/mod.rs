//! The proxy between real sockets: a scripted upstream that records every byte it gets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::{Policy, Proxy, Upstream};
use crate::exec::{self, Stopper};
use crate::http::client::Client;
use crate::http::server::{ConnectionLimits, Listener, Service};
use crate::http::{Done, Exchange};
use crate::tls::Trust;

mod answers;
mod content;
mod documents;
mod requests;
mod upgrades;

struct Through {
    proxy: Proxy,
    upstream: Upstream,
    policy: Policy,
}

#[async_trait]
impl Service for Through {
    async fn serve(&self, exchange: Exchange) -> Done {
        self.proxy
            .forward(exchange, &self.upstream, &self.policy)
            .await
    }
}

fn proxy(upstream: SocketAddr, policy: Policy) -> (SocketAddr, Stopper) {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (stopper, stop) = exec::stop();
    let proxy = Proxy::new(Client::new(&Trust::WebPki).unwrap());
    let service = Arc::new(Through {
        proxy,
        upstream: Upstream::Address(upstream),
        policy,
    });
    exec::spawn(listener.serve(service, ConnectionLimits::default(), stop, Duration::ZERO))
        .detach();
    (address, stopper)
}

type Recorded = Arc<Mutex<Vec<String>>>;

/// An upstream that answers the n-th request of its life with the n-th answer. An answer that
/// begins with `!` closes the connection after it.
fn upstream(answers: &'static [&'static str]) -> (SocketAddr, Recorded) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Recorded::default();
    let record = Arc::clone(&seen);
    std::thread::spawn(move || {
        let mut answers = answers.iter();
        while let Ok((mut stream, _)) = listener.accept() {
            let mut got = Vec::new();
            let mut block = [0; 65_536];
            while let Ok(n) = stream.read(&mut block) {
                if n == 0 {
                    break;
                }
                got.extend_from_slice(&block[..n]);
                if !is_whole(&got) {
                    continue;
                }
                record
                    .lock()
                    .unwrap()
                    .push(String::from_utf8_lossy(&got).into_owned());
                got.clear();
                let Some(answer) = answers.next() else { return };
                let _ = stream.write_all(answer.trim_start_matches('!').as_bytes());
                if answer.starts_with('!') {
                    break;
                }
            }
        }
    });
    (address, seen)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let lower = head.to_lowercase();
    if lower.contains("transfer-encoding: chunked") {
        return body.ends_with("0\r\n\r\n");
    }
    match lower
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "))
    {
        Some(n) => body.len() >= n.parse::<usize>().unwrap(),
        None => true,
    }
}

/// Sends and reads until the proxy closes.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

const OK: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: \"e\"\r\nX-Own: caf\u{e9}\r\n\r\nok";
