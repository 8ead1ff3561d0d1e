//! The configuration: the runbook's YAML, strict, every problem at once.
//!
//! `schema` is the table of all keys, each stated once: from it come the structs that the rest of
//! the program reads ([`Config`]), the loader, the example, the reference and the effective
//! values. Whatever is wrong is a [`Problem`] with its line, key and remedy. Nothing here logs,
//! and no secret is ever printed.

mod document;
mod entry;
mod environment;
mod field_types;
mod key;
mod loader;
mod parsers;
mod reader;
mod render;
mod report;
mod rules;
mod schema;
#[cfg(test)]
mod tests;
mod values;

pub use environment::SecretFiles;
pub use loader::Loaded;
pub use render::{example, reference, show};
#[cfg(any(test, feature = "demo"))]
pub use report::Problems;
pub use report::{ConfigError, Problem};
pub use schema::{Acme, Config, Etcd, IceServer, Peer, Tls, Turn, Update};
pub use values::{Auto, Role, VideoSize, WebServer};
