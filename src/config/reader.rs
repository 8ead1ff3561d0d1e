//! One reading of one document, and of one of its sections.
//!
//! A section of the schema names its keys one after the other (`key`). A key in the file that
//! was not named is an error. Nothing stops at an error: all are collected in the report.

use super::document::{self, Node, Step};
use super::entry::Entry;
use super::environment::Environment;
use super::field_types::FieldType;
use super::report::Report;

/// Longest single value, above any URL or path in use.
const TEXT_MAX: usize = 1024;
/// Characters of each end of a wrong value that a message repeats.
const SHOWN_MAX: usize = 60;

/// A section of the schema.
pub(super) trait Schema {
    /// Reads all its keys. After an error in a key the value in the result is arbitrary, since a
    /// configuration with errors is not used.
    fn read(section: &mut Section<'_, '_>) -> Self;
}

/// One reading of one document.
pub(super) struct Reader<'t> {
    text: &'t str,
    pub(super) environment: &'t Environment,
    pub(super) report: Report<'t>,
    pub(super) entries: Vec<Entry>,
    /// Whether the file itself holds a secret.
    pub(super) holds_secrets: bool,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str, environment: &'t Environment) -> Self {
        Self {
            text,
            environment,
            report: Report::new(text),
            entries: Vec::new(),
            holds_secrets: false,
        }
    }

    /// Reads the whole document.
    pub(super) fn read<T: Schema>(&mut self, document: &Node) -> T {
        let entries = match document {
            Node::Map(entries) => entries.as_slice(),
            Node::Null => &[],
            other => self.wrong_kind(&[], "a mapping of keys", other, "write `key: value` lines"),
        };
        let top = self.section(Vec::new(), entries);
        self.report.add_unknown(&self.entries);
        top
    }

    /// Reads one section, at the top or below it.
    pub(super) fn section<T: Schema>(&mut self, path: Vec<Step>, entries: &[(String, Node)]) -> T {
        let mut section = Section {
            reader: self,
            path,
            entries,
            known: Vec::new(),
        };
        let value = T::read(&mut section);
        for (key, _) in entries {
            if !section.known.contains(key) {
                let path = section.at(key);
                section.reader.report.unknown.push(path);
            }
        }
        value
    }

    /// An error for a value of another kind; in its place nothing is read.
    pub(super) fn wrong_kind<T>(
        &mut self,
        path: &[Step],
        wanted: &str,
        node: &Node,
        remedy: &str,
    ) -> &'static [T] {
        let what = format!("must be {wanted}, not {}", node.noun());
        self.report.error(path, &what, remedy);
        &[]
    }

    /// The text of a single value, or an error.
    pub(super) fn text_of(&mut self, path: &[Step], node: &Node) -> Option<String> {
        let text = match node {
            Node::Text(text) => text.clone(),
            Node::Plain => document::text_at(self.text, path).unwrap_or_default(),
            other => {
                let remedy = match other {
                    Node::Tagged => "remove the tag",
                    _ => "write one value after the colon",
                };
                self.wrong_kind::<()>(path, "a single value", other, remedy);
                return None;
            }
        };
        let fault = if text.is_empty() {
            "is empty"
        } else if text.len() > TEXT_MAX {
            "is too long"
        } else if text.contains(char::is_control) {
            "contains a control character or line break"
        } else {
            return Some(text);
        };
        let remedy = format!("write one line of 1 to {TEXT_MAX} bytes, or remove the key");
        self.report.error(path, fault, &remedy);
        None
    }

    /// The value of a text, or an error.
    pub(super) fn parse<T>(
        &mut self,
        path: &[Step],
        text: &str,
        as_type: &FieldType<T>,
    ) -> Option<T> {
        match (as_type.parse)(text, self.environment) {
            Ok(value) => Some(value),
            Err(what) => {
                self.report.error(path, &shortened(&what), &as_type.remedy);
                None
            }
        }
    }
}

/// A mapping of the document, or the absence of one.
pub(super) struct Section<'r, 't> {
    pub(super) reader: &'r mut Reader<'t>,
    path: Vec<Step>,
    entries: &'r [(String, Node)],
    /// The keys that the schema has named so far.
    pub(super) known: Vec<String>,
}

impl<'r, 't> Section<'r, 't> {
    pub(super) fn at(&self, key: &str) -> Vec<Step> {
        let mut path = self.path.clone();
        path.push(Step::Key(key.to_owned()));
        path
    }

    /// What is written under a key.
    pub(super) fn node(&self, key: &str) -> Option<&'r Node> {
        let found = self.entries.iter().find(|(k, _)| k == key);
        found.map(|(_, node)| node).filter(|n| **n != Node::Null)
    }

    /// Whether the key is written here, valid or not; for a secret, here or as `<key>_file`.
    pub(super) fn has(&self, key: &str) -> bool {
        let twin = key
            .strip_suffix("_file")
            .map_or_else(|| format!("{key}_file"), str::to_owned);
        self.node(key).is_some() || self.known.contains(&twin) && self.node(&twin).is_some()
    }

    /// An error in one key of this section.
    pub(super) fn error(&mut self, key: &str, what: &str, remedy: &str) {
        self.reader.report.error(&self.at(key), what, remedy);
    }

    /// A warning about one key of this section.
    pub(super) fn warn(&mut self, key: &str, what: &str, remedy: &str) {
        self.reader.report.warn(&self.at(key), what, remedy);
    }

    /// This section makes no sense without `key`.
    pub(super) fn require(&mut self, key: &str, remedy: &str) {
        // The section that stands for all items of a list, in the reference, has no keys.
        if !self.has(key) && self.path.last() != Some(&Step::Each) {
            self.error(key, "is missing", remedy);
        }
    }

    /// `key` makes no sense without `other`.
    pub(super) fn needs(&mut self, key: &str, other: &str, remedy: &str) {
        if self.has(key) && !self.has(other) {
            self.error(other, &format!("is missing beside {key}"), remedy);
        }
    }
}

fn shortened(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= 2 * SHOWN_MAX {
        return text.to_owned();
    }
    let (head, tail) = (&chars[..SHOWN_MAX], &chars[chars.len() - SHOWN_MAX..]);
    format!("{}...{}", String::from_iter(head), String::from_iter(tail))
}
