//! The HTTP API: everything below the path prefix, and 404 for the rest.

use std::sync::Arc;

use async_trait::async_trait;
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use http_types::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::access::{self, Claim, Denied};
use super::child::Streamers;
use super::gamestream::{RequestBody, RequestBodyError};
use super::hosts;
use super::settings::CardSettings;
use super::store::{CardStore, Host, StoreError, User};
use super::{files, viewing};
use crate::http::client::Client;
use crate::http::server::Service;
use crate::http::{Done, Exchange, Reply};
use crate::wire::RequestHead;

/// Largest request content; the real ones are under 100 bytes.
const BODY_MAX: usize = 16 * 1024;

/// What all requests share.
pub(super) struct CardState {
    /// The configuration.
    pub(super) settings: CardSettings,
    /// Users and hosts.
    pub(super) store: CardStore,
    /// The children.
    pub(super) streamers: Arc<Streamers>,
    /// What bodies are called with.
    pub(super) client: Client,
}

impl CardState {
    /// The body behind a host, as `user` sees it.
    pub(super) fn body<'a>(&'a self, host: &'a Host, user: &'a User) -> RequestBody<'a> {
        RequestBody {
            client: &self.client,
            address: &host.address,
            http_port: host.http_port,
            unique_id: &user.client_unique_id,
        }
    }
}

/// Why a request is not granted; each is a status and a short sentence in plain text.
#[derive(Debug)]
pub(super) enum CardRefusal {
    /// 400.
    Bad(String),
    /// 401 or 400.
    Denied(Denied),
    /// 403.
    Forbidden(&'static str),
    /// 404.
    NotFound(&'static str),
    /// 500.
    Body(RequestBodyError),
    /// 500.
    Store(StoreError),
}

impl From<Denied> for CardRefusal {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<RequestBodyError> for CardRefusal {
    fn from(error: RequestBodyError) -> Self {
        Self::Body(error)
    }
}

impl From<StoreError> for CardRefusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl CardRefusal {
    fn reply(self) -> Reply {
        let (status, text) = match self {
            Self::Bad(why) => (400, why),
            Self::Denied(Denied::Malformed(why)) => (400, why.to_owned()),
            Self::Denied(Denied::Unauthorized) => (401, "not authenticated".to_owned()),
            Self::Forbidden(why) => (403, why.to_owned()),
            Self::NotFound(what) => (404, format!("{what} not found")),
            Self::Body(error) => (500, format!("moonlight error: {error}")),
            Self::Store(error) => (500, error.to_string()),
        };
        Reply::text(status, "text/plain; charset=utf-8", text)
    }
}

/// One request, as the routes see it.
pub(super) struct Request<'a> {
    head: &'a RequestHead,
    content: &'a [u8],
}

impl Request<'_> {
    /// The content as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, CardRefusal> {
        let kind = self.head.fields.text("content-type").unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(CardRefusal::Bad("Content type error".to_owned()));
        }
        serde_json::from_slice(self.content)
            .map_err(|error| CardRefusal::Bad(format!("Json deserialize error: {error}")))
    }

    /// `?host_id=`.
    pub(super) fn host_id(&self) -> Result<u32, CardRefusal> {
        let missing =
            || CardRefusal::Bad("Query deserialize error: missing field `host_id`".into());
        let query = self.head.query().ok_or_else(missing)?;
        let url = Url::parse(&format!("http://x/?{query}")).map_err(|_| missing())?;
        let pair = url.query_pairs().find(|(name, _)| name == "host_id");
        pair.and_then(|(_, id)| id.parse().ok()).ok_or_else(missing)
    }
}

/// The service.
pub(super) struct CardApi(pub(super) Arc<CardState>);

#[async_trait]
impl Service for CardApi {
    async fn serve(&self, mut exchange: Exchange) -> Done {
        let content = match exchange.content(BODY_MAX).await {
            Ok(content) => content,
            Err(failure) => return exchange.refuse(failure).await,
        };
        let request = Request {
            head: &exchange.head,
            content: &content,
        };
        let reply = self.reply(&request).await;
        exchange.answer(reply).await
    }
}

impl CardApi {
    async fn reply(&self, request: &Request<'_>) -> Reply {
        let prefix = &self.0.settings.web_server.url_path_prefix;
        let Some(path) = below(prefix, request.head.path()) else {
            return Reply::empty(404);
        };
        let reply = match self.route(path, request).await {
            Ok(reply) => reply,
            Err(refusal) => refusal.reply(),
        };
        reply
            .header(
                "Cache-Control",
                "no-store, no-cache, must-revalidate, private",
            )
            .header("Pragma", "no-cache")
            .header("Expires", "0")
    }

    async fn route(&self, path: &str, request: &Request<'_>) -> Result<Reply, CardRefusal> {
        let method = request.head.method.as_str();
        let Some(call) = path.strip_prefix("/api/") else {
            return self.file(method, path, request);
        };
        let user = self.caller(request.head).await?;
        let state = &self.0;
        match (method, call) {
            ("GET", "authenticate") => Ok(Reply::empty(200)),
            ("GET", "user") => self.user(user),
            ("GET", "hosts") => hosts::list(state, user),
            ("GET", "host") => hosts::show(state, user, request.host_id()?).await,
            ("POST", "host") => hosts::add(state, user, request.json()?).await,
            ("DELETE", "host") => hosts::remove(state, user, request.host_id()?).await,
            ("POST", "pair") => {
                let Named { host_id } = request.json()?;
                hosts::pair(state, user, host_id)
            }
            ("GET", "apps") => hosts::apps(state, user, request.host_id()?).await,
            ("POST", "host/cancel") => {
                let Named { host_id } = request.json()?;
                hosts::cancel(state, user, host_id).await
            }
            ("GET", "host/stream") => self.stream(user, request.head),
            _ => Err(CardRefusal::NotFound("route")),
        }
    }

    fn file(&self, method: &str, path: &str, request: &Request<'_>) -> Result<Reply, CardRefusal> {
        let reply = if path == "/config.js" {
            Some(self.config())
        } else {
            files::serve(path, request.head.fields.text("if-none-match"))
        };
        match (reply, method) {
            (Some(reply), "GET" | "HEAD") => Ok(reply),
            (Some(_), _) => Ok(Reply::empty(405).header("Allow", "GET, HEAD")),
            (None, _) => Err(CardRefusal::NotFound("file")),
        }
    }

    fn config(&self) -> Reply {
        let config = json!({
            "path_prefix": self.0.settings.web_server.url_path_prefix,
            "default_settings": self.0.settings.default_settings,
        });
        Reply::text(200, "text/javascript", format!("export default {config}"))
    }

    /// Who calls; a user that does not exist yet is made where that is allowed.
    async fn caller(&self, head: &RequestHead) -> Result<u32, CardRefusal> {
        let server = &self.0.settings.web_server;
        // Of several headers the first one counts. What is not ASCII must reach the judge too.
        let header = |name: &str| {
            let (_, value) = head
                .fields
                .iter()
                .find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))?;
            Some(std::str::from_utf8(value).unwrap_or("\u{fffd}"))
        };
        let store = &self.0.store;
        let name = match access::claim(server, header)? {
            Claim::Name(name) => name,
            Claim::Default(id) if store.user(id).is_some() => return Ok(id),
            Claim::Default(_) => return Err(Denied::Unauthorized.into()),
        };
        let may_create = server
            .forwarded_header
            .as_ref()
            .is_some_and(|header| header.auto_create_missing_user);
        match store.user_named(&name) {
            Some(id) => Ok(id),
            None if may_create => Ok(store.add_user(&name).await?),
            None => Err(Denied::Unauthorized.into()),
        }
    }

    fn user(&self, id: u32) -> Result<Reply, CardRefusal> {
        let user = self.0.store.user(id).ok_or(CardRefusal::NotFound("user"))?;
        let is_default_user = self.0.settings.web_server.default_user_id == Some(id);
        Ok(Reply::json(
            200,
            &json!({
                "id": id, "is_default_user": is_default_user, "name": user.name,
                "role": user.role, "client_unique_id": user.client_unique_id,
            }),
        ))
    }

    fn stream(&self, user: u32, head: &RequestHead) -> Result<Reply, CardRefusal> {
        let key = head.fields.get("sec-websocket-key");
        let (true, Some(key)) = (head.is_upgrade, key) else {
            return Err(CardRefusal::Bad("no WebSocket upgrade".to_owned()));
        };
        let (accept, state) = (derive_accept_key(key), self.0.clone());
        Ok(
            Reply::switch(move |upgraded| viewing::serve(state, user, upgraded))
                .header("Upgrade", "websocket")
                .header("Sec-WebSocket-Accept", accept),
        )
    }
}

/// A request that names a host.
#[derive(Deserialize)]
struct Named {
    host_id: u32,
}

/// The part of `path` after the prefix, empty or with its slash.
fn below<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    path.strip_prefix(prefix)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_the_prefix_is_served() {
        for (path, rest) in [
            ("/session/abc", Some("")),
            ("/session/abc/", Some("/")),
            ("/session/abc/stream.html", Some("/stream.html")),
            ("/session/abcd", None),
            ("/session/ABC/", None),
            ("/stream.html", None),
            ("/x/session/abc/", None),
        ] {
            assert_eq!(below("/session/abc", path), rest, "{path}");
        }
        assert_eq!(below("", "/stream.html"), Some("/stream.html"));
    }
}
