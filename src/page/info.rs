//! What the page may ask about its session.

use serde::Serialize;

use crate::ids::SessionId;
use crate::protocol::{EndReason, Status};

/// Answer to `GET /session/<id>/_neck/session.json`, never cached. A session that is unknown or
/// forgotten answers 404; one that ended and is still remembered answers 200 with its reason
/// (404 with `end_reason` in the JSON body is understood as well).
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SessionInfo {
    /// The session.
    pub session_id: SessionId,
    /// Where it is in its life: while `starting` the page waits, in `ending` and `ended` it
    /// shows that the stream is over, else it may reload the stream.
    pub status: Status,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// Servers for the microphone's relay, with credentials fresh enough to start now; empty
    /// when the microphone is not offered.
    pub ice_servers: Vec<BrowserIceServer>,
}

/// One entry of the browser's `RTCConfiguration.iceServers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct BrowserIceServer {
    /// `turn:` and `stun:` addresses.
    pub urls: Vec<String>,
    /// TURN user name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// TURN password: meant for this browser, so no `Secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_reads_the_names_it_expects() {
        let info = SessionInfo {
            session_id: "0123456789abcdef0123456789abcdef".parse().unwrap(),
            status: Status::Ended,
            end_reason: Some(EndReason::MaxDuration),
            ice_servers: vec![BrowserIceServer {
                urls: vec!["turn:192.0.2.1:3478".to_owned()],
                username: None,
                credential: Some("c".to_owned()),
            }],
        };
        assert_eq!(
            serde_json::to_string(&info).unwrap(),
            r#"{"session_id":"0123456789abcdef0123456789abcdef","status":"ended","end_reason":"max_duration","ice_servers":[{"urls":["turn:192.0.2.1:3478"],"credential":"c"}]}"#
        );
    }
}
