//! What a configuration depends on besides its file: home, host name, systemd's directories.

use std::path::{Path, PathBuf};

/// Whether secret files are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretFiles {
    /// They must exist and must not be empty.
    Read,
    /// Only their paths are checked, as on a machine where the configuration will not run.
    Skip,
}

/// The facts that defaults and relative paths depend on, collected once so that tests can set them.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    /// systemd's `$CREDENTIALS_DIRECTORY`: where relative secret paths are looked up.
    pub(super) credentials: Option<PathBuf>,
    pub(super) files: SecretFiles,
    pub(super) home: Option<PathBuf>,
    pub(super) host: String,
    /// The default of `worker.state_dir`.
    pub(super) state: PathBuf,
}

impl Environment {
    pub(super) fn of_process(files: SecretFiles) -> Self {
        let variable = |name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        // A service of root has no $HOME; `home_dir` then reads the user database.
        let home = std::env::home_dir().filter(|h| h.is_absolute());
        Self {
            credentials: variable("CREDENTIALS_DIRECTORY"),
            files,
            host: host_name(),
            state: state(variable("STATE_DIRECTORY"), home.as_deref()),
            home,
        }
    }

    /// The same on every machine, for the example and the reference.
    pub(super) fn nowhere() -> Self {
        Self {
            credentials: None,
            files: SecretFiles::Skip,
            home: None,
            host: String::new(),
            state: PathBuf::new(),
        }
    }

    /// A path in a configuration: absolute, or under `~/`.
    pub(super) fn path(&self, text: &str) -> Result<PathBuf, String> {
        match (text.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => Ok(home.join(rest)),
            (Some(_), None) => Err("uses `~`, but $HOME is not set".to_owned()),
            (None, _) if Path::new(text).is_absolute() => Ok(PathBuf::from(text)),
            (None, _) => Err(format!("{text:?} is a relative path")),
        }
    }

    /// The path of a secret: as `path`, or the name of a systemd credential.
    pub(super) fn credential(&self, text: &str) -> Result<PathBuf, String> {
        if text.starts_with("~/") || Path::new(text).is_absolute() {
            return self.path(text);
        }
        // systemd credentials are plain names, never paths (systemd.exec(5)).
        if text.contains('/') || text == ".." {
            return Err(format!("{text:?} is a relative path"));
        }
        match (&self.credentials, self.files) {
            (Some(directory), _) => Ok(directory.join(text)),
            (None, SecretFiles::Skip) => Ok(PathBuf::from(text)),
            (None, SecretFiles::Read) => Err(format!(
                "{text:?} names a systemd credential, and $CREDENTIALS_DIRECTORY is not set"
            )),
        }
    }
}

fn state(from_systemd: Option<PathBuf>, home: Option<&Path>) -> PathBuf {
    // StateDirectory= may list several; the first is ours (systemd.exec(5), colon-separated).
    let first = from_systemd.and_then(|list| std::env::split_paths(&list).next());
    first.unwrap_or_else(|| {
        home.map_or_else(
            || PathBuf::from("/var/lib/hydraneckwebrtc"),
            |h| h.join(".hydraneckwebrtc/state"),
        )
    })
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "worker".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_systemds_then_homes_then_the_systems() {
        let home = Some(Path::new("/home/neck"));
        for (systemd, home, expected) in [
            (Some("/var/lib/a:/var/lib/b"), home, "/var/lib/a"),
            (None, home, "/home/neck/.hydraneckwebrtc/state"),
            (None, None, "/var/lib/hydraneckwebrtc"),
        ] {
            assert_eq!(
                state(systemd.map(PathBuf::from), home),
                PathBuf::from(expected)
            );
        }
    }

    #[test]
    fn a_relative_secret_path_is_a_credential() {
        let mut environment = Environment::nowhere();
        environment.files = SecretFiles::Read;
        assert!(
            environment
                .credential("token")
                .unwrap_err()
                .contains("CREDENTIALS_DIRECTORY")
        );
        environment.credentials = Some("/run/credentials/neck".into());
        assert_eq!(
            environment.credential("token"),
            Ok("/run/credentials/neck/token".into())
        );
        assert_eq!(
            environment.credential("/etc/token"),
            Ok("/etc/token".into())
        );
        assert!(environment.credential("../token").is_err());
        assert!(environment.credential("~/token").is_err());
        environment.home = Some("/root".into());
        assert_eq!(environment.credential("~/token"), Ok("/root/token".into()));
    }
}
