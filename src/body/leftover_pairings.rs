//! Taking off a body what sessions could not: clients of dead sessions, and a kept client that is
//! no longer wanted.

use super::pairing::PairingError;
use super::session_steps::Body;
use super::sunshine::SunshineError;
use crate::clock;
use std::time::Duration;

/// What tidying a body came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Clients that were unpaired, by name.
    pub unpaired: Vec<String>,
    /// Whether sessions still use a kept client that is no longer wanted: tidy again after them.
    pub is_in_use: bool,
}

impl Body {
    /// Unpairs clients of this worker that no session and no kept identity owns; with
    /// `bodies.pair_once` off the kept one too, once no session uses it. `live` tells the client
    /// names of the sessions that are on this body; it is asked while nobody pairs.
    ///
    /// # Errors
    /// [`PairingError::Busy`] after `within`, [`PairingError::Sunshine`].
    pub async fn tidy(
        &self,
        live: impl FnOnce() -> Vec<String>,
        within: Duration,
    ) -> Result<Tidied, PairingError> {
        let deadline = clock::now() + within;
        let _hold = self.bodies.locks.hold(self.ip, within).await?;
        let live = live();
        let kept = self.identity().await.map(|i| i.client);
        let is_wanted = self.bodies.rules.pair_once;
        let stays = is_wanted || !live.is_empty();
        let is_dead = |name: &str| {
            let is_kept = stays && kept.as_deref() == Some(name);
            name.starts_with(&self.bodies.prefix) && !is_kept && !live.iter().any(|l| l == name)
        };
        let unpairing = clock::by(deadline, self.sunshine.unpair(is_dead)).await;
        let unpaired = unpairing
            .map_err(|_| PairingError::Late(within))?
            .map_err(PairingError::Sunshine)?;
        if kept.is_some() && !stays {
            self.forget_identity().await;
        }
        Ok(Tidied {
            unpaired,
            is_in_use: kept.is_some() && !is_wanted && stays,
        })
    }

    /// Unpairs every client of this worker and forgets the kept identity (`doctor --unpair`).
    ///
    /// # Errors
    /// See [`SunshineError`]; the identity stays while its client may.
    pub async fn forget(&self) -> Result<Vec<String>, SunshineError> {
        let prefix = &self.bodies.prefix;
        let gone = self.sunshine.unpair(|n| n.starts_with(prefix)).await?;
        self.forget_identity().await;
        Ok(gone)
    }

    /// Forgets the kept identity of that client: a stream program could not start with it. What it
    /// leaves on the body is for [`Body::tidy`].
    pub async fn drop_kept(&self, client: &str) {
        if self.identity().await.is_some_and(|i| i.client == client) {
            self.forget_identity().await;
        }
    }

    async fn forget_identity(&self) {
        if let Err(error) = self.bodies.identities.forget(self.ip).await {
            log::warn!(target: "pairing", body:% = self.ip; "{error}");
        }
    }
}
