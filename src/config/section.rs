//! Reading one section: every call names a key once, with its kind, default and meaning.
//!
//! A call registers the key, reads it, and collects what is wrong instead of stopping. When a
//! section has been read, keys that nobody asked for are problems. The calls for single kinds
//! are in `forms` and `secrets`.

use std::cell::RefCell;

use super::locate::{self, Step};
use super::reader::Reader;
use super::registry::{Entry, Shape, Usual};
use super::tree::Node;

/// Longest single value, above any URL or path in use.
const TEXT_MAX: usize = 1024;
/// Items of one list: no deployment has more relays or networks, and each costs a look-up.
const LIST_MAX: usize = 32;
/// Characters of each end of a wrong value that a message repeats.
const SHOWN_MAX: usize = 60;

/// A mapping of the document, or the absence of one.
pub(super) struct Section<'r> {
    pub(super) reader: &'r Reader<'r>,
    path: Vec<Step>,
    entries: &'r [(String, Node)],
    asked: RefCell<Vec<&'static str>>,
}

impl<'r> Section<'r> {
    pub(super) fn new(
        reader: &'r Reader<'r>,
        path: Vec<Step>,
        entries: &'r [(String, Node)],
    ) -> Self {
        Self {
            reader,
            path,
            entries,
            asked: RefCell::default(),
        }
    }

    pub(super) fn read<T>(self, read: impl FnOnce(&Section<'_>) -> T) -> T {
        let value = read(&self);
        let asked = self.asked.borrow();
        for (key, _) in self.entries {
            if !asked.contains(&key.as_str()) {
                let path = self.at(key);
                self.reader.strange.borrow_mut().push(path);
            }
        }
        value
    }

    pub(super) fn at(&self, key: &str) -> Vec<Step> {
        let mut path = self.path.clone();
        path.push(Step::Key(key.to_owned()));
        path
    }

    pub(super) fn node(&self, key: &'static str) -> Option<&'r Node> {
        self.asked.borrow_mut().push(key);
        let found = self.entries.iter().find(|(k, _)| k == key);
        found.map(|(_, node)| node).filter(|n| **n != Node::Null)
    }

    pub(super) fn register(&self, key: &str, doc: &'static str, shape: Shape) {
        let path = self.at(key);
        self.reader
            .entries
            .borrow_mut()
            .push(Entry { path, doc, shape });
    }

    /// A problem with one key of this section.
    pub(super) fn complain(&self, key: &str, what: &str, remedy: &str) {
        self.reader.complain(&self.at(key), what, remedy);
    }

    /// Something about one key of this section that is worth a second look.
    pub(super) fn warn(&self, key: &str, what: &str, remedy: &str) {
        self.reader.warn(&self.at(key), what, remedy);
    }

    /// Whether the key is written here, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        let found = self.entries.iter().find(|(k, _)| k == key);
        found.is_some_and(|(_, node)| *node != Node::Null)
    }

    /// Whether this section stands for all items of a list, in the reference.
    pub(super) fn is_template(&self) -> bool {
        self.path.last() == Some(&Step::Each)
    }

    /// A section in this section.
    pub(super) fn section<T>(
        &self,
        key: &'static str,
        doc: &'static str,
        read: impl FnOnce(&Section<'_>) -> T,
    ) -> T {
        let entries = match self.node(key) {
            Some(Node::Map(entries)) => entries.as_slice(),
            Some(other) => {
                let what = format!("must be a section, not {}", other.noun());
                self.complain(key, &what, "write its keys below it, indented");
                &[]
            }
            None => &[],
        };
        self.register(key, doc, Shape::Section);
        Section::new(self.reader, self.at(key), entries).read(read)
    }

    /// A section in this section, or one word that stands for its absence.
    pub(super) fn section_or_word<T>(
        &self,
        key: &'static str,
        word: &'static str,
        doc: &'static str,
        read: impl FnOnce(&Section<'_>) -> T,
    ) -> T {
        let found = self.entries.iter().find(|(k, _)| k == key);
        if !matches!(found, Some((_, Node::Text(text))) if text == word) {
            return self.section(key, doc, read);
        }
        self.asked.borrow_mut().push(key);
        self.register(key, doc, Shape::Section);
        Section::new(self.reader, self.at(key), &[]).read(read)
    }

    /// A list of sections.
    pub(super) fn items<T>(
        &self,
        key: &'static str,
        doc: &'static str,
        read: impl Fn(&Section<'_>) -> T,
    ) -> Vec<T> {
        let list = match self.node(key) {
            Some(Node::List(list)) if list.len() <= LIST_MAX => list.as_slice(),
            Some(Node::List(list)) => {
                self.too_long(key, list.len());
                &[]
            }
            Some(other) => {
                let what = format!("must be a list, not {}", other.noun());
                self.complain(key, &what, "start each item with `- `");
                &[]
            }
            None => &[],
        };
        self.register(key, doc, Shape::List(list.len()));
        let mut template = self.at(key);
        template.push(Step::Each);
        self.item(template, &[], &read);
        let mut items = Vec::new();
        for (n, node) in list.iter().enumerate() {
            let mut path = self.at(key);
            path.push(Step::Index(n));
            if let Node::Map(entries) = node {
                items.push(self.item(path, entries, &read));
            } else {
                let what = format!("must be a section, not {}", node.noun());
                self.reader
                    .complain(&path, &what, "write `key: value` lines after the `- `");
            }
        }
        items
    }

    fn item<T>(
        &self,
        path: Vec<Step>,
        entries: &'r [(String, Node)],
        read: impl Fn(&Section<'_>) -> T,
    ) -> T {
        self.reader.entries.borrow_mut().push(Entry {
            path: path.clone(),
            doc: "",
            shape: Shape::Item,
        });
        Section::new(self.reader, path, entries).read(read)
    }

    pub(super) fn too_long(&self, key: &str, len: usize) {
        let what = format!("has {len} items");
        self.complain(key, &what, &format!("keep at most {LIST_MAX}"));
    }

    /// The text of a single value, or a problem.
    fn text_of(&self, path: &[Step], node: &Node) -> Option<String> {
        let text = match node {
            Node::Text(text) => text.clone(),
            Node::Plain => locate::text_at(self.reader.text, path).unwrap_or_default(),
            other => {
                let what = format!("must be a single value, not {}", other.noun());
                let remedy = match other {
                    Node::Tagged => "remove the tag",
                    _ => "write one value after the colon",
                };
                self.reader.complain(path, &what, remedy);
                return None;
            }
        };
        let fault = if text.is_empty() {
            "is empty"
        } else if text.len() > TEXT_MAX {
            "is too long"
        } else if text.contains(char::is_control) {
            "holds a control character or line break"
        } else {
            return Some(text);
        };
        let remedy = format!("write one line of 1 to {TEXT_MAX} bytes, or remove the key");
        self.reader.complain(path, fault, &remedy);
        None
    }

    /// A single value, parsed; `None` when it is absent or wrong.
    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        remedy: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let path = self.at(key);
        let text = self.text_of(&path, self.node(key)?)?;
        if is_placeholder(&text) {
            self.reader
                .warn(&path, "is still a placeholder", "write the real value");
        }
        match parse(&text) {
            Ok(value) => Some(value),
            Err(what) => {
                self.reader.complain(&path, &shortened(&what), remedy);
                None
            }
        }
    }

    pub(super) fn with_default<T: Clone>(
        &self,
        key: &'static str,
        (kind, remedy): (&str, &str),
        default: T,
        doc: &'static str,
        show: impl Fn(&T) -> String,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let value = self
            .parsed(key, remedy, parse)
            .unwrap_or_else(|| default.clone());
        let shape = Shape::Value {
            kind: kind.to_owned(),
            default: Usual::Fixed(show(&default)),
            effective: show(&value),
        };
        self.register(key, doc, shape);
        value
    }

    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        (kind, remedy): (&str, &str),
        usual: Usual,
        doc: &'static str,
        show: impl Fn(&T) -> String,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.parsed(key, remedy, parse);
        let effective = value.as_ref().map_or_else(|| "null".to_owned(), show);
        let shape = Shape::Value {
            kind: kind.to_owned(),
            default: usual,
            effective,
        };
        self.register(key, doc, shape);
        value
    }

    pub(super) fn list_of<T>(
        &self,
        key: &'static str,
        node: &Node,
        remedy: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let Node::List(list) = node else {
            return self.parsed(key, remedy, parse).into_iter().collect();
        };
        if list.is_empty() {
            self.complain(key, "is an empty list", "add an item, or remove the key");
        }
        if list.len() > LIST_MAX {
            self.too_long(key, list.len());
            return Vec::new();
        }
        let mut values = Vec::new();
        for (n, node) in list.iter().enumerate() {
            let mut path = self.at(key);
            path.push(Step::Index(n));
            match self.text_of(&path, node).map(|text| parse(&text)) {
                Some(Ok(value)) => values.push(value),
                Some(Err(what)) => self.reader.complain(&path, &shortened(&what), remedy),
                None => {}
            }
        }
        values
    }
}

/// `<secure-token>`: what a runbook or the example wrote for people to replace.
fn is_placeholder(text: &str) -> bool {
    text.find('<')
        .is_some_and(|at| text[at..].find('>').is_some_and(|end| end > 1))
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= 2 * SHOWN_MAX {
        return text.to_owned();
    }
    let head: String = text.chars().take(SHOWN_MAX).collect();
    let tail: Vec<char> = text.chars().rev().take(SHOWN_MAX).collect();
    let tail: String = tail.into_iter().rev().collect();
    format!("{head}...{tail}")
}
