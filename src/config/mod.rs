//! The configuration: the runbook's YAML, strict, every problem at once.
//!
//! A file is read by `keys`, which names each key once with its kind, bounds, default and meaning;
//! the same names print the example, the reference and the effective values. The rest of the
//! program gets plain structs ([`Config`]) in which every value is right. Whatever is wrong is a
//! [`Problem`] with its line, key and remedy. Nothing here logs, and no secret is ever printed.

mod forms;
mod keys;
mod kinds;
mod locate;
mod model;
mod peer_keys;
mod problem;
mod reader;
mod registry;
mod render;
mod rules;
mod secrets;
mod section;
mod session_keys;
mod store_keys;
mod surroundings;
#[cfg(test)]
mod tests;
mod tree;

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

pub use kinds::{Auto, VideoSize};
pub use model::{Acme, Config, Etcd, IceServer, Peer, Role, Tls, Turn, Update, WebServer};
pub use problem::{ConfigError, Problem, Problems};
pub use surroundings::SecretFiles;

use reader::Reader;
use surroundings::Surroundings;

/// Largest configuration that is read: a full one with every comment is a third of it.
const FILE_MAX: usize = 64 * 1024;
/// Names the file when `--config` does not.
const FILE_VARIABLE: &str = "HYDRANECKWEBRTC_CONFIG";
/// Where the file is, in the home directory.
const FILE_AT_HOME: &str = ".hydraneckwebrtc/config.yaml";

/// A configuration without problems.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// What is worth a second look.
    pub warnings: Vec<Problem>,
    /// The file; `None` when it came from a text.
    pub path: Option<PathBuf>,
    entries: Vec<registry::Entry>,
}

impl Config {
    /// Finds, reads and judges the configuration for `role`, or for its own `mode` when there is
    /// none; without either, what every role needs is not asked for.
    ///
    /// The file is `path`, else `$HYDRANECKWEBRTC_CONFIG`, else `~/.hydraneckwebrtc/config.yaml`.
    ///
    /// # Errors
    /// When there is no such file or anything in it is wrong.
    pub fn load(path: Option<&Path>, role: Option<Role>) -> Result<Loaded, ConfigError> {
        load(path, role, SecretFiles::Read)
    }

    /// Reads and judges a configuration given as text.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str, role: Option<Role>) -> Result<Loaded, Problems> {
        read(text, role, &Surroundings::of_process(SecretFiles::Read)).map(|(loaded, _)| loaded)
    }
}

/// `config check`: the file that was found, and its warnings. With [`SecretFiles::Skip`], secret
/// files need not be there, as when an image is built on another machine.
///
/// # Errors
/// When there is no such file or anything in it is wrong.
pub fn check(
    path: Option<&Path>,
    role: Option<Role>,
    files: SecretFiles,
) -> Result<(PathBuf, Vec<Problem>), ConfigError> {
    let loaded = load(path, role, files)?;
    Ok((loaded.path.unwrap_or_default(), loaded.warnings))
}

/// `config show`: the effective values as YAML, secrets as `***`.
#[must_use]
pub fn show(loaded: &Loaded) -> String {
    render::show(&loaded.entries)
}

/// `config example`: every key as commented YAML, with its meaning and default.
#[must_use]
pub fn example() -> String {
    render::example(&all_keys())
}

/// `docs/configuration.md`.
#[must_use]
pub fn reference() -> String {
    render::reference(&all_keys())
}

fn all_keys() -> Vec<registry::Entry> {
    let around = Surroundings::nowhere();
    let reader = Reader::new("", &around);
    reader.top(&tree::Node::Null, keys::config);
    reader.entries.into_inner()
}

fn load(
    path: Option<&Path>,
    role: Option<Role>,
    files: SecretFiles,
) -> Result<Loaded, ConfigError> {
    let around = Surroundings::of_process(files);
    let path = find(
        path,
        std::env::var_os(FILE_VARIABLE),
        around.home.as_deref(),
    )?;
    let (text, mode) = text_of(&path)?;
    match read(&text, role, &around) {
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

fn find(
    path: Option<&Path>,
    variable: Option<std::ffi::OsString>,
    home: Option<&Path>,
) -> Result<PathBuf, ConfigError> {
    let named = path.map(Path::to_owned);
    named
        .or_else(|| variable.filter(|v| !v.is_empty()).map(PathBuf::from))
        .or_else(|| home.map(|h| h.join(FILE_AT_HOME)))
        .ok_or(ConfigError::NoHome)
}

/// The file's text, a byte more than allowed at most, and its mode.
fn text_of(path: &Path) -> Result<(String, u32), ConfigError> {
    let unreadable = |cause: std::io::Error| match cause.kind() {
        std::io::ErrorKind::NotFound => ConfigError::NotFound { path: path.into() },
        _ => ConfigError::Unreadable {
            path: path.into(),
            cause,
        },
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    let mut bytes = Vec::new();
    let most = FILE_MAX as u64 + 1;
    file.take(most)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > FILE_MAX {
        // The bound may cut a character in two; the size is what is wrong, not the text.
        return Err(ConfigError::Invalid {
            path: path.into(),
            problems: Problems::one(too_large()),
        });
    }
    String::from_utf8(bytes)
        .map(|text| (text, mode))
        .map_err(|e| {
            let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
            let line = good.iter().filter(|b| **b == b'\n').count() + 1;
            ConfigError::Invalid {
                path: path.into(),
                problems: Problems::one(Problem {
                    line: Some(line),
                    column: None,
                    key: String::new(),
                    what: "is not UTF-8 text".to_owned(),
                    remedy: "save the file as UTF-8".to_owned(),
                }),
            }
        })
}

fn too_large() -> Problem {
    Problem {
        line: None,
        column: None,
        key: String::new(),
        what: format!("the file is larger than {FILE_MAX} bytes"),
        remedy: "is this the right file? remove what is no configuration".to_owned(),
    }
}

fn open_to_others(path: &Path) -> Problem {
    let path = path.display();
    Problem {
        line: None,
        column: None,
        key: String::new(),
        what: format!("{path} holds secrets and can be read by others"),
        remedy: format!("chmod 600 {path}, or move the secrets to files of their own"),
    }
}

/// Reads and judges; the flag says whether the text itself holds secrets.
fn read(text: &str, role: Option<Role>, around: &Surroundings) -> Result<(Loaded, bool), Problems> {
    if text.len() > FILE_MAX {
        return Err(Problems::one(too_large()));
    }
    let node = tree::parse(text).map_err(Problems::one)?;
    let reader = Reader::new(text, around);
    let config = reader.top(&node, keys::config);
    reader.judge_strange_keys();
    rules::check(&reader, &config, role.or(config.mode));
    let holds_secrets = *reader.holds_secrets.borrow();
    let (entries, warnings) = reader.verdict()?;
    let loaded = Loaded {
        config,
        warnings,
        path: None,
        entries,
    };
    Ok((loaded, holds_secrets))
}
