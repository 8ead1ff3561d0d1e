//! What is wrong with a configuration: every problem at once, each with its place and its remedy.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::document::{self, Place, Step, dotted};
use super::entry::Entry;

/// Problems reported of one file; a file with more is not a configuration at all.
const PROBLEMS_MAX: usize = 100;

/// One thing that is wrong, or (as a warning) that is probably not intended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line in the file, from 1; `None` when the key and its section are not written.
    pub line: Option<usize>,
    /// Column in that line, from 1.
    pub column: Option<usize>,
    /// Full path of the key, such as `sessions.max`; empty for the whole file.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Problem {
    /// A problem with the whole file.
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            line: None,
            column: None,
            key: String::new(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// The same at a place in the file.
    pub(super) fn at(mut self, place: Option<Place>) -> Self {
        (self.line, self.column) = place.unzip();
        self
    }
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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.lines().join("\n"))]
pub struct Problems {
    /// The problems that are reported, at most 100.
    pub list: Vec<Problem>,
    /// How many more there are.
    pub left_out: usize,
}

impl Problems {
    pub(super) fn one(problem: Problem) -> Self {
        Self {
            list: vec![problem],
            left_out: 0,
        }
    }

    fn lines(&self) -> Vec<String> {
        let more = (self.left_out > 0).then(|| format!("and {} more", self.left_out));
        let listed = self.list.iter().map(Problem::to_string);
        listed.chain(more).collect()
    }

    fn lines_of(&self, path: &Path) -> String {
        let path = path.display();
        let lines = self.lines().into_iter();
        let lines: Vec<String> = lines.map(|line| format!("{path}: {line}")).collect();
        lines.join("\n")
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file was read and is wrong.
    #[error("{}", problems.lines_of(path))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        problems: Problems,
    },
    /// No path was given and there is no home directory to look in.
    #[error(
        "no configuration file is given and $HOME is not set; \
         give the path by --config or $HYDRANECKWEBRTC_CONFIG"
    )]
    NoHome,
    /// There is no such file.
    #[error(
        "no configuration file at {0}; write one with `hydraneckwebrtc config example > {0}`, \
         or give another path by --config or $HYDRANECKWEBRTC_CONFIG",
        path.display()
    )]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is there and cannot be read.
    #[error("cannot read configuration {}: {cause}; check its owner and mode", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        cause: std::io::Error,
    },
}

/// The errors and warnings of one document, collected while it is read.
pub(super) struct Report<'t> {
    text: &'t str,
    errors: Vec<Problem>,
    left_out: usize,
    warnings: Vec<Problem>,
    /// Keys that no section has; reported when all known keys are registered.
    pub(super) unknown: Vec<Vec<Step>>,
}

impl<'t> Report<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            errors: Vec::new(),
            left_out: 0,
            warnings: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// Adds an error at the value of a key.
    pub(super) fn error(&mut self, path: &[Step], what: &str, remedy: &str) {
        self.error_at(path, document::value_at, what, remedy);
    }

    fn error_at(&mut self, path: &[Step], find: Find, what: &str, remedy: &str) {
        if self.errors.len() < PROBLEMS_MAX {
            let problem = self.problem(path, find, what, remedy);
            self.errors.push(problem);
        } else {
            self.left_out += 1;
        }
    }

    /// Adds a warning: what is valid and probably not intended.
    pub(super) fn warn(&mut self, path: &[Step], what: &str, remedy: &str) {
        if self.warnings.len() < PROBLEMS_MAX {
            let problem = self.problem(path, document::value_at, what, remedy);
            self.warnings.push(problem);
        }
    }

    /// Whether there is an error in a key whose path begins so.
    pub(super) fn has_error(&self, path: &str) -> bool {
        self.errors.iter().any(|e| e.key.starts_with(path))
    }

    /// Reports the unknown keys, each with the most similar known one.
    pub(super) fn add_unknown(&mut self, known: &[Entry]) {
        for path in std::mem::take(&mut self.unknown) {
            let remedy = nearest(&path, known);
            self.error_at(&path, document::key_at, "is not a known key", &remedy);
        }
    }

    /// The warnings, or all errors in the order of their lines if there are any.
    pub(super) fn finish(mut self) -> Result<Vec<Problem>, Problems> {
        if self.errors.is_empty() {
            return Ok(self.warnings);
        }
        self.errors.sort_by_key(|p| (p.line, p.column));
        Err(Problems {
            list: self.errors,
            left_out: self.left_out,
        })
    }

    /// A key that is not written has the place of the nearest section around it that is.
    fn problem(&self, path: &[Step], find: Find, what: &str, remedy: &str) -> Problem {
        let exact = find(self.text, path).filter(|_| !path.is_empty());
        let place = exact.or_else(|| {
            let mut around = (1..path.len()).rev();
            around.find_map(|n| document::key_at(self.text, &path[..n]))
        });
        let mut problem = Problem::new(what, remedy).at(place);
        problem.key = dotted(path);
        problem
    }
}

type Find = fn(&str, &[Step]) -> Option<Place>;

/// The remedy for an unknown key: a similar key of its section, else the same key elsewhere.
fn nearest(path: &[Step], known: &[Entry]) -> String {
    let Some((Step::Key(key), section)) = path.split_last() else {
        return String::new();
    };
    let keys = known
        .iter()
        .filter(|e| !e.is_template() && matches!(e.path.last(), Some(Step::Key(_))));
    let (inside, outside): (Vec<&Entry>, Vec<&Entry>) =
        keys.partition(|e| e.path.split_last().is_some_and(|(_, s)| s == section));
    let distance = |e: &&Entry| strsim::damerau_levenshtein(e.name(), key);
    // One wrong letter in three is a spelling mistake; more is another word.
    let is_near = |e: &&Entry| distance(e) <= (key.len() / 3).max(1);
    if let Some(entry) = inside.iter().copied().filter(is_near).min_by_key(distance) {
        return format!("did you mean `{}`?", entry.name());
    }
    if let Some(entry) = outside.into_iter().find(|e| e.name() == key) {
        return format!("did you mean `{}`?", dotted(&entry.path));
    }
    let names: Vec<&str> = inside.iter().map(|e| e.name()).collect();
    format!("the known keys here are {}", names.join(", "))
}
