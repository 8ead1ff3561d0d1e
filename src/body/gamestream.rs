//! The calls to Sunshine's plain GameStream port that need no pairing: is an app running, and drop
//! the pending pairing of one client.

use std::net::SocketAddr;
use std::time::Duration;

use http_types::{Method, Url};

use crate::http::client::{Client, ClientError, Outgoing};
use crate::tls::Trust;

/// Time for one call: Sunshine answers from memory, over a tunnel.
const WITHIN: Duration = Duration::from_secs(3);

/// Why a call gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GameStreamError {
    /// No answer.
    #[error("sunshine's GameStream port: {0}")]
    Call(#[source] ClientError),
    /// The answer is not what Sunshine says.
    #[error("sunshine's answer to {0} makes no sense: {1:?}")]
    Garbled(&'static str, String),
}

/// What runs on a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occupation {
    /// `currentgame`: the id of the running app, 0 for none. Negative after an app that ended by
    /// itself within 5 s of its launch was closed; stream programs cannot read that.
    pub app: i64,
    /// Whether `state` says that nothing runs.
    pub is_free: bool,
}

impl Occupation {
    /// Whether the next session finds the body as it should be.
    #[must_use]
    pub(crate) fn is_over(self) -> bool {
        self.app == 0 && self.is_free
    }
}

/// Sunshine's GameStream side over plain HTTP.
#[derive(Clone, Debug)]
pub(crate) struct GameStream {
    address: SocketAddr,
}

impl GameStream {
    /// The GameStream port at `address`.
    #[must_use]
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// What runs.
    ///
    /// # Errors
    /// See [`GameStreamError`].
    pub(crate) async fn occupation(&self) -> Result<Occupation, GameStreamError> {
        const CALL: &str = "GET /serverinfo";
        let text = self.get("serverinfo", &[]).await?;
        let garbled = || garbled(CALL, &text);
        let app = tag(&text, "currentgame").and_then(|game| game.trim().parse().ok());
        let state = tag(&text, "state").ok_or_else(garbled)?;
        Ok(Occupation {
            app: app.ok_or_else(garbled)?,
            is_free: state.ends_with("FREE"),
        })
    }

    /// Drops what Sunshine keeps of a pairing of that client; answers whether there was anything.
    /// A phase out of its order is the one call after which Sunshine forgets the pairing, and it
    /// touches no other client's.
    ///
    /// # Errors
    /// See [`GameStreamError`].
    pub(crate) async fn drop_pairing(&self, unique_id: &str) -> Result<bool, GameStreamError> {
        let query = [("uniqueid", unique_id), ("serverchallengeresp", "00")];
        let text = self.get("pair", &query).await?;
        match text {
            text if text.contains("Out of order") => Ok(true),
            text if text.contains("Invalid uniqueid") => Ok(false),
            text => Err(garbled("GET /pair", &text)),
        }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<String, GameStreamError> {
        let base = format!("http://{}/{path}", self.address);
        let mut url =
            Url::parse(&base).map_err(|e| GameStreamError::Garbled("GET", e.to_string()))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let client = Client::new(&Trust::WebPki).map_err(GameStreamError::Call)?;
        let outgoing = Outgoing::new(Method::Get, url.to_string()).within(WITHIN);
        let answer = client.send(outgoing).await.map_err(GameStreamError::Call)?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }
}

fn garbled(call: &'static str, text: &str) -> GameStreamError {
    GameStreamError::Garbled(call, text.chars().take(200).collect())
}

/// The text of the first `<name>text</name>`.
fn tag<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}
