//! The schema: every key of the configuration, stated once.
//!
//! One line of this table is a key, the type of its field, and how its value is read: the type of
//! the value, its bounds and its default. The comment above it is its help text. From the table
//! come the structs that the rest of the program reads, the loader with its errors,
//! `config example`, `config show` and docs/configuration.md.
//!
//! Comments of `//` tell other rooms what they may rely on. Rules between keys of one section are
//! in its `check`; those between sections are in `rules`.

/// Declares one section: its struct, and how it is read.
///
/// Each key is read in the order of the table, by an expression that may use the keys before it.
/// `key` is the [`Key`](super::key::Key) of the line; its methods are what a line can say. A key
/// whose name is not that of its field is written `field as "key"`.
macro_rules! section {
    (
        $(#[$about:meta])*
        $vis:vis struct $name:ident($line:ident) {
            $(
                $(#[doc = $help:literal])+
                $field:ident $(as $written:literal)?: $type:ty = $read:expr,
            )+
        }
        $(check($section:ident) $check:block)?
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug)]
        $vis struct $name {
            $(
                $(#[doc = $help])+
                $vis $field: $type,
            )+
        }

        impl $crate::config::reader::Schema for $name {
            fn read(section: &mut $crate::config::reader::Section<'_, '_>) -> Self {
                $(
                    let $field: $type = {
                        let name = section!(@name $field $($written)?);
                        let $line = $crate::config::key::Key::new(section, name, concat!($($help),+));
                        $read
                    };
                )+
                $({
                    let $section = section;
                    $check
                })?
                Self { $($field),+ }
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $written:literal) => { $written };
}

mod fleet;
mod server;
mod sessions;

use std::time::Duration;

pub use fleet::Etcd;
pub(crate) use fleet::{Controller, Peer, Worker, Workers};
pub(crate) use server::{Acme, Log, Metrics, Server, Tls, Update};
pub(crate) use sessions::{Bodies, IceServer, Mic, Sessions, Sunshine, Turn};

use super::field_types::{choice, label};
use super::values::Role;

/// Shortest interval between machines that is useful; short enough for tests.
const INSTANT: Duration = Duration::from_millis(100);
/// Longest wait that can be configured.
const DAY: Duration = secs(24 * 60 * 60);

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

section! {
    /// The whole configuration, every key with its effective value.
    pub struct Config(key) {
        /// The role of this machine. The subcommand overrides it.
        mode: Option<Role> = key.optional(
            choice(const {
                &[
                    (Role::Controller.as_str(), Role::Controller),
                    (Role::Worker.as_str(), Role::Worker),
                ]
            }),
            "worker",
        ),
        // May be empty.
        /// The district this machine belongs to. It appears in health, events and records.
        district: String = key.optional(label(), "bxl1").unwrap_or_default(),
        /// How clients reach this process.
        server: Server = key.section(),
        /// The worker's connection to its controller.
        controller: Controller = key.section(),
        // Present when several controllers share one fleet; else it is kept in memory.
        /// Where controllers store the state of the fleet. `store: embedded`, the default, is the
        /// memory of this process; with `etcd` several controllers serve one fleet.
        store: Option<Etcd> = key.section_or_word::<fleet::Store>("embedded").etcd,
        /// How the controller monitors its workers.
        workers: Workers = key.section(),
        /// The identity of this worker.
        worker: Worker = key.section(),
        /// How sessions run and end.
        sessions: Sessions = key.section(),
        /// Access to the bodies' Sunshine. A request can override the user and the password.
        sunshine: Sunshine = key.section(),
        /// Which bodies may be used, and how they are reached.
        bodies: Bodies = key.section(),
        /// STUN and TURN servers, for browsers and stream processes.
        ice_servers: Vec<IceServer> = key.items(),
        // Present when per-session TURN credentials are minted.
        /// TURN credentials that are created for each session and expire, instead of a static
        /// `ice_servers` entry.
        turn: Option<Turn> = key.section_with("urls"),
        // Present when records are sent.
        /// The NPS service, which gets one record for every session that ends.
        nps: Option<Peer> = key.section_with("url"),
        // Present when ratings are forwarded.
        /// The experience library, which gets the ratings of the visitors.
        experience_library: Option<Peer> = key.section_with("url"),
        /// How the binary updates itself.
        update: Update = key.section(),
        /// Prometheus metrics under `/metrics`.
        metrics: Metrics = key.section(),
        /// How log lines are written.
        log: Log = key.section(),
        /// The microphone of the browser, whose sound is sent to the body.
        mic: Mic = key.section(),
    }
}
