//! Accepting connections and reading requests off them.

use std::fmt;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures_rustls::{LazyConfigAcceptor, TlsStream};
use rustls::ServerConfig;

use super::call::Handler;
pub use super::doors::Admission;
use super::doors::Doors;
use super::exchange::{API_BODY_MAX, Done, Exchange, STALL};
use super::reply::Failure;
use crate::exec::{self, Stop};
use crate::ids::{self, RequestId};
use crate::wire::tcp::{Accepted, Acceptor, Tcp};
use crate::wire::{Body, Conn, HeadError, Limits, RequestHead, Socket};
use crate::{clock, wire};

/// Connections the kernel may hold before they are accepted.
const BACKLOG: i32 = 4096;
/// Connections accepted in a row before other tasks of the thread run.
const TURN: u32 = 32;
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

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    socket: Acceptor,
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
    async fn accept(&self, tcp: Tcp) -> io::Result<Option<Socket>> {
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
            .and_then(Acceptor::new)
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
        let doors = Doors::new(admission);
        let mut turn: u32 = 0;
        while let Some(accepted) = stop.or(self.socket.accept()).await {
            turn = turn.wrapping_add(1);
            if turn.is_multiple_of(TURN) {
                smol::future::yield_now().await;
            }
            match accepted {
                Ok((stream, peer)) => {
                    let peer = canonical(peer);
                    let Some(place) = Doors::enter(&doors, peer.ip()) else {
                        log::debug!(target: "http", "too many connections, turned away {peer}");
                        continue;
                    };
                    let (service, stop, tls) =
                        (Arc::clone(&service), stop.clone(), self.tls.clone());
                    exec::spread(|seat| async move {
                        connection(stream, peer, tls, &*service, &stop).await;
                        drop((place, seat));
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
        wire::alarm::rouse();
        while !doors.is_empty() && clock::now() < deadline {
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
    wire::socket::tune(&socket)?;
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

async fn connection(
    stream: Accepted,
    peer: SocketAddr,
    tls: Option<Certificates>,
    service: &dyn Service,
    stop: &Stop,
) {
    let socket = match Socket::accepted(stream) {
        Ok(socket) => socket,
        Err(error) => return log::debug!(target: "http", "connection of {peer} failed: {error}"),
    };
    let secure = tls.is_some();
    let socket = match (socket, tls) {
        (Socket::Plain(tcp), Some(tls)) => {
            // What happens once or seldom is boxed: a connection is as large as its largest state,
            // and thousands are idle.
            match Box::pin(clock::by(clock::now() + HANDSHAKE, tls.accept(tcp))).await {
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
        let head = match next_head(&mut conn, stop).await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(error) => return Box::pin(refuse(conn, error)).await,
        };
        let id = name(head.fields.get("x-request-id"));
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
                if !body.is_done() && !Box::pin(body.drain(&mut next, DRAIN_MAX, STALL)).await {
                    return;
                }
                next.rest();
                conn = next;
            }
            Done::Next(..) | Done::Gone => return,
            Done::Then(rest) => return rest.run().await,
        }
    }
}

/// The next request's head; `None` when there is none to come. A connection that waits for its
/// next request ends with the server, which rouses it then: waiting for the wish itself would cost
/// every connection a registration for every request.
async fn next_head(conn: &mut Conn, stop: &Stop) -> Result<Option<RequestHead>, HeadError> {
    let mut read = pin!(conn.read_request(&Limits::REQUEST, IDLE, HEAD));
    poll_fn(|cx| match read.as_mut().poll(cx) {
        Poll::Pending if stop.is_wished() => Poll::Ready(Ok(None)),
        other => other,
    })
    .await
}

/// The client's name for a request, or one of ours: 16 hex digits that do not repeat in the life
/// of the process, made without asking the kernel each time.
fn name(given: Option<&[u8]>) -> RequestId {
    static SEED: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let seed = *SEED.get_or_init(|| u64::from_str_radix(&ids::label(), 16).unwrap_or_default());
    // An odd factor permutes the 64-bit numbers: no repetition, and neighbours look different.
    let n = COUNT
        .fetch_add(1, Ordering::Relaxed)
        .wrapping_add(seed)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let own = wire::digits::hex(n).0;
    match given {
        Some(given) => match RequestId::from_client(Some(given)) {
            id if id.as_str().as_bytes() == given => id,
            _ => RequestId::from_client(Some(&own)),
        },
        None => RequestId::from_client(Some(&own)),
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
    let reply = failure.reply(&name(None));
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
    fn requests_have_names_that_differ_and_keep_a_plain_one() {
        let names: std::collections::HashSet<String> =
            (0..1_000).map(|_| name(None).to_string()).collect();
        assert_eq!(names.len(), 1_000);
        assert!(names.iter().all(|n| n.len() == 16));
        assert_eq!(name(Some(b"abc")).as_str(), "abc");
        assert_eq!(name(Some(b"a\r\nb")).as_str().len(), 16);
    }
}
