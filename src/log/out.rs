//! Where lines go: the journal with fields, or stderr. Both may block, so only the log's own thread
//! comes here.

use std::io::{self, Stderr};

use log::{Level, Record};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use systemd_journal_logger::{JournalLog, connected_to_journal};

/// One line, and what the journal is told besides.
#[derive(Debug)]
pub(super) struct Entry {
    /// With its newline.
    pub(super) line: String,
    /// `None`: the line is no record of the log.
    pub(super) fields: Option<Fields>,
}

/// What a record has besides its line.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) level: Level,
    pub(super) target: String,
    pub(super) module: Option<&'static str>,
    pub(super) file: Option<&'static str>,
    pub(super) line: Option<u32>,
    pub(super) pairs: Vec<(String, String)>,
}

impl Entry {
    /// Memory that it takes, roughly.
    pub(super) fn size(&self) -> usize {
        let fields = self.fields.as_ref().map_or(0, |fields| {
            let pairs = fields.pairs.iter();
            fields.target.len() + pairs.map(|(k, v)| k.len() + v.len()).sum::<usize>()
        });
        size_of::<Self>() + self.line.len() + fields
    }
}

/// The journal or stderr.
pub(super) struct Out {
    /// Whether the journal reads stderr.
    is_journal: bool,
    journal: Option<JournalLog>,
}

impl Out {
    pub(super) fn open() -> Self {
        let is_journal = connected_to_journal();
        let journal = is_journal.then(JournalLog::empty).and_then(Result::ok);
        Self {
            is_journal,
            journal: journal.map(|j| j.with_syslog_identifier(env!("CARGO_PKG_NAME").to_owned())),
        }
    }

    pub(super) fn write(&self, entry: &Entry) {
        let Some(fields) = &entry.fields else {
            return to_stderr(&io::stderr(), entry.line.as_bytes());
        };
        if let Some(journal) = &self.journal
            && to_journal(journal, fields, entry.line.trim_end()).is_ok()
        {
            return;
        }
        if self.is_journal {
            // A journal that cannot be reached directly still reads stderr, and levels there.
            let line = format!("{}{}", priority(fields.level), entry.line);
            return to_stderr(&io::stderr(), line.as_bytes());
        }
        to_stderr(&io::stderr(), entry.line.as_bytes());
    }
}

/// The record with its whole line as message.
fn to_journal(journal: &JournalLog, fields: &Fields, line: &str) -> io::Result<()> {
    let pairs: Vec<_> = fields
        .pairs
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    journal.journal_send(
        &Record::builder()
            .args(format_args!("{line}"))
            .level(fields.level)
            .target(&fields.target)
            .module_path_static(fields.module)
            .file_static(fields.file)
            .line(fields.line)
            .key_values(&pairs.as_slice())
            .build(),
    )
}

/// Writes the whole line, and waits for that as long as it takes.
fn to_stderr(stderr: &Stderr, mut line: &[u8]) {
    while !line.is_empty() {
        match rustix::io::write(stderr, line) {
            Ok(n) => line = &line[n..],
            Err(Errno::INTR) => {}
            // Another process that shares the pipe has made it non-blocking.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(stderr, PollFlags::OUT)], None);
            }
            // A closed stderr is no reason to stop serving.
            Err(_) => return,
        }
    }
}

/// sd-daemon(3) priorities, as the journal's own entries have them.
fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<5>",
        Level::Debug => "<6>",
        Level::Trace => "<7>",
    }
}
