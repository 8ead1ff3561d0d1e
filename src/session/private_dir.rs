//! Directories that nobody else can write: where sessions work, where the worker keeps its state.
//!
//! `sessions.dir` is under `/tmp` by default, where every user of the machine may have put a
//! symlink or a directory of that name first.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Only the owner may enter, list or write.
const PRIVATE_MODE: u32 = 0o700;
/// Bits that would let group or others write.
const OTHERS_WRITE: u32 = 0o022;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// Making or reading it failed.
    #[error("cannot use directory {}: {error}, make it writable or configure another one", .path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What failed.
        #[source]
        error: io::Error,
    },
    /// It is a symlink or a file.
    #[error("{} is a symlink or a file, not a directory: remove it or configure another one", .path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Another user owns it.
    #[error("directory {} belongs to uid {owner}, not to uid {us}: remove it or configure another one", .path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        us: u32,
    },
}

/// root's user id: what root has put somewhere is trusted.
const ROOT: u32 = 0;

/// Makes sure that `path` is a directory of ours that nobody else can write, creating it and its
/// parents with mode 0700. Answers its absolute path without symlinks in its parents.
///
/// # Errors
/// When it is a symlink, a file or somebody else's, or cannot be made.
pub(crate) fn ensure(path: &Path) -> Result<PathBuf, DirError> {
    let io = |error| DirError::Io {
        path: path.to_owned(),
        error,
    };
    let path = std::path::absolute(path).map_err(io)?;
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(PRIVATE_MODE);
    if let Some(parent) = path.parent() {
        builder.create(parent).map_err(io)?;
    }
    match DirBuilder::new().mode(PRIVATE_MODE).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io(error)),
        _ => {}
    }
    let us = rustix::process::geteuid().as_raw();
    let mut path = path;
    let mut found = fs::symlink_metadata(&path).map_err(io)?;
    if found.is_symlink() && found.uid() == ROOT && us != ROOT {
        // systemd links a dynamic user's state directory into /var/lib/private.
        path = fs::canonicalize(&path).map_err(io)?;
        found = fs::symlink_metadata(&path).map_err(io)?;
    }
    if !found.is_dir() {
        return Err(DirError::NotADirectory { path });
    }
    if found.uid() != us {
        let owner = found.uid();
        return Err(DirError::NotOurs { path, owner, us });
    }
    if found.permissions().mode() & OTHERS_WRITE != 0 {
        fs::set_permissions(&path, fs::Permissions::from_mode(PRIVATE_MODE)).map_err(io)?;
    }
    // `/proc/<pid>/cwd` shows resolved paths, so ours must be resolved to compare.
    fs::canonicalize(&path).map_err(io)
}

/// What [`check_room`] writes: an entry of the ledger, its successor beside it, a record and a
/// session's configuration, in blocks of 4 KiB.
const ROOM_BYTES: usize = 16 * 1024;

/// Finds out by trying whether there is room in a directory of ours. Nothing stays. Blocking.
///
/// # Errors
/// What the file system says: no space, no inode, over quota, read-only, broken.
pub(crate) fn check_room(dir: &Path) -> io::Result<()> {
    // A directory is opened to be synced.
    fs::File::open(dir)?;
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(dir, flags, mode) {
        Ok(unnamed) => fs::File::from(unnamed).write_all(&[0; ROOM_BYTES]),
        // Not on every file system (open(2)): NFS and old overlays know no files without a name.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) if dir.is_dir() => {
            let path = dir.join(format!(".room-{}", std::process::id()));
            let written = fs::write(&path, [0; ROOM_BYTES]);
            let removed = fs::remove_file(&path);
            written.and(removed)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::session::testing::Scratch;

    #[test]
    fn a_new_directory_is_private_and_an_open_one_is_closed() {
        let scratch = Scratch::new();
        let made = ensure(&scratch.path().join("a/b/c")).unwrap();
        assert_eq!(fs::metadata(&made).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&made, fs::Permissions::from_mode(0o777)).unwrap();
        ensure(&made).unwrap();
        assert_eq!(fs::metadata(&made).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn symlinks_and_files_are_refused_with_their_name() {
        let scratch = Scratch::new();
        let target = scratch.path().join("target");
        fs::create_dir(&target).unwrap();
        let link = scratch.path().join("link");
        symlink(&target, &link).unwrap();
        let file = scratch.path().join("file");
        fs::write(&file, "").unwrap();
        for bad in [&link, &file] {
            let text = ensure(bad).unwrap_err().to_string();
            assert!(text.contains(&bad.display().to_string()), "{text}");
            assert!(text.contains("remove it"), "{text}");
        }
        assert!(matches!(
            ensure(&file.join("below")),
            Err(DirError::Io { .. })
        ));
    }

    #[test]
    fn a_look_for_room_leaves_nothing_and_names_what_is_in_the_way() {
        let scratch = Scratch::new();
        check_room(scratch.path()).unwrap();
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
        let gone = check_room(&scratch.path().join("gone")).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn another_users_directory_is_refused() {
        if !rustix::process::geteuid().is_root() {
            // Only root can make a directory of somebody else; /proc/1 is root's for the rest.
            assert!(matches!(
                ensure(Path::new("/root")),
                Err(DirError::NotOurs { .. } | DirError::Io { .. })
            ));
            return;
        }
        let scratch = Scratch::new();
        let foreign = scratch.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        std::os::unix::fs::chown(&foreign, Some(65_534), None).unwrap();
        assert!(matches!(
            ensure(&foreign),
            Err(DirError::NotOurs { owner: 65_534, .. })
        ));
    }
}
