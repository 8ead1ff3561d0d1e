//! This machine's interfaces, as they were lately.
//!
//! The kernel may be slow to list them, as while networks are made and removed on the machine. So
//! nobody asks it who has something else to do: heartbeats and health get the last answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Worker;
use crate::body::allowlist::Machine;
use crate::body::interfaces;
use crate::clock;
use crate::exec::{self, Stop};

/// Pause between two looks: health and heartbeats follow a tunnel within it.
const LOOK: Duration = Duration::from_secs(2);

/// Whether a WireGuard interface was up when the kernel was asked last.
#[derive(Debug)]
pub(super) struct InterfaceCache(AtomicBool);

impl InterfaceCache {
    pub(super) fn new(machine: &Machine) -> Self {
        Self(AtomicBool::new(!machine.wireguard.is_empty()))
    }

    pub(super) fn has_wireguard(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn note(&self, machine: &Machine) {
        let has = !machine.wireguard.is_empty();
        match (self.0.swap(has, Ordering::Relaxed), has) {
            (true, false) => {
                log::warn!(target: "worker", "no WireGuard interface detected any more")
            }
            (false, true) => log::info!(target: "worker", "WireGuard interface is up"),
            _ => {}
        }
    }
}

/// Looks at the interfaces until `stop`, one look at a time.
pub(super) fn watch(worker: &Arc<Worker>, stop: Stop) {
    let worker = Arc::clone(worker);
    exec::spawn(async move {
        let looks = async {
            loop {
                clock::sleep(LOOK).await;
                let machine = smol::unblock(interfaces::read).await;
                worker.machine.note(&machine);
            }
        };
        stop.or(looks).await;
    })
    .detach();
}
