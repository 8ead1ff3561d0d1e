//! The gateway's JSON: 64-bit numbers are strings, bytes are base64, defaults are left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// etcd's clock: counts every change of any key.
pub type Revision = u64;

/// A key with its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Kv {
    /// The key.
    #[serde(deserialize_with = "text")]
    pub key: String,
    /// The value.
    #[serde(deserialize_with = "bytes")]
    pub value: Vec<u8>,
    /// When it was last written.
    #[serde(deserialize_with = "number")]
    pub mod_revision: Revision,
    /// The lease it ends with; 0 for none.
    #[serde(deserialize_with = "number")]
    pub lease: u64,
}

/// One change that a watch saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Deleted, or its lease ended.
    Deleted(String, Revision),
    /// Written.
    Put(Kv),
}

/// What every answer begins with.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    #[serde(deserialize_with = "number")]
    pub(super) revision: Revision,
}

/// Bytes as the gateway wants them.
pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// The first key after all that begin with `prefix`; the prefix ends in a plain character.
pub(super) fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

pub(super) fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
    STANDARD.decode(text.as_bytes()).map_err(D::Error::custom)
}

pub(super) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::from_utf8(bytes(from)?).map_err(D::Error::custom)
}

/// A number, or the string that etcd makes of it.
pub(super) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(i64),
        Text(String),
    }
    let value = match Either::deserialize(from)? {
        Either::Number(n) => n,
        Either::Text(text) => text.parse().map_err(D::Error::custom)?,
    };
    u64::try_from(value).map_err(D::Error::custom)
}
