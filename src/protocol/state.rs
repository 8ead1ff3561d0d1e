//! The states of a session, and why it ended.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::word::OtherWord;

/// State of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being started; [`Phase`] says how far.
    Starting,
    /// The stream page can be opened, nobody has yet.
    Ready,
    /// A visitor watches the stream.
    Connected,
    /// The visitor left; the session waits for `sessions.disconnect_grace`.
    Lingering,
    /// Being cleaned up.
    Ending,
    /// No process, port or file of it is left.
    Ended,
    /// What another version says.
    #[serde(untagged)]
    Other(OtherWord),
}

impl Status {
    /// The status of a session that came without one.
    #[must_use]
    pub fn untold() -> Self {
        OtherWord::new("unknown").map_or(Self::Starting, Self::Other)
    }
}

/// What a starting session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Checking that the body answers.
    Reaching,
    /// Starting the stream process.
    Spawning,
    /// Pairing the stream process with Sunshine.
    Pairing,
    /// Registering and launching the experience.
    Launching,
    /// What another version says.
    #[serde(untagged)]
    Other(OtherWord),
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// `DELETE /api/v1/sessions/<id>`.
    Deleted,
    /// The visitor left and did not come back in time.
    Disconnected,
    /// The worker's drain deadline came.
    Drained,
    /// `sessions.max_duration` was reached.
    MaxDuration,
    /// Nobody opened the stream within `sessions.connect_timeout`.
    NeverConnected,
    /// The stream process exited and could not be restarted.
    ProcessExited,
    /// The visitor pressed Exit.
    Quit,
    /// The session never became ready.
    StartFailed,
    /// Another session took its body over.
    TakenOver,
    /// The worker was stopped for good.
    WorkerShutdown,
    /// What another version says.
    #[serde(untagged)]
    Other(OtherWord),
}

impl EndReason {
    /// Every reason of this version.
    pub const ALL: [Self; 10] = [
        Self::Deleted,
        Self::Disconnected,
        Self::Drained,
        Self::MaxDuration,
        Self::NeverConnected,
        Self::ProcessExited,
        Self::Quit,
        Self::StartFailed,
        Self::TakenOver,
        Self::WorkerShutdown,
    ];

    /// The reason as a label of metrics: one of a fixed set, those of other versions are `unknown`.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Disconnected => "disconnected",
            Self::Drained => "drained",
            Self::MaxDuration => "max_duration",
            Self::NeverConnected => "never_connected",
            Self::ProcessExited => "process_exited",
            Self::Quit => "quit",
            Self::StartFailed => "start_failed",
            Self::TakenOver => "taken_over",
            Self::WorkerShutdown => "worker_shutdown",
            Self::Other(_) => "unknown",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_reasons_are_the_slugs_of_the_api() {
        for reason in EndReason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.slug());
            assert_eq!(reason.to_string(), reason.slug());
        }
        assert_eq!(
            serde_json::to_string(&Status::Lingering).unwrap(),
            "\"lingering\""
        );
    }
}
