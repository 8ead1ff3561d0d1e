//! TURN credentials that expire (RFC 8656 long-term credentials in the "TURN REST" form, coturn's
//! `use-auth-secret`): user `expiry:name`, password the base64 of HMAC-SHA1 over it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use crate::secret::Secret;

/// One user's credentials until their expiry.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `expiry:name`, seconds since 1970.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// Credentials for `name`, valid for `ttl` from `now`. An allocation made in time outlives them.
#[must_use]
pub fn mint(secret: &Secret, name: &str, now: SystemTime, ttl: Duration) -> Credentials {
    let expiry = now.duration_since(UNIX_EPOCH).unwrap_or_default() + ttl;
    let username = format!("{}:{name}", expiry.as_secs());
    let key = hmac::Key::new(
        hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        secret.expose().as_bytes(),
    );
    let tag = hmac::sign(&key, username.as_bytes());
    Credentials {
        password: Secret::new(STANDARD.encode(tag)),
        username,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_those_that_coturn_computes() {
        // printf 1700000600:s | openssl dgst -sha1 -hmac north -binary | base64
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let minted = mint(&Secret::new("north"), "s", now, Duration::from_secs(600));
        assert_eq!(minted.username, "1700000600:s");
        assert_eq!(minted.password.expose(), "h+M2LKNfWhsSuiwgaXDMhKrhZhI=");
    }
}
