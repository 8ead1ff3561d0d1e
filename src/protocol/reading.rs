//! How a process of ours reads what another one wrote, whose version may be another: heartbeats and
//! their replies, the shared store, ledger files, and what the command line asks a role for.
//!
//! One rule for all of them. Fields that this version does not know are ignored. A field that is
//! missing has its default. A field that cannot be read is left out, and where it is required, what
//! it belongs to is left out: of a list the one element, else the whole. What was left out is
//! reported, so that the reader can say so. Words that this version does not know stay as they came
//! (`OtherWord`). What strangers and operators send is read strictly, by `Call::json`.

use std::collections::HashSet;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::LazyLock;

use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::VERSION;

use crate::sync::Mutex;

/// Most fields of one object that are left out before the whole is: more than any of ours has.
const LEFT_OUT_MAX: usize = 64;
/// Most faults of one list that are reported.
const REPORTED_MAX: usize = 16;
/// Most faults that are logged by one process: each is remembered, so that it is logged once.
const TOLD_MAX: usize = 4_096;
/// Longest name of a field in a report, in characters.
const NAME_MAX: usize = 100;

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeftOut {
    /// Its path in the document.
    pub field: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

/// What was read, and what was left out.
#[derive(Clone, Debug)]
pub(crate) struct Reading<T> {
    /// What was read.
    pub value: T,
    /// What could not be read.
    pub left_out: Vec<LeftOut>,
}

/// Logs what was left out of a document of `who` (a worker, a file), written by that version. Each
/// fault is logged once by a process, as heartbeats repeat theirs every few seconds.
pub(crate) fn tell(target: &str, who: &str, version: &str, left_out: &[LeftOut]) {
    static TOLD: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
    for unread in left_out {
        let (who, version) = (shortened(who), shortened(version));
        let said = format!("{who} {version} {}", unread.field);
        let mut told = TOLD.lock();
        if told.len() < TOLD_MAX && told.insert(said) {
            log::warn!(target: target, "{who} version={version}: this version, {VERSION}, cannot read \
                field {unread}; update the older of the two");
        }
    }
}

/// Reads a document.
///
/// # Errors
/// What makes the whole unreadable: it is no JSON object, or a required field is missing.
pub(crate) fn read<T: DeserializeOwned>(text: &[u8]) -> Result<Reading<T>, LeftOut> {
    let is_object = text.trim_ascii_start().starts_with(b"{");
    if let (true, Ok(value)) = (is_object, serde_json::from_slice(text)) {
        let left_out = Vec::new();
        return Ok(Reading { value, left_out });
    }
    let value: Value = serde_json::from_slice(text).map_err(|error| whole(&error.to_string()))?;
    read_value(value)
}

/// Reads a document that is JSON already.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_value<T: DeserializeOwned>(mut value: Value) -> Result<Reading<T>, LeftOut> {
    if !value.is_object() {
        // serde would read a list as the fields in their order.
        return Err(whole("it is no JSON object"));
    }
    let mut left_out = Vec::new();
    for _ in 0..=LEFT_OUT_MAX {
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(value) => return Ok(Reading { value, left_out }),
            Err(error) => error,
        };
        let why = error.inner().to_string();
        let unread = LeftOut {
            field: named(error.path(), &why),
            why,
        };
        if !leave_out(&mut value, error.path()) {
            // Most likely a required field was left out before: report why.
            let cause = |l: &LeftOut| l.field.starts_with(&unread.field);
            return Err(left_out.into_iter().find(cause).unwrap_or(unread));
        }
        // Types that refuse unknown fields of users are read leniently here.
        if !unread.why.starts_with("unknown field") {
            left_out.push(unread);
        }
    }
    Err(whole(&format!("over {LEFT_OUT_MAX} fields cannot be read")))
}

fn whole(why: &str) -> LeftOut {
    LeftOut {
        field: "all".to_owned(),
        why: why.to_owned(),
    }
}

/// The path, and the name of a field that is missing there.
fn named(path: &Path, why: &str) -> String {
    let place = path.to_string();
    let missing = why.strip_prefix("missing field `");
    let missing = missing.and_then(|rest| rest.split('`').next());
    let name = match (place.as_str(), missing) {
        (".", Some(missing)) => missing.to_owned(),
        (_, Some(missing)) => format!("{place}.{missing}"),
        (_, None) => place,
    };
    shortened(&name)
}

fn shortened(name: &str) -> String {
    let printable = name.chars().filter(|c| !c.is_control());
    printable.take(NAME_MAX).collect()
}

/// Removes the value at the path; `false` when that is the whole document.
fn leave_out(value: &mut Value, path: &Path) -> bool {
    let mut steps: Vec<&Segment> = path
        .iter()
        .take_while(|step| matches!(step, Segment::Map { .. } | Segment::Seq { .. }))
        .collect();
    let last = steps.pop();
    let parent = steps.into_iter().try_fold(value, |value, step| match step {
        Segment::Map { key } => value.get_mut(key),
        Segment::Seq { index } => value.get_mut(*index),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    match (parent, last) {
        (Some(Value::Object(fields)), Some(Segment::Map { key })) => fields.remove(key).is_some(),
        (Some(Value::Array(items)), Some(Segment::Seq { index })) => {
            let is_there = *index < items.len();
            if is_there {
                items.remove(*index);
            }
            is_there
        }
        _ => false,
    }
}

/// Reads a part of a document; one that cannot be read counts as missing.
///
/// # Errors
/// None of its own.
pub(super) fn optional<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(from)?;
    Ok(read_value(value).ok().map(|reading| reading.value))
}

/// A list whose elements are read one by one, so that one that cannot be read is left out alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Each<T> {
    items: Vec<T>,
    /// What could not be read of the elements; the first ones.
    pub left_out: Vec<LeftOut>,
}

impl<T> Each<T> {
    /// The elements.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.items
    }
}

impl<T> Default for Each<T> {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl<T> From<Vec<T>> for Each<T> {
    fn from(items: Vec<T>) -> Self {
        let left_out = Vec::new();
        Self { items, left_out }
    }
}

impl<T> FromIterator<T> for Each<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::from(Vec::from_iter(items))
    }
}

impl<'a, T> IntoIterator for &'a Each<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl<T> Deref for Each<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.items
    }
}

impl<T> DerefMut for Each<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.items
    }
}

impl<T: Serialize> Serialize for Each<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.items.serialize(to)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Each<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Elements(std::marker::PhantomData))
    }
}

struct Elements<T>(std::marker::PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for Elements<T> {
    type Value = Each<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Each<T>, A::Error> {
        let mut list = Each::default();
        let mut index = 0_usize;
        while let Some(value) = from.next_element::<Value>()? {
            let id = value.get("id").and_then(Value::as_str).map(shortened);
            let name = id.unwrap_or_else(|| format!("[{index}]"));
            index += 1;
            let unread = match T::deserialize(&value) {
                Ok(item) => {
                    list.items.push(item);
                    continue;
                }
                Err(_) => match read_value(value) {
                    Ok(reading) => {
                        list.items.push(reading.value);
                        reading.left_out
                    }
                    Err(error) => vec![error],
                },
            };
            let room = REPORTED_MAX.saturating_sub(list.left_out.len());
            let named = unread.into_iter().map(|unread| LeftOut {
                field: format!("{name}.{}", unread.field),
                ..unread
            });
            list.left_out.extend(named.take(room));
        }
        Ok(list)
    }
}

#[cfg(test)]
pub(crate) mod mutations;
#[cfg(test)]
mod tests;
