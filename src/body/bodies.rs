//! All bodies, under one worker's rules.

use std::net::IpAddr;
use std::path::PathBuf;

use super::allowlist::{Allowed, Forbidden};
use super::identity::{IdentityStore, ProgramKind};
use super::pairing::BodyLocks;
use super::session_steps::SessionBody;
use super::sunshine::SunshineCredentials;
use super::tofu_pins::PinStore;

/// Where the programs on a body listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodyPorts {
    /// Sunshine's configuration API.
    pub sunshine: u16,
    /// Sunshine's GameStream over plain HTTP.
    pub http: u16,
    /// hydrabody.
    pub agent: u16,
}

impl Default for BodyPorts {
    fn default() -> Self {
        Self {
            sunshine: 47_990,
            http: 47_989,
            agent: 47_991,
        }
    }
}

/// How this worker treats bodies.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Which addresses may be bodies.
    pub allowed: Allowed,
    /// Where the programs on a body listen.
    pub ports: BodyPorts,
    /// Directory for pinned certificates and kept identities.
    pub state_dir: PathBuf,
    /// Name of this worker: our clients in Sunshine's list carry it.
    pub worker_id: String,
    /// Pair once with each body and keep the identity, rather than once for each session.
    pub pair_once: bool,
    /// Close an app of somebody else's that runs when a session starts.
    pub close_foreign_app: bool,
}

/// All bodies, as one worker sees them. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    pub(super) rules: Rules,
    /// With this the names of our clients begin.
    pub(super) prefix: String,
    pub(super) pins: PinStore,
    pub(super) identities: IdentityStore,
    pub(super) locks: BodyLocks,
    /// Held while clients are unpaired from a body.
    pub(super) unpairings: BodyLocks,
}

impl Bodies {
    /// All bodies under these rules, for that kind of stream program.
    #[must_use]
    pub(crate) fn new(rules: Rules, kind: ProgramKind) -> Self {
        // A colon ends the worker's name, so that no worker's prefix is the start of another's.
        let worker = rules.worker_id.replace([':', '\n', '\r'], "_");
        Self {
            prefix: format!("hydraneckwebrtc:{worker}:"),
            pins: PinStore::new(rules.state_dir.join("pins")),
            identities: IdentityStore::new(rules.state_dir.join("identities"), kind),
            locks: BodyLocks::default(),
            unpairings: BodyLocks::default(),
            rules,
        }
    }

    /// The body at that address.
    ///
    /// # Errors
    /// [`Forbidden`], before anything is sent.
    pub(crate) fn body(
        &self,
        ip: IpAddr,
        credentials: SunshineCredentials,
    ) -> Result<SessionBody, Forbidden> {
        let ip = self.rules.allowed.check(ip)?;
        Ok(SessionBody::new(ip, credentials, self.clone()))
    }

    /// Bodies that this worker has met: only there it can have left something.
    pub(crate) async fn met(&self) -> Vec<IpAddr> {
        self.pins.bodies().await
    }
}
