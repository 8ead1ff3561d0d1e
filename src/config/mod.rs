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

pub(crate) use environment::SecretFiles;
pub(crate) use loader::Loaded;
pub(crate) use parsers::{base_url, is_label};
pub(crate) use render::{example, reference, show};
#[cfg(any(test, feature = "demo"))]
pub(crate) use report::Problems;
pub(crate) use report::{ConfigError, Problem};
pub(crate) use schema::{Acme, IceServer, Peer, Tls, Turn, Update};
pub use schema::{Config, Etcd};
pub use values::Role;
pub(crate) use values::{Auto, VideoSize, WebServer};
