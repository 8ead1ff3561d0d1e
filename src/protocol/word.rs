//! A word of another version, where this version expects one of its own.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest word in bytes: several times ours. It is kept for each session of the fleet.
const WORD_MAX: usize = 64;

/// A status, phase or reason that this version does not know, as it came. It is copied and compared
/// like the known ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OtherWord {
    length: u8,
    bytes: [u8; WORD_MAX],
}

impl OtherWord {
    /// That word; none when it is empty, too long or no printable text.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_word = !text.is_empty() && !text.contains(char::is_control);
        let mut bytes = [0; WORD_MAX];
        bytes
            .get_mut(..text.len())
            .filter(|_| is_word)?
            .copy_from_slice(text.as_bytes());
        let length = u8::try_from(text.len()).ok()?;
        Some(Self { length, bytes })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..usize::from(self.length));
        text.and_then(|text| str::from_utf8(text).ok())
            .unwrap_or_default()
    }
}

impl fmt::Debug for OtherWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for OtherWord {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for OtherWord {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::new(&text).ok_or_else(|| {
            let what = format!("expected a word of 1 to {WORD_MAX} printable bytes");
            de::Error::custom(what)
        })
    }
}
