//! Accepting connections and reading requests off them.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_rustls::{LazyConfigAcceptor, TlsStream};
use rustls::ServerConfig;
use smol::Async;

use super::call::Handler;
use super::exchange::{API_BODY_MAX, Done, Exchange, STALL};
use super::reply::Failure;
use crate::exec::{self, Stop};
use crate::ids::RequestId;
use crate::wire::{Body, Conn, HeadError, Limits, Socket};
use crate::{clock, wire};

/// Connections the kernel may hold before they are accepted.
const BACKLOG: i32 = 4096;
/// Pause after the process ran out of descriptors, so that the accept loop does not spin.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// Wait for the next request on an idle connection: longer than browsers and proxies keep theirs.
const IDLE: Duration = Duration::from_secs(75);
/// Wait for the whole head once its first byte is there.
const HEAD: Duration = Duration::from_secs(10);
/// Wait for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What is read and dropped of an unread body so that the connection can go on.
const DRAIN_MAX: usize = 256 * 1024;

/// Answers requests, with the connection in hand.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Answers one request.
    async fn serve(&self, exchange: Exchange) -> Done;
}

/// A service that is only an API.
#[derive(Debug)]
pub struct Api<H>(pub H);

#[async_trait]
impl<H: Handler> Service for Api<H> {
    async fn serve(&self, exchange: Exchange) -> Done {
        exchange.serve(&self.0, API_BODY_MAX).await
    }
}

/// Why a server could not start.
#[derive(Debug)]
pub enum ServerError {
    /// The listen address is none.
    Address(String),
    /// The address cannot be bound.
    Bind(SocketAddr, io::Error),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(text) => {
                write!(
                    f,
                    "cannot listen on {text:?}: write it as \":8080\", \"127.0.0.1:8080\" or \"[::1]:8080\""
                )
            }
            Self::Bind(address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "cannot listen on {address}: another program does, stop it or choose another port"
                )
            }
            Self::Bind(address, error) => write!(f, "cannot listen on {address}: {error}"),
        }
    }
}

impl std::error::Error for ServerError {}

/// How many connections are served at once.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// Over all clients.
    pub total: usize,
    /// From one address: many visitors may share one behind NAT, and a controller is one too.
    pub per_address: usize,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            total: 20_000,
            per_address: 10_000,
        }
    }
}

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    socket: Async<TcpListener>,
    tls: Option<Certificates>,
}

/// What an ACME authority asks for when it proves a name (RFC 8737).
const ACME_ALPN: &[u8] = b"acme-tls/1";

/// A TLS configuration that can be replaced while connections are open.
#[derive(Clone, Debug)]
pub struct Certificates {
    current: Arc<RwLock<Arc<ServerConfig>>>,
    challenge: Option<Arc<ServerConfig>>,
}

impl Certificates {
    /// Starts with `config`.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self {
            current: Arc::new(RwLock::new(config)),
            challenge: None,
        }
    }

    /// Answers an ACME authority's proofs with that configuration.
    #[must_use]
    pub fn with_challenge(mut self, challenge: Arc<ServerConfig>) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// The handshake; `None` when it was a proof and nothing follows.
    async fn accept(&self, tcp: Async<TcpStream>) -> io::Result<Option<Socket>> {
        let hello = LazyConfigAcceptor::new(Default::default(), tcp).await?;
        let is_proof = {
            let head = hello.client_hello();
            let mut wanted = head.alpn().into_iter().flatten();
            wanted.any(|protocol| protocol == ACME_ALPN)
        };
        if let Some(challenge) = self.challenge.as_ref().filter(|_| is_proof) {
            let mut stream = hello.into_stream(Arc::clone(challenge)).await?;
            smol::io::AsyncWriteExt::close(&mut stream).await?;
            return Ok(None);
        }
        let stream = hello.into_stream(self.current()).await?;
        Ok(Some(Socket::Tls(Box::new(TlsStream::Server(stream)))))
    }

    /// New connections use `config` from now on.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Parses a listen address as the runbook writes it: `:8080` is every interface, both families.
///
/// # Errors
/// [`ServerError::Address`].
pub fn listen_address(text: &str) -> Result<SocketAddr, ServerError> {
    let wrong = || ServerError::Address(text.to_owned());
    match text.strip_prefix(':') {
        Some(port) => Ok((
            IpAddr::from(Ipv6Addr::UNSPECIFIED),
            port.parse().map_err(|_| wrong())?,
        )
            .into()),
        None => text.parse().map_err(|_| wrong()),
    }
}

impl Listener {
    /// Binds `address`; `[::]` takes IPv4 too, or IPv4 alone on a machine without IPv6.
    ///
    /// # Errors
    /// [`ServerError::Bind`].
    pub fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        let bound = bind(address).or_else(|error| {
            let no_ipv6 =
                error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
            match address.ip() {
                IpAddr::V6(ip) if ip.is_unspecified() && no_ipv6 => {
                    bind(([0, 0, 0, 0], address.port()).into())
                }
                _ => Err(error),
            }
        });
        let socket = bound
            .and_then(Async::new)
            .map_err(|e| ServerError::Bind(address, e))?;
        Ok(Self { socket, tls: None })
    }

    /// Speaks TLS on this listener.
    #[must_use]
    pub fn with_tls(mut self, certificates: Certificates) -> Self {
        self.tls = Some(certificates);
        self
    }

    /// The bound address, with the port that the kernel chose.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    /// Serves until `stop` is wished, then finishes what is being answered, at most `grace` long.
    pub async fn serve(
        self,
        service: Arc<dyn Service>,
        admission: Admission,
        stop: Stop,
        grace: Duration,
    ) {
        let doors = Arc::new(Doors {
            admission,
            open: AtomicUsize::new(0),
            by_address: Mutex::default(),
        });
        while let Some(accepted) = stop.or(self.socket.accept()).await {
            match accepted {
                Ok((stream, peer)) => {
                    let peer = canonical(peer);
                    let Some(place) = Doors::enter(&doors, peer.ip()) else {
                        log::debug!(target: "http", "too many connections, turned away {peer}");
                        continue;
                    };
                    let (service, stop, tls) =
                        (Arc::clone(&service), stop.clone(), self.tls.clone());
                    exec::spawn(async move {
                        connection(stream, peer, tls, &*service, &stop).await;
                        drop(place);
                    })
                    .detach();
                }
                Err(error) if is_exhausted(&error) => {
                    log::warn!(target: "http", "cannot accept a connection: {error}; raise LimitNOFILE");
                    clock::sleep(EXHAUSTED_PAUSE).await;
                }
                // The client was gone before it was accepted.
                Err(error) => log::debug!(target: "http", "cannot accept a connection: {error}"),
            }
        }
        drop(self);
        let deadline = clock::now() + grace;
        while doors.open.load(Ordering::Relaxed) > 0 && clock::now() < deadline {
            clock::sleep(EXHAUSTED_PAUSE).await;
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM: waiting helps, retrying at once does not.
fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// An IPv4 client of a dual-stack listener shows its IPv4 address.
fn canonical(peer: SocketAddr) -> SocketAddr {
    (peer.ip().to_canonical(), peer.port()).into()
}

#[derive(Debug)]
struct Doors {
    admission: Admission,
    open: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A place at the doors, given back on drop.
struct Place(Arc<Doors>, IpAddr);

impl Doors {
    fn enter(doors: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        if doors.open.load(Ordering::Relaxed) >= doors.admission.total {
            return None;
        }
        let mut by_address = doors
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(ip).or_default();
        if *count >= doors.admission.per_address {
            return None;
        }
        *count += 1;
        doors.open.fetch_add(1, Ordering::Relaxed);
        Some(Place(Arc::clone(doors), ip))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        let mut by_address = self
            .0
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.1);
            }
        }
    }
}

async fn connection(
    stream: Async<TcpStream>,
    peer: SocketAddr,
    tls: Option<Certificates>,
    service: &dyn Service,
    stop: &Stop,
) {
    let socket = match stream.into_inner().and_then(Socket::plain) {
        Ok(socket) => socket,
        Err(error) => return log::debug!(target: "http", "connection of {peer} failed: {error}"),
    };
    let secure = tls.is_some();
    let socket = match (socket, tls) {
        (Socket::Plain(tcp), Some(tls)) => {
            match clock::by(clock::now() + HANDSHAKE, tls.accept(tcp)).await {
                Ok(Ok(Some(socket))) => socket,
                Ok(Ok(None)) => return,
                Ok(Err(error)) => {
                    return log::debug!(target: "http", "TLS with {peer} failed: {error}");
                }
                Err(_) => return log::debug!(target: "http", "TLS with {peer} timed out"),
            }
        }
        (socket, _) => socket,
    };
    let mut conn = Conn::new(socket);
    loop {
        let read = conn.read_request(&Limits::REQUEST, IDLE, HEAD);
        // A connection that waits for its next request ends with the server.
        let head = match stop.or(read).await {
            Some(Ok(Some(head))) => head,
            Some(Ok(None)) | None => return,
            Some(Err(error)) => return refuse(conn, error).await,
        };
        let id = RequestId::from_client(head.fields.get("x-request-id"));
        let body = Body::new(head.framing);
        let keep = head.keep_alive;
        let done = service
            .serve(Exchange {
                head,
                body,
                conn,
                peer,
                secure,
                id,
            })
            .await;
        match done {
            Done::Next(mut next, mut body) if keep && !stop.is_wished() => {
                if !body.is_done() && !body.drain(&mut next, DRAIN_MAX, STALL).await {
                    return;
                }
                next.rest();
                conn = next;
            }
            Done::Next(..) | Done::Gone => return,
        }
    }
}

async fn refuse(mut conn: Conn, error: HeadError) {
    let (status, what) = match error {
        HeadError::Refused(refusal) => (refusal.status(), refusal.what()),
        HeadError::Timeout { started: true } => (408, "the request head did not come in time"),
        HeadError::Timeout { started: false } | HeadError::Io(_) => return,
    };
    let failure = Failure::new(
        status,
        if status == 408 {
            "timeout"
        } else {
            "bad_request"
        },
        what,
    );
    let reply = failure.reply(&RequestId::from_client(None));
    if let Ok(bytes) = super::codec::reply(reply, http_types::Method::Get, &[], true).await
        && conn.write_all(&bytes, wire_stall()).await.is_ok()
    {
        conn.linger(DRAIN_MAX, LINGER).await;
    }
}

/// How long a client that sent rubbish may take to read why it is refused.
fn wire_stall() -> Duration {
    wire::alarm::TICK * 20
}

/// How long the rest of what it sent is read.
const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_are_written_as_in_the_runbook() {
        assert_eq!(
            listen_address(":8080").unwrap(),
            "[::]:8080".parse::<SocketAddr>().unwrap()
        );
        assert_eq!(
            listen_address("127.0.0.1:1").unwrap(),
            "127.0.0.1:1".parse::<SocketAddr>().unwrap()
        );
        for bad in ["", "8080", ":", ":x", "host:80", ":99999"] {
            assert!(listen_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_taken_port_is_named_with_the_remedy() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let taken = first.local_addr().unwrap();
        let error = Listener::bind(taken).unwrap_err().to_string();
        assert!(
            error.contains(&taken.to_string()) && error.contains("another port"),
            "{error}"
        );
    }

    #[test]
    fn places_are_given_back() {
        let admission = Admission {
            total: 3,
            per_address: 2,
        };
        let doors = Arc::new(Doors {
            admission,
            open: AtomicUsize::new(0),
            by_address: Mutex::default(),
        });
        let [a, b]: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        let first = Doors::enter(&doors, a);
        let second = Doors::enter(&doors, a);
        assert!(first.is_some() && second.is_some() && Doors::enter(&doors, a).is_none());
        let third = Doors::enter(&doors, b);
        assert!(third.is_some() && Doors::enter(&doors, b).is_none());
        drop(first);
        assert!(Doors::enter(&doors, a).is_some());
    }
}
