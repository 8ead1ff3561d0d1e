//! What a worker must remember of its sessions when it dies: one small file each.
//!
//! Written whole to a temporary file, synced and renamed, so that a reader sees the old or the new
//! entry and never half of one. A file that makes no sense all the same is kept as `*.bad`; what it
//! was about is ended in order. Entries of other versions are read by the rule of
//! [`crate::protocol::reading`].
//! Files are 0600: they hold the body's credentials, which the unpairing needs.

mod entry;

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::private_dir::{self, DirError};
use crate::atomic_file;
use crate::ids::SessionId;
use rustix::fs::OFlags;
use rustix::io::Errno;

pub(crate) use entry::{LedgerEntry, StoredCredentials};

/// Largest file that is read. An entry has about 1 KiB; the longest request that is accepted, whose
/// texts it has twice and with each character escaped, makes one of half of this.
const ENTRY_MAX: u64 = 1024 * 1024;

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The directory cannot be used.
    #[error("worker.state_dir: {0}")]
    Dir(#[source] DirError),
    /// A file cannot be written or removed.
    #[error("cannot write ledger file {}: {error}, check space and rights of worker.state_dir", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        error: io::Error,
    },
    /// The directory or a file cannot be read.
    #[error("cannot read ledger {}: {error}, check rights and disk of worker.state_dir", .path.display())]
    Unread {
        /// The directory or file.
        path: PathBuf,
        /// What failed.
        #[source]
        error: io::Error,
    },
}

/// The entries of one worker: `<state_dir>/sessions/<id>.json`.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    dir: PathBuf,
}

impl Ledger {
    /// Opens the ledger, making its directory when missing.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub(crate) fn open(state_dir: &Path) -> Result<Self, LedgerError> {
        private_dir::ensure(state_dir).map_err(LedgerError::Dir)?;
        let dir = private_dir::ensure(&state_dir.join("sessions")).map_err(LedgerError::Dir)?;
        Ok(Self { dir })
    }

    /// Writes the entry, replacing an earlier one. Blocking.
    ///
    /// # Errors
    /// When it is not on the disk; the earlier one is untouched then.
    pub(crate) fn write(&self, entry: &LedgerEntry) -> Result<(), LedgerError> {
        let path = self.path(&entry.id);
        let temporary = path.with_extension("tmp");
        let written = serde_json::to_vec_pretty(entry)
            .map_err(io::Error::from)
            .and_then(|bytes| atomic_file::replace(&path, &temporary, &bytes));
        written.map_err(|error| LedgerError::Io { path, error })
    }

    /// Forgets the session; one that is unknown is no error. Blocking.
    ///
    /// # Errors
    /// When the file stays.
    pub(crate) fn forget(&self, id: &SessionId) -> Result<(), LedgerError> {
        let path = self.path(id);
        match fs::remove_file(&path).and_then(|()| atomic_file::sync_parent(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LedgerError::Io { path, error })
            }
            _ => Ok(()),
        }
    }

    /// Where the entries are.
    #[must_use]
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// All entries. A copy of an invalid file is kept as `*.bad`, with a warning. Blocking.
    ///
    /// # Errors
    /// When the directory or one of its files cannot be read: then processes and directories without
    /// an entry may belong to a session whose entry was not read.
    pub(crate) fn entries(&self) -> Result<Listed, LedgerError> {
        let unread = |path: &Path, error| LedgerError::Unread {
            path: path.to_owned(),
            error,
        };
        let listed = fs::read_dir(&self.dir).map_err(|error| unread(&self.dir, error))?;
        let mut found = Listed::default();
        for entry in listed {
            let path = entry.map_err(|error| unread(&self.dir, error))?.path();
            match path.extension().and_then(|e| e.to_str()) {
                Some("json") => match read(&path) {
                    Ok(entry) => found.entries.push(entry),
                    Err(ReadError::Content(broken)) => {
                        set_aside(&path, &broken.reason, broken.entry.is_some());
                        found.broken.extend(broken.entry);
                    }
                    Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                    // The others are adopted all the same.
                    Err(ReadError::Io(error)) => found.unread = Some(unread(&path, error)),
                },
                // A write that was cut off: the entry beside it is the whole one.
                Some("tmp") => {
                    let _ = fs::remove_file(&path);
                }
                _ => {}
            }
        }
        found.entries.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    fn path(&self, id: &SessionId) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }
}

/// What a ledger holds.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Entries, by session.
    pub entries: Vec<LedgerEntry>,
    /// What is known of the sessions whose entry makes no sense. It stays until it is replaced or
    /// forgotten, so that it is found again if this process dies meanwhile.
    pub broken: Vec<LedgerEntry>,
    /// An entry that could not be read, if there was one.
    pub unread: Option<LedgerError>,
}

/// An entry that makes no sense.
struct Broken {
    reason: String,
    /// What can be known of the session; none when the file is not named after one.
    entry: Option<LedgerEntry>,
}

/// Why an entry was not read.
enum ReadError {
    /// It is no entry.
    Content(Box<Broken>),
    /// The disk or the rights on it are at fault, not the entry.
    Io(io::Error),
}

fn read(path: &Path) -> Result<LedgerEntry, ReadError> {
    let id = path.file_stem().and_then(|stem| stem.to_str());
    let id: Option<SessionId> = id.and_then(|stem| stem.parse().ok());
    let broken = |reason, text: &[u8]| {
        let entry = id.as_ref().map(|id| LedgerEntry::salvaged(text, id));
        ReadError::Content(Box::new(Broken { reason, entry }))
    };
    // NONBLOCK: a pipe of that name must not hang the start.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut bytes = Vec::new();
    OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)
        .and_then(|file| file.take(ENTRY_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| match Errno::from_io_error(&error) {
            // A link or a directory is not what this program writes.
            Some(Errno::LOOP | Errno::ISDIR) => broken(error.to_string(), &[]),
            _ => ReadError::Io(error),
        })?;
    if bytes.len() as u64 > ENTRY_MAX {
        return Err(broken(format!("it is over {ENTRY_MAX} bytes"), &bytes));
    }
    let Some(id) = &id else {
        return Err(broken("it is not named after a session".to_owned(), &[]));
    };
    LedgerEntry::read(&bytes, id).map_err(|reason| broken(reason, &bytes))
}

/// Keeps a copy of a file that makes no sense. The file itself stays while the session that it is
/// about is ended.
fn set_aside(path: &Path, reason: &str, has_session: bool) {
    let aside = path.with_extension("json.bad");
    let (shown, kept) = (path.display(), aside.display());
    if has_session && fs::hard_link(path, &aside).is_ok() {
        log::warn!(target: "cleanup", "ledger file {shown} cannot be read, kept as {kept}, its session is ended: {reason}");
        return;
    }
    match fs::rename(path, &aside) {
        Ok(()) => {
            log::warn!(target: "cleanup", "ledger file {shown} cannot be read, moved to {kept}: {reason}");
        }
        Err(error) => {
            log::warn!(target: "cleanup", "ledger file {shown} can neither be read nor moved aside: {reason}; {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::secret::Secret;
    use crate::session::processes::ProcessIdentity;
    use crate::session::testing::Scratch;

    fn entry() -> LedgerEntry {
        let id = SessionId::random().unwrap();
        let workspace = PathBuf::from("/tmp/x").join(id.as_str());
        let mut entry =
            LedgerEntry::new(id, 8_080, (40_000, 40_019), workspace, [10, 0, 0, 5].into());
        entry.process = Some(ProcessIdentity {
            pid: 7,
            start_time: 8,
        });
        entry.credentials = Some(StoredCredentials {
            user: "admin".into(),
            password: Secret::new("hunter2"),
        });
        entry
    }

    #[test]
    fn an_entry_round_trips_with_its_secret_in_a_private_file() {
        let scratch = Scratch::new();
        let ledger = Ledger::open(scratch.path()).unwrap();
        let mut entry = entry();
        entry.extra.insert("rating".into(), 7.into());
        ledger.write(&entry).unwrap();
        entry.user = "neck".to_owned();
        ledger.write(&entry).unwrap();
        assert!(!format!("{entry:?}").contains("hunter2"));
        let mode = fs::metadata(ledger.path(&entry.id)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);

        let read = Ledger::open(scratch.path())
            .unwrap()
            .entries()
            .unwrap()
            .entries;
        let [read] = &read[..] else {
            panic!("{read:?}");
        };
        assert_eq!((&read.id, read.process), (&entry.id, entry.process));
        assert_eq!((&read.user, &read.extra), (&entry.user, &entry.extra));
        assert!(
            read.credentials
                .as_ref()
                .unwrap()
                .password
                .matches(b"hunter2")
        );

        ledger.forget(&entry.id).unwrap();
        ledger.forget(&entry.id).unwrap();
        assert!(ledger.entries().unwrap().entries.is_empty());
    }

    #[test]
    fn torn_and_strange_files_are_set_aside_and_the_rest_is_read() {
        let scratch = Scratch::new();
        let ledger = Ledger::open(scratch.path()).unwrap();
        let good = entry();
        ledger.write(&good).unwrap();
        let whole = fs::read(ledger.path(&good.id)).unwrap();
        let root = LedgerEntry {
            workspace: "/".into(),
            ..entry()
        };
        let foreign = entry();
        let bad: Vec<(PathBuf, Vec<u8>)> = vec![
            (
                ledger.dir.join("torn.json"),
                whole[..whole.len() / 2].to_vec(),
            ),
            (ledger.dir.join("empty.json"), Vec::new()),
            (ledger.dir.join("garbage.json"), vec![0xff; 1_000]),
            (ledger.dir.join("huge.json"), vec![b' '; 70_000]),
            (ledger.path(&foreign.id), whole.clone()),
            (ledger.path(&root.id), serde_json::to_vec(&root).unwrap()),
        ];
        for (path, bytes) in &bad {
            fs::write(path, bytes).unwrap();
        }
        std::os::unix::fs::symlink("/dev/zero", ledger.dir.join("link.json")).unwrap();
        fs::create_dir(ledger.dir.join("dir.json")).unwrap();
        fs::write(ledger.dir.join("cut.tmp"), "{").unwrap();

        let found = ledger.entries().unwrap();
        let ids = |entries: &[LedgerEntry]| -> BTreeSet<SessionId> {
            entries.iter().map(|e| e.id.clone()).collect()
        };
        assert_eq!(ids(&found.entries), BTreeSet::from([good.id]));
        let with_session = BTreeSet::from([foreign.id, root.id]);
        assert_eq!(ids(&found.broken), with_session);
        for (path, _) in bad {
            // Until their sessions are ended.
            let stays = with_session.iter().any(|id| ledger.path(id) == path);
            assert_eq!(path.exists(), stays, "{path:?}");
            assert!(path.with_extension("json.bad").exists(), "{path:?}");
        }
        assert!(!ledger.dir.join("cut.tmp").exists());
        assert_eq!(ledger.entries().unwrap().entries.len(), 1);
    }

    #[test]
    fn unknown_fields_are_ignored_and_missing_ones_have_defaults() {
        let scratch = Scratch::new();
        let ledger = Ledger::open(scratch.path()).unwrap();
        let id = SessionId::random().unwrap();
        let text = format!(
            r#"{{"version":1,"id":"{id}","port":1,"udp":[2,3],"workspace":"/x/{id}","body_ip":"10.0.0.1","created_at":"t","novelty":{{}}}}"#
        );
        fs::write(ledger.path(&id), text).unwrap();
        assert_eq!(ledger.entries().unwrap().entries[0].process, None);
    }

    #[test]
    fn an_entry_that_cannot_be_written_names_the_file_and_keeps_the_old_one() {
        let scratch = Scratch::new();
        let ledger = Ledger::open(scratch.path()).unwrap();
        let entry = entry();
        ledger.write(&entry).unwrap();
        // A directory in the way of the temporary file stands for a full or read-only disk, also
        // for root, whom permissions don't stop.
        fs::create_dir(ledger.path(&entry.id).with_extension("tmp")).unwrap();
        let error = ledger.write(&entry).unwrap_err().to_string();
        assert!(
            error.contains(entry.id.as_str()) && error.contains("state_dir"),
            "{error}"
        );
        assert_eq!(ledger.entries().unwrap().entries.len(), 1);
        fs::write(scratch.path().join("file"), "").unwrap();
        let error = Ledger::open(&scratch.path().join("file")).unwrap_err();
        assert!(error.to_string().starts_with("worker.state_dir"), "{error}");
    }
}
