//! Errors of etcd and of the way to it.

use std::fmt;
use std::time::Duration;

use crate::http::client::ClientError;

/// gRPC's status codes, as the gateway repeats them (google.rpc.Code).
const INVALID_ARGUMENT: i64 = 3;
const PERMISSION_DENIED: i64 = 7;
const RESOURCE_EXHAUSTED: i64 = 8;
const UNAVAILABLE: i64 = 14;
const UNAUTHENTICATED: i64 = 16;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// The start revision of a watch is compacted; holds the first revision that is left.
    #[error("etcd: history before revision {0} is compacted, the whole is read again")]
    Compacted(u64),
    /// etcd takes nothing now: too many requests, or its space is used up.
    #[error("etcd: takes no more now: {0}")]
    Busy(String),
    /// Credentials or permissions do not suffice.
    #[error("etcd: {0}; check store.etcd.username, its password and the user's role on the prefix")]
    Denied(String),
    /// The endpoint does not speak etcd's v3 API.
    #[error("etcd: {endpoint} is no etcd 3.4 or later: {why}; check store.etcd.endpoints")]
    NotEtcd {
        /// The endpoint.
        endpoint: String,
        /// What it answered instead.
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
    /// The answer exceeds the client's limit.
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
        /// Its version.
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

    /// Whether etcd itself has refused for good. After any other error the call may have been
    /// applied, or may succeed later.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// Why a call to one member failed.
pub(super) enum AttemptError {
    /// Another member may answer.
    TryNext(EtcdError),
    /// Every member would give this answer.
    Final(EtcdError),
    /// The token is no longer known.
    TokenExpired,
}

impl AttemptError {
    /// The error of a call without an answer.
    pub(super) fn failed(endpoint: &str, error: &ClientError) -> Self {
        let why = format!("{endpoint}: {error}");
        Self::TryNext(match error {
            ClientError::Tls(..) | ClientError::Pin(_) | ClientError::Setup(_) => {
                EtcdError::Tls(why)
            }
            ClientError::Protocol(_) => Self::not_etcd(endpoint, error),
            _ => EtcdError::Unreachable(vec![why]),
        })
    }

    /// The error for an answer that etcd never gives.
    pub(super) fn not_etcd(endpoint: &str, why: impl fmt::Display) -> EtcdError {
        EtcdError::NotEtcd {
            endpoint: endpoint.to_owned(),
            why: why.to_string(),
        }
    }

    /// The error for an answer with an error status whose body is not etcd's.
    pub(super) fn foreign(endpoint: &str, status: u16, excerpt: &str) -> EtcdError {
        let why = format!("status {status} {excerpt:?}");
        match status {
            // A proxy in between answers so while it has no etcd behind it.
            404 | 502 | 503 => EtcdError::Unreachable(vec![format!("{endpoint}: {why}")]),
            _ => Self::not_etcd(endpoint, why),
        }
    }

    /// The error for an error answer of etcd.
    pub(super) fn refused(endpoint: &str, code: i64, message: &str) -> Self {
        // The message of etcd 3.4 and later when its members do not know a token.
        let is_expired = message.contains("invalid auth token");
        let has_no_quorum = message.contains("leader") || message.contains("timed out");
        match code {
            UNAUTHENTICATED if is_expired => Self::TokenExpired,
            UNAUTHENTICATED | PERMISSION_DENIED => Self::denied(message),
            // etcd answers a wrong or missing password with INVALID_ARGUMENT.
            INVALID_ARGUMENT if message.contains("auth") || message.contains("user name") => {
                Self::denied(message)
            }
            _ if code == UNAVAILABLE || has_no_quorum => {
                let why = format!("{endpoint}: {message}");
                Self::TryNext(EtcdError::Unreachable(vec![why]))
            }
            RESOURCE_EXHAUSTED => Self::Final(EtcdError::Busy(message.to_owned())),
            _ => Self::Final(EtcdError::Refused(message.to_owned())),
        }
    }

    fn denied(message: &str) -> Self {
        Self::Final(EtcdError::Denied(message.to_owned()))
    }

    /// The error for the caller.
    pub(super) fn error(self) -> EtcdError {
        match self {
            Self::TryNext(error) | Self::Final(error) => error,
            Self::TokenExpired => EtcdError::Denied("the token is not known".to_owned()),
        }
    }
}

/// One error of those of all members: the first that an operator must act on, else that none answers.
pub(super) fn most_telling(errors: Vec<EtcdError>) -> EtcdError {
    let mut away = Vec::new();
    for error in errors {
        match error {
            EtcdError::Unreachable(whys) => away.extend(whys),
            telling => return telling,
        }
    }
    EtcdError::Unreachable(away)
}

/// The error when no member answered in time.
pub(super) fn timed_out(within: Duration) -> EtcdError {
    let within = humantime::format_duration(within);
    EtcdError::Unreachable(vec![format!("no answer within {within}")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_etcds_own_refusal_is_final_and_a_proxys_error_is_no_configuration() {
        let refused = |code, message| AttemptError::refused("e", code, message).error();
        assert!(refused(INVALID_ARGUMENT, "etcdserver: duplicate key given").is_final());
        for error in [
            refused(RESOURCE_EXHAUSTED, "etcdserver: too many requests"),
            refused(
                RESOURCE_EXHAUSTED,
                "etcdserver: mvcc: database space exceeded",
            ),
            refused(UNAVAILABLE, "etcdserver: request timed out"),
            AttemptError::foreign("e", 404, "not found"),
            AttemptError::foreign("e", 502, "<html>"),
            AttemptError::foreign("e", 503, ""),
        ] {
            assert!(!error.is_final() && !error.is_configuration(), "{error}");
        }
        assert!(AttemptError::foreign("e", 400, "SSH").is_configuration());
    }
}
