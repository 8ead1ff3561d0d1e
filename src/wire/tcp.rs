//! TCP streams and listeners on the executor's reactor.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::SocketFlags;
use smol::io::{AsyncRead, AsyncWrite};
use socket2::{Domain, Protocol, SockAddr, Type};

use crate::exec::{self, Direction, Left, Source};

/// A connected stream, registered with a thread of the executor.
#[derive(Debug)]
pub struct Tcp {
    source: Source,
    stream: TcpStream,
}

impl Tcp {
    /// Registers a stream that is already non-blocking.
    pub(super) fn accepted(stream: TcpStream) -> io::Result<Self> {
        Ok(Self {
            source: exec::register(&stream, true)?,
            stream,
        })
    }

    /// Connects to `address`.
    ///
    /// # Errors
    /// The error of the kernel. The caller sets the deadline.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = socket2::Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        match socket.connect(&SockAddr::from(address)) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(e) => return Err(e),
        }
        let stream = TcpStream::from(socket);
        let source = exec::register(&stream, false)?;
        poll_fn(|cx| source.poll_ready(Direction::Write, cx)).await;
        match stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(Self { source, stream }),
        }
    }

    /// The underlying stream, for its options and addresses.
    #[must_use]
    pub fn get_ref(&self) -> &TcpStream {
        &self.stream
    }

    /// Moves the registration to this thread of the executor.
    pub(super) fn move_to_this_thread(&mut self) -> io::Result<()> {
        exec::adopt(&mut self.source, &self.stream)
    }

    /// Its readiness.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Peeks at the received bytes without removing them.
    pub(super) fn poll_peek(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.source.poll_call(Direction::Read, cx, || {
            self.stream.peek(buf).map(|n| (n, Left::Perhaps))
        })
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Self { source, stream } = &*self;
        source.poll_call(Direction::Read, cx, || {
            let n = (&mut &*stream).read(buf)?;
            // A short read means that the socket is empty (epoll(7), question 9).
            let left = if n < buf.len() {
                Left::Nothing
            } else {
                Left::Perhaps
            };
            Ok((n, left))
        })
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { source, stream } = &*self;
        source.poll_call(Direction::Write, cx, || {
            (&mut &*stream).write(buf).map(|n| (n, Left::Perhaps))
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { source, stream } = &*self;
        source.poll_call(Direction::Write, cx, || {
            (&mut &*stream)
                .write_vectored(bufs)
                .map(|n| (n, Left::Perhaps))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Closes our side; the peer may continue to send.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream.shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// A bound listener, registered with a thread of the executor.
#[derive(Debug)]
pub(crate) struct Acceptor {
    source: Source,
    listener: TcpListener,
}

impl Acceptor {
    /// Registers a listener.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(crate) fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            source: exec::register(&listener, true)?,
            listener,
        })
    }

    /// The underlying listener.
    #[must_use]
    pub(crate) fn get_ref(&self) -> &TcpListener {
        &self.listener
    }

    /// Accepts the next connection. It has the options of the listener and is not registered yet:
    /// the thread that will serve it does that with [`super::Socket::accepted`].
    ///
    /// # Errors
    /// The error of the kernel.
    pub(crate) async fn accept(&self) -> io::Result<(Accepted, SocketAddr)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (fd, peer) = poll_fn(|cx| {
            self.source.poll_call(Direction::Read, cx, || {
                let accepted = rustix::net::acceptfrom_with(&self.listener, flags)?;
                Ok((accepted, Left::Perhaps))
            })
        })
        .await?;
        let peer = peer
            .and_then(|peer| SocketAddr::try_from(peer).ok())
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok((Accepted(TcpStream::from(fd)), peer))
    }
}

/// An accepted connection that is not registered with a thread yet.
#[derive(Debug)]
pub struct Accepted(TcpStream);

impl Accepted {
    /// Registers it with this thread.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn register(self) -> io::Result<Tcp> {
        Tcp::accepted(self.0)
    }
}
