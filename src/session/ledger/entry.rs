//! What the ledger keeps of one session.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::SessionId;
use crate::protocol::reading::{self, LeftOut, Reading};
use crate::secret::Secret;
use crate::session::processes::{self, ProcessIdentity};
use crate::session::workspace::Workspace;

/// Format of the files. Later ones are read as far as they are understood.
const VERSION: u32 = 1;

/// Lines of a torn entry that are looked at: several times what one has.
const LINES_MAX: usize = 400;
/// What closes an entry that was cut off after a field: of it, or of one and two levels below.
const CLOSINGS: [&str; 4] = ["}", "}}", "}}}", "]}"];

/// A session, as far as the next worker must know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LedgerEntry {
    /// Format of the entry.
    #[serde(default)]
    pub version: u32,
    /// Who it is.
    pub id: SessionId,
    /// Whether the entry does not say which its stream process is: then it is looked for.
    #[serde(skip)]
    pub is_process_unknown: bool,
    /// The stream process; none before it was started.
    #[serde(default)]
    pub process: Option<ProcessIdentity>,
    /// Its cgroup, when it has one.
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
    /// TCP port of the stream process; 0 when unknown.
    #[serde(default)]
    pub port: u16,
    /// First and last UDP port of the streamer.
    #[serde(default)]
    pub udp: (u16, u16),
    /// Its directory; empty when unknown.
    #[serde(default)]
    pub workspace: PathBuf,
    /// The user that the worker names to the stream process.
    #[serde(default)]
    pub user: String,
    /// The body; unspecified when unknown.
    #[serde(default = "nowhere")]
    pub body_ip: IpAddr,
    /// For unpairing and closing the app after a crash.
    #[serde(default)]
    pub credentials: Option<StoredCredentials>,
    /// Name of the pairing on the body, once made.
    #[serde(default)]
    pub pairing_name: Option<String>,
    /// Path and query of the stream page, once known.
    #[serde(default)]
    pub stream_path: Option<String>,
    /// The experience.
    #[serde(default)]
    pub experience: Option<String>,
    /// The district.
    #[serde(default)]
    pub district: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    pub created_at: String,
    /// Names the machine's life in which `process` and `begun_ms` mean something.
    #[serde(default)]
    pub boot: Option<String>,
    /// When it was admitted, in milliseconds since the machine started.
    #[serde(default)]
    pub begun_ms: Option<i64>,
    /// RFC 3339; set when the session can be adopted as ready.
    #[serde(default)]
    pub ready_at: Option<String>,
    /// What else the lifecycle keeps.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Value>,
}

fn nowhere() -> IpAddr {
    Ipv4Addr::UNSPECIFIED.into()
}

/// User and password of the body's Sunshine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoredCredentials {
    /// User.
    pub user: String,
    /// Password.
    #[serde(serialize_with = "expose", deserialize_with = "enclose")]
    pub password: Secret,
}

fn expose<S: serde::Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret.expose())
}

fn enclose<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    String::deserialize(from).map(Secret::new)
}

impl LedgerEntry {
    /// Reads the entry of that session, of whatever version.
    ///
    /// # Errors
    /// Why it cannot be used at all.
    pub(super) fn read(text: &[u8], id: &SessionId) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        Self::of(value, id)
    }

    fn of(mut value: Value, id: &SessionId) -> Result<Self, String> {
        // The file is named after it.
        if value.get("id").is_none_or(|said| !said.is_string())
            && let Some(fields) = value.as_object_mut()
        {
            fields.insert("id".to_owned(), id.as_str().into());
        }
        let is_process_missing = value.get("process").is_none();
        let Reading {
            value: mut entry,
            left_out,
        } = reading::read_value::<Self>(value).map_err(|unread| unread.to_string())?;
        entry.is_process_unknown =
            is_process_missing || left_out.iter().any(|l| l.field.starts_with("process"));
        entry.say_left_out("", &left_out);
        if entry.id != *id {
            return Err(format!("it is of session {}", entry.id));
        }
        let is_known = !entry.workspace.as_os_str().is_empty();
        if is_known && Workspace::recorded(&entry.workspace, &entry.id).is_none() {
            let named = entry.workspace.display();
            return Err(format!("its workspace {named} does not bear its id"));
        }
        Ok(entry)
    }

    /// What can be known of a session whose entry cannot be used: of a torn one, the fields before
    /// the tear.
    pub(super) fn salvaged(text: &[u8], id: &SessionId) -> Self {
        let text = String::from_utf8_lossy(text);
        // What the tear went through may be half a number.
        let lines = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        let lines: Vec<&str> = lines.lines().take(LINES_MAX).collect();
        let before = (1..=lines.len()).rev().find_map(|end| {
            let head = lines.get(..end)?.join("\n");
            let head = head.trim_end().trim_end_matches(',');
            let mut closed = CLOSINGS.iter().map(|closing| format!("{head}{closing}"));
            closed.find_map(|text| serde_json::from_str::<Value>(&text).ok())
        });
        let whole = serde_json::from_str(&text).ok().or(before);
        let entry = whole.and_then(|value| Self::of(value, id).ok());
        entry.unwrap_or_else(|| {
            let empty = Self::new(id.clone(), 0, (0, 0), PathBuf::new(), nowhere());
            Self {
                is_process_unknown: true,
                ..empty
            }
        })
    }

    /// What else the lifecycle keeps, as far as it can be read.
    #[must_use]
    pub(crate) fn kept<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let reading = reading::read_value(self.extra.get(name)?.clone());
        match reading {
            Ok(reading) => {
                self.say_left_out(&format!("extra.{name}."), &reading.left_out);
                Some(reading.value)
            }
            Err(unread) => {
                self.say_left_out(&format!("extra.{name}."), &[unread]);
                None
            }
        }
    }

    fn say_left_out(&self, place: &str, left_out: &[LeftOut]) {
        let who = format!("ledger entry of session {}", self.id);
        let placed = left_out.iter().map(|unread| LeftOut {
            field: format!("{place}{}", unread.field),
            why: unread.why.clone(),
        });
        let placed: Vec<LeftOut> = placed.collect();
        reading::tell("cleanup", &who, &self.version.to_string(), &placed);
    }

    /// An entry of a session that is being made.
    #[must_use]
    pub(crate) fn new(
        id: SessionId,
        port: u16,
        udp: (u16, u16),
        workspace: PathBuf,
        body: IpAddr,
    ) -> Self {
        Self {
            version: VERSION,
            id,
            is_process_unknown: false,
            process: None,
            cgroup: None,
            port,
            udp,
            workspace,
            user: String::new(),
            body_ip: body,
            credentials: None,
            pairing_name: None,
            stream_path: None,
            experience: None,
            district: None,
            created_at: crate::clock::rfc3339(crate::clock::wall()),
            boot: processes::boot(),
            begun_ms: None,
            ready_at: None,
            extra: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::CleanupRecord;
    use crate::protocol::CreateSession;
    use crate::protocol::reading::mutations::{check, recorded};
    use crate::session::lifecycle::Snapshot;

    /// What is read of an entry, with what its `extra` means.
    fn read(text: &[u8]) -> Result<Value, String> {
        let id: SessionId = recorded("/ledger/id").as_str().unwrap().parse().unwrap();
        let entry = LedgerEntry::read(text, &id)?;
        let mut shown = serde_json::to_value(&entry).unwrap();
        shown["extra"] = serde_json::json!({
            "life": entry.kept::<Snapshot>("life"),
            "request": entry.kept::<CreateSession>("request"),
            "traces": entry.kept::<CleanupRecord>("traces"),
        });
        Ok(shown)
    }

    #[test]
    fn entries_of_0_1_0_and_of_other_versions_are_read_but_for_what_cannot_be() {
        let mut entry = recorded("/ledger");
        check(&entry, &[], read);
        let was = read(entry.to_string().as_bytes()).unwrap();
        entry["version"] = 99.into();
        let newer = read(entry.to_string().as_bytes()).unwrap();
        assert_eq!(newer["extra"], was["extra"]);
    }

    #[test]
    fn an_entry_tells_a_process_that_it_does_not_name_from_one_that_was_not_started() {
        let id: SessionId = recorded("/ledger/id").as_str().unwrap().parse().unwrap();
        let unknown = |process: Option<Value>| {
            let mut entry = recorded("/ledger");
            let fields = entry.as_object_mut().unwrap();
            match process {
                Some(process) => fields.insert("process".to_owned(), process),
                None => fields.remove("process"),
            };
            let entry = LedgerEntry::read(entry.to_string().as_bytes(), &id).unwrap();
            (entry.process.is_some(), entry.is_process_unknown)
        };
        assert_eq!(unknown(Some(Value::Null)), (false, false));
        assert_eq!(unknown(None), (false, true));
        for partly in ["{}", r#"{"pid":1}"#, r#"{"pid":"1","start_time":2}"#, "7"] {
            let process = serde_json::from_str(partly).unwrap();
            assert_eq!(unknown(Some(process)), (false, true), "{partly}");
        }
    }

    #[test]
    fn what_stands_before_the_tear_of_a_torn_entry_is_known() {
        let id: SessionId = recorded("/ledger/id").as_str().unwrap().parse().unwrap();
        let whole = serde_json::to_vec_pretty(&recorded("/ledger")).unwrap();
        for length in 0..=whole.len() {
            let torn = LedgerEntry::salvaged(&whole[..length], &id);
            assert_eq!(torn.id, id);
            let is_past = |field: &str| {
                let text = String::from_utf8_lossy(&whole[..length]).into_owned();
                let place = text.find(&format!("\"{field}\""));
                place.is_some_and(|at| text[at..].contains(",\n"))
            };
            assert_eq!(torn.port != 0, is_past("port"), "{length}");
            assert!(torn.body_ip.is_unspecified() || is_past("body_ip"));
            assert_eq!(torn.pairing_name.is_some(), is_past("pairing_name"));
        }
        let other = SessionId::random().unwrap();
        assert_eq!(
            LedgerEntry::salvaged(&whole, &other).port,
            0,
            "another's entry"
        );
    }
}
