//! The YAML document: the tree of its values, and the place of each value in the file.
//!
//! `serde_yaml` is the only parser. Its own value type is not used, because it loses the text of
//! scalars (`1e3` becomes 1000.0), accepts keys that are not text, and does not say where a key
//! is repeated. `serde_yaml` gives line and column in errors only. To find the place of a value,
//! the same visitor walks the document again and returns an error at that value: one pass over
//! at most 64 KiB for each reported problem.

use std::cell::RefCell;
use std::fmt;

use serde::Deserialize as _;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::report::Problem;

/// One step of the path to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Any item of a list: the path of a key in the reference, not in a file.
    Each,
    Index(usize),
    Key(String),
}

/// A path as people write it: `sessions.max`, `ice_servers[0].urls`.
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
                // An unknown key may hold any character; escaped, it stays on one line.
                out.extend(key.chars().flat_map(char::escape_debug));
            }
        }
    }
    out
}

/// A value in the document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    /// Empty, `~` or `null`: counts as not written.
    Null,
    /// A boolean or a number. [`text_at`] reads its text.
    Plain,
    /// A value with a tag such as `!secret`. No key accepts one.
    Tagged,
    Text(String),
}

impl Node {
    /// The kind of value, for messages.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::List(_) => "a list",
            Self::Map(_) => "a section",
            Self::Null => "nothing",
            Self::Plain | Self::Text(_) => "a single value",
            Self::Tagged => "a value with a `!` tag",
        }
    }
}

/// Line and column in the file, counted from 1.
pub(super) type Place = (usize, usize);

/// Parses a file of one document. An empty file is an empty document.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(first) = documents.next() else {
        return Ok(Node::Null);
    };
    let repeated = RefCell::new(None);
    let walk = Walk {
        aim: Aim::Tree,
        remaining: None,
        found: &repeated,
    };
    let node = match walk.deserialize(first) {
        Ok(node) => node,
        Err(e) => return Err(invalid(&e, repeated.into_inner())),
    };
    match documents.next() {
        None => Ok(node),
        Some(second) => {
            let (aim, remaining) = (Aim::Value, Some(&[][..]));
            let start = Walk {
                aim,
                remaining,
                ..walk
            }
            .deserialize(second)
            .err();
            let what = "a second YAML document starts here";
            let remedy = "keep one document in the file, remove the `---` line";
            let mut problem = Problem::new(what, remedy);
            problem.line = start.as_ref().and_then(place).map(|(line, _)| line);
            Err(problem)
        }
    }
}

/// The place of the value at `path`.
pub(super) fn value_at(text: &str, path: &[Step]) -> Option<Place> {
    search(text, path, Aim::Value).1
}

/// The place of the key at the end of `path`.
pub(super) fn key_at(text: &str, path: &[Step]) -> Option<Place> {
    search(text, path, Aim::Key).1
}

/// The scalar at `path` exactly as written: `0123`, `1e3`, `yes`.
pub(super) fn text_at(text: &str, path: &[Step]) -> Option<String> {
    search(text, path, Aim::Text).0
}

fn search(text: &str, path: &[Step], aim: Aim) -> (Option<String>, Option<Place>) {
    let found = RefCell::new(None);
    let walk = Walk {
        aim,
        remaining: Some(path),
        found: &found,
    };
    let result = walk.deserialize(serde_yaml::Deserializer::from_str(text));
    (found.into_inner(), result.err().as_ref().and_then(place))
}

fn place(e: &serde_yaml::Error) -> Option<Place> {
    e.location().map(|at| (at.line(), at.column()))
}

fn invalid(e: &serde_yaml::Error, repeated: Option<String>) -> Problem {
    let mut problem = if repeated.is_some() {
        let what = "this key is written twice in its section";
        Problem::new(what, "keep one of the two")
    } else {
        let what = format!("not valid YAML: {}", without_place(&e.to_string()));
        let remedy = "check indentation (spaces, no tabs), quotes and the space after each `:` \
                      around this line";
        Problem::new(what, remedy)
    };
    problem.key = repeated.unwrap_or_default();
    problem.at(place(e))
}

/// Removes the place at the end of a message of the library; [`Problem`] prints it in front.
fn without_place(message: &str) -> String {
    let message = message.replace(['\n', '\r'], " ");
    match message.rfind(" at line ") {
        Some(at) if !message[at..].contains(',') => message[..at].to_owned(),
        _ => message,
    }
}

/// What a walk through the document is for.
#[derive(Clone, Copy, PartialEq)]
enum Aim {
    /// Fail at the key at the end of the path.
    Key,
    /// Capture the text at the end of the path.
    Text,
    /// Build the tree.
    Tree,
    /// Fail at the value at the end of the path.
    Value,
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    aim: Aim,
    /// The steps from here to the searched value; `None` when it is not below this value.
    remaining: Option<&'a [Step]>,
    /// The result: the captured text, or with [`Aim::Tree`] the key that is repeated.
    found: &'a RefCell<Option<String>>,
}

impl Walk<'_> {
    /// A value without parts. A search ends at one on its path.
    fn leaf<E: Error>(self, node: Node) -> Result<Node, E> {
        match self.remaining {
            None => Ok(node),
            Some(_) => Err(E::custom("here")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Node, D::Error> {
        match (self.aim, self.remaining) {
            (Aim::Key | Aim::Text | Aim::Value, None) => {
                IgnoredAny::deserialize(d).map(|_| Node::Null)
            }
            (Aim::Text, Some([])) => d.deserialize_str(self),
            _ => d.deserialize_any(self),
        }
    }
}

macro_rules! plain_values {
    ($($visit:ident($type:ty)),+ $(,)?) => {
        $(fn $visit<E: Error>(self, _: $type) -> Result<Node, E> {
            self.leaf(Node::Plain)
        })+
    };
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    plain_values! {
        visit_bool(bool), visit_i64(i64), visit_u64(u64),
        visit_i128(i128), visit_u128(u128), visit_f64(f64),
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        if self.aim == Aim::Text && self.remaining == Some(&[]) {
            self.found.replace(Some(text.to_owned()));
        }
        self.leaf(Node::Text(text.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.leaf(Node::Null)
    }

    // The library's call for a file without content.
    fn visit_none<E: Error>(self) -> Result<Node, E> {
        self.leaf(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let (wanted, rest) = match self.remaining {
            None => (None, None),
            Some([Step::Index(n), rest @ ..]) => (Some(*n), Some(rest)),
            Some(_) => return Err(A::Error::custom("here")),
        };
        let mut list = Vec::new();
        loop {
            let remaining = rest.filter(|_| wanted == Some(list.len()));
            match seq.next_element_seed(Walk { remaining, ..self })? {
                Some(node) => list.push(node),
                None => return Ok(Node::List(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let (wanted, rest) = match self.remaining {
            None => (None, None),
            Some([Step::Key(key), rest @ ..]) => (Some(key.as_str()), Some(rest)),
            Some(_) => return Err(A::Error::custom("here")),
        };
        let stop = wanted.filter(|_| self.aim == Aim::Key && rest == Some(&[]));
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(MapKey {
            before: &entries,
            repeated: self.found,
            stop,
        })? {
            let remaining = rest.filter(|_| wanted == Some(key.as_str()));
            let node = map.next_value_seed(Walk { remaining, ..self })?;
            // A search needs no tree, and no second look for repeated keys.
            if self.aim == Aim::Tree {
                entries.push((key, node));
            }
        }
        Ok(Node::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Node, A::Error> {
        use serde::de::VariantAccess as _;
        if self.remaining.is_none() {
            let (_, variant) = access.variant::<IgnoredAny>()?;
            variant.newtype_variant::<IgnoredAny>()?;
        }
        self.leaf(Node::Tagged)
    }
}

/// Reads a key as text. Fails at a key that was there before, so that the error carries the place
/// of the repetition, and at the key that is searched.
struct MapKey<'a> {
    before: &'a [(String, Node)],
    repeated: &'a RefCell<Option<String>>,
    stop: Option<&'a str>,
}

impl<'de> DeserializeSeed<'de> for MapKey<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<String, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for MapKey<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is text")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        if self.stop == Some(key) {
            return Err(E::custom("here"));
        }
        if self.before.iter().any(|(k, _)| k == key) {
            self.repeated.replace(Some(key.to_owned()));
            return Err(E::custom("repeated key"));
        }
        Ok(key.to_owned())
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
        let at = |line, column| Some((line, column));
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
