//! Finds the configuration file, reads it and validates it.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::document;
use super::entry::Entry;
use super::environment::{Environment, SecretFiles};
use super::reader::Reader;
use super::report::{ConfigError, Problem, Problems};
use super::rules;
use super::schema::Config;
use super::values::Role;

/// Largest configuration that is read: a full one with every comment is a third of it.
pub(super) const FILE_MAX: usize = 64 * 1024;
/// The environment variable for the path of the file; `--config` overrides it.
const FILE_VARIABLE: &str = "HYDRANECKWEBRTC_CONFIG";
/// The default path of the file in the home directory.
const FILE_AT_HOME: &str = ".hydraneckwebrtc/config.yaml";

/// A configuration without problems.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// What is valid and probably not intended.
    pub warnings: Vec<Problem>,
    /// The file; `None` when it came from a text.
    pub path: Option<PathBuf>,
    pub(super) entries: Vec<Entry>,
}

impl Config {
    /// Finds, reads and validates the configuration for `role`, or else for its own `mode`.
    /// Without either, the keys that every role requires may be missing.
    ///
    /// The file is `path`, else `$HYDRANECKWEBRTC_CONFIG`, else `~/.hydraneckwebrtc/config.yaml`.
    ///
    /// # Errors
    /// When there is no such file or anything in it is wrong.
    pub fn load(path: Option<&Path>, role: Option<Role>) -> Result<Loaded, ConfigError> {
        load(path, role, SecretFiles::Read)
    }

    /// As [`Config::load`] for the file's own `mode`, for `config check`. With
    /// [`SecretFiles::Skip`], secret files need not exist, as when an image is built on another
    /// machine.
    ///
    /// # Errors
    /// When there is no such file or anything in it is wrong.
    pub fn check(path: Option<&Path>, files: SecretFiles) -> Result<Loaded, ConfigError> {
        load(path, None, files)
    }

    /// Reads and validates a configuration given as text.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str, role: Option<Role>) -> Result<Loaded, Problems> {
        read(text, role, &Environment::of_process(SecretFiles::Read)).map(|(loaded, _)| loaded)
    }
}

fn load(
    path: Option<&Path>,
    role: Option<Role>,
    files: SecretFiles,
) -> Result<Loaded, ConfigError> {
    let environment = Environment::of_process(files);
    let variable = std::env::var_os(FILE_VARIABLE);
    let path = find(path, variable, environment.home.as_deref())?;
    let (text, mode) = text_of(&path)?;
    match read(&text, role, &environment) {
        Ok((mut loaded, holds_secrets)) => {
            if holds_secrets && mode & 0o044 != 0 {
                loaded.warnings.insert(0, open_to_others(&path));
            }
            loaded.path = Some(path);
            Ok(loaded)
        }
        Err(problems) => Err(ConfigError::Invalid { path, problems }),
    }
}

pub(super) fn find(
    path: Option<&Path>,
    variable: Option<OsString>,
    home: Option<&Path>,
) -> Result<PathBuf, ConfigError> {
    let named = path.map(Path::to_owned);
    named
        .or_else(|| variable.filter(|v| !v.is_empty()).map(PathBuf::from))
        .or_else(|| home.map(|h| h.join(FILE_AT_HOME)))
        .ok_or(ConfigError::NoHome)
}

/// The text of the file and its mode. Reads no more than the allowed size and one byte.
fn text_of(path: &Path) -> Result<(String, u32), ConfigError> {
    let owned = || path.to_owned();
    let unreadable = |cause: std::io::Error| match cause.kind() {
        std::io::ErrorKind::NotFound => ConfigError::NotFound { path: owned() },
        _ => ConfigError::Unreadable {
            path: owned(),
            cause,
        },
    };
    let invalid = |problem| ConfigError::Invalid {
        path: owned(),
        problems: Problems::one(problem),
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    let mut bytes = Vec::new();
    let mut bounded = file.take(FILE_MAX as u64 + 1);
    bounded.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > FILE_MAX {
        // Not reported as invalid UTF-8, which it may be: the limit can split a character.
        return Err(invalid(too_large()));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let valid = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let mut problem = Problem::new("is not UTF-8 text", "save the file as UTF-8");
        problem.line = Some(valid.iter().filter(|b| **b == b'\n').count() + 1);
        invalid(problem)
    })?;
    Ok((text, mode))
}

fn too_large() -> Problem {
    Problem::new(
        format!("the file is larger than {FILE_MAX} bytes"),
        "check that this is the right file; keep only configuration in it",
    )
}

fn open_to_others(path: &Path) -> Problem {
    let path = path.display();
    Problem::new(
        format!("{path} holds secrets and can be read by others"),
        format!("chmod 600 {path}, or move the secrets to files of their own"),
    )
}

/// Reads and validates a text; the flag says whether the text itself contains secrets.
pub(super) fn read(
    text: &str,
    role: Option<Role>,
    environment: &Environment,
) -> Result<(Loaded, bool), Problems> {
    if text.len() > FILE_MAX {
        return Err(Problems::one(too_large()));
    }
    let document = document::parse(text).map_err(Problems::one)?;
    let mut reader = Reader::new(text, environment);
    let config: Config = reader.read(&document);
    rules::check(&mut reader.report, &config, role.or(config.mode));
    let loaded = Loaded {
        config,
        warnings: reader.report.finish()?,
        path: None,
        entries: reader.entries,
    };
    Ok((loaded, reader.holds_secrets))
}
