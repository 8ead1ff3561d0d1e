//! What is wrong with a configuration: every problem at once, each with its place and its remedy.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// One thing that is wrong, or (as a warning) worth a second look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line in the file, from 1; `None` when the fault is something absent.
    pub line: Option<usize>,
    /// Column in that line, from 1.
    pub column: Option<usize>,
    /// Full path of the key, such as `sessions.max`; empty when the whole file is meant.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "line {line}, column {column}: ")?,
            (Some(line), None) => write!(f, "line {line}: ")?,
            (None, _) => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// All problems of one configuration, in the order of their lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The problems that are reported.
    pub list: Vec<Problem>,
    /// How many more there were beyond the bound.
    pub left_out: usize,
}

impl Problems {
    pub(super) fn one(problem: Problem) -> Self {
        Self {
            list: vec![problem],
            left_out: 0,
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.list.iter().enumerate() {
            let end = if n == 0 { "" } else { "\n" };
            write!(f, "{end}{problem}")?;
        }
        if self.left_out > 0 {
            write!(f, "\nand {} more", self.left_out)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Why there is no configuration to work with.
#[derive(Debug)]
pub enum ConfigError {
    /// The file was read and is wrong.
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problems: Problems,
    },
    /// No path was given and there is no home directory to look in.
    NoHome,
    /// There is no such file.
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is there and cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        cause: std::io::Error,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { path, problems } => {
                for (n, line) in problems.to_string().lines().enumerate() {
                    let end = if n == 0 { "" } else { "\n" };
                    write!(f, "{end}{}: {line}", path.display())?;
                }
                Ok(())
            }
            Self::NoHome => f.write_str(
                "no configuration named and $HOME is not set; \
                 name the file by --config or $HYDRANECKWEBRTC_CONFIG",
            ),
            Self::NotFound { path } => {
                let path = path.display();
                write!(
                    f,
                    "no configuration at {path}; write one with \
                     `hydraneckwebrtc config example > {path}`, \
                     or name another by --config or $HYDRANECKWEBRTC_CONFIG"
                )
            }
            Self::Unreadable { path, cause } => write!(
                f,
                "cannot read configuration {}: {cause}; check its owner and mode",
                path.display()
            ),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Invalid { problems, .. } => Some(problems),
            Self::Unreadable { cause, .. } => Some(cause),
            Self::NoHome | Self::NotFound { .. } => None,
        }
    }
}
