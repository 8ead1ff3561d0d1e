//! What a stream process prints, in a bounded file beside its configuration.
//!
//! The process writes into a named pipe of its session's directory, and a task of the worker copies
//! from there to `session.log` up to the bound and discards the rest, so that a process that prints
//! without end neither blocks nor fills the disk. The process holds the pipe open for reading too:
//! when the worker dies it gets no SIGPIPE, and the next worker goes on copying. While there is
//! none, [`PIPE_BYTES`] of output fit before it would have to wait.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use smol::channel::{Receiver, Sender, bounded};
use smol::{Async, Task, future};

use crate::exec;
use crate::ids::SessionId;

/// File of the output, in the session's directory.
pub(crate) const LOG_FILE: &str = "session.log";
/// Named pipe the process writes into.
const PIPE_FILE: &str = "session.pipe";
/// Room in the pipe: the most an unprivileged process may ask for (pipe(7)).
const PIPE_BYTES: usize = 1024 * 1024;
/// Copied in one go.
const CHUNK_BYTES: usize = 64 * 1024;
/// Waiting for one flush at a time is enough: a session has one end of its process.
const FLUSHES_MAX: usize = 1;

/// The worker's end of a session's output.
#[derive(Debug)]
pub(crate) struct SessionLog {
    workspace: PathBuf,
    pipe: Async<File>,
    max_bytes: u64,
}

impl SessionLog {
    /// A fresh pipe: the worker's end, and the end that the process gets as stdout and stderr.
    ///
    /// # Errors
    /// When the pipe cannot be made or opened.
    pub(crate) fn create(workspace: &Path, max_bytes: u64) -> io::Result<(Self, File)> {
        let path = workspace.join(PIPE_FILE);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0)?;
        let log = Self::open(workspace, max_bytes)?;
        // Read and write: opening never blocks, and the process is its own last reader.
        let output = OpenOptions::new().read(true).write(true).open(&path)?;
        let _ = rustix::pipe::fcntl_setpipe_size(&output, PIPE_BYTES);
        Ok((log, output))
    }

    /// The worker's end of a pipe that a predecessor made.
    ///
    /// # Errors
    /// When there is no such pipe.
    pub(crate) fn open(workspace: &Path, max_bytes: u64) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let pipe = OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
            .open(workspace.join(PIPE_FILE))?;
        Ok(Self {
            workspace: workspace.to_owned(),
            pipe: Async::new(pipe)?,
            max_bytes,
        })
    }

    /// Copies until every writer is gone. Dropping it stops the copying.
    pub(crate) fn copy(self, id: SessionId) -> Copying {
        let (flush, flushes) = bounded(FLUSHES_MAX);
        let task = exec::spawn(async move {
            if let Err(error) = self.copy_all(&id, &flushes).await {
                log::warn!(target: "session", session = id.as_str(); "{LOG_FILE} is cut short: {error}");
            }
        });
        Copying { task, flush }
    }

    async fn copy_all(self, id: &SessionId, flushes: &Receiver<Sender<()>>) -> io::Result<()> {
        let Self {
            workspace,
            pipe,
            max_bytes,
        } = self;
        let path = workspace.join(LOG_FILE);
        let cut_short = |error: io::Error| {
            log::warn!(target: "session", session = id.as_str(); "{LOG_FILE} is cut short: {error}");
        };
        let opened = smol::unblock(move || Bounded::open(&path, max_bytes)).await;
        let mut file = opened.map_err(cut_short).ok();
        let mut chunk = vec![0_u8; CHUNK_BYTES];
        let mut flushing: Option<Flushing> = None;
        loop {
            let n = match next(&pipe, &mut chunk, flushes, &mut flushing).await {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let Some(mut open) = file.take().filter(|f| !f.is_full()) else {
                // Full, or the disk refused: the process must not notice, so discard.
                future::yield_now().await;
                continue;
            };
            // Writing may wait for the disk, which no executor thread should.
            let written = smol::unblock(move || {
                let written = open.write(&chunk[..n]).map(|()| open);
                (written, chunk)
            })
            .await;
            chunk = written.1;
            file = written.0.map_err(cut_short).ok();
        }
    }
}

/// Somebody waits until what is in the pipe has been copied.
struct Flushing {
    /// Dropped when it has been.
    _done: Sender<()>,
    /// Bytes to copy for it at most: what the pipe holds, however fast others print on.
    left: usize,
}

/// Reads the next chunk, and ends a flush when the pipe is empty.
async fn next(
    pipe: &Async<File>,
    chunk: &mut [u8],
    flushes: &Receiver<Sender<()>>,
    flushing: &mut Option<Flushing>,
) -> io::Result<usize> {
    let mut source = pipe.get_ref();
    loop {
        if let Some(wanted) = flushing {
            match source.read(chunk) {
                Ok(n) if n < wanted.left => {
                    wanted.left -= n;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => *flushing = None,
                last => {
                    *flushing = None;
                    return last;
                }
            }
        }
        let read = async { Some(pipe.read_with(|_| source.read(chunk)).await) };
        let asked = async {
            match flushes.recv().await {
                Ok(done) => {
                    let left = PIPE_BYTES;
                    *flushing = Some(Flushing { _done: done, left });
                    None
                }
                // Nobody holds the copying any more: only the pipe is left to wait for.
                Err(_) => future::pending().await,
            }
        };
        if let Some(read) = future::or(read, asked).await {
            return read;
        }
    }
}

/// The copying of a session's output.
#[derive(Debug)]
pub(crate) struct Copying {
    task: Task<()>,
    flush: Sender<Sender<()>>,
}

impl Copying {
    /// Asks for flushes while another waits for the end.
    #[must_use]
    pub(crate) fn flush(&self) -> Flush {
        Flush(self.flush.clone())
    }

    /// Waits until every writer is gone and all is copied.
    pub(crate) async fn end(self) {
        self.task.await;
    }
}

/// Sees to it that what a process has printed is in the file.
#[derive(Clone, Debug)]
pub(crate) struct Flush(Sender<Sender<()>>);

impl Flush {
    /// Waits until all that is in the pipe now is in the file, or is discarded beyond its bound.
    pub(crate) async fn flushed(&self) {
        let (done, is_done) = bounded(1);
        if self.0.send(done).await.is_ok() {
            // Closed when it is done, and when the copying has ended.
            let _: Result<(), _> = is_done.recv().await;
        }
    }
}

/// The last `max_bytes` of a session's output, for an error that says why a start failed. Blocking.
#[must_use]
pub(crate) fn tail(workspace: &Path, max_bytes: u32) -> String {
    let read = || {
        let mut file = File::open(workspace.join(LOG_FILE))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(max_bytes.into())))?;
        let mut bytes = Vec::new();
        file.take(max_bytes.into()).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

/// A file that keeps its first `max` bytes and then one line that says so.
struct Bounded {
    file: File,
    written: u64,
    max: u64,
}

impl Bounded {
    fn open(path: &Path, max: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default())
            .open(path)?;
        let written = file.metadata()?.len();
        Ok(Self { file, written, max })
    }

    fn is_full(&self) -> bool {
        self.written >= self.max
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = usize::try_from(self.max - self.written).unwrap_or(usize::MAX);
        let kept = &bytes[..bytes.len().min(room)];
        self.file.write_all(kept)?;
        self.written += kept.len() as u64;
        if self.is_full() {
            let max = self.max;
            writeln!(
                self.file,
                "\n[log_max_bytes={max} reached, later output is discarded]"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::Scratch;

    fn copied(max: u64, parts: &[&[u8]]) -> String {
        let scratch = Scratch::new();
        let (log, mut output) = SessionLog::create(scratch.path(), max).unwrap();
        let task = log.copy(SessionId::random().unwrap());
        for part in parts {
            output.write_all(part).unwrap();
        }
        drop(output);
        exec::block_on(task.end());
        std::fs::read_to_string(scratch.path().join(LOG_FILE)).unwrap()
    }

    #[test]
    fn output_is_kept_up_to_the_bound_and_the_cut_is_said_once() {
        assert_eq!(copied(100, &[b"one\n", b"two\n"]), "one\ntwo\n");
        let cut = copied(10, &[b"0123456", b"789abc", b"more and more"]);
        assert_eq!(
            cut,
            "0123456789\n[log_max_bytes=10 reached, later output is discarded]\n"
        );
    }

    #[test]
    fn a_second_run_goes_on_where_the_first_ended() {
        let scratch = Scratch::new();
        for word in [&b"first "[..], b"second"] {
            let (log, mut output) = SessionLog::create(scratch.path(), 100).unwrap();
            let task = log.copy(SessionId::random().unwrap());
            output.write_all(word).unwrap();
            drop(output);
            exec::block_on(task.end());
        }
        assert_eq!(tail(scratch.path(), 100), "first second");
        assert_eq!(tail(scratch.path(), 6), "second");
    }

    #[test]
    fn a_flush_waits_for_what_is_in_the_pipe_and_not_for_more() {
        let scratch = Scratch::new();
        let (log, mut output) = SessionLog::create(scratch.path(), 10_000_000).unwrap();
        let copying = log.copy(SessionId::random().unwrap());
        let flush = copying.flush();
        for size in 1..200 {
            let text = vec![b'x'; size * 7];
            output.write_all(&text).unwrap();
            output.write_all(b"the end").unwrap();
            exec::block_on(flush.flushed());
            assert_eq!(tail(scratch.path(), 7), "the end", "{size}");
        }
        // The writer is still there: a flush ends all the same, also with nothing in the pipe.
        exec::block_on(flush.flushed());
        drop(output);
        exec::block_on(copying.end());
        exec::block_on(flush.flushed());
    }

    #[test]
    fn a_flush_ends_although_somebody_prints_on_without_end() {
        let scratch = Scratch::new();
        let (log, mut output) = SessionLog::create(scratch.path(), 1_000).unwrap();
        let copying = log.copy(SessionId::random().unwrap());
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    output.write_all(&[b'x'; 4_096]).unwrap();
                }
                drop(output);
            });
            exec::block_on(copying.flush().flushed());
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        exec::block_on(copying.end());
    }

    #[test]
    fn a_log_that_cannot_be_written_does_not_block_the_process() {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.path().join(LOG_FILE)).unwrap();
        let (log, mut output) = SessionLog::create(scratch.path(), 100).unwrap();
        let task = log.copy(SessionId::random().unwrap());
        // Four times what the pipe holds: this returns only when somebody reads.
        output.write_all(&vec![b'x'; 4 * PIPE_BYTES]).unwrap();
        drop(output);
        exec::block_on(task.end());
        assert_eq!(tail(scratch.path(), 10), "");
    }
}
