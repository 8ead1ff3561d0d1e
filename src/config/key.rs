//! One key of the schema and how its value is read: the builder behind every line of the table.
//!
//! Each method registers the key with its type, default and help, and reads it. So the entries
//! that the example and the reference are printed from are exactly the keys the loader knows.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::document::{Node, Step};
use super::entry::{DefaultValue, Entry, Shape};
use super::environment::{Environment, SecretFiles};
use super::field_types::{FieldType, credential_file, secret};
use super::reader::{Schema, Section};
use crate::secret::Secret;

/// Items of one list: no deployment has more relays or networks, and each costs a look-up.
const LIST_MAX: usize = 32;

/// A key of the schema, with its help text.
pub(super) struct Key<'k, 'r, 't> {
    section: &'k mut Section<'r, 't>,
    name: String,
    help: &'static str,
}

impl<'k, 'r, 't> Key<'k, 'r, 't> {
    /// The next key of a section.
    pub(super) fn new(section: &'k mut Section<'r, 't>, name: &str, help: &'static str) -> Self {
        let name = name.to_owned();
        section.known.push(name.clone());
        Self {
            section,
            name,
            help: help.trim_start(),
        }
    }

    /// The facts that defaults depend on.
    pub(super) fn environment(&self) -> &'t Environment {
        self.section.reader.environment
    }

    fn path_of(&self, item: Step) -> Vec<Step> {
        let mut path = self.section.at(&self.name);
        path.push(item);
        path
    }

    fn wrong_kind<T>(&mut self, wanted: &str, node: &Node, remedy: &str) -> &'static [T] {
        let path = self.section.at(&self.name);
        self.section.reader.wrong_kind(&path, wanted, node, remedy)
    }

    fn register(&mut self, shape: Shape) {
        let path = self.section.at(&self.name);
        let help = self.help;
        let entries = &mut self.section.reader.entries;
        entries.push(Entry { path, help, shape });
    }

    fn register_value(&mut self, type_name: &str, default: DefaultValue, value: Option<String>) {
        self.register(Shape::Value {
            type_name: type_name.to_owned(),
            default,
            effective: value.unwrap_or_else(|| "null".to_owned()),
        });
    }

    /// The value as written; `None` when it is absent or wrong.
    fn written<T>(&mut self, as_type: &FieldType<T>) -> Option<T> {
        let path = self.section.at(&self.name);
        let node = self.section.node(&self.name)?;
        let reader = &mut *self.section.reader;
        let text = reader.text_of(&path, node)?;
        if is_placeholder(&text) {
            let remedy = "write the real value";
            reader.report.warn(&path, "is still a placeholder", remedy);
        }
        reader.parse(&path, &text, as_type)
    }

    /// A value with a fixed default.
    pub(super) fn default<T>(mut self, as_type: FieldType<T>, default: T) -> T {
        let shown = (as_type.show)(&default);
        let value = self.written(&as_type).unwrap_or(default);
        let effective = (as_type.show)(&value);
        self.register_value(&as_type.name, DefaultValue::Fixed(shown), Some(effective));
        value
    }

    /// A value that may be absent.
    pub(super) fn optional<T>(
        self,
        as_type: FieldType<T>,
        default: impl Into<DefaultValue>,
    ) -> Option<T> {
        self.or(as_type, None, default)
    }

    /// A value whose default was determined from the environment or from other keys.
    pub(super) fn or<T>(
        mut self,
        as_type: FieldType<T>,
        fallback: Option<T>,
        default: impl Into<DefaultValue>,
    ) -> Option<T> {
        let value = self.written(&as_type).or(fallback);
        let effective = value.as_ref().map(&as_type.show);
        self.register_value(&as_type.name, default.into(), effective);
        value
    }

    /// A list of single values; a single value counts as a list of one.
    pub(super) fn list<T>(
        mut self,
        as_type: FieldType<T>,
        default: impl Into<DefaultValue>,
    ) -> Option<Vec<T>> {
        let node = self.section.node(&self.name);
        let values = node.map(|node| match node {
            Node::List(list) => self.values(list, &as_type),
            _ => self.written(&as_type).into_iter().collect(),
        });
        let effective = values.as_ref().map(|list: &Vec<T>| {
            let shown: Vec<String> = list.iter().map(&as_type.show).collect();
            format!("[{}]", shown.join(", "))
        });
        self.register_value(
            &format!("list: {}", as_type.name),
            default.into(),
            effective,
        );
        values
    }

    fn values<T>(&mut self, list: &[Node], as_type: &FieldType<T>) -> Vec<T> {
        if list.is_empty() {
            let remedy = "add an item, or remove the key";
            self.section.error(&self.name, "is an empty list", remedy);
        }
        let mut values = Vec::new();
        for (n, node) in self.bounded(list).iter().enumerate() {
            let path = self.path_of(Step::Index(n));
            let reader = &mut *self.section.reader;
            if let Some(text) = reader.text_of(&path, node) {
                values.extend(reader.parse(&path, &text, as_type));
            }
        }
        values
    }

    fn bounded<'n>(&mut self, list: &'n [Node]) -> &'n [Node] {
        if list.len() <= LIST_MAX {
            return list;
        }
        let what = format!("has {} items", list.len());
        let remedy = format!("keep at most {LIST_MAX}");
        self.section.error(&self.name, &what, &remedy);
        &[]
    }

    /// A secret: the value of this key, or of a file that the key `<key>_file` names.
    pub(super) fn secret(self) -> Option<Secret> {
        let (section, name) = (self.section, self.name);
        let file_key = format!("{name}_file");
        let inline = Key::new(section, &name, self.help).optional(secret(), "<secret>");
        let file_type = credential_file("path of a secret");
        let file = Key::new(section, &file_key, FILE_HELP)
            .optional(file_type, "/etc/hydraneckwebrtc/secret");
        if section.node(&name).is_some() && section.node(&file_key).is_some() {
            let what = format!("is set beside {name}");
            section.error(&file_key, &what, "keep one of the two");
        }
        section.reader.holds_secrets |= inline.is_some();
        inline.or_else(|| secret_in(section, &file_key, &file?))
    }

    /// A section in this section.
    pub(super) fn section<T: Schema>(mut self) -> T {
        let entries = match self.section.node(&self.name) {
            Some(Node::Map(entries)) => entries.as_slice(),
            Some(other) => self.wrong_kind("a section", other, "write its keys below it, indented"),
            None => &[],
        };
        self.read(entries)
    }

    fn read<T: Schema>(&mut self, entries: &[(String, Node)]) -> T {
        self.register(Shape::Section);
        let path = self.section.at(&self.name);
        self.section.reader.section(path, entries)
    }

    /// A section that applies only with its main key.
    pub(super) fn section_with<T: Schema>(self, main: &str) -> Option<T> {
        let is_written = matches!(
            self.section.node(&self.name),
            Some(Node::Map(keys)) if keys.iter().any(|(k, n)| k == main && *n != Node::Null)
        );
        let value = self.section();
        is_written.then_some(value)
    }

    /// A section, or one word that stands for its absence.
    pub(super) fn section_or_word<T: Schema>(mut self, word: &str) -> T {
        match self.section.node(&self.name) {
            Some(Node::Text(text)) if text == word => self.read(&[]),
            _ => self.section(),
        }
    }

    /// A list of sections.
    pub(super) fn items<T: Schema>(mut self) -> Vec<T> {
        let list = match self.section.node(&self.name) {
            Some(Node::List(list)) => self.bounded(list),
            Some(other) => self.wrong_kind("a list", other, "start each item with `- `"),
            None => &[],
        };
        self.register(Shape::List(list.len()));
        let _: T = self.item(Step::Each, &[]);
        let mut items = Vec::new();
        for (n, node) in list.iter().enumerate() {
            if let Node::Map(entries) = node {
                items.push(self.item(Step::Index(n), entries));
            } else {
                let path = self.path_of(Step::Index(n));
                let remedy = "write `key: value` lines after the `- `";
                let reader = &mut self.section.reader;
                reader.wrong_kind::<()>(&path, "a section", node, remedy);
            }
        }
        items
    }

    fn item<T: Schema>(&mut self, step: Step, entries: &[(String, Node)]) -> T {
        let path = self.path_of(step);
        let reader = &mut *self.section.reader;
        reader.entries.push(Entry {
            path: path.clone(),
            help: "",
            shape: Shape::Item,
        });
        reader.section(path, entries)
    }
}

const FILE_HELP: &str = "A file that contains this secret, instead: an absolute path, one under \
                         `~/`, or the name of a credential in systemd's \
                         `$CREDENTIALS_DIRECTORY`.";

fn secret_in(section: &mut Section<'_, '_>, file_key: &str, file: &Path) -> Option<Secret> {
    if section.reader.environment.files == SecretFiles::Skip {
        return Some(Secret::new("(not read)"));
    }
    match Secret::from_file(file) {
        Ok(secret) => {
            let mode = std::fs::metadata(file).map_or(0, |m| m.permissions().mode());
            if mode & 0o007 != 0 {
                let what = format!("{} is open to every user", file.display());
                let remedy = format!("chmod o= {}", file.display());
                section.warn(file_key, &what, &remedy);
            }
            Some(secret)
        }
        Err(what) => {
            section.error(file_key, &what, "name a file that this user can read");
            None
        }
    }
}

/// `<secure-token>`: text of the runbook or the example that people must replace.
fn is_placeholder(text: &str) -> bool {
    text.find('<')
        .is_some_and(|at| text[at..].find('>').is_some_and(|end| end > 1))
}
