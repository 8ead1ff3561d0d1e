//! The checks of the wire room's fuzz targets, and a bounded run of them.
//!
//! The room's sans-IO files are compiled in unchanged, so that these targets build in seconds.

pub mod differential;
pub mod mutate;
pub mod seeds;
#[cfg(test)]
mod tests;

#[allow(dead_code, unused_imports)] // only what is compared is used
mod wire;
