//! `server/config.json` and `server/data.json` as each generation of the stream program wants them.
//!
//! Pure: from [`ProgramSettings`] to JSON. The fork's keys are written for all generations, since unknown
//! keys are ignored; `relay_only` and `nat_1to1` together never connect, so [`StreamerAddress`] holds one.

mod data;

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use self::data::USER_ROLE;
use super::stream_program::{ConfigFormat, StreamProgram};
use crate::ids::SessionId;
use crate::secret::Secret;

/// The id of the seeded host, for the stream page's `hostId`.
pub(crate) const SEED_HOST: u32 = 1;

/// One entry of the ICE servers, given to the browser and the streamer alike.
#[derive(Clone, Debug)]
pub(crate) struct StreamerIceServer {
    /// `turn:host:port?transport=udp` and the like.
    pub urls: Vec<String>,
    /// User name, empty for STUN.
    pub username: String,
    /// Credential, empty for STUN.
    pub credential: Secret,
}

/// How the streamer offers itself to browsers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamerAddress {
    /// Its own addresses.
    Direct,
    /// Its own addresses, shown as this public one (1:1 NAT).
    PublicAddress(IpAddr),
}

/// The picture's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StreamSize {
    /// Pixels.
    Custom {
        /// Width.
        width: u32,
        /// Height.
        height: u32,
    },
    /// `720p`, `1080p`, `1440p`, `4k` or `native`.
    Named(String),
}

/// A body that this worker is paired with already, so that the session needs no pairing. Prints
/// without its key.
#[derive(Clone)]
pub(crate) struct Seed {
    /// The `client_unique_id` that was paired.
    pub client_unique_id: String,
    /// The host's fields but its owner: `address`, `http_port`, `pair_info`, `cache`.
    pub host: Map<String, Value>,
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seed")
            .field("client_unique_id", &self.client_unique_id)
            .finish_non_exhaustive()
    }
}

/// The settings of a session's stream program.
#[derive(Clone, Debug)]
pub(crate) struct ProgramSettings {
    /// The session; names the path prefix.
    pub id: SessionId,
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Header that names the user.
    pub user_header: String,
    /// The user that the worker will name; wanted for a [`Seed`].
    pub user: String,
    /// ICE servers.
    pub ice_servers: Vec<StreamerIceServer>,
    /// Program that prints fresh ICE servers for each stream.
    pub ice_server_script: Option<PathBuf>,
    /// UDP ports of the streamer.
    pub udp_ports: RangeInclusive<u16>,
    /// How browsers reach it.
    pub reach: StreamerAddress,
    /// Loopback candidates, for demo and tests on one machine.
    pub include_loopback_candidates: bool,
    /// Silence after which the streamer calls a peer disconnected.
    pub ice_disconnected_timeout: Duration,
    /// Kilobits a second.
    pub bitrate: Option<u32>,
    /// Pictures a second.
    pub fps: Option<u32>,
    /// Picture size.
    pub video_size: Option<StreamSize>,
    /// Pairing made earlier.
    pub seed: Option<Seed>,
}

/// The files' contents.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rendered {
    /// `server/config.json`.
    pub config: Value,
    /// `server/data.json`, when the program must find one.
    pub data: Option<Value>,
}

/// Path under which the session is served, by the stream program and by us.
#[must_use]
pub(crate) fn path_prefix(id: &SessionId) -> String {
    format!("/session/{id}")
}

impl ProgramSettings {
    /// The files for `program`.
    #[must_use]
    pub(crate) fn render(&self, program: &StreamProgram) -> Rendered {
        let mut web_server = json!({
            "bind_address": format!("127.0.0.1:{}", self.port),
            "url_path_prefix": path_prefix(&self.id),
            // Both keys are required; true would let the first visitor make himself admin.
            "first_login_create_admin": false,
            "first_login_assign_global_hosts": false,
            "forwarded_header": {
                "username_header": self.user_header,
                "auto_create_missing_user": true,
            },
        });
        if program.generation == ConfigFormat::Roles {
            web_server["default_role_id"] = USER_ROLE.into();
        }
        let config = json!({
            "web_server": web_server,
            "webrtc": self.webrtc(),
            "streamer_path": program.streamer.to_string_lossy(),
            "log": { "level_filter": "INFO" },
            "default_settings": self.page_settings(),
        });
        let data = match program.generation {
            ConfigFormat::Fork => self.seed.as_ref().map(|seed| self.data_without_roles(seed)),
            ConfigFormat::Roles => Some(self.data_with_roles()),
        };
        Rendered { config, data }
    }

    fn webrtc(&self) -> Value {
        let ice_servers: Vec<Value> = self
            .ice_servers
            .iter()
            .map(|s| {
                json!({
                    "urls": s.urls,
                    "username": s.username,
                    "credential": s.credential.expose(),
                })
            })
            .collect();
        let mut webrtc = json!({
            "ice_servers": ice_servers,
            "port_range": { "min": self.udp_ports.start(), "max": self.udp_ports.end() },
            "network_types": ["udp4"],
            "include_loopback_candidates": self.include_loopback_candidates,
            "relay_only": false,
            "ice_disconnected_timeout_seconds": self.ice_disconnected_timeout.as_secs(),
        });
        if let StreamerAddress::PublicAddress(address) = self.reach {
            webrtc["nat_1to1"] = json!({
                "ips": [address.to_string()],
                "ice_candidate_type": "srflx",
            });
        }
        if let Some(script) = &self.ice_server_script {
            webrtc["ice_server_script"] = script.to_string_lossy().into();
        }
        webrtc
    }

    /// What the page starts with. Without `webrtc` it would fall back to video over the WebSocket,
    /// through worker and controller.
    fn page_settings(&self) -> Value {
        let mut settings = Map::new();
        settings.insert("dataTransport".into(), "webrtc".into());
        if let Some(bitrate) = self.bitrate {
            settings.insert("bitrate".into(), bitrate.into());
        }
        if let Some(fps) = self.fps {
            settings.insert("fps".into(), fps.into());
        }
        match &self.video_size {
            Some(StreamSize::Custom { width, height }) => {
                let size = json!({ "width": width, "height": height });
                settings.insert("videoSize".into(), "custom".into());
                settings.insert("videoSizeCustom".into(), size);
            }
            Some(StreamSize::Named(name)) => {
                settings.insert("videoSize".into(), name.as_str().into());
            }
            None => {}
        }
        Value::Object(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::{self, program};

    fn seed() -> Seed {
        let host = json!({"address": "10.0.0.5", "pair_info": {"client_private_key": "KEY"}});
        Seed {
            client_unique_id: "0123".into(),
            host: host.as_object().unwrap().clone(),
        }
    }

    #[test]
    fn the_forks_required_keys_are_there() {
        let settings = testing::settings(8_081);
        let config = settings.render(&program(ConfigFormat::Fork)).config;
        let web = &config["web_server"];
        assert_eq!(web["bind_address"], "127.0.0.1:8081");
        assert_eq!(
            web["url_path_prefix"],
            format!("/session/{}", settings.id).as_str()
        );
        assert_eq!(web["first_login_create_admin"], false);
        assert_eq!(web["first_login_assign_global_hosts"], false);
        assert_eq!(web["forwarded_header"]["username_header"], "X-Neck-User");
        assert_eq!(config["log"]["level_filter"], "INFO");
        assert_eq!(config["streamer_path"], "/opt/x/streamer");
        assert_eq!(config["webrtc"]["network_types"], json!(["udp4"]));
        assert_eq!(
            config["webrtc"]["port_range"],
            json!({"min": 40_000, "max": 40_019})
        );
        assert_eq!(config["webrtc"]["ice_disconnected_timeout_seconds"], 15);
        assert_eq!(config["webrtc"]["ice_servers"][0]["credential"], "secret");
        assert_eq!(config["default_settings"]["dataTransport"], "webrtc");
    }

    #[test]
    fn relay_and_one_to_one_nat_never_meet() {
        for (reach, relay, nat) in [
            (StreamerAddress::Direct, false, None),
            (
                StreamerAddress::PublicAddress([192, 0, 2, 7].into()),
                false,
                Some("192.0.2.7"),
            ),
        ] {
            let settings = ProgramSettings {
                reach,
                ..testing::settings(8_080)
            };
            let webrtc = &settings.render(&program(ConfigFormat::Fork)).config["webrtc"];
            assert_eq!(webrtc["relay_only"], relay);
            assert_eq!(webrtc["nat_1to1"]["ips"][0].as_str(), nat);
        }
    }

    #[test]
    fn sizes_are_named_or_custom() {
        let mut settings = testing::settings(8_080);
        settings.video_size = Some(StreamSize::Custom {
            width: 1_280,
            height: 800,
        });
        let page = settings.render(&program(ConfigFormat::Fork)).config["default_settings"].clone();
        assert_eq!(page["videoSize"], "custom");
        assert_eq!(
            page["videoSizeCustom"],
            json!({"width": 1_280, "height": 800})
        );
        settings.video_size = Some(StreamSize::Named("1080p".into()));
        settings.bitrate = Some(20_000);
        let page = settings.render(&program(ConfigFormat::Fork)).config["default_settings"].clone();
        assert_eq!(page["videoSize"], "1080p");
        assert_eq!(page["bitrate"], 20_000);
    }

    #[test]
    fn the_fork_gets_data_only_with_a_seed_and_roles_always() {
        let mut settings = testing::settings(8_080);
        assert_eq!(settings.render(&program(ConfigFormat::Fork)).data, None);
        let roles = settings.render(&program(ConfigFormat::Roles));
        assert_eq!(roles.config["web_server"]["default_role_id"], 1);
        let data = roles.data.unwrap();
        assert_eq!(data["version"], "3");
        assert_eq!(data["users"], json!({}));
        assert_eq!(
            data["roles"]["1"]["default_settings"]["dataTransport"],
            "webrtc"
        );

        settings.seed = Some(seed());
        for (generation, role) in [
            (ConfigFormat::Fork, ("role", json!("User"))),
            (ConfigFormat::Roles, ("role_id", json!(1))),
        ] {
            let data = settings.render(&program(generation)).data.unwrap();
            let user = &data["users"]["1"];
            assert_eq!(user["name"], "neck-1");
            assert_eq!(user[role.0], role.1);
            let host = &data["hosts"]["1"];
            assert_eq!(host["owner"], 1);
            assert_eq!(host["pair_info"]["client_private_key"], "KEY");
        }
    }

    #[test]
    fn settings_print_no_secret() {
        let mut settings = testing::settings(8_080);
        settings.seed = Some(seed());
        let text = format!("{settings:?}");
        assert!(!text.contains("KEY") && !text.contains("secret"), "{text}");
    }
}
