//! Passes: what a browser holds in place of the token once somebody has signed in.
//!
//! A pass is signed with a key that comes from the admin token, so that it is good at every controller
//! and after every restart, and worthless once the token is another. It has two halves: the cookie,
//! which scripts cannot read, and the proof, which only the dashboard's own document is given. The
//! visitors' pages share our origin: their scripts can make the browser send the cookie, but they
//! have no proof.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::{digest, hmac, pbkdf2};

use crate::secret::Secret;
use crate::sync::Mutex;

/// How long a pass is good: a working day.
pub(super) const GOOD_FOR: Duration = Duration::from_secs(12 * 3_600);
/// Random bytes in a pass: unguessable by themselves.
const NONCE: usize = 16;
/// Rounds between token and key, some 50 ms once at start: who steals a cookie learns nothing about
/// a weak token cheaply.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(99_999);
/// Passes that were signed out and are remembered until they expire: each cost a sign-in with the
/// right token.
const REVOKED_MAX: usize = 4_096;

/// A pass that is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AdminSession {
    nonce: [u8; NONCE],
    /// Seconds since 1970.
    expires: u64,
}

/// Issues passes, reads them, takes them back.
pub(super) struct Passes {
    key: hmac::Key,
    /// Taken back, with their expiry.
    revoked: Mutex<HashMap<[u8; NONCE], u64>>,
}

impl fmt::Debug for Passes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passes").finish_non_exhaustive()
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

impl Passes {
    pub(super) fn new(token: &Secret) -> Self {
        let mut key = [0; digest::SHA256_OUTPUT_LEN];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ROUNDS,
            b"hydraneckwebrtc dashboard",
            token.expose().as_bytes(),
            &mut key,
        );
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            revoked: Mutex::default(),
        }
    }

    /// A new pass.
    ///
    /// # Errors
    /// When the kernel has no random bytes to give.
    pub(super) fn issue(&self, now: SystemTime) -> Result<AdminSession, getrandom::Error> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce)?;
        let expires = seconds(now + GOOD_FOR);
        Ok(AdminSession { nonce, expires })
    }

    /// What the cookie holds.
    pub(super) fn cookie(&self, pass: &AdminSession) -> String {
        let nonce = BASE64.encode(pass.nonce);
        format!("{}.{nonce}.{}", pass.expires, self.sign("cookie", pass))
    }

    /// What the page sends with each call.
    pub(super) fn proof(&self, pass: &AdminSession) -> String {
        self.sign("proof", pass)
    }

    fn sign(&self, half: &str, pass: &AdminSession) -> String {
        BASE64.encode(hmac::sign(&self.key, &message(half, pass)))
    }

    fn is_signed(&self, half: &str, pass: &AdminSession, signature: &str) -> bool {
        BASE64
            .decode(signature)
            .is_ok_and(|tag| hmac::verify(&self.key, &message(half, pass), &tag).is_ok())
    }

    /// The pass that a cookie holds, if it is one of ours, good and not taken back.
    pub(super) fn read(&self, cookie: &str, now: SystemTime) -> Option<AdminSession> {
        let mut parts = cookie.split('.');
        let (expires, nonce, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let pass = AdminSession {
            nonce: BASE64.decode(nonce).ok()?.try_into().ok()?,
            expires: expires.parse().ok()?,
        };
        let is_good = parts.next().is_none()
            && self.is_signed("cookie", &pass, signature)
            && seconds(now) < pass.expires
            && !self.revoked().contains_key(&pass.nonce);
        is_good.then_some(pass)
    }

    /// Whether this proof belongs to the pass.
    pub(super) fn proves(&self, pass: &AdminSession, proof: &str) -> bool {
        self.is_signed("proof", pass, proof)
    }

    /// Takes a pass back.
    pub(super) fn revoke(&self, pass: &AdminSession, now: SystemTime) {
        let mut revoked = self.revoked();
        revoked.retain(|_, expires| *expires > seconds(now));
        if revoked.len() >= REVOKED_MAX
            && let Some(soonest) = revoked.iter().min_by_key(|(_, expires)| **expires)
        {
            let soonest = *soonest.0;
            revoked.remove(&soonest);
        }
        revoked.insert(pass.nonce, pass.expires);
    }

    fn revoked(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; NONCE], u64>> {
        self.revoked.lock()
    }
}

/// What is signed: one half of a pass is never taken for the other.
fn message(half: &str, pass: &AdminSession) -> Vec<u8> {
    let mut message = Vec::with_capacity(half.len() + 1 + 8 + NONCE);
    message.extend_from_slice(half.as_bytes());
    message.push(0);
    message.extend_from_slice(&pass.expires.to_be_bytes());
    message.extend_from_slice(&pass.nonce);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_pass_is_good_for_its_time_at_every_process_with_the_same_token_and_no_other() {
        let (here, there) = (
            Passes::new(&Secret::new("alpha")),
            Passes::new(&Secret::new("alpha")),
        );
        let now = clock::wall();
        let pass = here.issue(now).unwrap();
        let cookie = here.cookie(&pass);
        assert_eq!(there.read(&cookie, now), Some(pass));
        let last = now + GOOD_FOR - Duration::from_secs(1);
        assert_eq!(there.read(&cookie, last), Some(pass));
        assert_eq!(there.read(&cookie, now + GOOD_FOR), None);
        assert_eq!(Passes::new(&Secret::new("beta")).read(&cookie, now), None);
        assert_ne!(here.issue(now).unwrap(), pass);
    }

    #[test]
    fn neither_half_of_a_pass_stands_for_the_other_and_none_can_be_changed() {
        let passes = Passes::new(&Secret::new("alpha"));
        let now = clock::wall();
        let pass = passes.issue(now).unwrap();
        let (cookie, proof) = (passes.cookie(&pass), passes.proof(&pass));
        assert!(passes.proves(&pass, &proof));
        let signature = cookie.rsplit('.').next().unwrap();
        assert!(!passes.proves(&pass, signature));
        let other = passes.issue(now).unwrap();
        assert!(!passes.proves(&other, &proof));
        let (head, _) = cookie.rsplit_once('.').unwrap();
        let later = cookie.replacen(
            &pass.expires.to_string(),
            &(pass.expires + 1).to_string(),
            1,
        );
        for bad in [
            String::new(),
            "..".into(),
            head.into(),
            format!("{head}."),
            format!("{head}.{proof}"),
            format!("{cookie}.x"),
            format!("{cookie}="),
            format!(" {cookie}"),
            later,
            "alpha".into(),
            "é.é.é".into(),
        ] {
            assert_eq!(passes.read(&bad, now), None, "{bad:?}");
        }
        assert!(!passes.proves(&pass, ""));
    }

    #[test]
    fn a_pass_that_was_taken_back_is_worthless_and_the_others_are_not() {
        let passes = Passes::new(&Secret::new("alpha"));
        let now = clock::wall();
        let [gone, other] = [(); 2].map(|()| passes.issue(now).unwrap());
        passes.revoke(&gone, now);
        assert_eq!(passes.read(&passes.cookie(&gone), now), None);
        assert_eq!(passes.read(&passes.cookie(&other), now), Some(other));
        for _ in 0..=REVOKED_MAX {
            passes.revoke(&passes.issue(now).unwrap(), now);
        }
        assert_eq!(passes.revoked().len(), REVOKED_MAX);
        passes.revoke(&other, now + GOOD_FOR + Duration::from_secs(1));
        assert_eq!(passes.revoked().len(), 1, "what has expired is forgotten");
    }
}
