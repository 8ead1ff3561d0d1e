//! One reading of one document: what was asked for, and everything that is wrong with it.

use std::cell::RefCell;

use super::locate::{self, Step, dotted};
use super::problem::{Problem, Problems};
use super::registry::Entry;
use super::section::Section;
use super::surroundings::Surroundings;
use super::tree::Node;

/// Problems reported of one file; a file with more is not a configuration at all.
const PROBLEMS_MAX: usize = 100;

/// One reading of one document.
pub(super) struct Reader<'t> {
    pub(super) text: &'t str,
    pub(super) around: &'t Surroundings,
    pub(super) entries: RefCell<Vec<Entry>>,
    pub(super) problems: RefCell<Vec<Problem>>,
    pub(super) left_out: RefCell<usize>,
    pub(super) warnings: RefCell<Vec<Problem>>,
    /// Keys that nobody asked for, judged when all known keys have been registered.
    pub(super) strange: RefCell<Vec<Vec<Step>>>,
    /// Whether the file itself holds a secret.
    pub(super) holds_secrets: RefCell<bool>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str, around: &'t Surroundings) -> Self {
        Self {
            text,
            around,
            entries: RefCell::default(),
            problems: RefCell::default(),
            left_out: RefCell::default(),
            warnings: RefCell::default(),
            strange: RefCell::default(),
            holds_secrets: RefCell::new(false),
        }
    }

    /// Reads the top of the document.
    pub(super) fn top<T>(&self, node: &Node, read: impl FnOnce(&Section<'_>) -> T) -> T {
        let entries = match node {
            Node::Map(entries) => entries.as_slice(),
            Node::Null => &[],
            other => {
                let what = format!("the file holds {}, not a mapping of keys", other.noun());
                self.complain(&[], &what, "write `key: value` lines");
                &[]
            }
        };
        Section::new(self, Vec::new(), entries).read(read)
    }

    /// Names the keys that nobody asked for, each with the nearest known one.
    pub(super) fn judge_strange_keys(&self) {
        for path in self.strange.borrow().iter() {
            let remedy = self.nearest(path);
            self.complain(path, "is not a known key", &remedy);
        }
    }

    fn nearest(&self, path: &[Step]) -> String {
        let Some((Step::Key(key), section)) = path.split_last() else {
            return String::new();
        };
        let entries = self.entries.borrow();
        let known = entries.iter().filter(|e| !e.is_template());
        let named = known.filter(|e| matches!(e.path.last(), Some(Step::Key(_))));
        let here = |e: &&Entry| e.path.split_last().is_some_and(|(_, s)| s == section);
        let (inside, outside): (Vec<&Entry>, Vec<&Entry>) = named.partition(here);
        let distance = |e: &&Entry| strsim::damerau_levenshtein(e.name(), key);
        // A third of the letters wrong is still the same word to people.
        let is_near = |e: &&Entry| distance(e) <= (key.len() / 3).max(1);
        if let Some(entry) = inside.iter().copied().filter(is_near).min_by_key(distance) {
            return format!("did you mean `{}`?", entry.name());
        }
        if let Some(entry) = outside.into_iter().find(|e| e.name() == key) {
            return format!("did you mean `{}`?", dotted(&entry.path));
        }
        let names: Vec<&str> = inside.iter().map(|e| e.name()).collect();
        format!("known here are {}", names.join(", "))
    }

    /// The end of reading: what was registered and the warnings, or all problems by line.
    pub(super) fn verdict(self) -> Result<(Vec<Entry>, Vec<Problem>), Problems> {
        let mut list = self.problems.into_inner();
        if list.is_empty() {
            return Ok((self.entries.into_inner(), self.warnings.into_inner()));
        }
        list.sort_by_key(|p| (p.line, p.column));
        Err(Problems {
            list,
            left_out: self.left_out.into_inner(),
        })
    }

    /// Notes a problem at a path; where it stands is looked up here, and falls back to the
    /// nearest section that is written.
    pub(super) fn complain(&self, path: &[Step], what: &str, remedy: &str) {
        if self.problems.borrow().len() >= PROBLEMS_MAX {
            *self.left_out.borrow_mut() += 1;
            return;
        }
        let problem = self.problem(path, what, remedy);
        self.problems.borrow_mut().push(problem);
    }

    /// Notes something worth a second look.
    pub(super) fn warn(&self, path: &[Step], what: &str, remedy: &str) {
        if self.warnings.borrow().len() < PROBLEMS_MAX {
            let problem = self.problem(path, what, remedy);
            self.warnings.borrow_mut().push(problem);
        }
    }

    fn problem(&self, path: &[Step], what: &str, remedy: &str) -> Problem {
        let is_strange = self.strange.borrow().iter().any(|s| s == path);
        let exact = if is_strange {
            locate::key_at(self.text, path)
        } else {
            locate::value_at(self.text, path).filter(|_| !path.is_empty())
        };
        let place = exact.or_else(|| {
            let parents = (1..path.len()).rev();
            parents
                .filter_map(|n| locate::key_at(self.text, &path[..n]))
                .next()
        });
        Problem {
            line: place.map(|p| p.line),
            column: place.map(|p| p.column),
            key: dotted(path),
            what: what.to_owned(),
            remedy: remedy.to_owned(),
        }
    }
}
