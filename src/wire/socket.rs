//! A TCP connection, with or without TLS, and its socket options.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_rustls::TlsStream;
use smol::io::{AsyncRead, AsyncWrite};

use super::tcp::{Accepted, Tcp};
use crate::exec::Direction;

/// TCP keepalive: idle time before the first probe, time between probes, and their number. A peer
/// that disappeared is noticed after [`SILENCE_MAX`].
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 4;
/// TCP user timeout: how long sent bytes may stay unacknowledged, or the peer's window closed. While
/// bytes are outstanding the kernel sends no keepalive probes, and its default timeout is about 15
/// minutes.
const SILENCE_MAX: Duration = Duration::from_secs(30 + 4 * 10);

/// A connected stream.
#[derive(Debug)]
pub enum Socket {
    /// TCP without TLS; can be spliced.
    Plain(Tcp),
    /// TLS over TCP, as client or server.
    Tls(Box<TlsStream<Tcp>>),
}

impl Socket {
    /// A socket of a connection of an [`super::tcp::Acceptor`]; it has the listener's options.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn accepted(accepted: Accepted) -> io::Result<Self> {
        Ok(Self::Plain(accepted.register()?))
    }

    /// Connects to `address`.
    ///
    /// # Errors
    /// The error of the kernel. The caller sets the deadline.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = Tcp::connect(address).await?;
        set_options(stream.get_ref())?;
        Ok(Self::Plain(stream))
    }

    /// The underlying TCP stream.
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

    /// Waits until a read may succeed, without a buffer. Under TLS it returns at once: the TLS
    /// session may hold decrypted bytes that the kernel does not know of.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(tcp) => tcp.source().poll_ready(Direction::Read, cx),
            Self::Tls(_) => Poll::Ready(()),
        }
    }

    /// Waits until the peer has sent a byte that is unread, or has closed its side. Under TLS it
    /// never returns.
    pub async fn data_or_eof(&self) {
        match self {
            Self::Plain(tcp) => drop(poll_fn(|cx| tcp.poll_peek(cx, &mut [0_u8; 1])).await),
            Self::Tls(_) => std::future::pending().await,
        }
    }

    /// Waits until the peer has closed its side. Never returns while received bytes are unread.
    pub async fn closed_by_peer(&self) {
        let tcp = self.tcp();
        if let Ok(1..) = poll_fn(|cx| tcp.poll_peek(cx, &mut [0_u8; 1])).await {
            std::future::pending::<()>().await;
        }
    }

    /// Whether a read may succeed, by the events so far; always true under TLS.
    pub(super) fn may_read(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.source().is_ready(Direction::Read),
            Self::Tls(_) => true,
        }
    }

    /// Moves an idle connection to this thread of the executor.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn move_to_this_thread(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.move_to_this_thread(),
            Self::Tls(tls) => match &mut **tls {
                TlsStream::Client(tls) => tls.get_mut().0.move_to_this_thread(),
                TlsStream::Server(tls) => tls.get_mut().0.move_to_this_thread(),
            },
        }
    }

    /// Whether an idle connection has had a read event: the peer closed it, or sent unexpected
    /// bytes.
    #[must_use]
    pub fn has_read_event(&self) -> bool {
        self.tcp().source().is_ready(Direction::Read)
    }

    /// Whether the peer closed an idle connection or sent unexpected bytes; asks the kernel.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let mut byte = [0_u8; 1];
        !matches!(self.tcp().get_ref().peek(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Shuts both directions down at once; pending reads and writes fail.
    pub fn shutdown(&self) {
        let _ = self.tcp().get_ref().shutdown(Shutdown::Both);
    }
}

/// Sets TCP_NODELAY, keepalive and the user timeout. Connections inherit them from a listener.
///
/// # Errors
/// When the kernel refuses the options.
pub(crate) fn set_options<'a, S>(socket: &'a S) -> io::Result<()>
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

    /// Closes our side (TLS close_notify, then FIN); the peer may continue to send.
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

    #[test]
    fn accepted_and_connected_sockets_time_out_on_a_dead_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        set_options(&listener).unwrap();
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
