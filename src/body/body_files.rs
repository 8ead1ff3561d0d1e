//! Small private files that are whole or absent: pins and identities of bodies.

use std::fs;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use crate::atomic_file;
use crate::ids;

/// Largest file that is read: an identity is three PEM texts, about 6 KiB.
const FILE_MAX: u64 = 64 * 1024;

/// One file for each body, in a directory that only we read.
#[derive(Clone, Debug)]
pub(super) struct BodyFiles {
    dir: PathBuf,
    suffix: &'static str,
}

impl BodyFiles {
    pub(super) fn new(dir: impl Into<PathBuf>, suffix: &'static str) -> Self {
        let dir = dir.into();
        Self { dir, suffix }
    }

    /// The file of that body.
    pub(super) fn path(&self, ip: IpAddr) -> PathBuf {
        self.dir.join(format!("{ip}.{}", self.suffix))
    }

    /// Its text; `None` when there is no file.
    pub(super) fn read(&self, ip: IpAddr) -> io::Result<Option<String>> {
        let file = match fs::File::open(self.path(ip)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(FILE_MAX).read_to_string(&mut text)?;
        Ok(Some(text))
    }

    /// Replaces the file, whole or not at all, readable by us alone.
    pub(super) fn write(&self, ip: IpAddr, text: &str) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)?;
        let draft = self.dir.join(format!(".{}.draft", ids::label()));
        atomic_file::replace(&self.path(ip), &draft, text.as_bytes())
    }

    /// Removes the file, if there is one.
    pub(super) fn remove(&self, ip: IpAddr) -> io::Result<()> {
        match fs::remove_file(self.path(ip)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Bodies that have a file.
    pub(super) fn bodies(&self) -> Vec<IpAddr> {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return Vec::new();
        };
        let ip = |name: &str| {
            name.strip_suffix(self.suffix)?
                .strip_suffix('.')?
                .parse()
                .ok()
        };
        entries
            .filter_map(|entry| ip(entry.ok()?.file_name().to_str()?))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_private_replaceable_and_removable() {
        let dir = std::env::temp_dir().join(format!("neck-shelf-{}", ids::label()));
        let shelf = BodyFiles::new(&dir, "pin");
        for ip in ["10.0.1.50", "fd12::1"].map(|ip| ip.parse::<IpAddr>().unwrap()) {
            assert_eq!(shelf.read(ip).unwrap(), None);
            shelf.write(ip, "one").unwrap();
            shelf.write(ip, "two").unwrap();
            assert_eq!(shelf.read(ip).unwrap().as_deref(), Some("two"));
            let mode = fs::metadata(shelf.path(ip)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(shelf.bodies().len(), 2);
        let ip = "10.0.1.50".parse().unwrap();
        shelf.remove(ip).unwrap();
        shelf.remove(ip).unwrap();
        assert_eq!(shelf.bodies(), ["fd12::1".parse::<IpAddr>().unwrap()]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
