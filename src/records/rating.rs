//! The experience library's record of a rating (`POST {experience_library.url}/api/v1/ratings`).

use serde::Serialize;

use crate::ids::SessionId;

/// A visitor's rating of an experience; the last one of a session counts.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rating {
    /// The experience, if it had a name.
    pub experience: Option<String>,
    /// 1 to 10: five stars in halves.
    pub score: u8,
    /// The session it was given in.
    pub session_id: SessionId,
    /// The session's district, else the worker's.
    pub district: String,
    /// RFC 3339 time at which it was given.
    pub timestamp: String,
}
