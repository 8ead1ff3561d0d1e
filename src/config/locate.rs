//! Where a key stands in the file, and the text of a scalar as written.
//!
//! The YAML library tells places only in its errors. So a probe walks the document again to the
//! wanted path and fails there on purpose; the error carries line and column. One walk a
//! question, of a file of at most 64 KiB, asked for at most `PROBLEMS_MAX` problems.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One step of the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Index(usize),
    Key(String),
    /// The item of a list that stands for all, in the reference.
    Each,
}

/// A place in the file, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// `sessions.max`, `ice_servers[0].urls`.
pub(super) fn dotted(path: &[Step]) -> String {
    let mut out = String::new();
    for step in path {
        match step {
            Step::Each => out.push_str("[]"),
            Step::Index(n) => out.push_str(&format!("[{n}]")),
            Step::Key(key) => {
                if !out.is_empty() {
                    out.push('.');
                }
                // A stranger's key may hold anything; what we print stays on its line.
                out.extend(key.chars().flat_map(char::escape_debug));
            }
        }
    }
    out
}

/// The place of the value at `path`.
pub(super) fn value_at(text: &str, path: &[Step]) -> Option<Place> {
    probe(text, path, Aim::Value).1
}

/// The place of the key at the end of `path`.
pub(super) fn key_at(text: &str, path: &[Step]) -> Option<Place> {
    probe(text, path, Aim::Key).1
}

/// The scalar at `path` exactly as written: `0123`, `1e3`, `yes`.
pub(super) fn text_at(text: &str, path: &[Step]) -> Option<String> {
    probe(text, path, Aim::Text).0
}

/// The place where a document starts.
pub(super) fn start_of(document: serde_yaml::Deserializer<'_>) -> Option<Place> {
    document
        .deserialize_any(Stop)
        .err()
        .as_ref()
        .and_then(place)
}

fn place(e: &serde_yaml::Error) -> Option<Place> {
    e.location().map(|at| Place {
        line: at.line(),
        column: at.column(),
    })
}

fn probe(text: &str, path: &[Step], aim: Aim) -> (Option<String>, Option<Place>) {
    let found = RefCell::new(None);
    let probe = Probe {
        path,
        aim,
        found: &found,
    };
    let result = probe.deserialize(serde_yaml::Deserializer::from_str(text));
    (found.into_inner(), result.err().as_ref().and_then(place))
}

#[derive(Clone, Copy, PartialEq)]
enum Aim {
    Key,
    Text,
    Value,
}

#[derive(Clone, Copy)]
struct Probe<'a> {
    path: &'a [Step],
    aim: Aim,
    found: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Probe<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        match (self.path, self.aim) {
            ([], Aim::Text) => d.deserialize_str(Capture(self.found)),
            ([], _) => d.deserialize_any(Stop),
            _ => d.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Probe<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the way to the wanted key")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(want), rest)) = self.path.split_first() else {
            return Err(A::Error::custom("not a list"));
        };
        let stop = self.aim == Aim::Key && rest.is_empty();
        while let Some(here) = map.next_key_seed(KeyIs { want, stop })? {
            if here {
                map.next_value_seed(Probe { path: rest, ..self })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((Step::Index(want), rest)) = self.path.split_first() else {
            return Err(A::Error::custom("not a section"));
        };
        for _ in 0..*want {
            seq.next_element::<IgnoredAny>()?;
        }
        seq.next_element_seed(Probe { path: rest, ..self })?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

struct KeyIs<'a> {
    want: &'a str,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for KeyIs<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<bool, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIs<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        let here = key == self.want;
        if here && self.stop {
            return Err(E::custom("here"));
        }
        Ok(here)
    }
}

/// Accepts nothing: every value fails at its own place.
struct Stop;

impl Visitor<'_> for Stop {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("here")
    }
}

struct Capture<'a>(&'a RefCell<Option<String>>);

impl Visitor<'_> for Capture<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.replace(Some(text.to_owned()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a: 1\nb:\n  c: 0x10\n  d:\n    - x\n    - {e: 1e3, f: [yes, ~]}\n";

    fn path(steps: &[&str]) -> Vec<Step> {
        let step = |s: &&str| match s.parse() {
            Ok(n) => Step::Index(n),
            Err(_) => Step::Key((*s).to_owned()),
        };
        steps.iter().map(step).collect()
    }

    #[test]
    fn keys_and_values_are_found_where_they_stand() {
        let at = |line, column| Some(Place { line, column });
        for (steps, key, value) in [
            (&["a"][..], at(1, 1), at(1, 4)),
            (&["b", "c"], at(3, 3), at(3, 6)),
            (&["b", "d", "1", "e"], at(6, 8), at(6, 11)),
            (&["b", "nowhere"], None, None),
        ] {
            assert_eq!(key_at(TEXT, &path(steps)), key, "{steps:?}");
            assert_eq!(value_at(TEXT, &path(steps)), value, "{steps:?}");
        }
    }

    #[test]
    fn a_scalar_keeps_its_text() {
        for (steps, text) in [
            (&["b", "c"][..], "0x10"),
            (&["b", "d", "1", "e"], "1e3"),
            (&["b", "d", "1", "f", "0"], "yes"),
        ] {
            assert_eq!(text_at(TEXT, &path(steps)).as_deref(), Some(text));
        }
        assert_eq!(text_at(TEXT, &path(&["b"])), None);
    }
}
