//! Replaces a file whole: a reader finds the old content or the new content, never a part.
//!
//! The rule of durability for files of state: when [`replace`] has returned, the new content
//! survives a crash of the machine. The content is written beside the file and synchronised, the
//! rename puts it in its place, and the directory is synchronised, because the rename is a change of
//! the directory. Blocking.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Files of state are read by their owner alone: many hold secrets.
const MODE: u32 = 0o600;

/// Puts `bytes` in the place of the file at `path`, which need not exist. `draft` is where they are
/// written first: a name in the same directory that its readers ignore.
///
/// # Errors
/// When the content may not be on the disk; the earlier content is untouched unless only the
/// synchronisation of the directory failed.
pub(crate) fn replace(path: &Path, draft: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with_mode(path, draft, bytes, MODE)
}

/// As [`replace`], for a file that others than its owner may read.
///
/// # Errors
/// As [`replace`].
pub(crate) fn replace_with_mode(
    path: &Path,
    draft: &Path,
    bytes: &[u8],
    mode: u32,
) -> io::Result<()> {
    put(path, draft, bytes, mode, File::sync_all)?;
    sync_parent(path)
}

/// As [`replace_with_mode`], without synchronising: for a file that nobody needs after a crash of the
/// machine.
///
/// # Errors
/// When the content cannot be written; the earlier content is untouched.
pub(crate) fn replace_unsynced(
    path: &Path,
    draft: &Path,
    bytes: &[u8],
    mode: u32,
) -> io::Result<()> {
    put(path, draft, bytes, mode, |_| Ok(()))
}

fn put(
    path: &Path,
    draft: &Path,
    bytes: &[u8],
    mode: u32,
    sync: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default())
            .open(draft)?;
        // The umask, and a draft that an earlier write left, may have given it another mode.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        sync(&file)
    };
    write()
        .and_then(|()| fs::rename(draft, path))
        .inspect_err(|_| {
            // The next write overwrites a draft that stays.
            let _ = fs::remove_file(draft);
        })
}

/// Synchronises the directory of `path`, so that a creation, a renaming or a removal survives a crash.
///
/// # Errors
/// When the directory cannot be opened or synchronised.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids;

    fn scratch() -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("neck-atomic-{}", ids::label()));
        fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let dir = scratch();
        let (path, draft) = (dir.join("state"), dir.join("state.draft"));
        replace(&path, &draft, b"longer than the next").unwrap();
        replace(&path, &draft, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        replace_with_mode(&path, &draft, b"three", 0o666).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666, "whatever the umask");
        assert!(!draft.exists());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_link_in_the_place_of_the_draft_is_not_followed() {
        let dir = scratch();
        let (path, draft, other) = (dir.join("state"), dir.join("draft"), dir.join("other"));
        fs::write(&other, "untouched").unwrap();
        std::os::unix::fs::symlink(&other, &draft).unwrap();
        assert!(replace(&path, &draft, b"new").is_err());
        assert_eq!(fs::read(&other).unwrap(), b"untouched");
        // The link is gone, and the next attempt succeeds.
        replace(&path, &draft, b"new").unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_write_that_fails_leaves_the_earlier_content() {
        let dir = scratch();
        let (path, draft) = (dir.join("state"), dir.join("draft"));
        // A directory that is not empty cannot be replaced by a file.
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "kept").unwrap();
        assert!(replace(&path, &draft, b"new").is_err());
        assert!(path.join("inside").exists() && !draft.exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
