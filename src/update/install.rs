//! Putting a new binary where the old one is, without a moment in which there is none.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{UpdateError, Version};
use crate::clock;

/// Wait for the new binary to tell its version.
const PROOF_WITHIN: Duration = Duration::from_secs(20);
/// Tries to start it: a process that was forked while the file was written may hold it open.
const BUSY: (u32, Duration) = (40, Duration::from_millis(50));
/// Executable by everybody, written by its owner.
const MODE: u32 = 0o755;

/// Where a binary is installed.
#[derive(Clone, Debug)]
pub struct Place {
    exe: PathBuf,
}

impl Place {
    /// Where the running binary is, through symlinks.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn own() -> Result<Self, UpdateError> {
        let found = std::env::current_exe();
        let exe = found.map_err(|e| UpdateError::File("/proc/self/exe".into(), e))?;
        // So the kernel shows a binary that was replaced while it ran.
        let shown = exe.to_string_lossy();
        let exe = shown
            .strip_suffix(" (deleted)")
            .map_or(exe.clone(), PathBuf::from);
        Self::at(&exe)
    }

    /// A place of one's choice.
    ///
    /// # Errors
    /// When there is no file.
    pub fn at(exe: &Path) -> Result<Self, UpdateError> {
        let exe = exe
            .canonicalize()
            .map_err(|e| UpdateError::File(exe.to_owned(), e))?;
        Ok(Self { exe })
    }

    /// The installed binary.
    #[must_use]
    pub fn exe(&self) -> &Path {
        &self.exe
    }

    /// The binary before the last update.
    #[must_use]
    pub fn backup(&self) -> PathBuf {
        self.beside("backup")
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
    pub fn check(&self) -> Result<(), UpdateError> {
        if self.exe.starts_with("/nix/store") {
            return Err(UpdateError::NixStore(self.exe.clone()));
        }
        let dir = self.dir();
        let writable = rustix::fs::access(dir, rustix::fs::Access::WRITE_OK);
        writable.map_err(|_| UpdateError::NotWritable(dir.to_owned()))
    }

    /// Room for a new binary, in the same directory so that it can be moved in one step.
    pub(super) fn stage(&self) -> Result<Staged<'_>, UpdateError> {
        let staged = Staged {
            place: self,
            path: self.beside("update"),
        };
        staged.clear()?;
        Ok(staged)
    }

    /// Puts the backup back.
    ///
    /// # Errors
    /// When there is none.
    pub fn roll_back(&self) -> Result<(), UpdateError> {
        let backup = self.backup();
        fs::rename(&backup, &self.exe).map_err(|e| UpdateError::File(backup, e))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), UpdateError> {
        let dir = self.dir();
        let synced = fs::File::open(dir).and_then(|d| d.sync_all());
        synced.map_err(|e| UpdateError::File(dir.to_owned(), e))
    }
}

/// A new binary that is not installed yet; what is left of it goes with this.
#[derive(Debug)]
pub(super) struct Staged<'a> {
    place: &'a Place,
    path: PathBuf,
}

impl Staged<'_> {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn clear(&self) -> Result<(), UpdateError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(UpdateError::File(self.path.clone(), error))
            }
            _ => Ok(()),
        }
    }

    /// Runs it: it must tell the version that the release has.
    pub(super) async fn prove(&self, version: &Version) -> Result<(), UpdateError> {
        let permissions = fs::Permissions::from_mode(MODE);
        fs::set_permissions(&self.path, permissions)
            .map_err(|e| UpdateError::File(self.path.clone(), e))?;
        let failed = |why: String| UpdateError::DoesNotRun(why);
        let run = clock::by(clock::now() + PROOF_WITHIN, self.run()).await;
        let output = run
            .map_err(|_| failed("it did not tell its version in time".to_owned()))?
            .map_err(|e| failed(e.to_string()))?;
        if !output.status.success() {
            return Err(failed(format!("`version` ends with {}", output.status)));
        }
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = said.split_whitespace().last().and_then(Version::parse);
        if told.as_ref() != Some(version) {
            let said: String = said.chars().filter(|c| !c.is_control()).take(60).collect();
            return Err(failed(format!("it says {said:?}, not {version}")));
        }
        Ok(())
    }

    async fn run(&self) -> io::Result<std::process::Output> {
        let mut tries = 0;
        loop {
            let mut command = async_process::Command::new(&self.path);
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

    /// Keeps the old binary as the backup and puts the new one in its place.
    pub(super) fn swap(&self) -> Result<(), UpdateError> {
        let Place { exe } = self.place;
        let backup = self.place.backup();
        let fresh = self.place.beside("backup.new");
        let kept = fs::remove_file(&fresh).or_else(|e| match e.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(e),
        });
        // A second name for the same file, where the file system has that; else a copy.
        let kept = kept
            .and_then(|()| fs::hard_link(exe, &fresh).or_else(|_| fs::copy(exe, &fresh).map(drop)))
            .and_then(|()| fs::rename(&fresh, &backup));
        kept.map_err(|e| UpdateError::File(backup, e))?;
        fs::rename(&self.path, exe).map_err(|e| UpdateError::File(exe.clone(), e))?;
        self.place.sync()
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        let _ = self.clear();
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::TXTBSY.raw_os_error())
}
