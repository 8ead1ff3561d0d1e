//! This machine's interfaces, read again when what is known of them is old.

use std::time::{Duration, Instant};

use crate::body::allowlist::Machine;
use crate::body::interfaces;
use crate::clock;
use crate::sync::Mutex;

/// Age at which the interfaces are read again: health and heartbeats follow a tunnel within it.
const FRESH: Duration = Duration::from_secs(2);

/// The machine, as it was lately.
#[derive(Debug)]
pub(super) struct InterfaceCache(Mutex<(Instant, Machine)>);

impl InterfaceCache {
    pub(super) fn new(machine: Machine) -> Self {
        Self(Mutex::new((clock::now(), machine)))
    }

    pub(super) fn current(&self) -> Machine {
        let mut known = self.0.lock();
        if clock::now().saturating_duration_since(known.0) > FRESH {
            let had = !known.1.wireguard.is_empty();
            *known = (clock::now(), interfaces::read());
            match (had, known.1.wireguard.is_empty()) {
                (true, true) => {
                    log::warn!(target: "worker", "no WireGuard interface detected any more")
                }
                (false, false) => log::info!(target: "worker", "WireGuard interface is up"),
                _ => {}
            }
        }
        known.1.clone()
    }
}
