//! Fields of the gateway's JSON: 64-bit numbers are strings, bytes are base64, defaults are omitted.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// etcd's counter of changes to any key.
pub(crate) type Revision = u64;

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
    /// The revision at which it was last written.
    #[serde(deserialize_with = "number")]
    pub mod_revision: Revision,
}

/// One change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// Deleted, or its lease expired.
    Deleted(String, Revision),
    /// Written.
    Put(Kv),
}

/// The header of every answer.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    #[serde(deserialize_with = "number")]
    pub(super) revision: Revision,
    #[serde(deserialize_with = "number")]
    pub(super) cluster_id: u64,
}

/// Bytes in base64.
pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// The first key after all that begin with `prefix`, whose last byte must be below 255.
pub(super) fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

pub(super) fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    struct Base64;
    impl Visitor<'_> for Base64 {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("base64")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
            STANDARD.decode(text).map_err(E::custom)
        }
    }
    from.deserialize_str(Base64)
}

pub(super) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::from_utf8(bytes(from)?).map_err(D::Error::custom)
}

/// A number, or the string that etcd makes of it.
pub(super) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    struct Number;
    impl Visitor<'_> for Number {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number that is not negative, or a string of one")
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
            Ok(number)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            text.parse().map_err(E::custom)
        }
    }
    from.deserialize_any(Number)
}
