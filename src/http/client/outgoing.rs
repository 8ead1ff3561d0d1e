//! Calls on their way out.

use std::time::Duration;

use http_types::{Method, Request, Url};
use serde::Serialize;
use smol::io::AsyncReadExt as _;

use super::ClientError;
use crate::secret::Secret;

/// Time for a whole call when the caller names none.
const WITHIN: Duration = Duration::from_secs(10);

/// A call to be made.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub(super) method: Method,
    pub(super) url: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    pub(super) within: Duration,
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

/// The bytes of a call.
pub(super) async fn encode(call: &Outgoing, url: Url) -> Result<Vec<u8>, ClientError> {
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
