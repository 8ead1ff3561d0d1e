//! `server/data.json`: users, hosts and, in later generations, roles.

use serde_json::{Value, json};

use super::{ProgramSettings, SEED_HOST, Seed};

/// Ids of the seeded records; the program draws its own at random from 32 bits.
const ADMIN_ROLE: u32 = 0;
pub(super) const USER_ROLE: u32 = 1;
const SEED_USER: u32 = 1;

impl ProgramSettings {
    pub(super) fn data_without_roles(&self, seed: &Seed) -> Value {
        json!({
            "version": "2",
            "users": { SEED_USER.to_string(): {
                "role": "User",
                "name": self.user,
                "password": null,
                "client_unique_id": seed.client_unique_id,
            } },
            "hosts": hosts(Some(seed)),
        })
    }

    pub(super) fn data_with_roles(&self) -> Value {
        let role = |ty: &str| {
            json!({
                "name": ty,
                "ty": ty,
                "default_settings": self.page_settings(),
                "permissions": {
                    "allow_add_hosts": true,
                    "maximum_bitrate_kbps": null,
                    "allow_codec_h264": true,
                    "allow_codec_h265": true,
                    "allow_codec_av1": true,
                    "allow_hdr": true,
                    "allow_transport_webrtc": true,
                    "allow_transport_websockets": true,
                },
            })
        };
        let users = match &self.seed {
            Some(seed) => json!({ SEED_USER.to_string(): {
                "role_id": USER_ROLE,
                "name": self.user,
                "password": null,
                "client_unique_id": seed.client_unique_id,
            } }),
            None => json!({}),
        };
        json!({
            "version": "3",
            "users": users,
            "hosts": hosts(self.seed.as_ref()),
            "roles": {
                ADMIN_ROLE.to_string(): role("Admin"),
                USER_ROLE.to_string(): role("User"),
            },
            "default_role_id": USER_ROLE,
        })
    }
}

fn hosts(seed: Option<&Seed>) -> Value {
    let host = |seed: &Seed| {
        let mut host = seed.host.clone();
        host.insert("owner".into(), SEED_USER.into());
        (SEED_HOST.to_string(), Value::Object(host))
    };
    Value::Object(seed.map(host).into_iter().collect())
}
