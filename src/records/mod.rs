//! What other services are told: one record for each ended session, and visitors' ratings.
//!
//! Records wait on disk until they are taken, so that neither a restart nor a service that is
//! away loses one. Knows no sessions.

pub mod nps;
pub mod outbox;
pub mod rating;

pub use outbox::Outbox;
