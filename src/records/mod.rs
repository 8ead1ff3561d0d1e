//! What other services are told: one record for each ended session, and visitors' ratings.
//!
//! Records wait on disk until they are taken, so that neither a restart nor a service that is
//! away loses one. Knows no sessions.

pub(crate) mod nps;
pub(crate) mod outbox;
pub(crate) mod rating;

pub(crate) use outbox::Outbox;
