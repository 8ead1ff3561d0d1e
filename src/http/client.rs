//! Calling JSON APIs of peers: one connection a call, everything bounded and timed.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use futures_rustls::{TlsConnector, TlsStream};
use http_types::{Method, Request, Url};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smol::io::AsyncReadExt as _;

use crate::clock;
use crate::secret::Secret;
use crate::tls::{self, Fingerprint, TlsError, Trust};
use crate::wire::{Body, BodyError, Conn, Fields, HeadError, Limits, Socket, framing};

/// Time for a connection: a peer that is there answers within a round trip, and a caller that has
/// others to ask does not wait for one that is not.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for a whole call when the caller names none.
const WITHIN: Duration = Duration::from_secs(10);
/// Largest answer that is read into memory: a worker's session list is under 1 MiB.
const ANSWER_MAX: usize = 4 * 1024 * 1024;
/// Longest line of a streamed answer.
const LINE_MAX: usize = 64 * 1024;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Interim responses that are skipped before a final one.
const INTERIM_MAX: usize = 8;

/// Why a call failed before there was an answer.
#[derive(Debug)]
pub enum ClientError {
    /// The URL cannot be called.
    Url(String),
    /// The host name has no address.
    Resolve(String, io::Error),
    /// No connection.
    Connect(SocketAddr, io::Error),
    /// TLS failed; a pinned certificate that changed is [`ClientError::Pin`].
    Tls(String, io::Error),
    /// The peer's certificate is not the pinned one.
    Pin(String),
    /// The whole call took too long.
    Timeout(Duration),
    /// The answer is no acceptable HTTP.
    Protocol(String),
    /// The answer is larger than is read.
    TooLarge,
    /// The connection broke.
    Io(io::Error),
    /// TLS cannot be set up at all.
    Setup(TlsError),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(
                f,
                "cannot call {url:?}: it is no http or https URL with a host"
            ),
            Self::Resolve(host, error) => write!(f, "cannot resolve {host}: {error}"),
            Self::Connect(address, error) => write!(f, "cannot connect to {address}: {error}"),
            Self::Tls(host, error) => write!(f, "TLS with {host} failed: {error}"),
            Self::Pin(host) => write!(f, "the certificate of {host} is not the pinned one"),
            Self::Timeout(span) => {
                write!(f, "no answer within {}", humantime::format_duration(*span))
            }
            Self::Protocol(why) => write!(f, "unacceptable answer: {why}"),
            Self::TooLarge => write!(f, "the answer is larger than {ANSWER_MAX} bytes"),
            Self::Io(error) => write!(f, "connection broke: {error}"),
            Self::Setup(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ClientError {}

/// Calls peers, all with the same trust. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    tls: Arc<ClientConfig>,
}

/// A call to be made.
#[derive(Clone, Debug)]
pub struct Outgoing {
    method: Method,
    url: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    within: Duration,
}

impl Outgoing {
    /// A call without content.
    #[must_use]
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            fields: Vec::new(),
            body: Vec::new(),
            within: WITHIN,
        }
    }

    /// Adds a field. Values with bytes other than visible ASCII make the call fail.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    /// Authenticates with a bearer token (RFC 6750).
    #[must_use]
    pub fn bearer(self, token: &Secret) -> Self {
        self.header("authorization", format!("Bearer {}", token.expose()))
    }

    /// Authenticates with user and password (RFC 7617).
    #[must_use]
    pub fn basic(self, user: &str, password: &Secret) -> Self {
        let credentials = http_types::auth::BasicAuth::new(user, password.expose());
        let value = credentials.value().as_str().to_owned();
        self.header("authorization", value)
    }

    /// JSON content.
    #[must_use]
    pub fn json(self, value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value).unwrap_or_default();
        let mut call = self.header("content-type", "application/json");
        call.body = body;
        call
    }

    /// Time for the whole call, connecting and reading the answer included.
    #[must_use]
    pub fn within(mut self, span: Duration) -> Self {
        self.within = span;
        self
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Field lines.
    pub fields: Fields,
    /// Content.
    pub body: Vec<u8>,
    /// Address of our end of the connection.
    pub local: Option<SocketAddr>,
    /// The peer's certificate, under TLS.
    pub fingerprint: Option<Fingerprint>,
}

impl Answer {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The content as JSON.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] that says what is wrong with it.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|e| {
            ClientError::Protocol(format!("status {} with unusable JSON: {e}", self.status))
        })
    }

    /// The content as text for a log line: its first 200 characters, without control characters.
    #[must_use]
    pub fn excerpt(&self) -> String {
        String::from_utf8_lossy(&self.body)
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect()
    }
}

/// An answer whose content is still coming.
#[derive(Debug)]
pub struct Incoming {
    /// Status code.
    pub status: u16,
    /// Field lines.
    pub fields: Fields,
    conn: Conn,
    body: Body,
    line: Vec<u8>,
}

impl Incoming {
    /// The next line without its LF; `None` at the end. `within` bounds the wait.
    ///
    /// # Errors
    /// As a call.
    pub async fn line(&mut self, within: Duration) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(end) = self.line.iter().position(|b| *b == b'\n') {
                let rest = self.line.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.line, rest);
                line.truncate(end);
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            if self.line.len() > LINE_MAX {
                return Err(ClientError::Protocol(format!(
                    "a line is longer than {LINE_MAX} bytes"
                )));
            }
            match self
                .body
                .next(&mut self.conn, within)
                .await
                .map_err(|e| broken(e, within))?
            {
                Some(n) => {
                    self.line.extend_from_slice(&self.conn.unread()[..n]);
                    self.conn.consume(n);
                }
                None if self.line.is_empty() => return Ok(None),
                None => {
                    let line = std::mem::take(&mut self.line);
                    return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
                }
            }
        }
    }

    /// The next piece of the content; `None` at the end. `within` bounds the wait.
    ///
    /// # Errors
    /// As a call.
    pub async fn piece(&mut self, within: Duration) -> Result<Option<Vec<u8>>, ClientError> {
        let next = self.body.next(&mut self.conn, within).await;
        let Some(n) = next.map_err(|e| broken(e, within))? else {
            return Ok(None);
        };
        let piece = self.conn.unread()[..n].to_vec();
        self.conn.consume(n);
        Ok(Some(piece))
    }

    /// Reads the rest into memory.
    ///
    /// # Errors
    /// As a call.
    pub async fn whole(mut self, within: Duration) -> Result<Answer, ClientError> {
        let local = self.conn.socket().tcp().get_ref().local_addr().ok();
        let fingerprint = peer_fingerprint(self.conn.socket());
        let body = self.body.collect(&mut self.conn, ANSWER_MAX, within).await;
        let body = body.map_err(|e| broken(e, within))?;
        Ok(Answer {
            status: self.status,
            fields: self.fields,
            body,
            local,
            fingerprint,
        })
    }
}

impl Client {
    /// A client with that trust.
    ///
    /// # Errors
    /// [`ClientError::Setup`] when the CA file cannot be used.
    pub fn new(trust: &Trust) -> Result<Self, ClientError> {
        Ok(Self {
            tls: tls::client(trust).map_err(ClientError::Setup)?,
        })
    }

    /// A client over that TLS configuration.
    #[must_use]
    pub fn over(tls: Arc<ClientConfig>) -> Self {
        Self { tls }
    }

    /// Calls and reads the whole answer.
    ///
    /// # Errors
    /// See [`ClientError`]. An answer with an error status is an answer.
    pub async fn send(&self, call: Outgoing) -> Result<Answer, ClientError> {
        let within = call.within;
        let work = async { self.start(call).await?.whole(within).await };
        clock::by(clock::now() + within, work)
            .await
            .unwrap_or(Err(ClientError::Timeout(within)))
    }

    /// Calls and reads the head of the answer; the content comes later.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn open(&self, call: Outgoing) -> Result<Incoming, ClientError> {
        let within = call.within;
        clock::by(clock::now() + within, self.start(call))
            .await
            .unwrap_or(Err(ClientError::Timeout(within)))
    }

    async fn start(&self, call: Outgoing) -> Result<Incoming, ClientError> {
        let url = Url::parse(&call.url).map_err(|_| ClientError::Url(call.url.clone()))?;
        let head = encode(&call, url.clone()).await?;
        let mut conn = Conn::new(self.connect(&url).await?);
        conn.write_all(&head, call.within)
            .await
            .map_err(ClientError::Io)?;
        for _ in 0..INTERIM_MAX {
            let head = match conn.read_response(&Limits::RESPONSE, call.within).await {
                Ok(Some(head)) => head,
                Ok(None) => return Err(ClientError::Io(io::ErrorKind::UnexpectedEof.into())),
                Err(HeadError::Io(error)) => return Err(ClientError::Io(error)),
                Err(HeadError::Refused(why)) => return Err(ClientError::Protocol(why.to_string())),
                Err(HeadError::Timeout { .. }) => return Err(ClientError::Timeout(call.within)),
            };
            if head.status < 200 {
                continue;
            }
            let to_head = call.method == Method::Head;
            let framing = framing::of_response(&head.fields, head.version, head.status, to_head)
                .map_err(|why| ClientError::Protocol(why.to_string()))?;
            return Ok(Incoming {
                status: head.status,
                fields: head.fields,
                conn,
                body: Body::new(framing),
                line: Vec::new(),
            });
        }
        Err(ClientError::Protocol("only interim responses".into()))
    }

    async fn connect(&self, url: &Url) -> Result<Socket, ClientError> {
        let wrong = || ClientError::Url(url.to_string());
        let host = url.host_str().ok_or_else(wrong)?;
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(wrong()),
        };
        let port = url.port_or_known_default().ok_or_else(wrong)?;
        let tcp = dial(host, port).await?;
        if !secure {
            return Ok(tcp);
        }
        self.secure(tcp, host).await
    }

    /// Puts TLS over a connection to `host`.
    ///
    /// # Errors
    /// [`ClientError::Tls`] or [`ClientError::Pin`].
    pub async fn secure(&self, tcp: Socket, host: &str) -> Result<Socket, ClientError> {
        let Socket::Plain(tcp) = tcp else {
            return Ok(tcp);
        };
        let bare = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(bare).map_err(|_| ClientError::Url(host.to_owned()))?;
        match TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, tcp)
            .await
        {
            Ok(stream) => Ok(Socket::Tls(Box::new(TlsStream::Client(stream)))),
            Err(error) if is_pin_mismatch(&error) => Err(ClientError::Pin(host.to_owned())),
            Err(error) => Err(ClientError::Tls(host.to_owned(), error)),
        }
    }
}

/// Connects to the first address of `host` that answers.
///
/// # Errors
/// [`ClientError::Resolve`] or that of the last address. The caller sets the deadline.
pub async fn dial(host: &str, port: u16) -> Result<Socket, ClientError> {
    let bare = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let addresses: Vec<SocketAddr> = match bare.parse() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => {
            let name = bare.clone();
            smol::unblock(move || {
                (name.as_str(), port)
                    .to_socket_addrs()
                    .map(Iterator::collect)
            })
            .await
            .map_err(|e| ClientError::Resolve(bare.clone(), e))?
        }
    };
    let mut last =
        ClientError::Resolve(bare, io::Error::new(io::ErrorKind::NotFound, "no address"));
    let deadline = clock::now() + CONNECT;
    for address in addresses.into_iter().take(ADDRESSES_MAX) {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer");
        let connected = clock::by(deadline, Socket::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(late())) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = ClientError::Connect(address, error),
        }
    }
    Err(last)
}

async fn encode(call: &Outgoing, url: Url) -> Result<Vec<u8>, ClientError> {
    let mut request = Request::new(call.method, url);
    for (name, value) in &call.fields {
        if !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Err(ClientError::Protocol(format!(
                "field {name} has a byte that cannot be sent"
            )));
        }
        request.insert_header(name.as_str(), value.as_str());
    }
    request.insert_header("connection", "close");
    request.insert_header("accept-encoding", "identity");
    if !call.body.is_empty() {
        let kind = request.content_type();
        request.set_body(call.body.clone());
        if let Some(kind) = kind {
            request.set_content_type(kind);
        }
    }
    let mut bytes = Vec::new();
    async_h1::client::Encoder::new(request)
        .read_to_end(&mut bytes)
        .await
        .map_err(ClientError::Io)?;
    Ok(bytes)
}

fn is_pin_mismatch(error: &io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    matches!(
        inner,
        Some(rustls::Error::InvalidCertificate(
            rustls::CertificateError::ApplicationVerificationFailure
        ))
    )
}

fn peer_fingerprint(socket: &Socket) -> Option<Fingerprint> {
    let Socket::Tls(stream) = socket else {
        return None;
    };
    let certificates = match &**stream {
        TlsStream::Client(client) => client.get_ref().1.peer_certificates(),
        TlsStream::Server(server) => server.get_ref().1.peer_certificates(),
    };
    Fingerprint::of(certificates?.first()?)
}

fn broken(error: BodyError, within: Duration) -> ClientError {
    match error {
        BodyError::Io(error) => ClientError::Io(error),
        BodyError::Stalled => ClientError::Timeout(within),
        BodyError::TooLarge => ClientError::TooLarge,
        BodyError::Truncated => ClientError::Io(io::ErrorKind::UnexpectedEof.into()),
        BodyError::Malformed(bad) => ClientError::Protocol(bad.to_string()),
    }
}
