//! Putting a new binary where the old one is, without a moment in which there is none.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{ReleaseVersion, UpdateError};
use crate::{atomic_file, clock};

/// Wait for the new binary to tell its version.
const PROOF_WITHIN: Duration = Duration::from_secs(20);
/// Tries to start it: a process that was forked while the file was written may hold it open.
const BUSY: (u32, Duration) = (40, Duration::from_millis(50));
/// Wait for another process's lock. The longest work under it is to ask the installed binary for
/// its version; a trial's start must not wait longer than systemd's patience with a start.
const LOCK_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two tries to take the lock.
const LOCK_LOOK: Duration = Duration::from_millis(20);
/// No secrets: the other role may run as another user.
const NOTE_MODE: u32 = 0o644;
/// Executable by everybody, written by its owner.
const MODE: u32 = 0o755;

/// Where a binary is installed. Several processes may run it: one for each role, and commands.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    exe: PathBuf,
    /// The file that this process runs.
    running: FileId,
}

/// Which file it is: device and inode.
type FileId = (u64, u64);

fn file_id(path: &Path) -> io::Result<FileId> {
    fs::metadata(path).map(|m| (m.dev(), m.ino()))
}

/// Keeps other processes from installing, and from counting starts; until dropped.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a process that was forked a moment ago still has the file open,
        // and the lock with it, until it runs its own program.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl Installation {
    /// Where the running binary is, through symlinks.
    ///
    /// # Errors
    /// [`UpdateError::DemoBuild`] in a build that does not update itself, or
    /// [`UpdateError::NixStore`] if that is the reason; when it cannot be found out.
    pub(crate) fn own() -> Result<Self, UpdateError> {
        let found = std::env::current_exe();
        let exe = found.map_err(|e| UpdateError::File("/proc/self/exe".into(), e))?;
        // So the kernel shows a binary that was replaced while it ran.
        let shown = exe.to_string_lossy();
        let exe = shown
            .strip_suffix(" (deleted)")
            .map_or(exe.clone(), PathBuf::from);
        if cfg!(feature = "demo") {
            let is_store = exe.starts_with("/nix/store");
            return Err(if is_store {
                UpdateError::NixStore(exe)
            } else {
                UpdateError::DemoBuild
            });
        }
        let running = file_id("/proc/self/exe".as_ref());
        let mut place = Self::at(&exe)?;
        place.running = running.map_err(|e| UpdateError::File("/proc/self/exe".into(), e))?;
        Ok(place)
    }

    /// A place of one's choice; its file counts as the one that runs.
    ///
    /// # Errors
    /// When there is no file.
    pub(crate) fn at(exe: &Path) -> Result<Self, UpdateError> {
        let broken = |e| UpdateError::File(exe.to_owned(), e);
        let found = exe.canonicalize().map_err(broken)?;
        let running = file_id(&found).map_err(broken)?;
        Ok(Self {
            exe: found,
            running,
        })
    }

    /// Whether this process runs the installed binary, not one from before or after.
    #[must_use]
    pub(crate) fn is_current(&self) -> bool {
        file_id(&self.exe).is_ok_and(|id| id == self.running)
    }

    /// Marks the file that runs as in use for as long as the answer lives: it is a role's way back
    /// until the role runs the installed binary. Without the mark only an update that comes before
    /// the role's restart can replace that file.
    #[must_use]
    pub(crate) fn hold(&self) -> Option<File> {
        let file = File::open("/proc/self/exe").ok()?;
        flock(&file, FlockOperation::NonBlockingLockShared).ok()?;
        Some(file)
    }

    /// The version of the installed binary, as it tells it; none when it cannot.
    pub(super) async fn installed(&self) -> Option<ReleaseVersion> {
        version_of(&self.exe).await.ok()
    }

    /// Takes the one lock around installing and trials; waits for other processes.
    pub(super) async fn lock(&self) -> Result<Lock, UpdateError> {
        let deadline = clock::now() + LOCK_WITHIN;
        loop {
            match self.try_lock(&self.beside("lock"))? {
                Some(lock) => return Ok(lock),
                None if clock::now() < deadline => clock::sleep(LOCK_LOOK).await,
                None => return Err(self.busy()),
            }
        }
    }

    fn try_lock(&self, path: &Path) -> Result<Option<Lock>, UpdateError> {
        let broken = |e| UpdateError::File(path.to_owned(), e);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(path);
        let file = file.map_err(broken)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(broken(error.into())),
        }
    }

    fn busy(&self) -> UpdateError {
        UpdateError::Busy(self.exe.clone())
    }

    /// Writes a small file beside the binary: the old text or the new one, never half of it.
    pub(super) fn note(&self, suffix: &str, text: &str) -> Result<(), UpdateError> {
        let (path, draft) = (self.beside(suffix), self.beside(&format!("{suffix}.new")));
        atomic_file::replace_with_mode(&path, &draft, text.as_bytes(), NOTE_MODE)
            .map_err(|e| UpdateError::File(path, e))
    }

    /// The installed binary.
    #[must_use]
    pub(crate) fn exe(&self) -> &Path {
        &self.exe
    }

    /// The binary before the last update.
    #[must_use]
    pub(crate) fn backup(&self) -> PathBuf {
        self.beside("backup")
    }

    /// Whether a role still runs the backup and has not started the installed binary yet.
    pub(super) fn is_backup_in_use(&self) -> bool {
        let Ok(file) = File::open(self.backup()) else {
            return false;
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                drop(Lock(file));
                false
            }
            Err(error) => error == Errno::WOULDBLOCK,
        }
    }

    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.exe.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        name.into()
    }

    fn dir(&self) -> &Path {
        self.exe.parent().unwrap_or(Path::new("/"))
    }

    /// Whether a new binary may be put here.
    ///
    /// # Errors
    /// [`UpdateError::NixStore`] or [`UpdateError::NotWritable`].
    pub(crate) fn check(&self) -> Result<(), UpdateError> {
        if self.exe.starts_with("/nix/store") {
            return Err(UpdateError::NixStore(self.exe.clone()));
        }
        let dir = self.dir();
        let writable = rustix::fs::access(dir, rustix::fs::Access::WRITE_OK);
        writable.map_err(|_| UpdateError::NotWritable(dir.to_owned()))
    }

    /// Room for a new binary, in the same directory so that it can be moved in one step. One
    /// process at a time has it.
    pub(super) fn stage(&self) -> Result<Staged<'_>, UpdateError> {
        let path = self.beside("update");
        let claim = self.try_lock(&self.beside("update.lock"))?;
        let claim = claim.ok_or_else(|| self.busy())?;
        let staged = Staged {
            place: self,
            path,
            _claim: claim,
        };
        staged.clear()?;
        Ok(staged)
    }

    /// Puts the backup back.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn roll_back(&self) -> Result<(), UpdateError> {
        let backup = self.backup();
        fs::rename(&backup, &self.exe).map_err(|e| UpdateError::File(backup, e))?;
        self.sync()
    }

    /// Makes a rename survive a crash of the machine.
    fn sync(&self) -> Result<(), UpdateError> {
        let synced = atomic_file::sync_parent(&self.exe);
        synced.map_err(|e| UpdateError::File(self.dir().to_owned(), e))
    }
}

/// A new binary that is not installed yet; what is left of it goes with this.
#[derive(Debug)]
pub(super) struct Staged<'a> {
    place: &'a Installation,
    path: PathBuf,
    _claim: Lock,
}

impl Staged<'_> {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn clear(&self) -> Result<(), UpdateError> {
        remove(&self.path).map_err(|e| UpdateError::File(self.path.clone(), e))
    }

    /// Runs it: it must tell the version that the release has.
    pub(super) async fn prove(&self, version: &ReleaseVersion) -> Result<(), UpdateError> {
        let permissions = fs::Permissions::from_mode(MODE);
        fs::set_permissions(&self.path, permissions)
            .map_err(|e| UpdateError::File(self.path.clone(), e))?;
        let told = version_of(&self.path).await?;
        if told != *version {
            let why = format!("it says {told}, not {version}");
            return Err(UpdateError::DoesNotRun(why));
        }
        Ok(())
    }

    /// Puts the new binary in the old one's place. The old one becomes the backup, unless
    /// `keeps_backup` and there is one.
    pub(super) fn swap(&self, keeps_backup: bool) -> Result<(), UpdateError> {
        let exe = self.place.exe();
        let backup = self.place.backup();
        if !(keeps_backup && backup.exists()) {
            let fresh = self.place.beside("backup.new");
            let kept = remove(&fresh)
                // A second name for the same file, where the file system has that; else a copy.
                .and_then(|()| {
                    fs::hard_link(exe, &fresh).or_else(|_| fs::copy(exe, &fresh).map(drop))
                })
                .and_then(|()| fs::rename(&fresh, &backup));
            kept.map_err(|e| UpdateError::File(backup, e))?;
        }
        fs::rename(&self.path, exe).map_err(|e| UpdateError::File(exe.to_owned(), e))?;
        self.place.sync()
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        let _ = self.clear();
    }
}

fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(|e| match e.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(e),
    })
}

/// Runs a binary: the version that it tells.
async fn version_of(exe: &Path) -> Result<ReleaseVersion, UpdateError> {
    let failed = |why: String| UpdateError::DoesNotRun(why);
    let output = clock::by(clock::now() + PROOF_WITHIN, run_version(exe)).await;
    let output = output
        .map_err(|_| failed("it did not tell its version in time".to_owned()))?
        .map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!("`version` ends with {}", output.status)));
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = said
        .split_whitespace()
        .last()
        .and_then(ReleaseVersion::parse);
    told.ok_or_else(|| {
        let said: String = said.chars().filter(|c| !c.is_control()).take(60).collect();
        failed(format!("it says {said:?}, which is no version"))
    })
}

async fn run_version(exe: &Path) -> io::Result<std::process::Output> {
    let mut tries = 0;
    loop {
        let mut command = async_process::Command::new(exe);
        command.arg("version").kill_on_drop(true);
        command.stdin(std::process::Stdio::null());
        match command.output().await {
            Err(error) if is_busy(&error) && tries < BUSY.0 => {
                tries += 1;
                clock::sleep(BUSY.1).await;
            }
            outcome => return outcome,
        }
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::TXTBSY.raw_os_error())
}
