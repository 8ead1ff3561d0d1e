//! An answer on its way to the client: head, content, snippet, trailers.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::headers::passes_as_trailer;
use super::heads::Final;
use super::inject::{CannotInject, Injector, is_compressed, is_document};
use super::policy::Policy;
use super::upstream_pool::{Upstream, UpstreamConn};
use crate::http::exchange::STALL;
use crate::wire::fields::write_line;
use crate::wire::{BodyError, Conn, Fields, Framing, MessageBody, ResponseHead};

/// Silence inside an upstream's answer: event streams send a sign of life every 15 s.
const UPSTREAM_STALL: Duration = Duration::from_secs(120);

/// What puts the snippet into this answer; `None` when nothing does.
pub(super) fn injector(
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

/// Sends head and content, and leaves in `out` what of the head is not out. After an error with
/// the head out all that is left is to break off, so that a cut answer is never taken for a whole
/// one.
pub(super) async fn deliver(
    client: &mut Conn,
    out: &mut Final,
    upstream: &mut UpstreamConn,
    body: &mut MessageBody,
    mut injector: Option<Box<Injector>>,
) -> Result<(), Broken> {
    if upstream.unread().is_empty() && !body.is_done() {
        // Nothing has come yet, and it may take long: the head does not wait for it.
        send(client, out, &[]).await?;
    }
    loop {
        let next = async { Some(body.next(upstream, UPSTREAM_STALL).await) };
        let client_gone = async {
            // Only an answer without announced end may go on for nobody.
            if !out.open_ended {
                std::future::pending::<()>().await;
            }
            client.socket().closed_by_peer().await;
            None
        };
        let n = match smol::future::or(next, client_gone).await {
            Some(next) => next.map_err(Broken::Upstream)?,
            None => return Err(Broken::Client(io::ErrorKind::ConnectionAborted.into())),
        };
        let Some(n) = n else { break };
        let raw = &upstream.unread()[..n];
        match &mut injector {
            Some(injector) if !injector.is_placed() => {
                let changed = injector.push(raw).map_err(Broken::Inject)?;
                send(client, out, &changed).await?;
            }
            _ => send(client, out, raw).await?,
        }
        upstream.consume(n);
    }
    if let Some(injector) = &mut injector {
        let tail = injector.finish().map_err(Broken::Inject)?;
        send(client, out, &tail).await?;
    }
    let mut end = std::mem::take(&mut out.head);
    if out.chunked {
        write_end(&mut end, body.trailers());
    }
    client.write_all(&end, STALL).await.map_err(Broken::Client)
}

/// Sends what is left of the head, and a piece of content.
async fn send(client: &mut Conn, out: &mut Final, piece: &[u8]) -> Result<(), Broken> {
    if piece.is_empty() && out.head.is_empty() {
        return Ok(());
    }
    let sent = client.write_piece(&out.head, piece, out.chunked, STALL);
    sent.await.map_err(Broken::Client)?;
    out.head.clear();
    Ok(())
}

/// The last chunk and the trailers that pass.
fn write_end(out: &mut Vec<u8>, trailers: &Fields) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.iter().filter(|(n, _)| passes_as_trailer(n)) {
        write_line(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Why an answer whose head is out could not be finished.
#[derive(Debug)]
pub(super) enum Broken {
    Client(io::Error),
    Upstream(BodyError),
    Inject(CannotInject),
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
