//! Every key that was asked for: its place, kind, default, meaning and effective value.
//!
//! Filled by `section` while a document is read; read by `render`. So the example and the
//! reference can name no key that the loader does not know, and miss none that it does.

use super::locate::Step;

/// One key, section or list, in the order of asking.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<Step>,
    pub(super) doc: &'static str,
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
        kind: String,
        default: Usual,
        /// The effective value as YAML.
        effective: String,
    },
}

/// What holds when a key is not written.
#[derive(Clone, Debug)]
pub(super) enum Usual {
    /// A fixed value, as YAML.
    Fixed(String),
    /// Found out at run time, described in words.
    Found {
        words: &'static str,
        example: &'static str,
    },
    /// Nothing.
    Unset { example: &'static str },
}

impl Entry {
    /// Whether this entry speaks of items in general, for the reference, rather than of the file.
    pub(super) fn is_template(&self) -> bool {
        self.path.contains(&Step::Each)
    }

    /// The last key on the way here.
    pub(super) fn name(&self) -> &str {
        let mut keys = self.path.iter().rev();
        keys.find_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Each | Step::Index(_) => None,
        })
        .unwrap_or_default()
    }
}

/// A text as a YAML scalar that reads back as the same text.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:<>@+?=".contains(c);
    let starts_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let is_word = matches!(
        text.to_ascii_lowercase().as_str(),
        "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if starts_plain && !is_word && !text.ends_with(':') && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_reads_back_as_itself() {
        for text in [
            "",
            ":8080",
            "0123",
            "1e3",
            "true",
            "No",
            "~",
            "a b",
            "a: b",
            "a #b",
            "é\u{2028}",
            "x\"y\\z",
            "https://neck.test:1/a?b=c",
            "<token>",
            "- a",
            "{a}",
            "'",
            "*a",
            "a:",
        ] {
            let yaml = format!("k: {}\n", quoted(text));
            let back: std::collections::BTreeMap<String, serde_yaml::Value> =
                serde_yaml::from_str(&yaml).unwrap();
            assert_eq!(
                back["k"],
                serde_yaml::Value::String(text.to_owned()),
                "{yaml}"
            );
        }
    }
}
