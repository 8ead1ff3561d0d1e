//! The stream program's own HTTP API, on loopback under its session's prefix.
//!
//! Generations 2 (with `streamer` processes) and 3 (all in one) answer these calls alike; they
//! differ in `config.js`, which is how [`StreamApi::ready`] tells them apart.

use std::net::IpAddr;
use std::time::Duration;

use http_types::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::clock;
use crate::http::client::{Answer, Client, ClientError, Incoming, Outgoing};
use crate::tls::Trust;

/// The field by which the stream program learns who is asking. Whoever sends it is believed, so
/// the proxy strips it from visitors' requests.
pub(crate) const USER_HEADER: &str = "X-Forwarded-User";

/// Pause between looks at a program that is starting: it needs 25 to 40 ms.
const READY_PAUSE: Duration = Duration::from_millis(25);
/// Time for one look.
const LOOK: Duration = Duration::from_secs(2);
/// Time for a call that the program answers only after asking the body; its connect limit is
/// 10 s.
const WITHIN: Duration = Duration::from_secs(12);
/// Longest user name.
const USER_MAX: usize = 128;

/// Why a call to the stream program did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamApiError {
    /// No answer.
    #[error("stream program, {0}: {1}")]
    Call(&'static str, #[source] ClientError),
    /// An answer that makes no sense.
    #[error("the stream program's answer to {0} makes no sense: {1}")]
    Garbled(&'static str, String),
    /// Never listened.
    #[error("the stream program did not answer on port {} within {}; its log says why", .0, humantime::format_duration(*.1))]
    NotReady(u16, Duration),
    /// This process has no descriptor, memory or port for the call.
    #[error("{0}")]
    Unsent(#[source] ClientError),
    /// An error status: the first number is the status.
    #[error("the stream program answers {0} with {1}: {2}")]
    Status(&'static str, u16, String),
    /// Somebody else's program has the port.
    #[error("another program owns port {0} ({1}); stop it or move sessions.port_range_start")]
    Stranger(u16, String),
    /// The user name cannot be sent.
    #[error("{:?} is no user name for the stream program; use up to {USER_MAX} visible ASCII characters", .0, USER_MAX = USER_MAX)]
    User(String),
}

/// What differs between releases of the stream program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamApiVersion {
    /// `config.js` is an ES module; one `streamer` process for each stream.
    V2,
    /// `config.js` is a classic script; everything in one process.
    V3,
}

/// An app as the stream program lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ListedApp {
    /// Sunshine's derived id.
    pub app_id: u32,
    /// Its title.
    pub title: String,
}

/// The stream program of one session, as one user.
#[derive(Clone, Debug)]
pub(crate) struct StreamApi {
    port: u16,
    prefix: String,
    user: String,
    client: Client,
}

/// A pairing that the stream program has begun.
#[derive(Debug)]
pub(crate) struct Offer {
    pin: String,
    incoming: Incoming,
}

impl StreamApi {
    /// The program on that loopback port, under that prefix (`/session/<id>`), for that user.
    ///
    /// # Errors
    /// [`StreamApiError::User`] when the name cannot stand in a header field.
    pub(crate) fn new(port: u16, prefix: &str, user: &str) -> Result<Self, StreamApiError> {
        let visible = user.bytes().all(|b| b.is_ascii_graphic());
        if user.is_empty() || user.len() > USER_MAX || !visible {
            return Err(StreamApiError::User(user.chars().take(USER_MAX).collect()));
        }
        let client = Client::new(&Trust::WebPki).map_err(|e| StreamApiError::Call("TLS", e))?;
        Ok(Self {
            port,
            prefix: prefix.trim_end_matches('/').to_owned(),
            user: user.to_owned(),
            client,
        })
    }

    /// The user name that the proxy has to send on this session's behalf.
    #[must_use]
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Waits until the program answers and is the one we mean. The caller watches the process:
    /// one that ends never becomes ready.
    ///
    /// # Errors
    /// [`StreamApiError::Stranger`] at once when another program has the port,
    /// [`StreamApiError::NotReady`] at the deadline, or [`StreamApiError::Unsent`] when this process
    /// lacked what the last call needs.
    pub(crate) async fn ready(&self, within: Duration) -> Result<StreamApiVersion, StreamApiError> {
        let (mut says, mut unsent) = (None, None);
        let look = async {
            loop {
                let looked = self.look().await;
                unsent = None;
                match looked {
                    Err(StreamApiError::Call(_, error)) if error.is_own_shortage() => {
                        unsent = Some(error);
                    }
                    // No HTTP, which a stream program would speak from the start.
                    Err(StreamApiError::Call(_, error @ ClientError::Protocol(_))) => {
                        says = Some(error.to_string());
                    }
                    // Not yet there, busy, or dying.
                    Err(StreamApiError::Call(..)) => {}
                    verdict => return verdict,
                }
                clock::sleep(READY_PAUSE).await;
            }
        };
        let looked = clock::by(clock::now() + within, look).await;
        looked.unwrap_or_else(|_| {
            Err(match (unsent, says) {
                (Some(error), _) => StreamApiError::Unsent(error),
                (None, Some(says)) => StreamApiError::Stranger(self.port, says),
                (None, None) => StreamApiError::NotReady(self.port, within),
            })
        })
    }

    async fn look(&self) -> Result<StreamApiVersion, StreamApiError> {
        let stranger = |says: String| StreamApiError::Stranger(self.port, says);
        let call = self.outgoing(Method::Get, "/api/authenticate").within(LOOK);
        let answer = self.send("authenticate", call).await?;
        if answer.status != 200 {
            return Err(stranger(format!(
                "it answers {} to our user",
                answer.status
            )));
        }
        let call = self.outgoing(Method::Get, "/config.js").within(LOOK);
        let script = self.send("config.js", call).await?;
        let text = String::from_utf8_lossy(&script.body);
        let (prefix, generation) =
            path_prefix(&text).ok_or_else(|| stranger("it has no config.js".into()))?;
        if prefix != self.prefix {
            let shown: String = prefix.chars().take(80).collect();
            return Err(stranger(format!("its prefix is {shown:?}")));
        }
        Ok(generation)
    }

    /// Makes the body known to the program; answers the host's id. Each call adds one.
    ///
    /// # Errors
    /// See [`StreamApiError`].
    pub(crate) async fn add_host(&self, ip: IpAddr, http_port: u16) -> Result<u32, StreamApiError> {
        const CALL: &str = "POST /api/host";
        let call = self
            .outgoing(Method::Post, "/api/host")
            .json(&json!({"address": ip.to_string(), "http_port": http_port}));
        let value: Value = self.ask(CALL, call).await?;
        let id = value.pointer("/host/host_id").and_then(Value::as_u64);
        id.and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| StreamApiError::Garbled(CALL, "there is no host_id".into()))
    }

    /// Begins to pair; the answer's first line is the PIN.
    ///
    /// # Errors
    /// See [`StreamApiError`].
    pub(crate) async fn pair(&self, host: u32) -> Result<Offer, StreamApiError> {
        const CALL: &str = "POST /api/pair";
        #[derive(Deserialize)]
        struct First {
            #[serde(rename = "Pin")]
            pin: String,
        }
        let call = self
            .outgoing(Method::Post, "/api/pair")
            .json(&json!({"host_id": host}));
        let mut incoming = self
            .client
            .open(call)
            .await
            .map_err(|e| StreamApiError::Call(CALL, e))?;
        if incoming.status != 200 {
            let status = incoming.status;
            let says = incoming.whole(LOOK).await.map(|a| a.excerpt());
            return Err(StreamApiError::Status(
                CALL,
                status,
                says.unwrap_or_default(),
            ));
        }
        let line = incoming.line(WITHIN).await;
        let line = line
            .map_err(|e| StreamApiError::Call(CALL, e))?
            .unwrap_or_default();
        let garbled = || StreamApiError::Garbled(CALL, "the first line holds no PIN".into());
        let first: First = serde_json::from_str(&line).map_err(|_| garbled())?;
        if first.pin.len() != 4 || !first.pin.bytes().all(|b| b.is_ascii_digit()) {
            return Err(garbled());
        }
        Ok(Offer {
            pin: first.pin,
            incoming,
        })
    }

    /// The apps of a paired host.
    ///
    /// # Errors
    /// [`StreamApiError::Status`] with 500 when the body does not know us or does not answer.
    pub(crate) async fn apps(&self, host: u32) -> Result<Vec<ListedApp>, StreamApiError> {
        #[derive(Deserialize)]
        struct Listed {
            apps: Vec<ListedApp>,
        }
        let call = self.outgoing(Method::Get, &format!("/api/apps?host_id={host}"));
        let listed: Listed = self.ask("GET /api/apps", call).await?;
        Ok(listed.apps)
    }

    /// The id of the app that runs on the host, 0 when none does.
    ///
    /// # Errors
    /// See [`StreamApiError`].
    pub(crate) async fn running_app(&self, host: u32) -> Result<u32, StreamApiError> {
        const CALL: &str = "GET /api/host";
        let call = self.outgoing(Method::Get, &format!("/api/host?host_id={host}"));
        let value: Value = self.ask(CALL, call).await?;
        let id = value.pointer("/host/current_game").and_then(Value::as_u64);
        id.and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| StreamApiError::Garbled(CALL, "there is no current_game".into()))
    }

    fn outgoing(&self, method: Method, path: &str) -> Outgoing {
        let url = format!("http://127.0.0.1:{}{}{path}", self.port, self.prefix);
        Outgoing::new(method, url)
            .header(USER_HEADER, self.user.as_str())
            .within(WITHIN)
    }

    async fn send(&self, call: &'static str, outgoing: Outgoing) -> Result<Answer, StreamApiError> {
        let sent = self.client.send(outgoing).await;
        sent.map_err(|e| StreamApiError::Call(call, e))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        call: &'static str,
        outgoing: Outgoing,
    ) -> Result<T, StreamApiError> {
        let answer = self.send(call, outgoing).await?;
        if !answer.is_ok() {
            return Err(StreamApiError::Status(
                call,
                answer.status,
                answer.excerpt(),
            ));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|e| StreamApiError::Garbled(call, e.to_string()))
    }
}

impl Offer {
    /// Four digits.
    #[must_use]
    pub(crate) fn pin(&self) -> &str {
        &self.pin
    }

    /// Waits for the second line, the only one that says whether it worked.
    ///
    /// # Errors
    /// See [`StreamApiError`].
    pub(crate) async fn verdict(&mut self, within: Duration) -> Result<bool, StreamApiError> {
        const CALL: &str = "POST /api/pair";
        let line = self.incoming.line(within).await;
        let line = line.map_err(|e| StreamApiError::Call(CALL, e))?;
        let line = line.ok_or_else(|| StreamApiError::Garbled(CALL, "no second line".into()))?;
        match serde_json::from_str(&line) {
            Ok(Value::Object(object)) if object.contains_key("Paired") => Ok(true),
            Ok(Value::String(text)) if text == "PairError" => Ok(false),
            _ => {
                let shown: String = line.chars().take(80).collect();
                Err(StreamApiError::Garbled(
                    CALL,
                    format!("second line {shown:?}"),
                ))
            }
        }
    }
}

/// The prefix that a `config.js` names, and the generation by its form.
fn path_prefix(script: &str) -> Option<(String, StreamApiVersion)> {
    let script = script.trim_start();
    let generation = match script {
        s if s.starts_with("export default") => StreamApiVersion::V2,
        s if s.starts_with("window.") => StreamApiVersion::V3,
        _ => return None,
    };
    let json = script.get(script.find('{')?..=script.rfind('}')?)?;
    let value: Value = serde_json::from_str(json).ok()?;
    Some((value.get("path_prefix")?.as_str()?.to_owned(), generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_of_config_js_name_their_prefix() {
        let v2 = r#"export default {"path_prefix":"/session/a","default_settings":{"fps":60}}"#;
        let v3 = "window.__CONFIG_JS__ = {\"path_prefix\":\"/session/a\"};\n";
        let prefix = "/session/a".to_owned();
        assert_eq!(
            path_prefix(v2),
            Some((prefix.clone(), StreamApiVersion::V2))
        );
        assert_eq!(path_prefix(v3), Some((prefix, StreamApiVersion::V3)));
        for bad in [
            "",
            "<html>",
            "export default {",
            "export default }{",
            "window.x = {}",
        ] {
            assert_eq!(path_prefix(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_user_name_that_cannot_be_sent_is_refused() {
        for bad in ["", "a b", "a\r\nb", "é", &"x".repeat(129)] {
            let made = StreamApi::new(1, "/session/a", bad);
            assert!(matches!(made, Err(StreamApiError::User(_))), "{bad}");
        }
        assert!(StreamApi::new(1, "/session/a", "neck-0123456789abcdef").is_ok());
    }
}
