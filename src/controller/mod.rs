//! The controller room: the fleet, and the way to a worker.

pub mod fleet;
pub mod idempotency;
pub mod placement;
