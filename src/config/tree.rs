//! The YAML document as a tree. With `locate`, the only place that knows the YAML library.
//!
//! A tree of our own rather than the library's value type, because that one loses the text of
//! scalars (`1e3` becomes 1000.0), accepts keys that are no text and cannot say where a key is
//! repeated.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

use super::locate;
use super::problem::Problem;

/// A value in the document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    /// Empty, `~` or `null`: counts as not written.
    Null,
    /// A boolean or number, whose text is read on demand by `locate::text_at`.
    Plain,
    /// A value with a tag such as `!secret`, which this configuration has no use for.
    Tagged,
    Text(String),
}

impl Node {
    /// What people call it.
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

/// Parses the one document of a file. An empty file is an empty document.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(first) = documents.next() else {
        return Ok(Node::Null);
    };
    let repeated = RefCell::new(None);
    let node = match (Seed {
        repeated: &repeated,
    })
    .deserialize(first)
    {
        Ok(node) => node,
        Err(e) => return Err(fault(&e, repeated.into_inner())),
    };
    match documents.next() {
        None => Ok(node),
        Some(second) => {
            let line = locate::start_of(second).map(|at| at.line);
            Err(Problem {
                line,
                column: None,
                key: String::new(),
                what: "a second YAML document starts here".to_owned(),
                remedy: "keep one document in the file, remove the `---` line".to_owned(),
            })
        }
    }
}

fn fault(e: &serde_yaml::Error, repeated: Option<String>) -> Problem {
    let at = e.location();
    let (key, what, remedy) = match repeated {
        Some(key) => (
            key,
            "this key is written twice in its section".to_owned(),
            "keep one of the two",
        ),
        None => (
            String::new(),
            format!("not valid YAML: {}", without_place(&e.to_string())),
            "check indentation (spaces, no tabs), quotes and the space after each `:` around \
             this line",
        ),
    };
    Problem {
        line: at.as_ref().map(serde_yaml::Location::line),
        column: at.as_ref().map(serde_yaml::Location::column),
        key,
        what,
        remedy: remedy.to_owned(),
    }
}

/// The library repeats the place at the end of its messages; ours stands in front.
fn without_place(message: &str) -> String {
    let message = message.replace(['\n', '\r'], " ");
    match message.rfind(" at line ") {
        Some(at) if !message[at..].contains(',') => message[..at].to_owned(),
        _ => message,
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    /// Set to the key that stopped the parsing because it was there before.
    repeated: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Node, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Plain)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Plain)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Plain)
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Node, E> {
        Ok(Node::Plain)
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Node, E> {
        Ok(Node::Plain)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Plain)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    // What the library calls a file without any content.
    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = seq.next_element_seed(self)? {
            list.push(node);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(KeySeed {
            before: &entries,
            repeated: self.repeated,
        })? {
            let node = map.next_value_seed(self)?;
            entries.push((key, node));
        }
        Ok(Node::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Node, A::Error> {
        use serde::de::VariantAccess as _;
        let (_, variant) = access.variant::<serde::de::IgnoredAny>()?;
        variant.newtype_variant::<serde::de::IgnoredAny>()?;
        Ok(Node::Tagged)
    }
}

/// Reads a key as text, and fails on the spot when it was there before, so that the error
/// carries the place of the repetition.
struct KeySeed<'a> {
    before: &'a [(String, Node)],
    repeated: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<String, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is text")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        if self.before.iter().any(|(k, _)| k == key) {
            self.repeated.replace(Some(key.to_owned()));
            return Err(E::custom("repeated key"));
        }
        Ok(key.to_owned())
    }
}
