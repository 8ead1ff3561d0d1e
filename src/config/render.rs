//! The configuration as text for people: the example, the reference, the effective values.
//!
//! All three are printed from the entries of the schema alone.

use super::document::{Node, Step, dotted};
use super::entry::{DefaultValue, Entry, Shape};
use super::environment::Environment;
use super::loader::Loaded;
use super::reader::Reader;
use super::schema::Config;

/// Width of comment lines.
const WIDTH: usize = 96;

/// `config show`: the effective values as YAML, secrets as `***`, in the order of the reference.
#[must_use]
pub(crate) fn show(loaded: &Loaded) -> String {
    let mut out = String::new();
    let mut starts_item = false;
    for entry in loaded.entries.iter().filter(|e| !e.is_template()) {
        let value = match &entry.shape {
            Shape::Item => {
                starts_item = true;
                continue;
            }
            Shape::List(0) => " []",
            Shape::List(_) | Shape::Section => "",
            Shape::Value { effective, .. } => &format!(" {effective}"),
        };
        let starts_item = std::mem::take(&mut starts_item);
        out.push_str(&line(entry, "", starts_item, value));
    }
    out
}

/// `config example`: every key as commented YAML, with its help and default.
#[must_use]
pub(crate) fn example() -> String {
    let mut out = String::from(
        "# hydraneckwebrtc configuration: every key, commented out, with its default or an\n\
         # example. Remove the `#` from what you need. `hydraneckwebrtc config check` reports what\n\
         # is wrong; `config show` prints the effective values.\n",
    );
    let mut starts_item = false;
    for entry in all_keys() {
        let indent = indent(&entry);
        match &entry.shape {
            Shape::Item => starts_item = true,
            Shape::List(_) | Shape::Section => {
                out.push('\n');
                comment(&mut out, &indent, entry.help);
                let is_plain = entry.path.len() == 1 && matches!(entry.shape, Shape::Section);
                let mark = if is_plain { "" } else { "#" };
                out.push_str(&line(&entry, mark, false, ""));
            }
            Shape::Value {
                type_name, default, ..
            } => {
                let (words, value) = match default {
                    DefaultValue::Fixed(value) => (value.as_str(), value.as_str()),
                    DefaultValue::Found { words, example } => (*words, *example),
                    DefaultValue::Unset { example } => ("none", *example),
                };
                let note = format!("{} ({type_name}; default: {words})", entry.help);
                comment(&mut out, &indent, &note);
                let starts_item = std::mem::take(&mut starts_item);
                out.push_str(&line(&entry, "#", starts_item, &format!(" {value}")));
            }
        }
    }
    out
}

/// Every key of the schema; for a list of sections, the keys of its items.
pub(super) fn all_keys() -> Vec<Entry> {
    let environment = Environment::nowhere();
    let mut reader = Reader::new("", &environment);
    let _: Config = reader.read(&Node::Null);
    reader.entries
}

/// Two spaces for each section around the key, and two for the list item it is in.
fn indent(entry: &Entry) -> String {
    "  ".repeat(entry.path.len().saturating_sub(1))
}

/// The line of one key. The first key of a list item stands behind a dash.
fn line(entry: &Entry, mark: &str, starts_item: bool, value: &str) -> String {
    let (indent, name) = (indent(entry), entry.name());
    match indent.strip_suffix("  ").filter(|_| starts_item) {
        Some(shorter) => format!("{shorter}{mark}- {name}:{value}\n"),
        None => format!("{indent}{mark}{name}:{value}\n"),
    }
}

fn comment(out: &mut String, indent: &str, text: &str) {
    let mut line = format!("{indent}#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = format!("{indent}#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

/// docs/configuration.md: one table a section.
#[must_use]
pub(crate) fn reference() -> String {
    let mut out = String::from(
        "# Configuration reference\n\n\
         Generated from the code that reads the file; `hydraneckwebrtc config example` prints the\n\
         same as commented YAML. The path of the file is `--config`, else `$HYDRANECKWEBRTC_CONFIG`,\n\
         else `~/.hydraneckwebrtc/config.yaml`. It is one YAML document of at most 64 KiB. A key\n\
         that is not listed here is an error; a key without a value (`domain:`) counts as not written.\n\n\
         Durations are written `500ms`, `90s`, `5m`, `1h30m`; sizes `64KiB`, `16MiB`, `1GiB`. A\n\
         secret is written in this file, or in a separate file whose path is the key with `_file`.\n",
    );
    let entries = all_keys();
    out.push_str("\n## Top level\n");
    table(&mut out, &entries, &[]);
    for section in &entries {
        let mut path = section.path.clone();
        match section.shape {
            Shape::Section => {}
            Shape::List(_) => path.push(Step::Each),
            Shape::Item | Shape::Value { .. } => continue,
        }
        let name = dotted(&path);
        out.push_str(&format!("\n## `{name}`\n\n{}\n", section.help));
        table(&mut out, &entries, &path);
    }
    out
}

/// The table of the keys in one section, if it has any.
fn table(out: &mut String, entries: &[Entry], section: &[Step]) {
    let mut head = "\n| key | value | default | meaning |\n|---|---|---|---|\n";
    for entry in entries {
        let Shape::Value {
            type_name, default, ..
        } = &entry.shape
        else {
            continue;
        };
        if entry.path.len() != section.len() + 1 || !entry.path.starts_with(section) {
            continue;
        }
        let default = match default {
            DefaultValue::Fixed(value) => format!("`{value}`"),
            DefaultValue::Found { words, .. } => (*words).to_owned(),
            DefaultValue::Unset { .. } => "-".to_owned(),
        };
        out.push_str(std::mem::take(&mut head));
        let (name, help) = (entry.name(), entry.help);
        out.push_str(&format!(
            "| `{name}` | {type_name} | {default} | {help} |\n"
        ));
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
