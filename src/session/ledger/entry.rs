//! What the ledger keeps of one session.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::SessionId;
use crate::secret::Secret;
use crate::session::processes::{self, Identity};

/// Format of the files; a reader refuses later ones.
pub(super) const VERSION: u32 = 1;

/// A session, as far as the next worker must know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Format of the entry.
    pub version: u32,
    /// Who it is.
    pub id: SessionId,
    /// The stream process; none before it was started.
    #[serde(default)]
    pub process: Option<Identity>,
    /// Its cgroup, when it has one.
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
    /// TCP port of the stream process.
    pub port: u16,
    /// First and last UDP port of the streamer.
    pub udp: (u16, u16),
    /// Its directory.
    pub workspace: PathBuf,
    /// The user that the worker names to the stream process.
    #[serde(default)]
    pub user: String,
    /// The body.
    pub body_ip: IpAddr,
    /// For unpairing and closing the app after a crash.
    #[serde(default)]
    pub credentials: Option<Credentials>,
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
    /// Restarts in place so far.
    #[serde(default)]
    pub restarts: u32,
    /// What else the lifecycle keeps.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// User and password of the body's Sunshine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Credentials {
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

impl Entry {
    /// An entry of a session that is being made.
    #[must_use]
    pub fn new(
        id: SessionId,
        port: u16,
        udp: (u16, u16),
        workspace: PathBuf,
        body: IpAddr,
    ) -> Self {
        Self {
            version: VERSION,
            id,
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
            restarts: 0,
            extra: BTreeMap::new(),
        }
    }
}
