//! A server that runs out of descriptors serves again when some are free. A process of its own:
//! the limit is one of the whole process.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use http_types::Method;
use hydraneckwebrtc::http::Reply;
use hydraneckwebrtc::http::auth::Bearer;
use hydraneckwebrtc::http::router::Router;
use hydraneckwebrtc::http::server::{Admission, Api, Listener};
use hydraneckwebrtc::{clock, exec};
use rustix::process::{Resource, Rlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// Connections that are tried.
const CLIENTS: usize = 60;
/// Descriptors left to the server for them.
const SPARE: u64 = 10;

#[test]
fn running_out_of_descriptors_is_survived() -> Result<(), Box<dyn Error>> {
    let router =
        Router::new(Arc::new(Bearer::new(Vec::new())))
            .open(Method::Get, "/hello", |_| async { Ok(Reply::empty(204)) });
    let listener = Listener::bind("127.0.0.1:0".parse()?)?;
    let address = listener.local_addr()?;
    let (_stopper, stop) = exec::stop();
    exec::spawn(listener.serve(
        Arc::new(Api(router)),
        Admission::default(),
        stop,
        Duration::ZERO,
    ))
    .detach();
    // The clients' descriptors are there before the limit, so that only the server meets it.
    let sockets: Vec<Socket> = (0..CLIENTS)
        .map(|_| Socket::new(Domain::IPV4, Type::STREAM, None))
        .collect::<Result<_, _>>()?;
    let lowest_free = std::fs::File::open("/dev/null")?.as_raw_fd();
    let limit = Some(u64::try_from(lowest_free)? + SPARE);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit,
            maximum: limit,
        },
    )?;
    let mut clients = Vec::new();
    for socket in sockets {
        socket.connect(&address.into())?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        clients.push(TcpStream::from(socket));
    }
    let deadline = clock::now() + Duration::from_secs(10);
    while std::fs::File::open("/dev/null").is_ok() {
        assert!(clock::now() < deadline, "the descriptors did not run out");
    }
    // Those it has accepted, and those that wait to be: the first leave, the last are served.
    drop(clients.drain(..CLIENTS / 2));
    for mut stream in clients {
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        assert_eq!(&status, b"HTTP/1.1 204");
    }
    Ok(())
}
