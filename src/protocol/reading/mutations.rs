//! Documents as version 0.1.0 wrote them, and what another version could make of them: each of their
//! fields missing, each of their objects with a field more, each word an unknown one, each value of
//! another kind.

use serde_json::{Value, json};

/// Words of fields that have a fixed set of them.
const WORDS: [&str; 3] = ["status", "phase", "end_reason"];
/// A word that no version has.
pub(crate) const NOVEL: &str = "hibernating";

/// What was done to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Removed,
    Added,
    Worded,
    Changed,
}

/// One document of another version.
#[derive(Clone, Debug)]
pub(crate) struct Mutation {
    pub(crate) act: Act,
    /// Path of the field, as a JSON pointer.
    pub(crate) at: String,
    pub(crate) value: Value,
}

/// What 0.1.0 wrote, by a JSON pointer into the recorded file.
pub(crate) fn recorded(at: &str) -> Value {
    let all = include_str!("../../../tests/versions/0.1.0.json");
    let all: Value = serde_json::from_str(all).unwrap();
    all.pointer(at).unwrap().clone()
}

/// Every mutation of `document`.
pub(crate) fn of(document: &Value) -> Vec<Mutation> {
    let mut found = Vec::new();
    for at in objects(document, "") {
        let object = document.pointer(&at).unwrap().as_object().unwrap();
        let mut note = |act, name: &str, value: Option<Value>| {
            let mut changed = document.clone();
            let fields = changed.pointer_mut(&at).unwrap().as_object_mut().unwrap();
            match value {
                Some(value) => fields.insert(name.to_owned(), value),
                None => fields.remove(name),
            };
            let at = format!("{at}/{name}");
            let value = changed;
            found.push(Mutation { act, at, value });
        };
        note(Act::Added, "novelty", Some(json!({"deep": [1]})));
        for (name, value) in object {
            note(Act::Removed, name, None);
            let other = if value.is_object() {
                json!("x")
            } else {
                json!({"x": 1})
            };
            note(Act::Changed, name, Some(other));
        }
        // Whatever has a status may say why it ended, and what it is doing.
        let words = WORDS.iter().filter(|_| object.contains_key("status"));
        for word in words.chain(&["end_reason"; 1][..usize::from(object.contains_key("run"))]) {
            note(Act::Worded, word, Some(NOVEL.into()));
        }
    }
    found
}

fn objects(value: &Value, at: &str) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let inner = fields
                .iter()
                .flat_map(|(name, v)| objects(v, &format!("{at}/{name}")));
            std::iter::once(at.to_owned()).chain(inner).collect()
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items
                .flat_map(|(n, v)| objects(v, &format!("{at}/{n}")))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Reads `document` and each of its mutations as `read` does, which gives what was read as JSON again,
/// or the field that is missing, and checks the rule of reading. Of `required` fields, those below a
/// list cost the element, and the others the whole.
#[track_caller]
pub(crate) fn check(
    document: &Value,
    required: &[&str],
    read: impl Fn(&[u8]) -> Result<Value, String>,
) {
    let bytes = |value: &Value| serde_json::to_vec(value).unwrap();
    let whole = read(&bytes(document)).unwrap();
    for mutation in of(document) {
        let Mutation { act, at, value } = &mutation;
        let name = at.rsplit('/').next().unwrap();
        let is_required = required.contains(&at.as_str());
        let is_element = at.contains("/sessions/");
        match (act, read(&bytes(value))) {
            (Act::Removed | Act::Changed, Err(field)) => {
                assert!(is_required && !is_element, "{mutation:?}: {field}");
                assert!(field.contains(name), "{at}: {field} is named");
            }
            (Act::Removed | Act::Changed, Ok(read)) if is_required => {
                assert!(is_element, "{mutation:?} was read");
                let list = at.split_once("/sessions/").unwrap().0.to_owned() + "/sessions";
                let left = |v: &Value| v.pointer(&list).unwrap().as_array().unwrap().len();
                assert_eq!(left(&read), left(&whole) - 1, "{mutation:?}");
            }
            (Act::Removed | Act::Changed, Ok(_)) => {}
            (Act::Added, Ok(read)) => assert_eq!(read, whole, "{at}"),
            (Act::Worded, Ok(read)) => {
                // What is no session has no phase.
                let came = read.pointer(at).unwrap_or(&Value::Null);
                let is_told = value.pointer(at) == Some(came);
                let is_foreign = whole.pointer(at).is_none();
                assert!(
                    is_told || is_foreign && came.is_null(),
                    "{mutation:?}: {came}"
                );
            }
            (_, Err(error)) => panic!("{mutation:?}: {error}"),
        }
    }
}
