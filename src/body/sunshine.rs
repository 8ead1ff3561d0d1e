//! The calls to Sunshine's configuration API that a session needs.
//!
//! Every call carries Basic credentials and `Content-Type: application/json` (some releases ask
//! for it even where there is nothing to read), never `Origin` or `Referer` (either would call
//! for a CSRF token), and is held to the certificate of the first meeting.

use std::net::SocketAddr;
use std::time::Duration;

use http_types::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::tofu_pins::{PinError, PinStore};
use crate::http::client::{Answer, Client, ClientError, Outgoing};
use crate::secret::Secret;
use crate::tls::Trust;

/// Time for one call: a local API that answers from memory, over a tunnel.
const WITHIN: Duration = Duration::from_secs(5);
/// Longest user name or password; what an `Authorization` field of 8 KiB surely holds.
const CREDENTIAL_MAX: usize = 1_024;

/// Why a call to Sunshine did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SunshineError {
    /// No answer.
    #[error("sunshine: {0}")]
    Call(#[source] ClientError),
    /// A credential that cannot be sent; which one, and why.
    #[error("{0} {1}")]
    Credential(&'static str, String),
    /// 403: Sunshine does not take requests from our address.
    #[error("sunshine refuses our address (403); set its origin_web_ui_allowed to lan or wan")]
    Forbidden,
    /// The answer makes no sense: not Sunshine, or a Sunshine unlike all we know.
    #[error("sunshine's answer to {0} makes no sense: {1}")]
    Garbled(&'static str, String),
    /// Nobody has given this Sunshine a user name and password yet.
    #[error("sunshine has no user name and password yet; set them on its welcome page")]
    NotConfigured,
    /// The certificate is not the pinned one, or the pin cannot be used.
    #[error("{0}")]
    Pin(#[source] PinError),
    /// Any other error status, with what Sunshine says.
    #[error("sunshine answers {0} with {1}: {2}")]
    Status(&'static str, u16, String),
    /// 401: wrong user name or password.
    #[error(
        "sunshine refuses the user name or password (401); check sunshine_user and sunshine_pass"
    )]
    Unauthorized,
}

/// User name and password of a Sunshine.
#[derive(Clone, Debug)]
pub(crate) struct SunshineCredentials {
    user: String,
    password: Secret,
}

impl SunshineCredentials {
    /// Credentials that Basic authentication can carry (RFC 7617: no control characters, no
    /// colon in the user name).
    ///
    /// # Errors
    /// [`SunshineError::Credential`] names the field.
    pub(crate) fn new(user: impl Into<String>, password: Secret) -> Result<Self, SunshineError> {
        let user = user.into();
        for (field, text) in [
            ("sunshine_user", user.as_str()),
            ("sunshine_pass", password.expose()),
        ] {
            let why = if text.len() > CREDENTIAL_MAX {
                format!(
                    "has {} bytes, at most {CREDENTIAL_MAX} are sent",
                    text.len()
                )
            } else if text.chars().any(char::is_control) {
                "has a control character, which cannot be sent".to_owned()
            } else if text.is_empty() {
                "is empty".to_owned()
            } else {
                continue;
            };
            return Err(SunshineError::Credential(field, why));
        }
        if user.contains(':') {
            let why = "has a colon, which Basic authentication cannot carry".to_owned();
            return Err(SunshineError::Credential("sunshine_user", why));
        }
        Ok(Self { user, password })
    }
}

/// A paired client as Sunshine lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct PairedClient {
    /// The name that was posted with the PIN; not unique.
    #[serde(default)]
    pub name: String,
    /// Sunshine's key for it.
    pub uuid: String,
}

/// One body's Sunshine.
#[derive(Clone, Debug)]
pub(crate) struct Sunshine {
    address: SocketAddr,
    credentials: SunshineCredentials,
    pins: PinStore,
    pub(super) within: Duration,
}

impl Sunshine {
    /// The configuration API at `address`.
    #[must_use]
    pub(crate) fn new(
        address: SocketAddr,
        credentials: SunshineCredentials,
        pins: PinStore,
    ) -> Self {
        Self {
            address,
            credentials,
            pins,
            within: WITHIN,
        }
    }

    /// The same with another time for each call.
    #[must_use]
    pub(crate) fn within(mut self, span: Duration) -> Self {
        self.within = span;
        self
    }

    /// Where it listens.
    #[must_use]
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hands over a PIN. `true` only means that some pending pairing took it.
    ///
    /// # Errors
    /// See [`SunshineError`].
    pub(crate) async fn post_pin(&self, pin: &str, name: &str) -> Result<bool, SunshineError> {
        self.order(
            "POST /api/pin",
            "/api/pin",
            json!({"pin": pin, "name": name}),
        )
        .await
    }

    /// The paired clients.
    ///
    /// # Errors
    /// See [`SunshineError`].
    pub(crate) async fn clients(&self) -> Result<Vec<PairedClient>, SunshineError> {
        const CALL: &str = "GET /api/clients/list";
        let value = self
            .ask(CALL, Method::Get, "/api/clients/list", None)
            .await?;
        let clients = list(value, "named_certs")
            .ok_or_else(|| garbled(CALL, "there is no list of clients"))?;
        let client =
            |c: &Value| PairedClient::deserialize(c).map_err(|e| garbled(CALL, &e.to_string()));
        clients.iter().map(client).collect()
    }

    /// Unpairs every client whose name `unwanted` picks; answers their names.
    ///
    /// # Errors
    /// See [`SunshineError`]; those before the failing one are unpaired.
    pub(crate) async fn unpair(
        &self,
        unwanted: impl Fn(&str) -> bool + Send,
    ) -> Result<Vec<String>, SunshineError> {
        let mut gone = Vec::new();
        for client in self.clients().await? {
            if !unwanted(&client.name) {
                continue;
            }
            let body = json!({"uuid": client.uuid});
            // `false` says that there is no such client any more: another caller removed it first.
            self.order("POST /api/clients/unpair", "/api/clients/unpair", body)
                .await?;
            gone.push(client.name);
        }
        Ok(gone)
    }

    /// A call whose answer is `{"status": true|false}`.
    pub(super) async fn order(
        &self,
        call: &'static str,
        path: &str,
        body: Value,
    ) -> Result<bool, SunshineError> {
        let answer = self.ask(call, Method::Post, path, Some(body)).await?;
        verdict(&answer).ok_or_else(|| garbled(call, "there is no status"))
    }

    pub(super) async fn ask(
        &self,
        call: &'static str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, SunshineError> {
        let ip = self.address.ip();
        let pin = self.pins.expected(ip).await.map_err(SunshineError::Pin)?;
        let client = Client::new(&Trust::Pinned(pin)).map_err(SunshineError::Call)?;
        let outgoing = Outgoing::new(method, format!("https://{}{path}", self.address))
            .basic(&self.credentials.user, &self.credentials.password)
            .within(self.within);
        let outgoing = match body {
            Some(body) => outgoing.json(&body),
            None => outgoing.header("content-type", "application/json"),
        };
        let answer = client.send(outgoing).await.map_err(|error| match error {
            ClientError::Pin(_) => SunshineError::Pin(self.pins.changed(ip)),
            error => SunshineError::Call(error),
        })?;
        judge(call, &answer)?;
        let value =
            serde_json::from_slice(&answer.body).map_err(|e| garbled(call, &e.to_string()))?;
        // Pinned only now: another program on the port would not accept our credentials and answer JSON.
        if let (None, Some(seen)) = (pin, answer.fingerprint) {
            self.pins.keep(ip, seen).await.map_err(SunshineError::Pin)?;
            log::info!(target: "pairing", body:% = ip; "first meeting, pinned certificate {seen}");
        }
        Ok(value)
    }
}

pub(super) fn garbled(call: &'static str, why: &str) -> SunshineError {
    SunshineError::Garbled(call, why.to_owned())
}

/// A list in an answer. Releases before 2025 write an empty one as an empty string.
pub(super) fn list(mut answer: Value, name: &str) -> Option<Vec<Value>> {
    match answer.get_mut(name)?.take() {
        Value::Array(items) => Some(items),
        Value::String(text) if text.is_empty() => Some(Vec::new()),
        _ => None,
    }
}

/// The verdict in an answer. Releases before 2025 write it as a string.
fn verdict(answer: &Value) -> Option<bool> {
    match answer.get("status")? {
        Value::Bool(status) => Some(*status),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn judge(call: &'static str, answer: &Answer) -> Result<(), SunshineError> {
    #[derive(Deserialize)]
    struct Says {
        error: String,
    }
    let to_welcome = || {
        let location = answer.fields.text("location").unwrap_or_default();
        location.contains("/welcome")
    };
    Err(match answer.status {
        200..=299 => return Ok(()),
        401 => SunshineError::Unauthorized,
        403 => SunshineError::Forbidden,
        300..=399 if to_welcome() => SunshineError::NotConfigured,
        status => {
            let says = serde_json::from_slice::<Says>(&answer.body).map_or_else(
                |_| answer.excerpt(),
                |s| s.error.chars().take(200).collect(),
            );
            SunshineError::Status(call, status, says)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_and_lists_of_old_releases_are_understood() {
        for (answer, expected) in [
            (json!({"status": true}), Some(true)),
            (json!({"status": "false"}), Some(false)),
            (json!({"status": 1}), None),
            (json!([]), None),
        ] {
            assert_eq!(verdict(&answer), expected, "{answer}");
        }
        for (answer, expected) in [
            (json!({"apps": [1]}), Some(vec![json!(1)])),
            (json!({"apps": ""}), Some(Vec::new())),
            (json!({"apps": "x"}), None),
            (json!("apps"), None),
        ] {
            assert_eq!(list(answer.clone(), "apps"), expected, "{answer}");
        }
    }

    #[test]
    fn credentials_that_cannot_be_sent_are_refused_by_name() {
        let long = "x".repeat(10_000);
        for (user, password, field) in [
            ("a:b", "p", "sunshine_user"),
            ("a\nb", "p", "sunshine_user"),
            ("", "p", "sunshine_user"),
            ("u", "p\r\nX-Evil: 1", "sunshine_pass"),
            ("u", "", "sunshine_pass"),
            ("u", &long, "sunshine_pass"),
            (&long, "p", "sunshine_user"),
        ] {
            let error = SunshineCredentials::new(user, Secret::new(password)).unwrap_err();
            assert!(error.to_string().starts_with(field), "{error}");
            assert!(!error.to_string().contains("Evil"), "{error}");
        }
        for (user, password) in [("sunshine", "sun'\"shine"), ("zoë", "pass:wörd €")] {
            assert!(SunshineCredentials::new(user, Secret::new(password)).is_ok());
        }
    }
}
