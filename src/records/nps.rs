//! The NPS service's record of a session (`POST {nps.url}/api/v1/ratings`).

use std::net::IpAddr;

use serde::Serialize;

use crate::ids::SessionId;
use crate::protocol::EndReason;

/// One record for each ended session, rated or not.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Record {
    /// The experience, if it had a name.
    pub experience: Option<String>,
    /// The visitor's score, 1 to 10.
    pub score: Option<u8>,
    /// The session.
    pub session_id: SessionId,
    /// The body that rendered.
    pub body_ip: IpAddr,
    /// The session's district, else the worker's.
    pub district: String,
    /// Why it ended.
    pub end_reason: EndReason,
    /// From admission to the end.
    pub duration_ms: u64,
    /// Type of the selected ICE candidate (RFC 8445), if the page told it.
    pub ice_candidate_type: Option<String>,
    /// How often the visitor was disconnected.
    pub disconnect_count: u32,
}
