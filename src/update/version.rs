//! Versions, as the product family compares them.

use std::cmp::Ordering;
use std::fmt;

/// Parts that are compared: releases have three.
const PARTS_MAX: usize = 6;
/// Longest version text.
const TEXT_MAX: usize = 64;

/// A version without its `v`. Compares part by part as numbers; what follows a dash in a part does
/// not count, so that `1.2.3-rc1` equals `1.2.3`.
#[derive(Clone, Debug)]
pub(crate) struct ReleaseVersion(String);

impl ReleaseVersion {
    /// This binary's.
    #[must_use]
    pub(crate) fn own() -> Self {
        Self(crate::protocol::VERSION.to_owned())
    }

    /// Reads a version, with or without its `v`. It becomes a part of a URL: nothing but letters,
    /// digits, dots, dashes and plus signs passes.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('v');
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+');
        let starts = text.starts_with(|c: char| c.is_ascii_digit());
        let is_version = starts && text.len() <= TEXT_MAX && text.bytes().all(plain);
        (is_version && !text.contains("..")).then(|| Self(text.to_owned()))
    }

    fn numbers(&self) -> [u64; PARTS_MAX] {
        let mut numbers = [0; PARTS_MAX];
        for (number, part) in numbers.iter_mut().zip(self.0.split('.')) {
            let digits = part.split(['-', '+']).next().unwrap_or_default();
            *number = digits.parse().unwrap_or(0);
        }
        numbers
    }
}

impl fmt::Display for ReleaseVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for ReleaseVersion {
    fn eq(&self, other: &Self) -> bool {
        self.numbers() == other.numbers()
    }
}

impl Eq for ReleaseVersion {}

impl PartialOrd for ReleaseVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ReleaseVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers().cmp(&other.numbers())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ReleaseVersion {
        ReleaseVersion::parse(text).unwrap()
    }

    #[test]
    fn versions_compare_as_the_family_does() {
        for (old, new) in [
            ("1.2.3", "1.2.4"),
            ("1.9.0", "1.10.0"),
            ("1.2", "1.2.1"),
            ("0.9.9", "v1.0.0"),
        ] {
            assert!(version(old) < version(new), "{old} {new}");
        }
        for (a, b) in [
            ("1.2.3-rc1", "1.2.3"),
            ("v1.2.3", "1.2.3"),
            ("1.2", "1.2.0"),
        ] {
            assert_eq!(version(a), version(b));
        }
    }

    #[test]
    fn what_would_change_a_url_is_no_version() {
        for bad in [
            "",
            "v",
            "latest",
            "1/../2",
            "1.2 3",
            "1..2",
            "1?x",
            &"1".repeat(65),
        ] {
            assert!(ReleaseVersion::parse(bad).is_none(), "{bad}");
        }
    }
}
