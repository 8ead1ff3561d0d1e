//! The testcard room.
