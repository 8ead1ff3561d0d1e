//! Why a call failed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::answer::ANSWER_MAX;
use crate::descriptors;
use crate::tls::TlsError;
use crate::wire::BodyError;

/// Why a call failed before there was an answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL cannot be called.
    #[error("cannot call {0:?}: it is no http or https URL with a host")]
    Url(String),
    /// The host name has no address.
    #[error("cannot resolve {0}: {1}")]
    Resolve(String, #[source] io::Error),
    /// No connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, #[source] io::Error),
    /// TLS failed; a pinned certificate that changed is [`ClientError::Pin`].
    #[error("TLS with {0} failed: {1}")]
    Tls(String, #[source] io::Error),
    /// The peer's certificate is not the pinned one.
    #[error("the certificate of {0} is not the pinned one")]
    Pin(String),
    /// The whole call took too long.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// The answer is no acceptable HTTP.
    #[error("unacceptable answer: {0}")]
    Protocol(String),
    /// The answer is larger than is read.
    #[error("the answer is larger than {ANSWER_MAX} bytes", ANSWER_MAX = ANSWER_MAX)]
    TooLarge,
    /// The connection broke.
    #[error("connection broke: {0}")]
    Io(#[source] io::Error),
    /// TLS cannot be set up at all.
    #[error("{0}")]
    Setup(#[source] TlsError),
}

impl ClientError {
    /// Whether the call failed for want of this process's own descriptors, memory or ports: it says
    /// nothing about the peer.
    #[must_use]
    pub fn is_own_shortage(&self) -> bool {
        let (Self::Resolve(_, error) | Self::Connect(_, error) | Self::Io(error)) = self else {
            return false;
        };
        descriptors::is_shortage(error)
    }
}

/// An answer whose content could not be read.
pub(super) fn broken(error: BodyError, within: Duration) -> ClientError {
    match error {
        BodyError::Io(error) => ClientError::Io(error),
        BodyError::Stalled => ClientError::Timeout(within),
        BodyError::TooLarge => ClientError::TooLarge,
        BodyError::Truncated => ClientError::Io(io::ErrorKind::UnexpectedEof.into()),
        BodyError::Malformed(bad) => ClientError::Protocol(bad.to_string()),
    }
}
