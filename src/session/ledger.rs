//! What a worker must remember of its sessions when it dies: one small file each.
//!
//! Written whole to a temporary file, synced and renamed, so that a reader sees the old or the new
//! entry and never half of one. A file that cannot be read all the same is moved aside to `*.bad`.
//! Files are 0600: they hold the body's credentials, which the unpairing needs.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::private_dir::{self, DirError};
use super::processes::{self, Identity};
use super::workspace::Workspace;
use crate::ids::SessionId;
use crate::secret::Secret;

/// Format of the files; a reader refuses later ones.
const VERSION: u32 = 1;
/// Largest file that is read; an entry has about 1 KiB.
const ENTRY_MAX: u64 = 64 * 1024;

/// A session, as far as the next worker must know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Format of the entry.
    pub version: u32,
    /// Who it is.
    pub id: SessionId,
    /// The stream process; none before it was started.
    #[serde(default)]
    pub process: Option<Identity>,
    /// Its cgroup, when it has one.
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
    /// TCP port of the stream process.
    pub port: u16,
    /// First and last UDP port of the streamer.
    pub udp: (u16, u16),
    /// Its directory.
    pub workspace: PathBuf,
    /// The user that the worker names to the stream process.
    #[serde(default)]
    pub user: String,
    /// The body.
    pub body_ip: IpAddr,
    /// For unpairing and closing the app after a crash.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// Name of the pairing on the body, once made.
    #[serde(default)]
    pub pairing_name: Option<String>,
    /// Path and query of the stream page, once known.
    #[serde(default)]
    pub stream_path: Option<String>,
    /// The experience.
    #[serde(default)]
    pub experience: Option<String>,
    /// The district.
    #[serde(default)]
    pub district: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// Names the machine's life in which `process` and `begun_ms` mean something.
    #[serde(default)]
    pub boot: Option<String>,
    /// When it was admitted, in milliseconds since the machine started.
    #[serde(default)]
    pub begun_ms: Option<i64>,
    /// RFC 3339; set when the session can be adopted as ready.
    #[serde(default)]
    pub ready_at: Option<String>,
    /// Restarts in place so far.
    #[serde(default)]
    pub restarts: u32,
    /// What else the lifecycle keeps.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// User and password of the body's Sunshine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Credentials {
    /// User.
    pub user: String,
    /// Password.
    #[serde(serialize_with = "expose", deserialize_with = "enclose")]
    pub password: Secret,
}

fn expose<S: serde::Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret.expose())
}

fn enclose<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    String::deserialize(from).map(Secret::new)
}

impl Entry {
    /// An entry of a session that is being made.
    #[must_use]
    pub fn new(
        id: SessionId,
        port: u16,
        udp: (u16, u16),
        workspace: PathBuf,
        body: IpAddr,
    ) -> Self {
        Self {
            version: VERSION,
            id,
            process: None,
            cgroup: None,
            port,
            udp,
            workspace,
            user: String::new(),
            body_ip: body,
            credentials: None,
            pairing_name: None,
            stream_path: None,
            experience: None,
            district: None,
            created_at: crate::clock::rfc3339(crate::clock::wall()),
            boot: processes::boot(),
            begun_ms: None,
            ready_at: None,
            restarts: 0,
            extra: BTreeMap::new(),
        }
    }
}

/// Why the ledger cannot be used.
#[derive(Debug)]
pub enum LedgerError {
    /// The directory cannot be used.
    Dir(DirError),
    /// A file cannot be written or removed.
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        error: io::Error,
    },
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(error) => write!(f, "worker.state_dir: {error}"),
            Self::Io { path, error } => write!(
                f,
                "cannot write ledger file {}: {error}, check space and rights of worker.state_dir",
                path.display()
            ),
        }
    }
}

impl std::error::Error for LedgerError {}

/// The entries of one worker: `<state_dir>/sessions/<id>.json`.
#[derive(Clone, Debug)]
pub struct Ledger {
    dir: PathBuf,
}

impl Ledger {
    /// Opens the ledger, making its directory when missing.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn open(state_dir: &Path) -> Result<Self, LedgerError> {
        private_dir::ensure(state_dir).map_err(LedgerError::Dir)?;
        let dir = private_dir::ensure(&state_dir.join("sessions")).map_err(LedgerError::Dir)?;
        Ok(Self { dir })
    }

    /// Writes the entry, replacing an earlier one. Blocking.
    ///
    /// # Errors
    /// When it is not on the disk; the earlier one is untouched then.
    pub fn write(&self, entry: &Entry) -> Result<(), LedgerError> {
        let path = self.path(&entry.id);
        let temporary = path.with_extension("tmp");
        let write = || -> io::Result<()> {
            let bytes = serde_json::to_vec_pretty(entry)?;
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            self.sync()
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&temporary);
            LedgerError::Io { path, error }
        })
    }

    /// Forgets the session; one that is unknown is no error. Blocking.
    ///
    /// # Errors
    /// When the file stays.
    pub fn forget(&self, id: &SessionId) -> Result<(), LedgerError> {
        let path = self.path(id);
        match fs::remove_file(&path).and_then(|()| self.sync()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LedgerError::Io { path, error })
            }
            _ => Ok(()),
        }
    }

    /// All entries. What cannot be read is moved aside to `*.bad` with a warning. Blocking.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, LedgerError> {
        let listed = fs::read_dir(&self.dir).map_err(|error| LedgerError::Io {
            path: self.dir.clone(),
            error,
        })?;
        let mut entries = Vec::new();
        for path in listed.flatten().map(|e| e.path()) {
            match path.extension().and_then(|e| e.to_str()) {
                Some("json") => match read(&path) {
                    Ok(entry) => entries.push(entry),
                    Err(reason) => set_aside(&path, &reason),
                },
                // A write that was cut off: the entry beside it is the whole one.
                Some("tmp") => {
                    let _ = fs::remove_file(&path);
                }
                _ => {}
            }
        }
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(entries)
    }

    fn path(&self, id: &SessionId) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// A rename is on the disk when its directory is.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

fn read(path: &Path) -> Result<Entry, String> {
    // NONBLOCK: a pipe of that name must not hang the start.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut bytes = Vec::new();
    OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)
        .and_then(|file| file.take(ENTRY_MAX + 1).read_to_end(&mut bytes))
        .map_err(|e| e.to_string())?;
    if bytes.len() as u64 > ENTRY_MAX {
        return Err(format!("it is over {ENTRY_MAX} bytes"));
    }
    let entry: Entry = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    if entry.version > VERSION {
        return Err(format!(
            "its version {} is later than {VERSION}",
            entry.version
        ));
    }
    if path
        .file_stem()
        .is_none_or(|stem| *stem != *entry.id.as_str())
    {
        return Err(format!("it is of session {}", entry.id));
    }
    if Workspace::recorded(&entry.workspace, &entry.id).is_none() {
        let named = entry.workspace.display();
        return Err(format!("its workspace {named} does not bear its id"));
    }
    Ok(entry)
}

fn set_aside(path: &Path, reason: &str) {
    let aside = path.with_extension("json.bad");
    let shown = path.display();
    match fs::rename(path, &aside) {
        Ok(()) => {
            log::warn!(target: "cleanup", "ledger file {shown} cannot be read, moved to {}: {reason}", aside.display());
        }
        Err(error) => {
            log::warn!(target: "cleanup", "ledger file {shown} can neither be read nor moved aside: {reason}; {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::session::testing::Scratch;

    fn entry() -> Entry {
        let id = SessionId::random().unwrap();
        let workspace = PathBuf::from("/tmp/x").join(id.as_str());
        let mut entry = Entry::new(id, 8_080, (40_000, 40_019), workspace, [10, 0, 0, 5].into());
        entry.process = Some(Identity {
            pid: 7,
            start_time: 8,
        });
        entry.credentials = Some(Credentials {
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
        entry.restarts = 1;
        ledger.write(&entry).unwrap();
        assert!(!format!("{entry:?}").contains("hunter2"));
        let mode = fs::metadata(ledger.path(&entry.id)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);

        let read = Ledger::open(scratch.path()).unwrap().entries().unwrap();
        let [read] = &read[..] else {
            panic!("{read:?}");
        };
        assert_eq!((&read.id, read.process), (&entry.id, entry.process));
        assert_eq!((read.restarts, &read.extra), (1, &entry.extra));
        assert!(
            read.credentials
                .as_ref()
                .unwrap()
                .password
                .matches(b"hunter2")
        );

        ledger.forget(&entry.id).unwrap();
        ledger.forget(&entry.id).unwrap();
        assert!(ledger.entries().unwrap().is_empty());
    }

    #[test]
    fn torn_and_strange_files_are_moved_aside_and_the_rest_is_read() {
        let scratch = Scratch::new();
        let ledger = Ledger::open(scratch.path()).unwrap();
        let good = entry();
        ledger.write(&good).unwrap();
        let whole = fs::read(ledger.path(&good.id)).unwrap();
        let root = Entry {
            workspace: "/".into(),
            ..entry()
        };
        let (foreign, later) = (
            entry(),
            Entry {
                version: 2,
                ..entry()
            },
        );
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
            (ledger.path(&later.id), serde_json::to_vec(&later).unwrap()),
        ];
        for (path, bytes) in &bad {
            fs::write(path, bytes).unwrap();
        }
        std::os::unix::fs::symlink("/dev/zero", ledger.dir.join("link.json")).unwrap();
        fs::create_dir(ledger.dir.join("dir.json")).unwrap();
        fs::write(ledger.dir.join("cut.tmp"), "{").unwrap();

        let ids: Vec<SessionId> = ledger
            .entries()
            .unwrap()
            .into_iter()
            .map(|e| e.id)
            .collect();
        assert_eq!(ids, [good.id]);
        for (path, _) in bad {
            assert!(
                !path.exists() && path.with_extension("json.bad").exists(),
                "{path:?}"
            );
        }
        assert!(!ledger.dir.join("cut.tmp").exists());
        assert_eq!(ledger.entries().unwrap().len(), 1);
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
        assert_eq!(ledger.entries().unwrap()[0].process, None);
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
        assert_eq!(ledger.entries().unwrap().len(), 1);
        fs::write(scratch.path().join("file"), "").unwrap();
        let error = Ledger::open(&scratch.path().join("file")).unwrap_err();
        assert!(error.to_string().starts_with("worker.state_dir"), "{error}");
    }
}
