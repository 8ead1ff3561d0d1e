//! A server leaves descriptors to the rest of its process, lets idle connections give way when they
//! are short, and serves again when there were none. A process of its own: the limit is one of the
//! whole process.

use std::error::Error;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use http_types::Method;
use hydraneckwebrtc::testing::http::Reply;
use hydraneckwebrtc::testing::http::auth::Bearer;
use hydraneckwebrtc::testing::http::router::Router;
use hydraneckwebrtc::testing::http::server::{Api, ConnectionLimits, Listener};
use hydraneckwebrtc::testing::{clock, exec};
use rustix::process::{Resource, Rlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// Connections that are tried.
const CLIENTS: usize = 60;
/// Descriptors for them, fewer than there are of them.
const SPARE: usize = 40;
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn connections_leave_descriptors_to_others_and_give_way_to_those_who_ask()
-> Result<(), Box<dyn Error>> {
    let router =
        Router::new(Arc::new(Bearer::new(Vec::new())))
            .open(Method::Get, "/hello", |_| async { Ok(Reply::empty(204)) });
    let listener = Listener::bind("127.0.0.1:0".parse()?)?;
    let address = listener.local_addr()?;
    let (_stopper, stop) = exec::stop();
    exec::spawn(listener.serve(
        Arc::new(Api(router)),
        ConnectionLimits::default(),
        stop,
        Duration::ZERO,
    ))
    .detach();
    // The clients' descriptors are there before the limit, so that only the server meets it.
    let sockets: Vec<Socket> = (0..CLIENTS)
        .map(|_| Socket::new(Domain::IPV4, Type::STREAM, None))
        .collect::<Result<_, _>>()?;
    let lowest_free = File::open("/dev/null")?.as_raw_fd();
    let open = usize::try_from(lowest_free)?;
    // What is set aside is at most half of the limit, and 64 without sessions.
    let limit = Some(u64::try_from(open + SPARE + 64)?);
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
        socket.set_read_timeout(Some(PATIENCE))?;
        clients.push(TcpStream::from(socket));
    }
    // The last one waits behind more idle ones than there is room for, and they all stay.
    let mut last = clients.pop().ok_or("no client")?;
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| status(&mut last));
        let mut held = Vec::new();
        while !asking.is_finished() {
            held = (0..SPARE / 2)
                .map(|_| File::open("/dev/null"))
                .collect::<Result<Vec<File>, _>>()?;
        }
        drop(held);
        let told = asking.join().map_err(|_| "the client panicked")??;
        assert_eq!(told, "HTTP/1.1 204");
        Ok::<_, Box<dyn Error>>(())
    })?;
    // Somebody else takes all of them.
    let mut held = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    drop(clients);
    let deadline = clock::now() + PATIENCE;
    drop(held);
    while status(&mut last).is_err() {
        assert!(clock::now() < deadline, "nobody is served any more");
        last = TcpStream::connect(address)?;
        last.set_read_timeout(Some(PATIENCE))?;
    }
    Ok(())
}

/// What is answered, up to the code.
fn status(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(String::from_utf8_lossy(&status).into_owned())
}
