//! The operators' page at `/admin`: signing in, the page's files, what it shows of the fleet.
//!
//! Knows tokens, cookies and shapes of the API; knows no controller: the calls that the page makes
//! are the controller's own, bound to the router that this room opens. Visitors' pages share our
//! origin and run the stream program's scripts, so everything here is built such that a script of
//! this very origin gains nothing (SECURITY.md, "The dashboard").

mod assets;
mod authenticator;
mod board;
mod page;
mod query;
mod session_cookie;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_types::Method;
use serde::Deserialize;

use crate::clock;
use crate::http::audit::{Audit, Caller};
use crate::http::auth::{self, Asking};
use crate::http::rate_limit::{ClientRateLimit, Rate};
use crate::http::router::Router;
use crate::http::{Call, Exchange, Failure, Handler, Reply};
use crate::secret::Secret;

pub use board::{Board, Page, SessionRow};
pub(crate) use query::Query;
use session_cookie::{AdminSession, Passes};

/// Where the dashboard lives; its cookie is sent nowhere else.
pub(crate) const BASE: &str = "/admin";
/// Largest content of a call: the form of a new session has a few fields.
pub(crate) const BODY_MAX: usize = 16 * 1024;
/// How long an event stream lasts: the page comes back at once with its last event, and is asked
/// again who it is. So a pass that ran out or was taken back hears nothing for longer than this.
const STREAM: Duration = Duration::from_secs(60);
/// Wrong tokens that one client address may try: a person pastes the wrong one, and again.
const WRONG_TOKENS: Rate = Rate {
    burst: 8,
    interval: Duration::from_secs(15),
};
/// How the audit names who signed in: the cookie stands for the token.
const WHO: &str = "admin_token via cookie";
/// The cookie. Under TLS it is Secure and says so in its name, so that no page without TLS can set
/// one like it.
const COOKIE: &str = "neck_admin";
const SECURE_COOKIE: &str = "__Secure-neck_admin";

/// Whether a path is the dashboard's.
#[must_use]
pub(crate) fn is_below(path: &str) -> bool {
    path.strip_prefix(BASE)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Signs operators in and out and shows them their page.
#[derive(Debug)]
pub(crate) struct Dashboard {
    token: Secret,
    passes: Passes,
    /// Wrong tokens by client address.
    wrong_tokens: ClientRateLimit,
    audit: Arc<Audit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    token: String,
}

impl Dashboard {
    /// A dashboard that this token opens.
    #[must_use]
    pub(crate) fn new(token: Secret, audit: Arc<Audit>) -> Arc<Self> {
        Arc::new(Self {
            passes: Passes::new(&token),
            wrong_tokens: ClientRateLimit::new(WRONG_TOKENS),
            token,
            audit,
        })
    }

    /// The dashboard's own routes. Add those of the fleet, secured, and serve it as a [`Desk`].
    #[must_use]
    pub(crate) fn router(self: &Arc<Self>) -> Router {
        let gate: Arc<dyn auth::Gate> = Arc::<Self>::clone(self);
        let (shown, signs_in, signs_out) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        let mut router = Router::new(gate)
            .under(BASE)
            .audit(Arc::clone(&self.audit))
            .open(Method::Get, "", move |call: Call| {
                let reply = page::show(&shown, &call);
                async move { reply }
            })
            .open(Method::Get, "/", |_| async {
                Ok(Reply::empty(308).header("Location", BASE))
            })
            .open(Method::Post, "/api/session", move |call: Call| {
                let reply = signs_in.sign_in(&call);
                async move { reply }
            })
            .secured(Method::Delete, "/api/session", move |call: Call| {
                let reply = signs_out.sign_out(&call);
                async move { Ok(reply) }
            });
        for asset in &assets::ASSETS {
            router = router.open(Method::Get, asset.path, move |_| async move {
                Ok(page::guarded(asset.reply()))
            });
        }
        router
    }

    /// The pass that a request's cookie holds. A script of this origin can put cookies of the same
    /// name in front of ours: every one is looked at.
    fn pass(&self, asking: &Asking<'_>) -> Option<AdminSession> {
        let pairs = asking.field("cookie")?.split(';').map(str::trim);
        pairs
            .filter_map(|pair| pair.split_once('='))
            .filter(|(name, _)| [COOKIE, SECURE_COOKIE].contains(name))
            .find_map(|(_, value)| self.passes.read(value, clock::wall()))
    }

    fn sign_in(&self, call: &Call) -> Result<Reply, Failure> {
        let outcome = self.exchange_token(call);
        let who = if outcome.is_ok() { WHO } else { "nobody" };
        self.audit.note(who, &Caller::of(call), &outcome);
        outcome
    }

    /// A cookie for a token.
    fn exchange_token(&self, call: &Call) -> Result<Reply, Failure> {
        authenticator::check_sender(&Asking::Whole(call))?;
        let wish: SignIn = call.json()?;
        let ip = call.peer.ip();
        // Compared first: wrong tokens of others behind the same address lock nobody out.
        if !self.token.matches(wish.token.as_bytes()) {
            self.wrong_tokens.take(clock::now(), ip).map_err(|wait| {
                Failure::new(429, "too_many_requests", "too many wrong tokens").retry_after(wait)
            })?;
            return Err(authenticator::unauthorized("the token is wrong"));
        }
        self.wrong_tokens.reset(ip);
        let pass = self.passes.issue(clock::wall()).map_err(|error| {
            log::error!(target: "http", "cannot issue a pass: {error} request_id={}", call.request_id);
            Failure::new(500, "internal", "the kernel has no random bytes to give")
        })?;
        let age = session_cookie::GOOD_FOR.as_secs();
        Ok(Reply::empty(204).header(
            "Set-Cookie",
            set_cookie(call, &self.passes.cookie(&pass), age),
        ))
    }

    fn sign_out(&self, call: &Call) -> Reply {
        if let Some(pass) = self.pass(&Asking::Whole(call)) {
            self.passes.revoke(&pass, clock::wall());
        }
        Reply::empty(204).header("Set-Cookie", set_cookie(call, "", 0))
    }
}

/// The browser's word on TLS counts: a proxy before us may end it.
fn set_cookie(call: &Call, value: &str, age: u64) -> String {
    let origin = call.header("origin").unwrap_or_default();
    let (name, secure) = if call.secure || origin.starts_with("https://") {
        (SECURE_COOKIE, "; Secure")
    } else {
        (COOKIE, "")
    };
    format!("{name}={value}; Path={BASE}; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
}

/// Serves the dashboard's routes: nothing of what they answer is kept by any cache or read by
/// another origin.
pub(crate) struct Desk(pub Router);

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Desk").field(&self.0).finish()
    }
}

const PRIVATE: [(&str, &str); 3] = [
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
];

fn private(failure: Failure) -> Failure {
    PRIVATE
        .into_iter()
        .fold(failure, |f, (name, value)| f.header(name, value))
}

#[async_trait]
impl Handler for Desk {
    fn admit(&self, exchange: &Exchange) -> Result<(), Failure> {
        self.0.admit(exchange).map_err(private)
    }

    async fn answer(&self, call: Call) -> Result<Reply, Failure> {
        let reply = self.0.answer(call).await.map_err(private)?;
        let reply = reply.lasting(STREAM);
        let lacks = |reply: &Reply, name: &str| reply.field(name).is_none();
        Ok(PRIVATE.into_iter().fold(reply, |reply, (name, value)| {
            if lacks(&reply, name) {
                reply.header(name, value)
            } else {
                reply
            }
        }))
    }
}
