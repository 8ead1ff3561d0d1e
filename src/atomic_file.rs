//! Replaces a file whole: a reader finds the old content or the new content, never a part.
//!
//! The rule of durability, one for all files of state: when [`replace`] has returned, the new content
//! survives a crash of the machine. The content is written beside the file and synchronised, the
//! rename puts it in its place, and the directory is synchronised, because the rename is a change of
//! the directory. Blocking.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Mode of files that hold secrets or state: only their owner reads them.
pub(crate) const PRIVATE: u32 = 0o600;

/// Puts `bytes` in the place of the file at `path`, which need not exist.
///
/// # Errors
/// When the content may not be on the disk; the earlier content is untouched unless only the
/// synchronisation of the directory failed.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let draft = draft_of(path)?;
    let written = write(&draft, bytes, mode).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // A draft of an earlier process is overwritten by the next write.
        let _ = fs::remove_file(&draft);
    }
    written?;
    sync_parent(path)
}

/// Synchronises the directory of `path`, so that its creation, renaming or removal survives a crash.
///
/// # Errors
/// When the directory cannot be opened or synchronised.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// `dir/.name.draft`: hidden, in the same directory, so that the rename does not cross file systems.
fn draft_of(path: &Path) -> io::Result<std::path::PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the path names no file")
    })?;
    let mut draft = std::ffi::OsString::from(".");
    draft.push(name);
    draft.push(".draft");
    Ok(path.with_file_name(draft))
}

fn write(draft: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // What stands there is the draft of a process that died. Removing it first also unlinks a
    // symbolic link, which `create_new` would refuse.
    let _ = fs::remove_file(draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::ids;

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let dir = std::env::temp_dir().join(format!("neck-atomic-{}", ids::label()));
        fs::create_dir(&dir).unwrap();
        let path = dir.join("state.json");
        replace(&path, b"one", PRIVATE).unwrap();
        replace(&path, b"two", PRIVATE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "no draft is left");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_draft_of_a_dead_process_and_a_link_in_its_place_do_no_harm() {
        let dir = std::env::temp_dir().join(format!("neck-atomic-{}", ids::label()));
        fs::create_dir(&dir).unwrap();
        let (path, other) = (dir.join("state"), dir.join("other"));
        fs::write(&other, "untouched").unwrap();
        std::os::unix::fs::symlink(&other, dir.join(".state.draft")).unwrap();
        replace(&path, b"new", PRIVATE).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"untouched");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_write_that_fails_leaves_the_earlier_content() {
        let dir = std::env::temp_dir().join(format!("neck-atomic-{}", ids::label()));
        fs::create_dir(&dir).unwrap();
        let path = dir.join("state");
        // A directory that is not empty cannot be replaced by a file.
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "kept").unwrap();
        assert!(replace(&path, b"new", PRIVATE).is_err());
        assert!(path.join("inside").exists() && !dir.join(".state.draft").exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
