//! A TCP connection, plain or under TLS, as the rest of the room reads and writes it.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_rustls::TlsStream;
use smol::Async;
use smol::io::{AsyncRead, AsyncWrite};

/// Silence after which the kernel asks whether the peer is still there, and between its tries.
/// A peer that vanished without a word is noticed after `KEEPALIVE_IDLE + 4 * KEEPALIVE_INTERVAL`.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 4;

/// A connected stream.
#[derive(Debug)]
pub enum Socket {
    /// TCP without TLS: may be spliced.
    Plain(Async<TcpStream>),
    /// TLS over TCP, either side.
    Tls(Box<TlsStream<Async<TcpStream>>>),
}

impl Socket {
    /// Takes over an accepted or connected TCP stream: no delay for small writes, keepalive for
    /// dead peers.
    ///
    /// # Errors
    /// When the kernel refuses the options.
    pub fn plain(stream: TcpStream) -> io::Result<Self> {
        tune(&stream)?;
        Ok(Self::Plain(Async::new(stream)?))
    }

    /// Connects to `address`.
    ///
    /// # Errors
    /// As the kernel says. The caller sets the deadline.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = Async::<TcpStream>::connect(address).await?;
        tune(stream.get_ref())?;
        Ok(Self::Plain(stream))
    }

    /// The TCP stream below.
    #[must_use]
    pub fn tcp(&self) -> &Async<TcpStream> {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => match &**tls {
                TlsStream::Client(tls) => tls.get_ref().0,
                TlsStream::Server(tls) => tls.get_ref().0,
            },
        }
    }

    /// Waits until a read would find something, without a buffer. Under TLS returns at once: the
    /// session may hold decrypted bytes that the kernel does not know of.
    ///
    /// # Errors
    /// As the kernel says.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.readable().await,
            Self::Tls(_) => Ok(()),
        }
    }

    /// Waits until the peer has closed its side. Never returns while the peer has unread bytes
    /// waiting here.
    pub async fn hung_up(&self) {
        let tcp = self.tcp();
        let mut byte = [0_u8; 1];
        loop {
            if tcp.readable().await.is_err() {
                return;
            }
            match tcp.get_ref().peek(&mut byte) {
                Ok(0) => return,
                Ok(_) => std::future::pending::<()>().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
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

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
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
        // `Async::poll_close` only flushes.
        match this.tcp().get_ref().shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}
