//! Taking off a body what sessions could not: clients of dead sessions, and a kept client that is
//! no longer wanted.

use super::pairing::PairingError;
use super::session_steps::SessionBody;
use super::sunshine::SunshineError;
use crate::clock;
use std::time::Duration;

impl SessionBody {
    /// Unpairs clients of this worker that no kept identity owns; with `bodies.pair_once` off the
    /// kept one too. Only when the body `is_vacant`: Sunshine makes its list of certificates anew
    /// for each client that is unpaired, and crashes when a stream program's call over TLS reads
    /// the list at that moment. Answers the names, or `None` when the body is not vacant.
    ///
    /// # Errors
    /// [`PairingError::Busy`] and [`PairingError::Late`] after `within`,
    /// [`PairingError::Sunshine`].
    pub(crate) async fn tidy(
        &self,
        is_vacant: impl FnOnce() -> bool,
        within: Duration,
    ) -> Result<Option<Vec<String>>, PairingError> {
        let deadline = clock::now() + within;
        let _unpairing = self.bodies.unpairings.hold(self.ip, within).await?;
        // A session that begins now waits for the lock.
        if !is_vacant() {
            return Ok(None);
        }
        let kept = self.identity().await.map(|i| i.client);
        let is_wanted = self.bodies.rules.pair_once;
        let is_dead = |name: &str| {
            let is_kept = is_wanted && kept.as_deref() == Some(name);
            name.starts_with(&self.bodies.prefix) && !is_kept
        };
        let unpairing = clock::by(deadline, self.sunshine.unpair(is_dead)).await;
        let unpaired = unpairing
            .map_err(|_| PairingError::Late(within))?
            .map_err(PairingError::Sunshine)?;
        if kept.is_some() && !is_wanted {
            self.forget_identity().await;
        }
        Ok(Some(unpaired))
    }

    /// Waits until nobody unpairs clients from this body: before a session's stream program calls
    /// it for the first time.
    ///
    /// # Errors
    /// [`PairingError::Busy`] after `within`.
    pub(crate) async fn unpairing_ended(&self, within: Duration) -> Result<(), PairingError> {
        self.bodies.unpairings.hold(self.ip, within).await.map(drop)
    }

    /// Unpairs every client of this worker and forgets the kept identity (`doctor --unpair`). No
    /// session may be on the body: see [`SessionBody::tidy`].
    ///
    /// # Errors
    /// See [`SunshineError`]; the identity stays while its client may.
    pub(crate) async fn forget(&self) -> Result<Vec<String>, SunshineError> {
        let prefix = &self.bodies.prefix;
        let gone = self.sunshine.unpair(|n| n.starts_with(prefix)).await?;
        self.forget_identity().await;
        Ok(gone)
    }

    /// Forgets the kept identity of that client: a stream program could not start with it. What it
    /// leaves on the body is for [`SessionBody::tidy`].
    pub(crate) async fn drop_kept(&self, client: &str) {
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
