//! Upgrades that the upstream granted.

use std::sync::Arc;

use super::counters::ProxyCounters;
use super::heads;
use super::policy::Policy;
use super::upstream_pool::UpstreamConn;
use crate::http::exchange::STALL;
use crate::http::{Done, Exchange, UpgradedConnection};
use crate::wire::ResponseHead;
use crate::wire::tunnel::{self, Traffic};

/// Whether an upstream switched to the one protocol that it was asked for (RFC 9110 section 7.8).
pub(super) fn is_websocket(answer: &ResponseHead) -> bool {
    answer.fields.has_member("upgrade", "websocket")
        && answer.fields.has_member("connection", "upgrade")
}

/// Tells the client and goes on as a tunnel.
pub(super) async fn tunnel(
    mut exchange: Exchange,
    leg: UpstreamConn,
    answer: ResponseHead,
    policy: &Policy,
    counters: &Arc<ProxyCounters>,
) -> Done {
    let head = heads::switched(&answer);
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
    Done::Then(UpgradedConnection::new(async move {
        let cut = async {
            match &pass {
                Some(pass) => pass.cut.wished().await,
                None => std::future::pending().await,
            }
        };
        tunnel::run(
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
