//! Secrets as a type: masked wherever they could be printed, compared in constant time.

use std::fmt;
use std::path::Path;

use subtle::ConstantTimeEq as _;

/// Largest secret file that is read.
const FILE_MAX: u64 = 64 * 1024;

/// A password, token or key. `Debug` and `Display` print `***`.
#[derive(Clone, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Reads a secret from a file, without the trailing newline.
    ///
    /// # Errors
    /// A sentence that names the file and the remedy, when it cannot be read, is over 64 KiB, is
    /// not UTF-8, is empty or has more than one line.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let size = std::fs::metadata(path)
            .map_err(|e| format!("cannot read secret file {shown}: {e}"))?
            .len();
        if size > FILE_MAX {
            return Err(format!(
                "secret file {shown} has {size} bytes, at most {FILE_MAX} are read"
            ));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|e| format!("cannot read secret file {shown}: {e}"))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(format!(
                "secret file {shown} is empty, write the secret into it"
            ));
        }
        // It would never match: no header carries it, and others read the first line alone.
        if text.contains(char::is_control) {
            return Err(format!(
                "secret file {shown} has several lines or control characters, \
                 leave the secret alone in one line"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The value itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares in time that depends on the lengths only. An empty secret matches nothing.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        !self.0.is_empty() && bool::from(self.0.as_bytes().ct_eq(candidate))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints() {
        let s = Secret::new("hunter2");
        assert_eq!(format!("{s} {s:?}"), "*** ***");
    }

    #[test]
    fn a_secret_file_is_one_line_of_text() {
        let path = std::env::temp_dir().join(format!("neck-secret-{}", crate::ids::label()));
        let read = |text: &[u8]| {
            std::fs::write(&path, text).unwrap();
            Secret::from_file(&path).map(|s| s.expose().to_owned())
        };
        assert_eq!(read(b"hunter2\r\n"), Ok("hunter2".to_owned()));
        assert_eq!(read(b"a pass phrase\n"), Ok("a pass phrase".to_owned()));
        for (wrong, why) in [
            (&b"\n"[..], "is empty"),
            (b"hunter2\nhunter3\n", "several lines"),
            (b"hunter\x002\n", "control characters"),
            (b"hunter\xff\n", "UTF-8"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(
                error.contains(why) && error.contains("neck-secret-"),
                "{error}"
            );
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn only_the_whole_value_matches_and_an_empty_secret_matches_nothing() {
        let s = Secret::new("hunter2");
        assert!(s.matches(b"hunter2"));
        for wrong in [&b"hunter"[..], b"hunter22", b"Hunter2", b""] {
            assert!(!s.matches(wrong));
        }
        assert!(!Secret::default().matches(b""));
    }
}
