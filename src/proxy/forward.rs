//! One exchange through the proxy: request up, response down, or a tunnel.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::content::{self, CONTENT_MAX, Content};
use super::counters::Counters;
use super::fields::{
    cookies, limited_by_connection, passes_as_trailer, passes_downstream, passes_upstream,
};
use super::inject::{Injector, is_compressed, is_document};
use super::pool::{Leg, Pool, Upstream, went_stale};
use crate::exec::Stop;
use crate::http::client::{Client, ClientError};
use crate::http::exchange::{STALL, content_failure};
use crate::http::reply::{Failure, Reply};
use crate::http::{Done, Exchange, Rest, codec};
use crate::wire::digits;
use crate::wire::fields::write_line;
use crate::wire::head::VIA;
use crate::wire::relay::{self, Traffic};
use crate::wire::{
    Body, BodyError, Conn, Framing, HeadError, Limits, RequestHead, ResponseHead, Version, framing,
};

/// Wait for the head of an upstream's answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Silence inside an upstream's answer: event streams send a sign of life every 15 s.
const UPSTREAM_STALL: Duration = Duration::from_secs(120);
/// Interim responses before a final one.
const INTERIM_MAX: usize = 8;

/// Room for a chunk-size line: 16 hex digits and CRLF.
const CHUNK_LINE: usize = 18;

/// How one request is forwarded.
#[derive(Clone, Default)]
pub struct Policy {
    /// Fields set on the request, in place of any that the client sent.
    pub set: Vec<(&'static str, String)>,
    /// Cookies that pass; all others stay here. `None` passes all.
    pub cookies: Option<&'static [&'static str]>,
    /// Put into HTML documents right after `<head>`; ASCII.
    pub snippet: Option<Arc<str>>,
    /// Waited for when the upstream has switched, before the client learns it.
    pub on_tunnel: Option<Arc<dyn Fn() -> Admission + Send + Sync>>,
    /// What a browser is shown in place of a JSON error: HTML for a status.
    pub error_page: Option<Arc<dyn Fn(u16) -> String + Send + Sync>>,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("snippet", &self.snippet.is_some())
            .finish_non_exhaustive()
    }
}

/// A tunnel's admission under way.
pub type Admission = Pin<Box<dyn Future<Output = Pass> + Send>>;

/// Leave to run a tunnel.
pub struct Pass {
    /// Cuts the tunnel.
    pub cut: Stop,
    /// Dropped when the tunnel has ended.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// Forwards exchanges, keeping upstream connections.
#[derive(Debug)]
pub struct Proxy {
    pool: Pool,
    counters: Arc<Counters>,
}

/// Why an upstream gave no usable answer.
enum Fault {
    Connect(ClientError),
    /// The request's own content is bad: the client is told.
    Client(BodyError),
    Upstream(io::Error),
    Silent,
    Malformed(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "{error}"),
            Self::Client(error) => write!(f, "request content: {error}"),
            Self::Upstream(error) => write!(f, "connection broke before an answer: {error}"),
            Self::Silent => write!(f, "no answer within {} s", ANSWER.as_secs()),
            Self::Malformed(why) => write!(f, "malformed answer: {why}"),
        }
    }
}

impl Proxy {
    /// A proxy that reaches TLS upstreams with the trust of `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            pool: Pool::new(client),
            counters: Arc::default(),
        }
    }

    /// What this proxy has done so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Closes the idle connections to an upstream that is no more.
    pub fn forget(&self, upstream: &Upstream) {
        self.pool.forget(upstream);
    }

    /// Forwards one exchange and answers it, whatever happens.
    pub async fn forward(
        &self,
        mut exchange: Exchange,
        upstream: &Upstream,
        policy: &Policy,
    ) -> Done {
        let document = policy.snippet.is_some() && wants_document(&exchange.head);
        if let Err(error) = content::check_length(exchange.head.framing) {
            return self.refuse_content(exchange, &error).await;
        }
        if exchange.head.expects_continue {
            Box::pin(exchange.go_on()).await;
        }
        let content = match content::gather(&mut exchange).await {
            Ok(content) => content,
            Err(error) => return self.refuse_content(exchange, &error).await,
        };
        let framing = content.framing(exchange.head.framing);
        let head = request_head(&exchange, framing, upstream, policy, document);
        match self.ask(&mut exchange, upstream, &head, &content).await {
            Ok((leg, answer)) => self.deliver(exchange, leg, answer, upstream, policy).await,
            Err(Fault::Client(error)) => self.refuse_content(exchange, &error).await,
            Err(fault) => {
                log::warn!(target: "proxy", request_id = exchange.id.as_str();
                    "{upstream}: {fault}; {} {}", exchange.head.method.as_str(), exchange.head.path());
                let status = match fault {
                    Fault::Silent | Fault::Connect(ClientError::Timeout(_)) => 504,
                    _ => 502,
                };
                self.counters.answered(status);
                refuse(exchange, policy, status).await
            }
        }
    }

    /// Answers a request whose content cannot be forwarded.
    async fn refuse_content(&self, exchange: Exchange, error: &BodyError) -> Done {
        let failure = content_failure(error);
        self.counters.answered(failure.status);
        Box::pin(exchange.refuse(failure)).await
    }

    /// Sends the request and reads the head of its final answer; once more on a fresh connection
    /// when a reused one was stale and nothing can have happened twice.
    async fn ask(
        &self,
        exchange: &mut Exchange,
        upstream: &Upstream,
        head: &[u8],
        content: &Content,
    ) -> Result<(Leg, ResponseHead), Fault> {
        let may_repeat = exchange.head.method.is_idempotent() && content.is_whole();
        if !exchange.head.is_upgrade
            && let Some(mut leg) = self.pool.reuse(upstream, !may_repeat)
        {
            match talk(exchange, &mut leg, head, content).await {
                Ok(answer) => return Ok((leg, answer)),
                Err(Fault::Upstream(error)) if may_repeat && went_stale(&error) => {}
                Err(fault) => return Err(fault),
            }
        }
        let connect = Box::pin(self.pool.connect(upstream));
        let mut leg = connect.await.map_err(Fault::Connect)?;
        let answer = talk(exchange, &mut leg, head, content).await?;
        Ok((leg, answer))
    }

    async fn deliver(
        &self,
        mut exchange: Exchange,
        mut leg: Leg,
        answer: ResponseHead,
        upstream: &Upstream,
        policy: &Policy,
    ) -> Done {
        self.counters.answered(answer.status);
        if answer.status == 101 {
            if exchange.head.is_upgrade && is_websocket(&answer) {
                return Box::pin(tunnel(exchange, leg, answer, policy, &self.counters)).await;
            }
            log::warn!(target: "proxy", "{upstream}: switched to a protocol that was not asked for");
            return refuse(exchange, policy, 502).await;
        }
        let to_head = exchange.head.method.as_str() == "HEAD";
        let framing =
            match framing::of_response(&answer.fields, answer.version, answer.status, to_head) {
                Ok(framing) => framing,
                Err(why) => {
                    log::warn!(target: "proxy", "{upstream}: malformed answer: {why}");
                    return refuse(exchange, policy, 502).await;
                }
            };
        // A refused upgrade leaves the two sides in doubt about what the next bytes are.
        exchange.head.keep_alive &= !exchange.head.is_upgrade && exchange.body.is_done();
        let injector = injector(policy, &answer, framing, upstream);
        let changed =
            injector.is_some() || (policy.snippet.is_some() && to_head && is_document(&answer));
        let out = Delivery::new(&exchange, &answer, framing, changed);
        let mut body = Body::new(framing);
        match out.run(&mut exchange, &mut leg, &mut body, injector).await {
            Ok(()) => {
                if answer.keep_alive
                    && body.is_done()
                    && framing != Framing::UntilClose
                    && !exchange.head.is_upgrade
                {
                    self.pool.keep(upstream, leg);
                }
                if exchange.head.keep_alive && !out.closes {
                    return Done::Next(exchange.conn, exchange.body);
                }
                Box::pin(exchange.close()).await;
                Done::Gone
            }
            Err(broken) => {
                // The head is out: all that is left is to break off, so that a cut answer is
                // never taken for a whole one.
                log::debug!(target: "proxy", "{upstream}: answer broke off: {broken}");
                exchange.conn.socket().cut();
                Done::Gone
            }
        }
    }
}

/// Whether an upstream switched to the one protocol that it was asked for (RFC 9110 section 7.8).
fn is_websocket(answer: &ResponseHead) -> bool {
    answer.fields.has_member("upgrade", "websocket")
        && answer.fields.has_member("connection", "upgrade")
}

async fn talk(
    exchange: &mut Exchange,
    leg: &mut Leg,
    head: &[u8],
    content: &Content,
) -> Result<ResponseHead, Fault> {
    match content {
        Content::Streamed(begun) => {
            leg.write_all(head, STALL).await.map_err(Fault::Upstream)?;
            Box::pin(upload(exchange, leg, begun)).await?;
        }
        whole => {
            let bytes = match whole {
                Content::Here(n) => &exchange.conn.unread()[..*n],
                Content::Decoded(bytes) | Content::Streamed(bytes) => bytes,
            };
            let mut parts = [IoSlice::new(head), IoSlice::new(bytes)];
            let sent = leg.write_parts(&mut parts, STALL).await;
            // An upstream may answer and close without reading the content.
            if let Err(error) = sent
                && (bytes.is_empty() || !went_stale(&error))
            {
                return Err(Fault::Upstream(error));
            }
        }
    }
    let answer = final_head(exchange, leg).await?;
    content::settle(exchange, content);
    Ok(answer)
}

/// Streams the request's content until its end, or until the upstream begins to answer.
async fn upload(exchange: &mut Exchange, leg: &mut Leg, begun: &[u8]) -> Result<(), Fault> {
    let chunked = exchange.head.framing == Framing::Chunked;
    let mut total = begun.len() as u64;
    if !begun.is_empty() {
        match write_piece(leg, &[], begun, chunked).await {
            Ok(()) => {}
            Err(error) if went_stale(&error) => return Ok(()),
            Err(error) => return Err(Fault::Upstream(error)),
        }
    }
    loop {
        let next = async { Some(exchange.body.next(&mut exchange.conn, STALL).await) };
        let answered = async {
            leg.socket().heard().await;
            None
        };
        let Some(piece) = smol::future::or(next, answered).await else {
            return Ok(());
        };
        let Some(n) = piece.map_err(Fault::Client)? else {
            break;
        };
        total += n as u64;
        if total > CONTENT_MAX {
            return Err(Fault::Client(BodyError::TooLarge));
        }
        let sent = write_piece(leg, &[], &exchange.conn.unread()[..n], chunked).await;
        exchange.conn.consume(n);
        match sent {
            Ok(()) => {}
            Err(error) if went_stale(&error) => return Ok(()),
            Err(error) => return Err(Fault::Upstream(error)),
        }
    }
    if chunked {
        // Trailers of strangers are not passed on (RFC 9110 section 6.5.1 lets us drop them).
        leg.write_all(b"0\r\n\r\n", STALL)
            .await
            .map_err(Fault::Upstream)?;
    }
    Ok(())
}

/// Reads response heads until the final one. 100 is ours to answer and was; other interim
/// responses pass to clients that understand them.
async fn final_head(exchange: &mut Exchange, leg: &mut Leg) -> Result<ResponseHead, Fault> {
    for _ in 0..INTERIM_MAX {
        let head = match leg.read_response(&Limits::RESPONSE, ANSWER).await {
            Ok(Some(head)) => head,
            Ok(None) => return Err(Fault::Upstream(io::ErrorKind::UnexpectedEof.into())),
            Err(HeadError::Io(error)) => return Err(Fault::Upstream(error)),
            Err(HeadError::Timeout { .. }) => return Err(Fault::Silent),
            Err(HeadError::Refused(why)) => return Err(Fault::Malformed(why.to_string())),
        };
        if head.status >= 200 || head.status == 101 {
            return Ok(head);
        }
        if head.status != 100 && exchange.head.version == Version::Http11 {
            let mut out = Vec::with_capacity(256);
            codec::status_line(&mut out, head.status);
            for (name, value) in head.fields.iter() {
                if passes_downstream(Some(&head.fields), name, false) {
                    write_line(&mut out, name, value);
                }
            }
            out.extend_from_slice(b"\r\n");
            let _ = Box::pin(exchange.conn.write_all(&out, STALL)).await;
        }
    }
    Err(Fault::Malformed("only interim responses".into()))
}

fn wants_document(head: &RequestHead) -> bool {
    if !matches!(head.method.as_str(), "GET" | "HEAD") {
        return false;
    }
    let last = head.path().rsplit('/').next().unwrap_or_default();
    !last.contains('.') || last.ends_with(".html") || last.ends_with(".htm")
}

fn request_head(
    exchange: &Exchange,
    framing: Framing,
    upstream: &Upstream,
    policy: &Policy,
    document: bool,
) -> Vec<u8> {
    let head = &exchange.head;
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if head.fields.count("host") == 0 {
        write_line(&mut out, b"host", upstream.to_string().as_bytes());
    }
    let limited = limited_by_connection(&head.fields);
    for (name, value) in head.fields.iter() {
        if passes_upstream(limited, name, &policy.set, document) {
            write_line(&mut out, name, value);
        }
    }
    match policy.cookies {
        Some(names) => {
            if let Some(value) = cookies(&head.fields, names) {
                write_line(&mut out, b"cookie", &value);
            }
        }
        None => head
            .fields
            .all("cookie")
            .for_each(|value| write_line(&mut out, b"cookie", value)),
    }
    if document {
        write_line(&mut out, b"accept-encoding", b"identity");
    }
    out.extend_from_slice(b"x-forwarded-for: ");
    digits::address(&mut out, exchange.peer.ip());
    out.extend_from_slice(b"\r\n");
    write_line(
        &mut out,
        b"x-forwarded-proto",
        if exchange.secure { b"https" } else { b"http" },
    );
    write_line(&mut out, b"via", VIA);
    for (name, value) in &policy.set {
        write_line(&mut out, name.as_bytes(), value.as_bytes());
    }
    match framing {
        Framing::Empty if matches!(head.method.as_str(), "POST" | "PUT" | "PATCH") => {
            write_line(&mut out, b"content-length", b"0");
        }
        Framing::Empty | Framing::UntilClose => {}
        Framing::Length(n) => write_length(&mut out, n),
        Framing::Chunked => write_line(&mut out, b"transfer-encoding", b"chunked"),
    }
    if head.is_upgrade {
        write_line(&mut out, b"upgrade", b"websocket");
        write_line(&mut out, b"connection", b"upgrade");
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn write_length(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(b"content-length: ");
    digits::decimal(out, n);
    out.extend_from_slice(b"\r\n");
}

fn injector(
    policy: &Policy,
    answer: &ResponseHead,
    framing: Framing,
    upstream: &Upstream,
) -> Option<Box<Injector>> {
    let snippet = policy.snippet.as_ref()?;
    if framing == Framing::Empty || !is_document(answer) {
        return None;
    }
    if is_compressed(answer) {
        log::warn!(target: "proxy", "{upstream}: HTML came compressed although identity was asked for; nothing is injected");
        return None;
    }
    Some(Box::new(Injector::new(Arc::clone(snippet))))
}

/// How an answer is framed and headed for the client.
struct Delivery {
    head: Vec<u8>,
    chunked: bool,
    closes: bool,
    open_ended: bool,
}

impl Delivery {
    fn new(exchange: &Exchange, answer: &ResponseHead, framing: Framing, changed: bool) -> Self {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(b"HTTP/1.1 ");
        digits::decimal(&mut out, u64::from(answer.status));
        out.push(b' ');
        out.extend_from_slice(answer.reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        let mut dated = false;
        let limited = limited_by_connection(&answer.fields);
        for (name, value) in answer.fields.iter() {
            dated |= name.eq_ignore_ascii_case(b"date");
            if passes_downstream(limited, name, changed) {
                write_line(&mut out, name, value);
            }
        }
        if !dated {
            write_line(&mut out, b"date", codec::date().as_bytes());
        }
        let unknown_length = changed || matches!(framing, Framing::Chunked | Framing::UntilClose);
        let bodiless =
            answer.status == 204 || answer.status == 304 || exchange.head.method.as_str() == "HEAD";
        let chunked = unknown_length && !bodiless && exchange.head.version == Version::Http11;
        let closes = unknown_length && !bodiless && !chunked;
        if chunked {
            write_line(&mut out, b"transfer-encoding", b"chunked");
        } else if let Framing::Length(n) = framing
            && !changed
        {
            write_length(&mut out, n);
        } else if framing == Framing::Empty && !changed && answer.status != 204 {
            // HEAD and 304 tell the length that GET would have; an empty 200 tells 0.
            let announced = answer.fields.get("content-length");
            match announced {
                Some(length) => write_line(&mut out, b"content-length", length),
                None if !bodiless => write_line(&mut out, b"content-length", b"0"),
                None => {}
            }
        }
        if closes || !exchange.head.keep_alive {
            write_line(&mut out, b"connection", b"close");
        } else if exchange.head.version == Version::Http10 {
            write_line(&mut out, b"connection", b"keep-alive");
        }
        out.extend_from_slice(b"\r\n");
        let open_ended = matches!(framing, Framing::Chunked | Framing::UntilClose);
        Self {
            head: out,
            chunked,
            closes,
            open_ended,
        }
    }

    /// Sends head and content.
    async fn run(
        &self,
        exchange: &mut Exchange,
        upstream: &mut Conn,
        body: &mut Body,
        mut injector: Option<Box<Injector>>,
    ) -> Result<(), Broken> {
        let mut head: &[u8] = &self.head;
        if upstream.unread().is_empty() && !body.is_done() {
            // Nothing has come yet, and it may take long: the head does not wait for it.
            exchange
                .conn
                .write_all(head, STALL)
                .await
                .map_err(Broken::Client)?;
            head = &[];
        }
        loop {
            let next = async { Some(body.next(upstream, UPSTREAM_STALL).await) };
            let client_gone = async {
                // Only a stream without announced end may go on for nobody.
                if !self.open_ended {
                    std::future::pending::<()>().await;
                }
                exchange.conn.socket().hung_up().await;
                None
            };
            let n = match smol::future::or(next, client_gone).await {
                Some(next) => next.map_err(Broken::Upstream)?,
                None => return Err(Broken::Client(io::ErrorKind::ConnectionAborted.into())),
            };
            let Some(n) = n else { break };
            let raw = &upstream.unread()[..n];
            let changed = match &mut injector {
                Some(injector) if !injector.is_placed() => {
                    Some(injector.push(raw).map_err(Broken::Inject)?)
                }
                _ => None,
            };
            let piece = changed.as_deref().unwrap_or(raw);
            if !piece.is_empty() || !head.is_empty() {
                write_piece(&mut exchange.conn, head, piece, self.chunked)
                    .await
                    .map_err(Broken::Client)?;
                head = &[];
            }
            upstream.consume(n);
        }
        let tail = match &mut injector {
            Some(injector) => injector.finish().map_err(Broken::Inject)?,
            None => Vec::new(),
        };
        if !tail.is_empty() {
            write_piece(&mut exchange.conn, head, &tail, self.chunked)
                .await
                .map_err(Broken::Client)?;
            head = &[];
        }
        let mut end = head.to_vec();
        if self.chunked {
            end.extend_from_slice(b"0\r\n");
            for (name, value) in body
                .trailers()
                .iter()
                .filter(|(name, _)| passes_as_trailer(name))
            {
                write_line(&mut end, name, value);
            }
            end.extend_from_slice(b"\r\n");
        }
        if end.is_empty() {
            return Ok(());
        }
        exchange
            .conn
            .write_all(&end, STALL)
            .await
            .map_err(Broken::Client)
    }
}

/// Why an answer whose head is out could not be finished.
enum Broken {
    Client(io::Error),
    Upstream(BodyError),
    Inject(super::inject::CannotInject),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => write!(f, "client: {error}"),
            Self::Upstream(error) => write!(f, "upstream: {error}"),
            Self::Inject(error) => write!(f, "{error}"),
        }
    }
}

/// Writes `head` (raw) and one piece of content, framed as a chunk where `chunked`.
async fn write_piece(conn: &mut Conn, head: &[u8], piece: &[u8], chunked: bool) -> io::Result<()> {
    if !chunked || piece.is_empty() {
        return conn
            .write_parts(&mut [IoSlice::new(head), IoSlice::new(piece)], STALL)
            .await;
    }
    let mut size = Vec::with_capacity(CHUNK_LINE);
    digits::chunk_size(&mut size, piece.len());
    let mut parts = [
        IoSlice::new(head),
        IoSlice::new(&size),
        IoSlice::new(piece),
        IoSlice::new(b"\r\n"),
    ];
    conn.write_parts(&mut parts, STALL).await
}

async fn tunnel(
    mut exchange: Exchange,
    leg: Leg,
    answer: ResponseHead,
    policy: &Policy,
    counters: &Arc<Counters>,
) -> Done {
    let mut head = Vec::with_capacity(512);
    codec::status_line(&mut head, 101);
    for (name, value) in answer.fields.iter() {
        if passes_downstream(Some(&answer.fields), name, false) {
            write_line(&mut head, name, value);
        }
    }
    write_line(&mut head, b"upgrade", b"websocket");
    write_line(&mut head, b"connection", b"upgrade");
    head.extend_from_slice(b"\r\n");
    // The pass comes first: whoever sees the 101 is counted.
    let pass = match &policy.on_tunnel {
        Some(admission) => Some(admission().await),
        None => None,
    };
    if exchange.conn.write_all(&head, STALL).await.is_err() {
        return Done::Gone;
    }
    let peer = exchange.peer;
    let (client, client_early) = exchange.conn.into_parts();
    let (upstream, upstream_early) = leg.into_parts();
    let traffic = Arc::new(Traffic::default());
    let open = counters.tunnel(Arc::clone(&traffic));
    Done::Then(Rest::new(async move {
        let cut = async {
            match &pass {
                Some(pass) => pass.cut.wished().await,
                None => std::future::pending().await,
            }
        };
        relay::run(
            client,
            &client_early,
            upstream,
            &upstream_early,
            &traffic,
            cut,
        )
        .await;
        drop(open);
        log::debug!(target: "proxy", "tunnel of {peer} ended: {traffic:?}");
    }))
}

/// Boxed, as everything seldom is here: the future of a request lives as long as its tunnel.
fn refuse(
    exchange: Exchange,
    policy: &Policy,
    status: u16,
) -> Pin<Box<dyn Future<Output = Done> + Send + '_>> {
    Box::pin(refusal(exchange, policy, status))
}

async fn refusal(exchange: Exchange, policy: &Policy, status: u16) -> Done {
    let for_browser = exchange
        .head
        .fields
        .members("accept")
        .any(|m| m.starts_with(b"text/html"));
    if for_browser && let Some(page) = &policy.error_page {
        let reply = Reply::text(status, "text/html; charset=utf-8", page(status));
        return exchange
            .answer(reply.header("Cache-Control", "no-store"))
            .await;
    }
    let failure = match status {
        504 => Failure::new(504, "timeout", "the upstream did not answer in time"),
        _ => Failure::new(502, "bad_gateway", "the upstream gave no usable answer"),
    };
    exchange.answer_failure(failure).await
}
