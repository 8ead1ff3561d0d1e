//! The configuration as text for people: the example, the reference, the effective values.
//!
//! All three are printed from the registry alone.

use super::locate::{Step, dotted};
use super::registry::{Entry, Shape, Usual};

/// Width of comment lines.
const WIDTH: usize = 96;

/// The effective values as YAML, secrets masked, in the order of the reference.
pub(super) fn show(entries: &[Entry]) -> String {
    let mut out = String::new();
    let mut starts_item = false;
    for entry in entries.iter().filter(|e| !e.is_template()) {
        let depth = depth(entry);
        let mut indent = "  ".repeat(depth);
        if std::mem::take(&mut starts_item) {
            indent.truncate(indent.len().saturating_sub(2));
            indent.push_str("- ");
        }
        match &entry.shape {
            Shape::Item => starts_item = true,
            Shape::List(0) => out.push_str(&format!("{indent}{}: []\n", entry.name())),
            Shape::List(_) | Shape::Section => {
                out.push_str(&format!("{indent}{}:\n", entry.name()));
            }
            Shape::Value { effective, .. } => {
                out.push_str(&format!("{indent}{}: {effective}\n", entry.name()));
            }
        }
    }
    out
}

/// How many levels a key is indented: its sections, and one more for each list item.
fn depth(entry: &Entry) -> usize {
    entry.path.len().saturating_sub(1)
}

/// An example with every key: commented out, with meaning and default.
pub(super) fn example(entries: &[Entry]) -> String {
    let mut out = String::from(
        "# hydraneckwebrtc configuration: every key, commented out, with its default or an\n\
         # example. Take the `#` away from what you need. `hydraneckwebrtc config check` tells\n\
         # what is wrong; `config show` prints what holds.\n",
    );
    let mut starts_item = false;
    for entry in entries.iter().filter(|e| !is_indexed(e)) {
        let mut indent = "  ".repeat(depth(entry));
        let name = entry.name();
        match &entry.shape {
            Shape::Item => starts_item = true,
            Shape::List(_) | Shape::Section => {
                out.push('\n');
                comment(&mut out, &indent, entry.doc);
                let mark = if entry.path.len() > 1 || matches!(entry.shape, Shape::List(_)) {
                    "#"
                } else {
                    ""
                };
                out.push_str(&format!("{indent}{mark}{name}:\n"));
            }
            Shape::Value { kind, default, .. } => {
                let (words, value) = usual(default);
                let note = format!("{} ({kind}; default: {words})", entry.doc);
                comment(&mut out, &indent, &note);
                if std::mem::take(&mut starts_item) {
                    indent.truncate(indent.len().saturating_sub(2));
                    out.push_str(&format!("{indent}#- {name}: {value}\n"));
                } else {
                    out.push_str(&format!("{indent}#{name}: {value}\n"));
                }
            }
        }
    }
    out
}

fn is_indexed(entry: &Entry) -> bool {
    entry.path.iter().any(|s| matches!(s, Step::Index(_)))
}

/// A default in words, and the value an example shows.
fn usual(default: &Usual) -> (&str, &str) {
    match default {
        Usual::Fixed(value) => (value, value),
        Usual::Found { words, example } => (words, example),
        Usual::Unset { example } => ("none", example),
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

/// The reference as Markdown: one table a section.
pub(super) fn reference(entries: &[Entry]) -> String {
    let mut out = String::from(
        "# Configuration reference\n\n\
         Generated from the code that reads the file; `hydraneckwebrtc config example` prints the\n\
         same as commented YAML. The file is looked for at `--config`, `$HYDRANECKWEBRTC_CONFIG`,\n\
         `~/.hydraneckwebrtc/config.yaml`. It is one YAML document of at most 64 KiB. A key that is\n\
         not listed here is an error; a key without a value (`domain:`) counts as not written.\n\n\
         Durations are written `500ms`, `90s`, `5m`, `1h30m`; sizes `64KiB`, `16MiB`, `1GiB`. A\n\
         secret stands in the file or, under its name with `_file`, in a file of its own.\n",
    );
    out.push_str("\n## Top level\n");
    let plain = |e: &&Entry| !is_indexed(e);
    let is_value = |e: &Entry| matches!(e.shape, Shape::Value { .. });
    let top = |e: &&Entry| is_value(e) && e.path.len() == 1;
    table(&mut out, entries.iter().filter(plain).filter(top));
    for section in entries.iter().filter(plain).filter(|e| !is_value(e)) {
        if matches!(section.shape, Shape::Item) {
            continue;
        }
        let mut path = section.path.clone();
        if matches!(section.shape, Shape::List(_)) {
            path.push(Step::Each);
        }
        let name = dotted(&path);
        out.push_str(&format!("\n## `{name}`\n\n{}\n", section.doc));
        let inside =
            |e: &&Entry| is_value(e) && e.path.len() == path.len() + 1 && e.path.starts_with(&path);
        let mut rows = entries.iter().filter(plain).filter(inside).peekable();
        if rows.peek().is_some() {
            table(&mut out, rows);
        }
    }
    out
}

fn table<'e>(out: &mut String, rows: impl Iterator<Item = &'e Entry>) {
    out.push_str("\n| key | value | default | meaning |\n|---|---|---|---|\n");
    for entry in rows {
        let Shape::Value { kind, default, .. } = &entry.shape else {
            continue;
        };
        let default = match default {
            Usual::Fixed(value) => format!("`{value}`"),
            Usual::Found { words, .. } => (*words).to_owned(),
            Usual::Unset { .. } => "-".to_owned(),
        };
        let (name, doc) = (entry.name(), entry.doc);
        out.push_str(&format!("| `{name}` | {kind} | {default} | {doc} |\n"));
    }
}
