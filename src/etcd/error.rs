//! What goes wrong between us and etcd.

use std::fmt;
use std::time::Duration;

use crate::http::client::ClientError;

/// gRPC's status codes, as the gateway repeats them (google.rpc.Code).
const INVALID_ARGUMENT: i64 = 3;
const PERMISSION_DENIED: i64 = 7;
const UNAVAILABLE: i64 = 14;
const UNAUTHENTICATED: i64 = 16;

/// Why etcd did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// The revision that a watch was to begin at is compacted; the first that is left.
    #[error("etcd: history before revision {0} is compacted, the whole is read again")]
    Compacted(u64),
    /// Credentials or permissions do not suffice.
    #[error("etcd: {0}; check store.etcd.username, its password and the user's role on the prefix")]
    Denied(String),
    /// The endpoint does not speak etcd's v3 API.
    #[error("etcd: {endpoint} is no etcd 3.4 or later: {why}; check store.etcd.endpoints")]
    NotEtcd {
        /// The endpoint.
        endpoint: String,
        /// What it did instead.
        why: String,
    },
    /// etcd refuses the call.
    #[error("etcd: refused: {0}")]
    Refused(String),
    /// A certificate is not accepted, or TLS cannot be set up.
    #[error("etcd: {0}; check store.etcd.ca_file, certificate and private_key")]
    Tls(String),
    /// A watch was silent for too long, or ended.
    #[error("etcd: the watch was lost: {0}")]
    WatchLost(String),
    /// The answer is larger than is read.
    #[error("etcd: an answer is larger than is read")]
    TooLarge,
    /// No member answers, each with its reason.
    #[error("etcd: no member answers: {}", .0.join("; "))]
    Unreachable(Vec<String>),
    /// etcd is too old.
    #[error("etcd: {endpoint} is version {version}, 3.4 is the oldest that works: update it")]
    Version {
        /// The endpoint.
        endpoint: String,
        /// What it is.
        version: String,
    },
}

impl EtcdError {
    /// Whether the configuration must change before another try makes sense.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Denied(_) | Self::NotEtcd { .. } | Self::Tls(_) | Self::Version { .. }
        )
    }
}

/// What one member did instead of what it was asked for.
pub(super) enum Attempt {
    /// Another member may do better.
    Elsewhere(EtcdError),
    /// An answer that every member would give.
    Final(EtcdError),
    /// The token is no longer known.
    Stale,
}

impl Attempt {
    /// A call without an answer.
    pub(super) fn failed(endpoint: &str, error: &ClientError) -> Self {
        let why = format!("{endpoint}: {error}");
        Self::Elsewhere(match error {
            ClientError::Tls(..) | ClientError::Pin(_) | ClientError::Setup(_) => {
                EtcdError::Tls(why)
            }
            ClientError::Protocol(_) => Self::strange(endpoint, error),
            _ => EtcdError::Unreachable(vec![why]),
        })
    }

    /// Something that etcd does not say.
    pub(super) fn strange(endpoint: &str, why: impl fmt::Display) -> EtcdError {
        EtcdError::NotEtcd {
            endpoint: endpoint.to_owned(),
            why: why.to_string(),
        }
    }

    /// An answer that is an error of etcd.
    pub(super) fn refused(endpoint: &str, code: i64, message: &str) -> Self {
        // What etcd says when its members forgot a token, in 3.4 and later.
        let is_stale = message.contains("invalid auth token");
        let is_hindered = message.contains("leader") || message.contains("timed out");
        match code {
            UNAUTHENTICATED if is_stale => Self::Stale,
            UNAUTHENTICATED | PERMISSION_DENIED => Self::denied(message),
            // A wrong password and a missing one are invalid arguments to etcd.
            INVALID_ARGUMENT if message.contains("auth") || message.contains("user name") => {
                Self::denied(message)
            }
            _ if code == UNAVAILABLE || is_hindered => {
                let why = format!("{endpoint}: {message}");
                Self::Elsewhere(EtcdError::Unreachable(vec![why]))
            }
            _ => Self::Final(EtcdError::Refused(message.to_owned())),
        }
    }

    fn denied(message: &str) -> Self {
        Self::Final(EtcdError::Denied(message.to_owned()))
    }

    /// What the caller is told.
    pub(super) fn error(self) -> EtcdError {
        match self {
            Self::Elsewhere(error) | Self::Final(error) => error,
            Self::Stale => EtcdError::Denied("the token is not known".to_owned()),
        }
    }
}

/// Of every member's reason to fail one: what must be repaired is more telling than who is away.
pub(super) fn worst(errors: Vec<EtcdError>) -> EtcdError {
    let mut away = Vec::new();
    for error in errors {
        match error {
            EtcdError::Unreachable(whys) => away.extend(whys),
            telling => return telling,
        }
    }
    EtcdError::Unreachable(away)
}

/// No member answered in time.
pub(super) fn late(within: Duration) -> EtcdError {
    let within = humantime::format_duration(within);
    EtcdError::Unreachable(vec![format!("no answer within {within}")])
}
