//! Log lines as the runbook names them: `[prefix] what happened key=value`.
//!
//! The prefix is the record's target (`log::info!(target: "worker", "...")`); a record with the
//! key `session` is prefixed `[session <id>]`. Under systemd a line goes to the journal with the
//! record's keys as fields (`REQUEST_ID`, `SESSION`, `TARGET`, ...), so that `journalctl
//! SESSION=<id>` finds it; elsewhere to stderr. A thread writes them from a bounded queue, so that a
//! reader that stops stops nobody here. Never call anything here that logs.

mod queue;

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};

pub use queue::FLUSH_WITHIN;
use queue::{Line, Queue, Writer};

/// Target of lines that are JSON themselves.
const AUDIT: &str = "audit";

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `[prefix] message key=value`.
    #[default]
    Text,
    /// One JSON object a line: `time`, `level`, `target`, `message` and the record's keys.
    Json,
}

/// Where lines go, and how they look.
struct Lines {
    is_json: AtomicBool,
    queue: Queue,
}

/// Sets level and format; the first call installs the logger.
pub fn init(level: LevelFilter, format: Format) {
    static LINES: OnceLock<Lines> = OnceLock::new();
    let lines = LINES.get_or_init(Lines::open);
    lines
        .is_json
        .store(format == Format::Json, Ordering::Relaxed);
    // Only the first call can do it, and once is enough.
    if log::set_logger(lines).is_ok() {
        // The usual hook writes to stderr itself, and would wait for a reader that has stopped.
        std::panic::set_hook(Box::new(|panic| log::error!(target: "exec", "{panic}")));
    }
    log::set_max_level(level);
}

/// Waits until the lines so far are written, for at most [`FLUSH_WITHIN`]: before the process ends.
pub fn flush() {
    log::logger().flush();
}

impl Lines {
    fn open() -> Self {
        Self {
            is_json: AtomicBool::new(false),
            queue: Queue::open(Writer::open()),
        }
    }

    fn line(&self, record: &Record<'_>) -> String {
        if self.is_json.load(Ordering::Relaxed) {
            json(record)
        } else {
            text(record)
        }
    }
}

impl Log for Lines {
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
        if self.enabled(record.metadata()) {
            self.queue.push(Line::of(record, self.line(record)));
        }
    }

    fn flush(&self) {
        self.queue.flush();
    }
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
fn text(record: &Record<'_>) -> String {
    let mut line = String::with_capacity(128);
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
    // An audit line is JSON, and has them inside.
    for (key, value) in pairs.rest.iter().filter(|_| record.target() != AUDIT) {
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
        Ok(value) if record.target() == AUDIT => object.insert("audit".into(), value),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: Level, target: &str, kv: &[(&str, &str)]) -> String {
        text(
            &Record::builder()
                .level(level)
                .target(target)
                .args(format_args!("a\nb"))
                .key_values(&kv)
                .build(),
        )
    }

    #[test]
    fn prefixes_are_the_runbooks() {
        let session = [("session", "ab")];
        for (level, target, kv, wanted) in [
            (Level::Info, "worker", &[][..], "[worker] a\\nb\n"),
            (Level::Info, "session", &session, "[session ab] a\\nb\n"),
            (Level::Info, "mic", &session, "[mic] session=ab a\\nb\n"),
            (Level::Warn, "worker", &[], "[worker] WARNING: a\\nb\n"),
            (
                Level::Error,
                "proxy",
                &[("request_id", "r")],
                "[proxy] ERROR: a\\nb request_id=r\n",
            ),
        ] {
            assert_eq!(line(level, target, kv), wanted);
        }
    }

    #[test]
    fn an_audit_line_stays_the_json_that_it_is() {
        let kv = &[("request_id", "r")][..];
        let mut record = Record::builder();
        record.target("audit").key_values(&kv);
        let said = text(&record.args(format_args!("{{\"status\":204}}")).build());
        assert_eq!(said, "[audit] {\"status\":204}\n");
        let said = json(&record.args(format_args!("{{\"status\":204}}")).build());
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["audit"]["status"], 204);
        assert_eq!(said["request_id"], "r");
    }
}
