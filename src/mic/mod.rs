//! The mic room.
