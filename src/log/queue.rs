//! The queue between those that log and the one thread that writes.
//!
//! A terminal in copy mode or a log shipper that hangs stops whoever writes to it. Only this thread
//! does; when the queue is full, lines are dropped, and their number is written in their place.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use log::{Level, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

use super::pairs;

/// Lines that wait at most.
const LINES_MAX: usize = 8_192;
/// Bytes of text that wait at most.
const BYTES_MAX: usize = 2 * 1024 * 1024;
/// Longest wait of a process that ends for its last lines to be written.
pub const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// A record that owns what it says.
pub(super) struct Line {
    level: Level,
    target: String,
    module: Option<&'static str>,
    file: Option<&'static str>,
    number: Option<u32>,
    pairs: Vec<(String, String)>,
    text: String,
}

impl Line {
    pub(super) fn of(record: &Record<'_>, text: String) -> Self {
        let pairs = pairs(record);
        let session = pairs.session.map(|id| ("session".to_owned(), id));
        Self {
            level: record.level(),
            target: record.target().to_owned(),
            module: record.module_path_static(),
            file: record.file_static(),
            number: record.line(),
            pairs: session.into_iter().chain(pairs.rest).collect(),
            text,
        }
    }

    fn dropped(count: u64) -> Self {
        Self {
            level: Level::Warn,
            target: "log".to_owned(),
            module: None,
            file: None,
            number: None,
            pairs: Vec::new(),
            text: format!("[log] WARNING: {count} lines dropped, whoever reads them is too slow\n"),
        }
    }
}

enum Job {
    Write(Line),
    /// Everything before this is written.
    Flush(SyncSender<()>),
}

/// What both sides count.
#[derive(Default)]
struct Counts {
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

/// The way to the thread that writes.
pub(super) struct Queue {
    jobs: SyncSender<Job>,
    counts: Arc<Counts>,
}

impl Queue {
    /// Starts the thread.
    pub(super) fn open(writer: Writer) -> Self {
        let (jobs, inbox) = sync_channel(LINES_MAX);
        let counts = Arc::<Counts>::default();
        let (of_thread, work) = (
            Arc::clone(&counts),
            thread::Builder::new().name("log".into()),
        );
        // Without a thread the inbox is gone and every line is dropped; nothing else would run, too.
        let _ = work.spawn(move || write_all(&writer, &inbox, &of_thread));
        Self { jobs, counts }
    }

    /// Never waits.
    pub(super) fn push(&self, line: Line) {
        let missed = self.counts.dropped.swap(0, Ordering::Relaxed);
        if missed > 0 && !self.try_push(Line::dropped(missed)) {
            self.counts.dropped.fetch_add(missed, Ordering::Relaxed);
        }
        if !self.try_push(line) {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn try_push(&self, line: Line) -> bool {
        let bytes = line.text.len();
        let before = self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_queued = before + bytes <= BYTES_MAX && self.jobs.try_send(Job::Write(line)).is_ok();
        if !is_queued {
            self.counts.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_queued
    }

    /// Waits until what was pushed is written, for at most [`FLUSH_WITHIN`].
    pub(super) fn flush(&self) {
        let (done, written) = sync_channel(1);
        // A queue that is full is not emptied in time either.
        if self.jobs.try_send(Job::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_WITHIN);
        }
    }
}

fn write_all(writer: &Writer, inbox: &Receiver<Job>, counts: &Counts) {
    loop {
        let job = match inbox.try_recv() {
            Ok(job) => job,
            Err(TryRecvError::Empty) => {
                let missed = counts.dropped.swap(0, Ordering::Relaxed);
                if missed > 0 {
                    writer.write(Line::dropped(missed));
                }
                match inbox.recv() {
                    Ok(job) => job,
                    Err(_) => return,
                }
            }
            Err(TryRecvError::Disconnected) => return,
        };
        match job {
            Job::Write(line) => {
                let bytes = line.text.len();
                writer.write(line);
                counts.bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
            Job::Flush(done) => drop(done.try_send(())),
        }
    }
}

/// Writes to the journal where stderr is one, else to stderr.
pub(super) struct Writer {
    /// Whether the journal reads stderr.
    is_journal: bool,
    journal: Option<JournalLog>,
}

impl Writer {
    pub(super) fn open() -> Self {
        let is_journal = connected_to_journal();
        let journal = is_journal.then(JournalLog::empty).and_then(Result::ok);
        let journal = journal.map(|j| j.with_syslog_identifier(env!("CARGO_PKG_NAME").to_owned()));
        Self {
            is_journal,
            journal,
        }
    }

    fn write(&self, line: Line) {
        if let Some(journal) = &self.journal
            && to_journal(journal, &line).is_ok()
        {
            return;
        }
        let mut text = line.text;
        if self.is_journal {
            // A journal that cannot be reached directly still reads stderr, and levels there.
            text.insert_str(0, priority(line.level));
        }
        // A closed stderr is no reason to stop serving.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// The record with its whole line as message.
fn to_journal(journal: &JournalLog, line: &Line) -> std::io::Result<()> {
    let pairs = line.pairs.as_slice();
    journal.journal_send(
        &Record::builder()
            .args(format_args!("{}", line.text.trim_end()))
            .level(line.level)
            .target(&line.target)
            .module_path(line.module)
            .file(line.file)
            .line(line.number)
            .key_values(&pairs)
            .build(),
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::of(&Record::builder().target("test").build(), text.to_owned())
    }

    /// A thread that never reads stands for a writer that waits for its reader.
    #[test]
    fn a_queue_that_nobody_empties_drops_lines_and_counts_them() {
        let (jobs, inbox) = sync_channel(4);
        let counts = Arc::<Counts>::default();
        let queue = Queue {
            jobs,
            counts: Arc::clone(&counts),
        };
        for n in 0..10 {
            queue.push(line(&n.to_string()));
        }
        assert_eq!(counts.dropped.load(Ordering::Relaxed), 6);
        let texts = |inbox: &Receiver<Job>| -> Vec<String> {
            let jobs = std::iter::from_fn(|| inbox.try_recv().ok());
            jobs.filter_map(|job| match job {
                Job::Write(line) => {
                    counts.bytes.fetch_sub(line.text.len(), Ordering::Relaxed);
                    Some(line.text)
                }
                Job::Flush(_) => None,
            })
            .collect()
        };
        assert_eq!(texts(&inbox), ["0", "1", "2", "3"]);
        queue.push(line("later"));
        let later = texts(&inbox);
        assert!(later[0].contains("6 lines dropped"), "{later:?}");
        assert_eq!(later[1], "later");
        assert_eq!(counts.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_line_that_is_larger_than_the_queue_is_dropped() {
        let (jobs, _inbox) = sync_channel(4);
        let queue = Queue {
            jobs,
            counts: Arc::default(),
        };
        queue.push(line(&"x".repeat(BYTES_MAX + 1)));
        assert_eq!(queue.counts.dropped.load(Ordering::Relaxed), 1);
    }
}
