//! A server under limits, panics and its own end, over real loopback sockets.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use http_types::Method;
use smol::channel::{Receiver, Sender, unbounded};

use super::auth::Bearer;
use super::router::Router;
use super::server::{Api, ConnectionLimits, Listener};
use super::{Call, Reply};
use crate::exec::{self, Stopper};
use crate::{clock, wire};

const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";

struct Server {
    address: SocketAddr,
    stopper: Stopper,
    served: smol::Task<()>,
    /// Says that `/slow` was asked for.
    asked: Receiver<()>,
    /// Lets `/slow` answer.
    go: Sender<()>,
}

fn serve(admission: ConnectionLimits, grace: Duration) -> Server {
    let (says, asked) = unbounded();
    let (go, gone) = unbounded::<()>();
    let router = Router::new(Arc::new(Bearer::new(Vec::new())))
        .open(Method::Get, "/hello", |_| async { Ok(Reply::empty(204)) })
        .open(Method::Get, "/panic", |_| async { panic!("on purpose") })
        .open(Method::Get, "/slow", move |_: Call| {
            let (says, gone) = (says.clone(), gone.clone());
            async move {
                let _ = says.send(()).await;
                let _ = gone.recv().await;
                Ok(Reply::empty(204))
            }
        });
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (stopper, stop) = exec::stop();
    let served = exec::spawn(listener.serve(Arc::new(Api(router)), admission, stop, grace));
    Server {
        address,
        stopper,
        served,
        asked,
        go,
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

/// The status line's code; `None` when the server closed instead.
fn ask(stream: &mut TcpStream, request: &[u8]) -> Option<String> {
    stream.write_all(request).ok()?;
    let mut got = Vec::new();
    let mut block = [0; 1024];
    while !got.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut block) {
            Ok(0) => return None,
            Ok(n) => got.extend_from_slice(&block[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("no answer: {error}"),
        }
    }
    Some(String::from_utf8_lossy(&got[9..12]).into_owned())
}

/// Asks on fresh connections until one is let in.
fn ask_until_let_in(address: SocketAddr) {
    let deadline = clock::now() + Duration::from_secs(10);
    while ask(&mut connect(address), HELLO).is_none() {
        assert!(clock::now() < deadline, "nobody is let in any more");
    }
}

#[test]
fn one_connection_too_many_is_turned_away_and_harms_nobody() {
    let admission = ConnectionLimits {
        total: 2,
        per_address: 10,
    };
    let server = serve(admission, Duration::ZERO);
    let (mut first, mut second) = (connect(server.address), connect(server.address));
    assert_eq!(ask(&mut first, HELLO).unwrap(), "204");
    assert_eq!(ask(&mut second, HELLO).unwrap(), "204");
    assert_eq!(ask(&mut connect(server.address), HELLO), None);
    assert_eq!(ask(&mut first, HELLO).unwrap(), "204");
    drop(second);
    ask_until_let_in(server.address);
}

/// Silent connections would hold every place for more than a minute.
#[test]
fn idle_connections_give_way_when_places_run_out_and_busy_ones_do_not() {
    let admission = ConnectionLimits {
        total: 8,
        per_address: 8,
    };
    let server = serve(admission, Duration::ZERO);
    let mut slow = connect(server.address);
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    exec::block_on(server.asked.recv()).unwrap();
    let _silent: Vec<TcpStream> = (1..8).map(|_| connect(server.address)).collect();
    ask_until_let_in(server.address);
    server.go.send_blocking(()).unwrap();
    assert_eq!(ask(&mut slow, b"").unwrap(), "204");
}

#[test]
fn a_request_that_panics_takes_only_its_own_connection_with_it() {
    let admission = ConnectionLimits {
        total: 2,
        per_address: 2,
    };
    let server = serve(admission, Duration::ZERO);
    let mut other = connect(server.address);
    assert_eq!(ask(&mut other, HELLO).unwrap(), "204");
    // More often than there are places and threads.
    for _ in 0..8 {
        let panicked = ask(
            &mut connect(server.address),
            b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n",
        );
        assert_eq!(panicked, None);
    }
    assert_eq!(ask(&mut other, HELLO).unwrap(), "204");
    ask_until_let_in(server.address);
}

#[test]
fn the_end_waits_for_what_is_being_answered_and_for_nothing_else() {
    let server = serve(ConnectionLimits::default(), Duration::from_secs(60));
    let mut idle = connect(server.address);
    assert_eq!(ask(&mut idle, HELLO).unwrap(), "204");
    let mut silent = connect(server.address);
    let mut slow = connect(server.address);
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    exec::block_on(server.asked.recv()).unwrap();
    drop(server.stopper);
    // Idle connections end, whether they were used or not; nobody new is let in.
    assert_eq!(idle.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(silent.read(&mut [0; 8]).unwrap(), 0);
    assert!(!server.served.is_finished());
    server.go.send_blocking(()).unwrap();
    assert_eq!(ask(&mut slow, b"").unwrap(), "204");
    assert_eq!(slow.read(&mut [0; 8]).unwrap(), 0);
    exec::block_on(server.served);
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn the_end_comes_at_the_deadline_whatever_is_being_answered() {
    let server = serve(ConnectionLimits::default(), wire::deadline::TICK);
    let mut slow = connect(server.address);
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    exec::block_on(server.asked.recv()).unwrap();
    drop(server.stopper);
    exec::block_on(server.served);
}
