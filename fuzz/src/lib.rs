//! What the fuzz targets of the wire room check, and a bounded run of the same.
//!
//! The room's sans-IO files are compiled in as they are, so that these targets build in seconds.

pub mod differential;
pub mod mutate;
pub mod seeds;
#[cfg(test)]
mod tests;

#[allow(dead_code, unused_imports)] // only what is compared is used
mod wire;
