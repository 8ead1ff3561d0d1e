//! Why a call failed.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::answer::ANSWER_MAX;
use crate::descriptors;
use crate::tls::TlsError;
use crate::wire::BodyError;

/// Why a call failed before there was an answer.
#[derive(Debug)]
pub enum ClientError {
    /// The URL cannot be called.
    Url(String),
    /// The host name has no address.
    Resolve(String, io::Error),
    /// No connection.
    Connect(SocketAddr, io::Error),
    /// TLS failed; a pinned certificate that changed is [`ClientError::Pin`].
    Tls(String, io::Error),
    /// The peer's certificate is not the pinned one.
    Pin(String),
    /// The whole call took too long.
    Timeout(Duration),
    /// The answer is no acceptable HTTP.
    Protocol(String),
    /// The answer is larger than is read.
    TooLarge,
    /// The connection broke.
    Io(io::Error),
    /// TLS cannot be set up at all.
    Setup(TlsError),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(
                f,
                "cannot call {url:?}: it is no http or https URL with a host"
            ),
            Self::Resolve(host, error) => write!(f, "cannot resolve {host}: {error}"),
            Self::Connect(address, error) => write!(f, "cannot connect to {address}: {error}"),
            Self::Tls(host, error) => write!(f, "TLS with {host} failed: {error}"),
            Self::Pin(host) => write!(f, "the certificate of {host} is not the pinned one"),
            Self::Timeout(span) => {
                write!(f, "no answer within {}", humantime::format_duration(*span))
            }
            Self::Protocol(why) => write!(f, "unacceptable answer: {why}"),
            Self::TooLarge => write!(f, "the answer is larger than {ANSWER_MAX} bytes"),
            Self::Io(error) => write!(f, "connection broke: {error}"),
            Self::Setup(error) => write!(f, "{error}"),
        }
    }
}

impl Error for ClientError {}

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
