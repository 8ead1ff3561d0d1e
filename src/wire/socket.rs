//! A TCP connection, plain or under TLS, as the rest of the room reads and writes it.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_rustls::TlsStream;
use smol::io::{AsyncRead, AsyncWrite};

use super::tcp::{Accepted, Tcp};
use crate::exec::Direction;

/// Silence after which the kernel asks whether the peer is still there, and between its tries.
/// A peer that vanished without a word is noticed after [`SILENCE_MAX`].
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 4;
/// How long bytes may go unacknowledged, or a peer take none of those that wait: while there are
/// such bytes the kernel asks nothing, and its own patience is a quarter of an hour.
const SILENCE_MAX: Duration = Duration::from_secs(30 + 4 * 10);

/// A connected stream.
#[derive(Debug)]
pub enum Socket {
    /// TCP without TLS: may be spliced.
    Plain(Tcp),
    /// TLS over TCP, either side.
    Tls(Box<TlsStream<Tcp>>),
}

impl Socket {
    /// Takes over an accepted or connected TCP stream: no delay for small writes, keepalive for
    /// dead peers.
    ///
    /// # Errors
    /// When the kernel refuses the options.
    pub fn plain(stream: TcpStream) -> io::Result<Self> {
        tune(&stream)?;
        Ok(Self::Plain(Tcp::new(stream)?))
    }

    /// Takes over a connection of an [`super::tcp::Acceptor`] whose listener was tuned.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn accepted(accepted: Accepted) -> io::Result<Self> {
        Ok(Self::Plain(accepted.settle()?))
    }

    /// Connects to `address`.
    ///
    /// # Errors
    /// As the kernel says. The caller sets the deadline.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = Tcp::connect(address).await?;
        tune(stream.get_ref())?;
        Ok(Self::Plain(stream))
    }

    /// The TCP stream below.
    #[must_use]
    pub fn tcp(&self) -> &Tcp {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => match &**tls {
                TlsStream::Client(tls) => tls.get_ref().0,
                TlsStream::Server(tls) => tls.get_ref().0,
            },
        }
    }

    /// Waits until a read may find something, without a buffer. Under TLS returns at once: the
    /// session may hold decrypted bytes that the kernel does not know of.
    ///
    /// # Errors
    /// As the kernel says.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await;
        Ok(())
    }

    /// See [`Self::readable`].
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(tcp) => tcp.source().poll_ready(Direction::Read, cx),
            Self::Tls(_) => Poll::Ready(()),
        }
    }

    /// Waits until the peer has surely sent something that is unread, or has ended. Under TLS
    /// never returns.
    pub async fn heard(&self) {
        match self {
            Self::Plain(tcp) => drop(poll_fn(|cx| tcp.poll_peek(cx, &mut [0_u8; 1])).await),
            Self::Tls(_) => std::future::pending().await,
        }
    }

    /// Waits until the peer has closed its side. Never returns while the peer has unread bytes
    /// waiting here.
    pub async fn hung_up(&self) {
        let tcp = self.tcp();
        if let Ok(1..) = poll_fn(|cx| tcp.poll_peek(cx, &mut [0_u8; 1])).await {
            std::future::pending::<()>().await;
        }
    }

    /// Whether a read may find something, as far as the kernel has told; true under TLS.
    pub(super) fn may_read(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.source().is_ready(Direction::Read),
            Self::Tls(_) => true,
        }
    }

    /// Moves an idle connection to this thread of the executor.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn adopt(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.adopt(),
            Self::Tls(tls) => match &mut **tls {
                TlsStream::Client(tls) => tls.get_mut().0.adopt(),
                TlsStream::Server(tls) => tls.get_mut().0.adopt(),
            },
        }
    }

    /// Whether the kernel has told of anything on an idle connection: its end, or bytes that
    /// nobody asked for.
    #[must_use]
    pub fn is_disturbed(&self) -> bool {
        self.tcp().source().is_ready(Direction::Read)
    }

    /// Whether the peer closed an idle connection, or sent what it was not asked for.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let mut byte = [0_u8; 1];
        !matches!(self.tcp().get_ref().peek(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Ends both directions at once; pending reads and writes fail.
    pub fn cut(&self) {
        let _ = self.tcp().get_ref().shutdown(Shutdown::Both);
    }
}

/// No delay for small writes, an end for dead peers. Connections inherit all of it from a listener.
///
/// # Errors
/// When the kernel refuses the options.
pub fn tune<'a, S>(socket: &'a S) -> io::Result<()>
where
    socket2::SockRef<'a>: From<&'a S>,
{
    let socket = socket2::SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    let silence = u32::try_from(SILENCE_MAX.as_millis()).unwrap_or(u32::MAX);
    Ok(rustix::net::sockopt::set_tcp_user_timeout(
        &*socket, silence,
    )?)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    /// Ends our side (TLS close_notify, then FIN); the peer may go on sending.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Self::Tls(tls) = this {
            std::task::ready!(Pin::new(tls).poll_close(cx))?;
        }
        match this.tcp().get_ref().shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::block_on;
    use crate::wire::tcp::Acceptor;
    use std::net::TcpListener;

    /// Both sides of a connection, ours by an accept and by a connect.
    #[test]
    fn a_peer_that_takes_nothing_more_is_given_up_on_either_side() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        tune(&listener).unwrap();
        let acceptor = Acceptor::new(listener).unwrap();
        let address = acceptor.get_ref().local_addr().unwrap();
        let (accepted, connected) = block_on(async {
            let connected = Socket::connect(address).await.unwrap();
            let (accepted, _) = acceptor.accept().await.unwrap();
            (Socket::accepted(accepted).unwrap(), connected)
        });
        for socket in [accepted, connected] {
            let stream = socket.tcp().get_ref();
            let timeout = rustix::net::sockopt::tcp_user_timeout(stream).unwrap();
            assert_eq!(u128::from(timeout), SILENCE_MAX.as_millis());
            assert!(socket2::SockRef::from(stream).keepalive().unwrap());
            assert!(stream.nodelay().unwrap());
        }
    }
}
