//! One worker per state directory: the second is refused with the first one's pid.
//!
//! The lock is the kernel's (`flock`) on `<state_dir>/lock`, so it ends with its holder however
//! that dies. The file's text, `<pid> <process_id>`, outlives the holder: the next worker tells the
//! controller whose place it takes.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::private_dir::{self, DirError};

/// Most bytes of the file that are read.
const TEXT_MAX: u64 = 4_096;
/// Earlier workers that are remembered: restarts in quick succession, of which no controller heard.
const PREDECESSORS_MAX: usize = 8;

/// Why this process may not work on the state directory.
#[derive(Debug)]
pub enum LockError {
    /// The directory cannot be used.
    Dir(DirError),
    /// Another worker has it.
    Held {
        /// The lock file.
        path: PathBuf,
        /// What it says of the holder.
        holder: Option<Holder>,
    },
    /// The file cannot be used.
    Io {
        /// The lock file.
        path: PathBuf,
        /// What failed.
        error: io::Error,
    },
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(error) => write!(f, "worker.state_dir: {error}"),
            Self::Held { path, holder } => {
                let pid = holder
                    .as_ref()
                    .map_or("unknown".to_owned(), |h| h.pid.to_string());
                write!(
                    f,
                    "another worker (pid {pid}) holds {}: stop it or give this one its own worker.state_dir",
                    path.display()
                )
            }
            Self::Io { path, error } => {
                write!(
                    f,
                    "cannot lock {}: {error}, make worker.state_dir writable",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for LockError {}

/// Who holds or held the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its pid.
    pub pid: u32,
    /// Its `process_id`.
    pub process_id: String,
}

/// The lock, until dropped.
#[derive(Debug)]
pub(crate) struct StateLock {
    _file: File,
    predecessors: Vec<String>,
}

impl StateLock {
    /// Takes the lock on `state_dir`, which is made when missing.
    ///
    /// # Errors
    /// [`LockError::Held`] when another worker lives there.
    pub(crate) fn acquire(state_dir: &Path, process_id: &str) -> Result<Self, LockError> {
        let dir = private_dir::ensure(state_dir).map_err(LockError::Dir)?;
        let path = dir.join("lock");
        let io = |error| LockError::Io {
            path: path.clone(),
            error,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default())
            .open(&path)
            .map_err(io)?;
        let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        let mut text = Vec::new();
        (&file).take(TEXT_MAX).read_to_end(&mut text).map_err(io)?;
        let text = String::from_utf8_lossy(&text);
        let written = parse(&text);
        match locked {
            Err(Errno::WOULDBLOCK) => {
                let holder = written;
                return Err(LockError::Held { path, holder });
            }
            other => other.map_err(|e| io(e.into()))?,
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        let mut predecessors: Vec<String> = text
            .lines()
            .skip(1)
            .filter(|line| is_id(line))
            .map(str::to_owned)
            .collect();
        predecessors.splice(0..0, written.map(|holder| holder.process_id));
        predecessors.truncate(PREDECESSORS_MAX);
        writeln!(file, "{} {process_id}", std::process::id()).map_err(io)?;
        for gone in &predecessors {
            writeln!(file, "{gone}").map_err(io)?;
        }
        file.sync_all().map_err(io)?;
        Ok(Self {
            _file: file,
            predecessors,
        })
    }

    /// The `process_id`s of the workers that had the lock before, the last one first.
    #[must_use]
    pub(crate) fn predecessors(&self) -> &[String] {
        &self.predecessors
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn parse(text: &str) -> Option<Holder> {
    let (pid, process_id) = text.lines().next()?.trim().split_once(' ')?;
    Some(Holder {
        pid: pid.parse().ok()?,
        process_id: process_id.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::testing::Scratch;

    /// A child that another test starts at this moment holds the file until it runs its program.
    fn taken(scratch: &Scratch, process_id: &str) -> StateLock {
        for _ in 0..1_000 {
            match StateLock::acquire(scratch.path(), process_id) {
                Err(LockError::Held { .. }) => {
                    smol::block_on(crate::clock::sleep(Duration::from_millis(1)));
                }
                other => return other.unwrap(),
            }
        }
        panic!("the lock stays held");
    }

    #[test]
    fn a_second_worker_is_refused_with_the_firsts_pid() {
        let scratch = Scratch::new();
        let first = StateLock::acquire(scratch.path(), "aaaa").unwrap();
        assert!(first.predecessors().is_empty());
        let error = StateLock::acquire(scratch.path(), "bbbb").unwrap_err();
        let us = std::process::id();
        assert!(matches!(&error, LockError::Held { holder: Some(h), .. } if h.pid == us));
        assert!(error.to_string().contains(&format!("pid {us}")), "{error}");
    }

    #[test]
    fn the_next_worker_learns_whose_place_it_takes() {
        let scratch = Scratch::new();
        drop(taken(&scratch, "aaaa"));
        let second = taken(&scratch, "b");
        assert_eq!(second.predecessors(), ["aaaa"]);
        drop(second);
        // Nobody may have heard the second one: its controllers know the first.
        let third = taken(&scratch, "c");
        assert_eq!(third.predecessors(), ["b", "aaaa"]);
        drop(third);
        for n in 0..2 * PREDECESSORS_MAX {
            drop(taken(&scratch, &n.to_string()));
        }
        let last = taken(&scratch, "z");
        assert_eq!(last.predecessors().len(), PREDECESSORS_MAX);
    }

    #[test]
    fn a_garbled_lock_file_is_no_obstacle() {
        let scratch = Scratch::new();
        std::fs::write(scratch.path().join("lock"), [0xff; 1_000]).unwrap();
        let lock = StateLock::acquire(scratch.path(), "a").unwrap();
        assert!(lock.predecessors().is_empty());
    }
}
