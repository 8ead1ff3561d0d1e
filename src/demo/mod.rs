//! Everything that stands in for the outside world: a body that is none.

pub mod body;
