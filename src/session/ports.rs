//! The ports of sessions: a TCP port for the stream program and a range of UDP ports for media.
//!
//! Slot `n` has the TCP port `port_range_start + n` and the `n`th range from `webrtc_port_start`.
//! A slot is a guard: dropped, it is free again. A port that somebody else holds is passed over,
//! with one warning until it is free again.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::{Arc, MutexGuard};

use crate::sync::Mutex;

/// Which ports there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// `sessions.port_range_start`.
    pub port_range_start: u16,
    /// Ports inside the range that this worker listens on itself (the runbook's colocated worker
    /// listens on `:8090`, inside the range it gives to sessions): passed over.
    pub own: Vec<u16>,
    /// `sessions.max`.
    pub slots: usize,
    /// `sessions.webrtc_port_start`.
    pub webrtc_port_start: u16,
    /// `sessions.webrtc_ports`, for each session.
    pub webrtc_ports: u16,
}

/// Why there is no slot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Every slot has a session.
    #[error("all {slots} slots have a session")]
    Full {
        /// How many there are.
        slots: usize,
    },
    /// Free slots there are, but strangers hold their ports.
    #[error(
        "no free port: other programs hold {ports:?}, stop them or move sessions.port_range_start"
    )]
    Held {
        /// The ports.
        ports: Vec<u16>,
    },
    /// The ranges don't fit below 65536.
    #[error(
        "{key}: {start} leads to port {last}, the last port is 65535: lower it or sessions.max"
    )]
    OutOfRange {
        /// The key that leads there.
        key: &'static str,
        /// Its value.
        start: u16,
        /// The last port that would be needed.
        last: u64,
    },
    /// No slot has this port.
    #[error("port {port} is outside sessions.port_range_start and sessions.max")]
    Unknown {
        /// The port.
        port: u16,
    },
    /// Another session has this port.
    #[error("port {port} belongs to another session")]
    Taken {
        /// The port.
        port: u16,
    },
}

/// All slots of this worker.
#[derive(Clone, Debug)]
pub(crate) struct SessionPorts {
    plan: Plan,
    tcp: Arc<[u16]>,
    slots: Arc<Mutex<Vec<State>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    is_claimed: bool,
    /// Another program holds the port, and a warning was logged.
    is_held: bool,
}

/// One session's ports, until dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    ports: SessionPorts,
    index: usize,
}

impl SessionPorts {
    /// The slots that `plan` lays out.
    ///
    /// # Errors
    /// When the last slot's ports would be over 65535.
    pub(crate) fn new(plan: Plan) -> Result<Self, PortError> {
        let slots = plan.slots as u64;
        for (key, start, per_slot) in [
            ("sessions.port_range_start", plan.port_range_start, 1),
            (
                "sessions.webrtc_port_start",
                plan.webrtc_port_start,
                plan.webrtc_ports.max(1).into(),
            ),
        ] {
            let last = u64::from(start) + (slots * per_slot).saturating_sub(1);
            if last > u16::MAX.into() {
                return Err(PortError::OutOfRange { key, start, last });
            }
        }
        let tcp = (plan.port_range_start..=u16::MAX).filter(|port| !plan.own.contains(port));
        let tcp: Arc<[u16]> = tcp.take(plan.slots).collect();
        if tcp.len() < plan.slots {
            let last = u64::from(plan.port_range_start) + slots;
            let key = "sessions.port_range_start";
            return Err(PortError::OutOfRange {
                key,
                start: plan.port_range_start,
                last,
            });
        }
        Ok(Self {
            tcp,
            slots: Arc::new(Mutex::new(vec![State::default(); plan.slots])),
            plan,
        })
    }

    /// The first free slot whose TCP port nobody holds.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn claim(&self) -> Result<Slot, PortError> {
        let mut slots = self.lock();
        let mut held = Vec::new();
        for index in 0..slots.len() {
            if slots[index].is_claimed {
                continue;
            }
            let port = self.tcp(index);
            match probe(port) {
                Ok(()) => {
                    slots[index].is_claimed = true;
                    if std::mem::take(&mut slots[index].is_held) {
                        log::info!(target: "worker", "port {port} is free again");
                    }
                    return Ok(self.slot(index));
                }
                Err(error) => {
                    held.push(port);
                    if !std::mem::replace(&mut slots[index].is_held, true) {
                        log::warn!(target: "worker", "port {port} is held by another program, passing over it: {error}");
                    }
                }
            }
        }
        Err(if held.is_empty() {
            PortError::Full { slots: slots.len() }
        } else {
            PortError::Held { ports: held }
        })
    }

    /// The slot of a session that runs already and listens on `port`.
    ///
    /// # Errors
    /// When another session has it or the configured range no longer holds it.
    pub(crate) fn claim_port(&self, port: u16) -> Result<Slot, PortError> {
        let mut slots = self.lock();
        let index = self.tcp.iter().position(|own| *own == port);
        let index = index.ok_or(PortError::Unknown { port })?;
        if std::mem::replace(&mut slots[index].is_claimed, true) {
            return Err(PortError::Taken { port });
        }
        Ok(self.slot(index))
    }

    fn slot(&self, index: usize) -> Slot {
        Slot {
            ports: self.clone(),
            index,
        }
    }

    fn tcp(&self, index: usize) -> u16 {
        self.tcp[index]
    }

    fn lock(&self) -> MutexGuard<'_, Vec<State>> {
        // The states are plain flags, whole at every moment.
        self.slots.lock()
    }
}

impl Slot {
    /// The stream program's TCP port on 127.0.0.1.
    #[must_use]
    pub(crate) fn port(&self) -> u16 {
        self.ports.tcp(self.index)
    }

    /// The streamer's UDP ports.
    #[must_use]
    pub(crate) fn udp(&self) -> RangeInclusive<u16> {
        let plan = &self.ports.plan;
        let count = plan.webrtc_ports.max(1);
        let start = plan.webrtc_port_start + u16::try_from(self.index).unwrap_or_default() * count;
        start..=start + (count - 1)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.ports.lock()[self.index].is_claimed = false;
    }
}

/// Whether `port` could be listened on now. The listener sets SO_REUSEADDR as stream programs do,
/// so closed connections of an earlier session do not count as another program.
fn probe(port: u16) -> io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering};

    use super::*;

    /// Tests run side by side: each takes its own ranges.
    static NEXT: AtomicU16 = AtomicU16::new(0);

    /// A plan over `slots` TCP ports that were free a moment ago.
    fn plan(slots: usize) -> Plan {
        // Another run of the tests starts elsewhere.
        let offset = u16::try_from(std::process::id() % 500).unwrap();
        for _ in 0..500 {
            let range = (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % 500;
            let start = 21_000 + range * 20;
            if (0..slots).all(|n| probe(start + n as u16).is_ok()) {
                return Plan {
                    port_range_start: start,
                    own: Vec::new(),
                    slots,
                    webrtc_port_start: 40_000,
                    webrtc_ports: 20,
                };
            }
        }
        panic!("no free ports on this machine");
    }

    #[test]
    fn no_two_sessions_share_a_port_and_dropped_slots_return() {
        let ports = SessionPorts::new(plan(3)).unwrap();
        let slots: Vec<Slot> = (0..3).map(|_| ports.claim().unwrap()).collect();
        let tcp: Vec<u16> = slots.iter().map(Slot::port).collect();
        let start = ports.plan.port_range_start;
        assert_eq!(tcp, [start, start + 1, start + 2]);
        let udp: Vec<_> = slots.iter().map(Slot::udp).collect();
        assert_eq!(udp, [40_000..=40_019, 40_020..=40_039, 40_040..=40_059]);
        assert_eq!(ports.claim().unwrap_err(), PortError::Full { slots: 3 });
        drop(slots);
        assert_eq!(ports.claim().unwrap().port(), start);
    }

    #[test]
    fn a_strangers_port_is_passed_over_and_used_again_when_free() {
        let ports = SessionPorts::new(plan(2)).unwrap();
        let start = ports.plan.port_range_start;
        let stranger = TcpListener::bind(("0.0.0.0", start)).unwrap();
        let slot = ports.claim().unwrap();
        assert_eq!(slot.port(), start + 1);
        assert!(ports.lock()[0].is_held);
        let held = PortError::Held { ports: vec![start] };
        assert_eq!(ports.claim().unwrap_err(), held);
        assert!(held.to_string().contains("port_range_start"));
        drop(stranger);
        assert_eq!(ports.claim().unwrap().port(), start);
        assert!(!ports.lock()[0].is_held);
    }

    #[test]
    fn an_adopted_session_claims_its_own_port_though_it_is_bound() {
        let ports = SessionPorts::new(plan(2)).unwrap();
        let start = ports.plan.port_range_start;
        let _survivor = TcpListener::bind(("127.0.0.1", start + 1)).unwrap();
        let slot = ports.claim_port(start + 1).unwrap();
        let taken = ports.claim_port(start + 1).unwrap_err();
        assert_eq!(taken, PortError::Taken { port: start + 1 });
        for outside in [start - 1, start + 2] {
            let error = ports.claim_port(outside).unwrap_err();
            assert_eq!(error, PortError::Unknown { port: outside });
        }
        assert_eq!(ports.claim().unwrap().port(), start);
        drop(slot);
    }

    #[test]
    fn ranges_that_leave_the_port_numbers_are_refused_by_name() {
        let fits = Plan {
            port_range_start: 65_534,
            own: Vec::new(),
            slots: 2,
            webrtc_port_start: 65_496,
            webrtc_ports: 20,
        };
        assert!(SessionPorts::new(fits.clone()).is_ok());
        for (plan, key) in [
            (
                Plan {
                    port_range_start: 65_535,
                    own: Vec::new(),
                    ..fits.clone()
                },
                "sessions.port_range_start",
            ),
            (
                Plan {
                    webrtc_port_start: 65_497,
                    ..fits.clone()
                },
                "sessions.webrtc_port_start",
            ),
            (
                Plan {
                    slots: usize::MAX / 1_000_000,
                    ..fits.clone()
                },
                "sessions.port_range_start",
            ),
        ] {
            let text = SessionPorts::new(plan).unwrap_err().to_string();
            assert!(text.starts_with(key), "{text}");
        }
        let last = SessionPorts::new(fits.clone())
            .unwrap()
            .claim_port(65_535)
            .unwrap();
        assert_eq!(last.udp(), 65_516..=65_535);
    }
}
