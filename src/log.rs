//! Log lines as the runbook names them: `[prefix] what happened key=value`.
//!
//! The prefix is the record's target (`log::info!(target: "worker", "...")`); a record with the
//! key `session` is prefixed `[session <id>]`. Lines go to stderr, with journald's `<N>` level
//! when stderr is the journal, as JSON when configured. Never call anything here that logs.

use std::fmt::Write as _;
use std::io::Write as _;

use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `[prefix] message key=value`.
    #[default]
    Text,
    /// One JSON object a line: `time`, `level`, `target`, `message` and the record's keys.
    Json,
}

#[derive(Debug)]
struct Stderr {
    format: Format,
    to_journal: bool,
}

/// Installs the logger; a second call only changes the level.
pub fn init(level: LevelFilter, format: Format) {
    // systemd sets JOURNAL_STREAM when stderr is connected to the journal (systemd.exec(5)).
    let to_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let _ = log::set_boxed_logger(Box::new(Stderr { format, to_journal }));
    log::set_max_level(level);
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // WebRTC's core warns of what strangers send, and of every ordinary connect.
        if metadata.target().starts_with("rtc") {
            return metadata.level() == Level::Error;
        }
        // The libraries below speak at debug in volumes that bury our own lines.
        let ours = !metadata.target().contains("::") || metadata.target().starts_with("hydraneck");
        ours || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = match self.format {
            Format::Text => text(record, self.to_journal),
            Format::Json => json(record),
        };
        // A closed stderr is no reason to stop serving.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

#[derive(Default)]
struct Pairs {
    session: Option<String>,
    rest: Vec<(String, String)>,
}

impl<'kvs> VisitSource<'kvs> for Pairs {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        if key.as_str() == "session" {
            self.session = Some(value.to_string());
        } else {
            self.rest.push((key.to_string(), value.to_string()));
        }
        Ok(())
    }
}

fn pairs(record: &Record<'_>) -> Pairs {
    let mut pairs = Pairs::default();
    let _ = record.key_values().visit(&mut pairs);
    pairs
}

/// Whole line with newline. Line breaks inside the message become `\n`, so that one event stays
/// one line whatever a peer put into it.
fn text(record: &Record<'_>, to_journal: bool) -> String {
    let mut line = String::with_capacity(128);
    if to_journal {
        let _ = write!(line, "<{}>", priority(record.level()));
    }
    let pairs = pairs(record);
    match &pairs.session {
        Some(id) if record.target() == "session" => {
            let _ = write!(line, "[session {id}] ");
        }
        Some(id) => {
            let _ = write!(line, "[{}] session={id} ", record.target());
        }
        None => {
            let _ = write!(line, "[{}] ", record.target());
        }
    }
    // The runbook greps for the word, so the journal's own level is not enough.
    match record.level() {
        Level::Error => line.push_str("ERROR: "),
        Level::Warn => line.push_str("WARNING: "),
        Level::Info | Level::Debug | Level::Trace => {}
    }
    let _ = write!(line, "{}", record.args());
    for (key, value) in &pairs.rest {
        let _ = write!(line, " {key}={value}");
    }
    let mut line = line.replace('\r', "\\r").replace('\n', "\\n");
    line.push('\n');
    line
}

fn json(record: &Record<'_>) -> String {
    let pairs = pairs(record);
    let mut object = serde_json::Map::new();
    object.insert(
        "time".into(),
        crate::clock::rfc3339(crate::clock::wall()).into(),
    );
    object.insert(
        "level".into(),
        record.level().as_str().to_lowercase().into(),
    );
    object.insert("target".into(), record.target().into());
    let message = record.args().to_string();
    // An audit line is JSON itself: it stays one that can be searched by field.
    match serde_json::from_str::<serde_json::Value>(&message) {
        Ok(value) if record.target() == "audit" => object.insert("audit".into(), value),
        _ => object.insert("message".into(), message.into()),
    };
    if let Some(id) = pairs.session {
        object.insert("session".into(), id.into());
    }
    for (key, value) in pairs.rest {
        object.insert(key, value.into());
    }
    format!("{}\n", serde_json::Value::Object(object))
}

/// sd-daemon(3) priorities.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: Level, target: &str, session: Option<&str>, to_journal: bool) -> String {
        let kv: Vec<(&str, &str)> = session.map(|s| ("session", s)).into_iter().collect();
        let kv = &kv[..];
        text(
            &Record::builder()
                .level(level)
                .target(target)
                .args(format_args!("a\nb"))
                .key_values(&kv)
                .build(),
            to_journal,
        )
    }

    #[test]
    fn prefixes_are_the_runbooks() {
        assert_eq!(line(Level::Info, "worker", None, false), "[worker] a\\nb\n");
        assert_eq!(
            line(Level::Info, "session", Some("ab"), false),
            "[session ab] a\\nb\n"
        );
        assert_eq!(
            line(Level::Info, "mic", Some("ab"), false),
            "[mic] session=ab a\\nb\n"
        );
        assert_eq!(
            line(Level::Warn, "worker", None, false),
            "[worker] WARNING: a\\nb\n"
        );
        assert_eq!(
            line(Level::Warn, "proxy", None, true),
            "<4>[proxy] WARNING: a\\nb\n"
        );
    }
}
