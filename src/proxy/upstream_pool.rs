//! Upstreams and their idle connections.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use std::time::{Duration, Instant};

use http_types::Url;
use rustix::io::Errno;

use crate::http::client::{Client, ClientError, dial};
use crate::sync::Mutex;
use crate::wire::{Conn, Socket};
use crate::{clock, descriptors, exec};

/// Wait for a connection to an upstream.
const CONNECT: Duration = Duration::from_secs(5);
/// Idle connections kept to one upstream by one thread.
const IDLE_MAX: usize = 32;
/// Age at which an idle connection is not used again: the stream program closes its after 5 s.
const IDLE_AGE: Duration = Duration::from_secs(4);

/// Where requests are forwarded to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// Plain HTTP at an address.
    Address(SocketAddr),
    /// Host and port, with TLS or without.
    Host {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// Whether TLS is spoken.
        secure: bool,
    },
}

impl Upstream {
    /// The upstream of a base URL; `None` when it is no http or https URL with a host.
    #[must_use]
    pub fn of_url(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        let secure = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let (host, port) = (url.host_str()?.to_owned(), url.port_or_known_default()?);
        match (
            secure,
            host.trim_start_matches('[').trim_end_matches(']').parse(),
        ) {
            (false, Ok(ip)) => Some(Self::Address(SocketAddr::new(ip, port))),
            _ => Some(Self::Host { host, port, secure }),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Host { host, port, .. } => write!(f, "{host}:{port}"),
        }
    }
}

/// A connection to an upstream.
pub(super) type UpstreamConn = Conn;

/// Idle connections by upstream.
#[derive(Debug)]
pub(super) struct Pool {
    client: Client,
    /// By thread of the executor, which is told of the readiness of its own.
    idle: Box<[Idle]>,
}

type Idle = Mutex<HashMap<Upstream, Vec<(Conn, Instant)>>>;

impl Pool {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            idle: (0..exec::threads()).map(|_| Idle::default()).collect(),
        }
    }

    /// An idle connection, or none: one of this thread, else one of another that moves here.
    /// `sure` asks for one that is known to be alive.
    pub(super) fn reuse(&self, upstream: &Upstream, sure: bool) -> Option<UpstreamConn> {
        let (now, here) = (clock::now(), exec::here());
        if let Some(leg) = take(&self.idle[here], upstream, now, sure) {
            return Some(leg);
        }
        let others = (0..self.idle.len()).filter(|n| *n != here);
        for n in others {
            if let Some(mut leg) = take(&self.idle[n], upstream, now, sure)
                && leg.move_to_this_thread().is_ok()
            {
                return Some(leg);
            }
        }
        None
    }

    /// A new connection.
    pub(super) async fn connect(&self, upstream: &Upstream) -> Result<UpstreamConn, ClientError> {
        // Visitors' connections leave the last descriptors to what keeps sessions alive.
        if !descriptors::take_one() {
            return Err(ClientError::Io(Errno::MFILE.into()));
        }
        let work = async {
            match upstream {
                Upstream::Address(address) => Socket::connect(*address)
                    .await
                    .map_err(|e| ClientError::Connect(*address, e)),
                Upstream::Host { host, port, secure } => {
                    let tcp = dial(host, *port).await?;
                    if *secure {
                        self.client.secure(tcp, host).await
                    } else {
                        Ok(tcp)
                    }
                }
            }
        };
        let socket = clock::by(clock::now() + CONNECT, work)
            .await
            .unwrap_or(Err(ClientError::Timeout(CONNECT)))?;
        let mut leg = Conn::new(socket);
        leg.use_large_buffer();
        Ok(leg)
    }

    /// Keeps a connection whose answer was read to the end.
    pub(super) fn keep(&self, upstream: &Upstream, mut conn: Conn) {
        // With bytes that nobody asked for, what follows could be taken for an answer.
        if !conn.unread().is_empty() || descriptors::is_short() {
            return;
        }
        conn.release_buffer();
        let now = clock::now();
        let idle = &self.idle[exec::here()];
        let mut idle = idle.lock();
        let spare = match idle.get_mut(upstream) {
            Some(spare) => spare,
            None => idle.entry(upstream.clone()).or_default(),
        };
        // The oldest come first.
        if let Some((_, oldest)) = spare.first()
            && now.saturating_duration_since(*oldest) >= IDLE_AGE
        {
            spare.retain(|(_, since)| now.saturating_duration_since(*since) < IDLE_AGE);
        }
        if spare.len() < IDLE_MAX {
            spare.push((conn, now));
        }
    }

    /// Closes the idle connections of an upstream that is no more.
    pub(super) fn forget(&self, upstream: &Upstream) {
        for idle in &self.idle {
            idle.lock().remove(upstream);
        }
    }
}

fn take(idle: &Idle, upstream: &Upstream, now: Instant, sure: bool) -> Option<UpstreamConn> {
    let mut idle = idle.lock();
    let spare = idle.get_mut(upstream)?;
    while let Some((conn, since)) = spare.pop() {
        if now.saturating_duration_since(since) >= IDLE_AGE {
            // Those below it are older still.
            spare.clear();
            return None;
        }
        let doubted = sure || conn.socket().has_read_event();
        if !doubted || !conn.socket().is_stale() {
            return Some(conn);
        }
    }
    None
}

/// Whether an error of a reused connection means no more than that it went stale.
pub(super) fn went_stale(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::NotConnected
    )
}
