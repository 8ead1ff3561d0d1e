//! What is known of each key: path, type, default and help text from the schema, and the effective
//! value. Reading a document collects the entries; `render` prints them.

use super::document::Step;

/// One key, section or list.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<Step>,
    pub(super) help: &'static str,
    pub(super) shape: Shape,
}

#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// An item of a list of sections starts here.
    Item,
    /// A list of sections with so many items.
    List(usize),
    Section,
    Value {
        type_name: String,
        default: DefaultValue,
        /// The effective value as YAML.
        effective: String,
    },
}

/// What applies when a key is not written.
#[derive(Clone, Debug)]
pub(super) enum DefaultValue {
    /// A fixed value, as YAML.
    Fixed(String),
    /// Determined at run time; `words` describe it.
    Found {
        words: &'static str,
        example: &'static str,
    },
    /// Nothing.
    Unset { example: &'static str },
}

impl From<&'static str> for DefaultValue {
    fn from(example: &'static str) -> Self {
        Self::Unset { example }
    }
}

/// A default that is determined at run time.
pub(super) fn found(words: &'static str, example: &'static str) -> DefaultValue {
    DefaultValue::Found { words, example }
}

impl Entry {
    /// Whether this is a key of list items in general, for the reference, and not of the file.
    pub(super) fn is_template(&self) -> bool {
        self.path.contains(&Step::Each)
    }

    /// The last key of the path.
    pub(super) fn name(&self) -> &str {
        let mut keys = self.path.iter().rev();
        keys.find_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Each | Step::Index(_) => None,
        })
        .unwrap_or_default()
    }
}
