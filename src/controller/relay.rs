//! `/session/<id>/...`: browsers to the worker that owns the session.

use std::sync::Arc;

use super::fleet::SessionRoute;
use super::{Controller, api};
use crate::http::{Done, Exchange, Failure, Reply};
use crate::ids::SessionId;
use crate::proxy::{Policy, Upstream, origin_guard};
use crate::{clock, page};

/// Relays one exchange to the worker of the session that its raw path names.
pub(super) async fn relay(controller: &Controller, exchange: Exchange) -> Done {
    match origin_guard::guard(&exchange.head) {
        Ok(None) => {}
        Ok(Some(reply)) => return exchange.answer(reply).await,
        Err(failure) => return exchange.answer_failure(failure).await,
    }
    let id = session_of(exchange.head.path());
    let looked_up = match &id {
        Some(id) => look_up(controller, id).await,
        None => Ok(()),
    };
    let route = id.and_then(|id| route_of(controller, &id));
    let Some(route) = route else {
        let failure = looked_up.err().unwrap_or_else(|| api::unknown(controller));
        if failure.status == 404 && is_quit(&exchange) {
            // Idempotent, also when the session is gone already.
            return exchange.answer(Reply::empty(204)).await;
        }
        let for_browser = exchange
            .head
            .fields
            .members("accept")
            .any(|m| m.starts_with(b"text/html"));
        if !for_browser {
            return exchange.answer_failure(failure).await;
        }
        let language = exchange.head.fields.text("accept-language");
        let page = if failure.status == 404 {
            page::gone(&controller.settings.return_url, language)
        } else {
            page::unavailable(language)
        };
        let mut reply = Reply::text(failure.status, "text/html; charset=utf-8", page);
        if let Some(wait) = failure.retry_after {
            reply = reply.header("Retry-After", wait.as_secs().max(1).to_string());
        }
        return exchange
            .answer(reply.header("Cache-Control", "no-store"))
            .await;
    };
    let Some(upstream) = Upstream::of_url(&route.url) else {
        log::error!(target: "proxy", "worker={} has the unusable url {:?}", route.worker_id, route.url);
        return exchange
            .answer_failure(Failure::new(
                502,
                "bad_worker",
                "the worker's url is unusable",
            ))
            .await;
    };
    let language = exchange
        .head
        .fields
        .text("accept-language")
        .map(str::to_owned);
    let policy = Policy {
        set: vec![("x-request-id", exchange.id.to_string())],
        cookies: Some(&["mlSession"]),
        error_page: Some(Arc::new(move |_| page::unavailable(language.as_deref()))),
        ..Policy::default()
    };
    controller.proxy.forward(exchange, &upstream, &policy).await
}

/// Asks the store for a session that is not known here.
///
/// # Errors
/// 503 when the store cannot tell.
pub(super) async fn look_up(controller: &Controller, id: &SessionId) -> Result<(), Failure> {
    let is_known = controller.fleet().session_owner(id).is_some();
    if !is_known && controller.ended.worker_of(id).is_none() {
        controller.store.look_up(controller, id).await?;
    }
    Ok(())
}

/// The worker of a session that is live or has ended lately.
fn route_of(controller: &Controller, id: &SessionId) -> Option<SessionRoute> {
    if let Some(route) = controller.fleet().session_owner(id) {
        return Some(route);
    }
    let worker_id = controller.ended.worker_of(id)?;
    let url = controller.fleet().worker(clock::now(), &worker_id)?.url;
    Some(SessionRoute { worker_id, url })
}

/// Whether the request ends a session whose id is valid.
fn is_quit(exchange: &Exchange) -> bool {
    let path = exchange.head.path();
    exchange.head.method.as_str() == "POST"
        && session_of(path).is_some()
        && path.split('/').skip(3).eq(["quit"])
}

/// The session that a raw path belongs to.
pub(super) fn session_of(path: &str) -> Option<SessionId> {
    let rest = path.strip_prefix("/session/")?;
    rest.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_off_the_raw_path_and_nothing_is_normalised() {
        let id = "0123456789abcdef0123456789abcdef";
        for path in [
            format!("/session/{id}"),
            format!("/session/{id}/"),
            format!("/session/{id}/a/../b"),
        ] {
            assert_eq!(session_of(&path).unwrap().as_str(), id);
        }
        let flipped = id.replacen('0', "%30", 1);
        for path in [
            format!("/session/{flipped}/"),
            format!("/session//{id}/"),
            format!("/session/{id}x/"),
            format!("/session/{};x/", id),
            format!("/SESSION/{id}/"),
            "/session/".into(),
            "/session/../session/".into(),
        ] {
            assert_eq!(session_of(&path), None, "{path}");
        }
    }
}
