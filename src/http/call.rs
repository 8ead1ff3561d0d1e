//! One API request, whole and bounded.

use std::net::SocketAddr;

use async_trait::async_trait;
use http_types::{Method, Request};
use serde::de::DeserializeOwned;

use super::exchange::Exchange;
use super::reply::{Failure, Reply};
use crate::ids::RequestId;

/// A request to a [`Handler`]: head and body are complete.
#[derive(Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Raw path as received, not percent-decoded.
    pub path: String,
    /// Raw query without the question mark.
    pub query: Option<String>,
    /// Content, at most the server's limit.
    pub body: Vec<u8>,
    /// Address of the client, or of the proxy before it.
    pub peer: SocketAddr,
    /// Names this request in logs and errors.
    pub request_id: RequestId,
    /// The `Host` field.
    pub host: String,
    /// Whether the connection is under TLS.
    pub secure: bool,
    /// Parts of the path that a route named.
    pub params: Vec<(&'static str, String)>,
    pub(super) request: Request,
}

impl Call {
    /// First value of a field, if it is ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request
            .header(name)
            .map(|values| values.get(0).map_or("", |v| v.as_str()))
    }

    /// The part of the path that the route calls `name`; empty when it names none so.
    #[must_use]
    pub fn param(&self, name: &str) -> &str {
        self.params
            .iter()
            .find(|(n, _)| *n == name)
            .map_or("", |(_, value)| value)
    }

    /// Percent-decoded value of a query parameter.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<String> {
        let url = http_types::Url::parse(&format!("http://x/?{}", self.query.as_deref()?)).ok()?;
        url.query_pairs()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The content as JSON.
    ///
    /// # Errors
    /// 415 without `Content-Type: application/json`, 400 that names the field or the place.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        self.check_json()?;
        // A list would be taken for the fields in their order.
        if self.body.trim_ascii_start().starts_with(b"[") {
            return Err(bad_json("a list, send an object"));
        }
        // Tracking the path costs more than reading: it is only done for a request that is refused.
        serde_json::from_slice(&self.body).or_else(|_| self.json_with_place())
    }

    /// Whether the content is said to be JSON.
    ///
    /// # Errors
    /// 415 when it is not.
    pub fn check_json(&self) -> Result<(), Failure> {
        let kind = self.header("content-type").unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Failure::new(
                415,
                "unsupported_media_type",
                "send Content-Type: application/json",
            ));
        }
        Ok(())
    }

    fn json_with_place<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let mut reader = serde_json::Deserializer::from_slice(&self.body);
        let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string();
            bad_json(&if path == "." || path == "?" {
                error.inner().to_string()
            } else {
                format!("{path}: {}", error.inner())
            })
        })?;
        reader.end().map_err(|e| bad_json(&e.to_string()))?;
        Ok(value)
    }
}

pub(crate) fn bad_json(what: &str) -> Failure {
    Failure::new(400, "bad_request", format!("invalid JSON body: {what}"))
}

/// Answers calls.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Judges a request by its head, before its content is read: who may not send it should not
    /// make us hold it.
    ///
    /// # Errors
    /// The error that the client gets.
    fn admit(&self, exchange: &Exchange) -> Result<(), Failure> {
        let _ = exchange;
        Ok(())
    }

    /// The answer to one call.
    async fn answer(&self, call: Call) -> Result<Reply, Failure>;
}

#[async_trait]
impl<F, Fut> Handler for F
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Failure>> + Send,
{
    async fn answer(&self, call: Call) -> Result<Reply, Failure> {
        self(call).await
    }
}

/// A deadline as users write it: an RFC 3339 time, or a span from now (`30m`).
///
/// # Errors
/// 400 that names the field.
pub(crate) fn deadline(text: &str) -> Result<std::time::SystemTime, Failure> {
    if let Ok(at) = humantime::parse_rfc3339(text) {
        return Ok(at);
    }
    let span = humantime::parse_duration(text).ok();
    let at = span.and_then(|span| crate::clock::wall().checked_add(span));
    at.filter(|at| *at <= crate::clock::latest())
        .ok_or_else(|| {
            let what =
                format!("deadline: {text:?} is neither an RFC 3339 time nor a span such as 30m");
            Failure::new(400, "bad_request", what)
        })
}
