//! One connection of a listener: request after request until it ends.

use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use super::certificates::Certificates;
use super::codec;
use super::connection_limit::Permit;
use super::exchange::{Done, Exchange};
use super::reply::Failure;
use super::server::Service;
use crate::clock;
use crate::exec::Stop;
use crate::ids::{self, RequestId};
use crate::wire::tcp::Accepted;
use crate::wire::{Conn, HeadError, HeadLimits, MessageBody, RequestHead, Socket, digits};

/// Wait for the next request on an idle connection: longer than browsers and proxies keep theirs.
const IDLE: Duration = Duration::from_secs(75);
/// The same while there is hardly a place left for others: time enough for a request that is on
/// its way.
const IDLE_CROWDED: Duration = Duration::from_secs(1);
/// Wait for the whole head once its first byte is there.
const HEAD: Duration = Duration::from_secs(10);
/// Wait for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client that sent rubbish may take to read why it is refused.
const REFUSAL: Duration = Duration::from_secs(2);
/// What is still read of what such a client sent, so that it can read the answer.
const LINGER_BYTES: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// Serves a connection until it ends.
pub(super) async fn serve(
    stream: Accepted,
    peer: SocketAddr,
    tls: Option<Certificates>,
    service: &dyn Service,
    stop: &Stop,
    place: &Permit,
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
        let head = match next_head(&mut conn, stop, place).await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(error) => return Box::pin(refuse(conn, error)).await,
        };
        let id = name(head.fields.get("x-request-id"));
        let body = MessageBody::new(head.framing);
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
            Done::Next(next) if keep && !stop.is_wished() => conn = next,
            Done::Next(_) | Done::Gone => return,
            Done::Then(rest) => return rest.run().await,
        }
        if conn.unread().is_empty() {
            conn.release_buffer();
        } else {
            // A client that pipelines requests must not starve the other connections.
            smol::future::yield_now().await;
        }
    }
}

/// The next request's head; `None` when there is none to come.
async fn next_head(
    conn: &mut Conn,
    stop: &Stop,
    place: &Permit,
) -> Result<Option<RequestHead>, HeadError> {
    if conn.unread().is_empty() && !begins(conn, stop, place).await {
        return Ok(None);
    }
    conn.read_request(&HeadLimits::REQUEST, HEAD).await
}

/// Waits for the first byte of a request; `false` when the connection is better closed. Idle
/// connections notice a shutdown or an overload when `wake_all` fires: subscribing each of them would
/// cost one registration per request.
async fn begins(conn: &mut Conn, stop: &Stop, place: &Permit) -> bool {
    let since = clock::now();
    conn.deadline().set(IDLE);
    let mut fill = pin!(conn.fill());
    poll_fn(|cx| match fill.as_mut().poll(cx) {
        Poll::Pending if stop.is_wished() => Poll::Ready(false),
        Poll::Pending if place.near_limit() && clock::now() - since >= IDLE_CROWDED => {
            Poll::Ready(false)
        }
        other => other.map(|read| matches!(read, Ok(1..))),
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
    let own = digits::hex(n).0;
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
        HeadError::Timeout => (408, "the request head did not come in time"),
        HeadError::Io(_) => return,
    };
    let reason = if status == 408 {
        "timeout"
    } else {
        "bad_request"
    };
    let id = name(None);
    let reply = Failure::new(status, reason, what).reply(&id);
    let extra = [("x-request-id", id.as_str())];
    if let Ok(bytes) = codec::reply(reply, http_types::Method::Get, &extra, true).await
        && conn.write_all(&bytes, REFUSAL).await.is_ok()
    {
        conn.linger(LINGER_BYTES, LINGER).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec;
    use crate::http::auth::Bearer;
    use crate::http::connection_limit::{ConnectionLimiter, ConnectionLimits};
    use crate::http::router::Router;
    use crate::http::server::Api;
    use crate::http::{Call, Reply};
    use crate::wire::tcp::Acceptor;
    use http_types::Method;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::task::{Context, Waker};

    #[test]
    fn requests_have_names_that_differ_and_keep_a_plain_one() {
        let names: std::collections::HashSet<String> =
            (0..1_000).map(|_| name(None).to_string()).collect();
        assert_eq!(names.len(), 1_000);
        assert!(names.iter().all(|n| n.len() == 16));
        assert_eq!(name(Some(b"abc")).as_str(), "abc");
        assert_eq!(name(Some(b"a\r\nb")).as_str().len(), 16);
    }

    /// The task gives way between requests, however many have come together.
    #[test]
    fn whoever_sends_many_requests_at_once_waits_in_line_for_each() {
        const REQUESTS: usize = 200;
        let hello = |_: Call| async { Ok(Reply::empty(204)) };
        let router = Router::new(Arc::new(Bearer::new(Vec::new())));
        let service = Api(router.open(Method::Get, "/", hello));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(REQUESTS);
        client.write_all(requests.as_bytes()).unwrap();
        client.set_nonblocking(true).unwrap();
        let (accepted, peer) = exec::block_on(Acceptor::new(listener).unwrap().accept()).unwrap();
        let place = ConnectionLimiter::enter(
            &ConnectionLimiter::new(ConnectionLimits::default()),
            peer.ip(),
        )
        .unwrap();
        let (_stopper, stop) = exec::stop();
        let mut serving = pin!(serve(accepted, peer, None, &service, &stop, &place));
        let (mut answers, mut turns) = (0, 0);
        let mut block = vec![0; 65_536];
        while answers < REQUESTS {
            assert!(turns < 100 * REQUESTS, "{answers} answers");
            turns += 1;
            let mut context = Context::from_waker(Waker::noop());
            assert!(serving.as_mut().poll(&mut context).is_pending());
            let n = client.read(&mut block).unwrap_or(0);
            let came = String::from_utf8_lossy(&block[..n])
                .matches(" 204 ")
                .count();
            assert!(came <= 1, "{came} answers in one turn");
            answers += came;
        }
    }
}
