//! Log lines as the runbook names them: `[prefix] what happened key=value`.
//!
//! The prefix is the record's target (`log::info!(target: "worker", "...")`); a record with the
//! key `session` is prefixed `[session <id>]`. Under systemd a line goes to the journal with the
//! record's keys as fields (`REQUEST_ID`, `SESSION`, `TARGET`, ...), so that `journalctl
//! SESSION=<id>` finds it; elsewhere to stderr.
//!
//! A reader that has stopped reading blocks whoever writes to it. So one thread writes, and all
//! others put their lines into a bounded queue before it; what does not fit is counted, and the log
//! says how many lines were dropped as soon as it is read again. Never call anything here that logs.

mod out;
mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::io;
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};

use out::{Entry, Fields, Out};
pub(crate) use queue::{Next, Queue, flush};

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

/// Whether lines are JSON objects.
static IS_JSON: AtomicBool = AtomicBool::new(false);
static LINES: OnceLock<Lines> = OnceLock::new();

/// The way to the thread that writes.
#[derive(Debug)]
struct Lines(io::Result<Queue<Entry>>);

/// Sets level and format; the first call installs the logger, also for panics.
pub fn init(level: LevelFilter, format: Format) {
    IS_JSON.store(format == Format::Json, Ordering::Relaxed);
    let lines = LINES.get_or_init(Lines::open);
    // Only the first call can do it, and once is enough.
    if log::set_logger(lines).is_ok() {
        panic::set_hook(Box::new(note_panic));
    }
    log::set_max_level(level);
}

/// Writes a line to stderr that is no record of the log, after the records before it.
pub(crate) fn say(line: &str) {
    LINES.get_or_init(Lines::open).send(Entry {
        line: format!("{line}\n"),
        fields: None,
    });
}

/// Flushes the log when it is dropped: when the program ends, also by a panic.
#[derive(Debug)]
pub(crate) struct FlushAtEnd;

impl Drop for FlushAtEnd {
    fn drop(&mut self) {
        flush();
    }
}

/// The default hook writes to stderr itself, which may block.
fn note_panic(info: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name");
    log::error!(target: "exec", "thread {name} {info}{backtrace}");
}

impl Lines {
    fn open() -> Self {
        Self(Queue::start("log", {
            let mut out = None;
            move |next| {
                // The journal's socket may block, too.
                let out = out.get_or_insert_with(Out::open);
                match next {
                    Next::Item(entry) => out.write(&entry),
                    Next::Dropped(n) => out.write(&dropped(n)),
                }
            }
        }))
    }

    fn send(&self, entry: Entry) {
        match &self.0 {
            Ok(queue) => {
                let size = entry.size();
                queue.push(entry, size);
            }
            // A process without a thread to give has more to say than to do.
            Err(_) => Out::open().write(&entry),
        }
    }
}

fn dropped(n: u64) -> Entry {
    entry(
        &Record::builder()
            .level(Level::Warn)
            .target("log")
            .args(format_args!(
                "{n} lines dropped: what reads this log did not keep up"
            ))
            .build(),
    )
}

fn entry(record: &Record<'_>) -> Entry {
    let pairs = Pairs::of(record);
    let line = if IS_JSON.load(Ordering::Relaxed) {
        json(record, &pairs)
    } else {
        text(record, &pairs)
    };
    Entry {
        line,
        fields: Some(Fields {
            level: record.level(),
            target: record.target().to_owned(),
            module: record.module_path_static(),
            file: record.file_static(),
            line: record.line(),
            pairs: pairs.0,
        }),
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
            self.send(entry(record));
        }
    }

    fn flush(&self) {
        flush();
    }
}

/// The keys of a record with their values.
#[derive(Default)]
struct Pairs(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Pairs {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}

impl Pairs {
    fn of(record: &Record<'_>) -> Self {
        let mut pairs = Self::default();
        let _ = record.key_values().visit(&mut pairs);
        pairs
    }

    fn session(&self) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == "session");
        found.map(|(_, id)| id.as_str())
    }

    fn rest(&self) -> impl Iterator<Item = &(String, String)> {
        self.0.iter().filter(|(key, _)| key != "session")
    }
}

/// Whole line with newline. Line breaks inside the message become `\n`, so that one event stays
/// one line whatever a peer put into it.
fn text(record: &Record<'_>, pairs: &Pairs) -> String {
    let mut line = String::with_capacity(128);
    match pairs.session() {
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
    for (key, value) in pairs.rest().filter(|_| record.target() != AUDIT) {
        let _ = write!(line, " {key}={value}");
    }
    let mut line = line.replace('\r', "\\r").replace('\n', "\\n");
    line.push('\n');
    line
}

fn json(record: &Record<'_>, pairs: &Pairs) -> String {
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
    for (key, value) in &pairs.0 {
        object.insert(key.clone(), value.as_str().into());
    }
    format!("{}\n", serde_json::Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(record: &Record<'_>) -> String {
        text(record, &Pairs::of(record))
    }

    fn line(level: Level, target: &str, kv: &[(&str, &str)]) -> String {
        said(
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
        let line = said(&record.args(format_args!("{{\"status\":204}}")).build());
        assert_eq!(line, "[audit] {\"status\":204}\n");
        let record = record.args(format_args!("{{\"status\":204}}")).build();
        let said = json(&record, &Pairs::of(&record));
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["audit"]["status"], 204);
        assert_eq!(said["request_id"], "r");
    }
}
