//! Connected sockets for tests of this room and of `http`.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::Socket;
use super::socket::set_options;
use super::tcp::Tcp;

/// A socket of a connected stream.
pub(crate) fn socket(stream: TcpStream) -> Socket {
    set_options(&stream).unwrap();
    stream.set_nonblocking(true).unwrap();
    Socket::Plain(Tcp::accepted(stream).unwrap())
}

/// Both ends of a connection: the peer's, which reads for at most ten seconds, and ours.
pub(crate) fn pair() -> (TcpStream, Socket) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    (peer, socket(listener.accept().unwrap().0))
}
