//! One exchange through the proxy: request up, response down, or a tunnel.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::counters::ProxyCounters;
use super::heads;
use super::inject::is_document;
use super::policy::Policy;
use super::request_buffer;
use super::response_body::{Broken, deliver, injector};
use super::tunnel::{is_websocket, tunnel};
use super::upstream_pool::{Pool, Upstream};
use super::upstream_request::{Fault, ResponseStart, ask};
use crate::http::client::Client;
use crate::http::exchange::content_failure;
use crate::http::reply::{Failure, Reply};
use crate::http::{Done, Exchange};
use crate::wire::{BodyError, Framing, MessageBody, Method, framing};

/// Forwards exchanges, keeping upstream connections.
#[derive(Debug)]
pub struct Proxy {
    pool: Pool,
    counters: Arc<ProxyCounters>,
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
    pub fn counters(&self) -> &ProxyCounters {
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
        let document = policy.snippet.is_some() && heads::wants_document(&exchange.head);
        if let Err(error) = request_buffer::check_length(exchange.head.framing) {
            return self.refuse_content(exchange, &error).await;
        }
        if exchange.head.expects_continue {
            Box::pin(exchange.go_on()).await;
        }
        let content = match request_buffer::gather(&mut exchange).await {
            Ok(content) => content,
            Err(error) => return self.refuse_content(exchange, &error).await,
        };
        let framing = content.framing(exchange.head.framing);
        let head = heads::request(&exchange, framing, upstream, policy, document);
        match ask(&self.pool, &mut exchange, upstream, &head, &content).await {
            Ok(asked) => self.answer(exchange, asked, upstream, policy).await,
            Err(Fault::Client(error)) => self.refuse_content(exchange, &error).await,
            Err(fault) => {
                log::warn!(target: "proxy", request_id = exchange.id.as_str();
                    "{upstream}: {fault}; {} {}", exchange.head.method.as_str(), exchange.head.path());
                self.counters.answered(fault.status());
                refuse(exchange, policy, fault.status()).await
            }
        }
    }

    /// Answers a request whose content cannot be forwarded.
    async fn refuse_content(&self, exchange: Exchange, error: &BodyError) -> Done {
        let failure = content_failure(error);
        self.counters.answered(failure.status);
        Box::pin(exchange.refuse(failure)).await
    }

    /// Passes the upstream's final answer on, or says why it cannot be.
    async fn answer(
        &self,
        mut exchange: Exchange,
        asked: ResponseStart,
        upstream: &Upstream,
        policy: &Policy,
    ) -> Done {
        let ResponseStart {
            mut leg,
            answer,
            is_whole,
        } = asked;
        self.counters.answered(answer.status);
        if answer.status == 101 {
            if exchange.head.is_upgrade && is_websocket(&answer) {
                return Box::pin(tunnel(exchange, leg, answer, policy, &self.counters)).await;
            }
            log::warn!(target: "proxy", "{upstream}: switched to a protocol that was not asked for");
            return refuse(exchange, policy, 502).await;
        }
        let to_head = exchange.head.method == Method::Head;
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
        let mut out = heads::answer(&exchange.head, &answer, framing, changed);
        let mut body = MessageBody::new(framing);
        let sent = deliver(&mut exchange.conn, &mut out, &mut leg, &mut body, injector).await;
        if let Err(broken) = sent {
            log::debug!(target: "proxy", "{upstream}: answer broke off: {broken}");
            if !out.head.is_empty() && !matches!(broken, Broken::Client(_)) {
                return refuse(exchange, policy, 502).await;
            }
            exchange.conn.socket().shutdown();
            return Done::Gone;
        }
        if is_whole
            && answer.keep_alive
            && body.is_done()
            && framing != Framing::UntilClose
            && !exchange.head.is_upgrade
        {
            self.pool.keep(upstream, leg);
        }
        if exchange.head.keep_alive && !out.closes {
            return Done::Next(exchange.conn);
        }
        Box::pin(exchange.close()).await;
        Done::Gone
    }
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
