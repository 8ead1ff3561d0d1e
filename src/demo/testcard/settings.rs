//! `server/config.json`: the part of moonlight-web-stream's configuration that the test card
//! obeys, with its required keys, so that a configuration it refuses is refused here too.
//!
//! Two differences: comments and trailing commas are not read, and the default ICE server list
//! is empty, because a test card must not call out to the internet unless told to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Largest configuration or data file that is read, in bytes.
pub(super) const FILE_MAX: u64 = 1024 * 1024;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct CardSettings {
    /// Where users and hosts are kept.
    #[serde(default)]
    pub(super) data_storage: DataStorage,
    /// Media.
    #[serde(default)]
    pub(super) webrtc: WebRtc,
    /// HTTP.
    #[serde(default)]
    pub(super) web_server: CardWebServer,
    /// Bodies.
    #[serde(default)]
    pub(super) moonlight: Moonlight,
    /// Logging; only its required key is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<Log>,
    /// Handed to the page as it is.
    #[serde(default)]
    pub(super) default_settings: Option<Value>,
}

/// `data_storage`: all three fields are needed when it is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DataStorage {
    #[serde(rename = "type")]
    kind: StorageKind,
    /// The file, relative to the working directory.
    pub(super) path: PathBuf,
    session_expiration_check_interval: Span,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StorageKind {
    Json,
}

impl Default for DataStorage {
    fn default() -> Self {
        Self {
            kind: StorageKind::Json,
            path: PathBuf::from("server/data.json"),
            session_expiration_check_interval: Span {
                secs: 300,
                nanos: 0,
            },
        }
    }
}

/// A duration as this file writes it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Span {
    secs: u64,
    nanos: u32,
}

/// `webrtc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct WebRtc {
    /// STUN and TURN servers, for the streamer and verbatim for the browser.
    pub(super) ice_servers: Vec<CardIceServer>,
    /// Program that prints more of them, for each stream.
    pub(super) ice_server_script: Option<PathBuf>,
    /// UDP ports of the streamers; any when absent.
    pub(super) port_range: Option<PortRange>,
    /// Public addresses of this machine.
    pub(super) nat_1to1: Option<Nat>,
    /// Address families.
    pub(super) network_types: Vec<NetworkType>,
    /// Whether loopback addresses are offered.
    pub(super) include_loopback_candidates: bool,
    /// Whether only relayed candidates are used.
    pub(super) relay_only: bool,
    /// Silence after which the peer counts as disconnected.
    pub(super) ice_disconnected_timeout_seconds: u64,
}

impl Default for WebRtc {
    fn default() -> Self {
        Self {
            ice_servers: Vec::new(),
            ice_server_script: None,
            port_range: None,
            nat_1to1: None,
            network_types: vec![NetworkType::Udp4, NetworkType::Udp6],
            include_loopback_candidates: true,
            relay_only: false,
            ice_disconnected_timeout_seconds: 15,
        }
    }
}

impl WebRtc {
    /// Silence after which the peer counts as disconnected.
    pub(super) fn disconnected_after(&self) -> Duration {
        Duration::from_secs(self.ice_disconnected_timeout_seconds)
    }
}

/// One STUN or TURN server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CardIceServer {
    /// `stun:` or `turn:` addresses.
    pub(super) urls: Vec<String>,
    /// TURN user.
    #[serde(default)]
    pub(super) username: String,
    /// TURN password; the browser gets it too, so it is no secret here.
    #[serde(default)]
    pub(super) credential: String,
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PortRange {
    /// First.
    pub(super) min: u16,
    /// Last.
    pub(super) max: u16,
}

/// `webrtc.nat_1to1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Nat {
    /// Public addresses.
    pub(super) ips: Vec<IpAddr>,
    /// What they are announced as.
    pub(super) ice_candidate_type: NatType,
}

/// What a public address is announced as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NatType {
    /// In the place of the machine's own address.
    Host,
    /// Beside the machine's own address.
    Srflx,
}

/// An address family and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NetworkType {
    /// Accepted, not used: the test card sends over UDP.
    Tcp4,
    /// Accepted, not used.
    Tcp6,
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
}

/// `web_server`: the two `first_login` keys have no default when the object is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CardWebServer {
    /// Where to listen.
    #[serde(default = "everywhere")]
    pub(super) bind_address: SocketAddr,
    /// `/session/<id>`: leading slash, no trailing slash.
    #[serde(default)]
    pub(super) url_path_prefix: String,
    first_login_create_admin: bool,
    first_login_assign_global_hosts: bool,
    /// The user of callers without credentials.
    #[serde(default)]
    pub(super) default_user_id: Option<u32>,
    /// The header that names the caller.
    #[serde(default)]
    pub(super) forwarded_header: Option<ForwardedHeader>,
}

fn everywhere() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 8080))
}

impl Default for CardWebServer {
    fn default() -> Self {
        Self {
            bind_address: everywhere(),
            url_path_prefix: String::new(),
            first_login_create_admin: true,
            first_login_assign_global_hosts: true,
            default_user_id: None,
            forwarded_header: None,
        }
    }
}

/// `web_server.forwarded_header`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ForwardedHeader {
    /// Its name.
    pub(super) username_header: String,
    /// Whether an unknown name becomes a user.
    #[serde(default = "yes")]
    pub(super) auto_create_missing_user: bool,
}

fn yes() -> bool {
    true
}

/// `moonlight`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Moonlight {
    /// GameStream port of hosts that are added without one.
    pub(super) default_http_port: u16,
}

impl Default for Moonlight {
    fn default() -> Self {
        Self {
            default_http_port: 47989,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Log {
    level_filter: String,
}

/// The configuration cannot be used.
#[derive(Debug)]
pub(super) enum SettingsError {
    /// It is there and cannot be read: exit code 1.
    Unreadable(PathBuf, std::io::Error),
    /// It lacks a key or has a wrong value: the original panics, exit code 101.
    Invalid(PathBuf, serde_json::Error),
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => {
                write!(f, "cannot read config {}: {error}", path.display())
            }
            Self::Invalid(path, error) => {
                write!(f, "config {} is invalid: {error}", path.display())
            }
        }
    }
}

/// Reads the file; writes the defaults there when it is missing.
///
/// # Errors
/// When it cannot be read or is invalid.
pub(super) fn load(path: &Path) -> Result<CardSettings, SettingsError> {
    let unreadable = |error| SettingsError::Unreadable(path.to_owned(), error);
    match std::fs::metadata(path) {
        Ok(meta) if meta.len() > FILE_MAX => {
            Err(unreadable(std::io::Error::other("over 1 MiB long")))
        }
        Ok(_) => {
            let text = std::fs::read_to_string(path).map_err(unreadable)?;
            serde_json::from_str(&text)
                .map_err(|error| SettingsError::Invalid(path.to_owned(), error))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let settings = CardSettings::default();
            write_defaults(path, &settings).map_err(unreadable)?;
            Ok(settings)
        }
        Err(error) => Err(unreadable(error)),
    }
}

fn write_defaults(path: &Path, settings: &CardSettings) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, serde_json::to_vec_pretty(settings)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{
        "web_server": {
            "bind_address": "127.0.0.1:18080", "url_path_prefix": "/session/abc",
            "first_login_create_admin": false, "first_login_assign_global_hosts": false,
            "forwarded_header": {"username_header": "X-Forwarded-User"}
        },
        "webrtc": {
            "ice_servers": [{"urls": ["turn:192.0.2.1:3478"], "username": "u", "credential": "p"}],
            "port_range": {"min": 40000, "max": 40019}, "network_types": ["udp4"],
            "nat_1to1": {"ips": ["192.0.2.1"], "ice_candidate_type": "srflx"},
            "include_loopback_candidates": false, "ice_disconnected_timeout_seconds": 25
        },
        "streamer_path": "/opt/streamer",
        "default_settings": {"dataTransport": "webrtc"}
    }"#;

    #[test]
    fn what_a_worker_writes_is_understood() {
        let settings = serde_json::from_str::<CardSettings>(FULL).unwrap();
        assert_eq!(settings.web_server.url_path_prefix, "/session/abc");
        let header = settings.web_server.forwarded_header.unwrap();
        assert!(header.auto_create_missing_user);
        assert_eq!(settings.webrtc.disconnected_after().as_secs(), 25);
        assert_eq!(settings.moonlight.default_http_port, 47989);
    }

    #[test]
    fn the_keys_that_the_original_needs_are_needed_here() {
        for (json, missing) in [
            (
                r#"{"web_server":{"first_login_assign_global_hosts":true}}"#,
                "first_login_create_admin",
            ),
            (
                r#"{"web_server":{"first_login_create_admin":true}}"#,
                "first_login_assign_global_hosts",
            ),
            (r#"{"log":{}}"#, "level_filter"),
            (
                r#"{"data_storage":{"type":"json","path":"x"}}"#,
                "session_expiration",
            ),
        ] {
            let refused = serde_json::from_str::<CardSettings>(json).unwrap_err();
            assert!(refused.to_string().contains(missing), "{refused}");
        }
        assert!(serde_json::from_str::<CardSettings>("{}").is_ok());
    }

    #[test]
    fn a_missing_file_becomes_the_defaults_and_reads_back_the_same() {
        let dir = std::env::temp_dir().join(format!("testcard-{}", crate::ids::label()));
        let path = dir.join("server/config.json");
        let written = load(&path).unwrap();
        assert_eq!(written, load(&path).unwrap());
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(load(&path), Err(SettingsError::Invalid(..))));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
