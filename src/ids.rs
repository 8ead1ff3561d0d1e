//! Identifiers: what names a session, a request, a process's life.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Random bytes in a session id: 128 bits, because the id is the only key to `/session/<id>/`.
const SESSION_BYTES: usize = 16;
/// Random bytes in a request or process id: unique enough for logs, no secret.
const LABEL_BYTES: usize = 8;
/// Longest request id accepted from a client's `X-Request-Id`.
const REQUEST_ID_MAX: usize = 64;

/// Names one session: 32 lower-case hex digits, 128 random bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

/// The text is no session id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotASessionId;

impl fmt::Display for NotASessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a session id is 32 lower-case hex digits")
    }
}

impl std::error::Error for NotASessionId {}

impl SessionId {
    /// A new, unguessable id.
    ///
    /// # Errors
    /// When the kernel has no random bytes to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        Ok(Self(random_hex::<SESSION_BYTES>()?))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, for names that people read.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl TryFrom<String> for SessionId {
    type Error = NotASessionId;

    fn try_from(text: String) -> Result<Self, NotASessionId> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 2 * SESSION_BYTES && text.bytes().all(hex) {
            Ok(Self(text))
        } else {
            Err(NotASessionId)
        }
    }
}

impl std::str::FromStr for SessionId {
    type Err = NotASessionId;

    fn from_str(text: &str) -> Result<Self, NotASessionId> {
        Self::try_from(text.to_owned())
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> String {
        id.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one request in logs and error bodies; echoed from or sent as `X-Request-Id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The client's id when it is short and plain, else a new one.
    #[must_use]
    pub fn from_client(value: Option<&[u8]>) -> Self {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        match value.map(|v| (v, std::str::from_utf8(v))) {
            Some((v, Ok(text)))
                if !v.is_empty() && v.len() <= REQUEST_ID_MAX && v.iter().all(plain) =>
            {
                Self(text.to_owned())
            }
            _ => Self(label()),
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A random label of 16 hex digits: `process_id`, request ids, unique names for pairing.
/// Not a secret: falls back to the clock when the kernel has no random bytes.
#[must_use]
pub fn label() -> String {
    random_hex::<LABEL_BYTES>().unwrap_or_else(|_| {
        let nanos = crate::clock::wall()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos());
        format!("{:016x}", nanos as u64)
    })
}

fn random_hex<const N: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_round_trips_and_nothing_else_parses() {
        let id = SessionId::random().unwrap();
        assert_eq!(id.as_str().parse::<SessionId>(), Ok(id.clone()));
        assert_eq!(id.short().len(), 8);
        for bad in ["", "abc", &"A".repeat(32), &"g".repeat(32), &"a".repeat(33)] {
            assert_eq!(bad.parse::<SessionId>(), Err(NotASessionId), "{bad}");
        }
    }

    #[test]
    fn a_strange_request_id_is_replaced() {
        assert_eq!(
            RequestId::from_client(Some(b"abc-1.2_Z")).as_str(),
            "abc-1.2_Z"
        );
        for strange in [&b"a b"[..], b"", b"x\r\ny", &[b'a'; 65], "é".as_bytes()] {
            assert_eq!(RequestId::from_client(Some(strange)).as_str().len(), 16);
        }
    }
}
