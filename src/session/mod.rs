//! The session room: one session from admission until nothing of it is left.

pub mod lifecycle;
