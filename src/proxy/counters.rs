//! What a proxy has done, for metrics.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::Exposition;
use crate::sync::Mutex;
use crate::wire::tunnel::Traffic;

/// Counts of one proxy.
#[derive(Debug, Default)]
pub struct ProxyCounters {
    /// Answers by the first digit of their status; index 0 is unused.
    classes: [AtomicU64; 6],
    tunnels: AtomicU64,
    flow: Mutex<Flow>,
}

/// Bytes of tunnels. Each counts its own as they flow, so that none waits for another; they are
/// added up when somebody asks.
#[derive(Debug, Default)]
struct Flow {
    open: HashMap<u64, Arc<Traffic>>,
    /// Up and down of those that have ended.
    ended: [u64; 2],
}

fn bytes(traffic: &Traffic) -> [u64; 2] {
    [&traffic.forth, &traffic.back].map(|way| way.load(Ordering::Relaxed))
}

impl ProxyCounters {
    pub(super) fn answered(&self, status: u16) {
        if let Some(class) = self.classes.get(usize::from(status / 100)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a tunnel as open until the guard is dropped, and its bytes from now on.
    pub(super) fn tunnel(self: &Arc<Self>, traffic: Arc<Traffic>) -> Open {
        let number = self.tunnels.fetch_add(1, Ordering::Relaxed);
        self.flow(|flow| flow.open.insert(number, traffic));
        Open {
            counters: Arc::clone(self),
            number,
        }
    }

    fn flow<T>(&self, look: impl FnOnce(&mut Flow) -> T) -> T {
        look(&mut self.flow.lock())
    }

    /// Puts all of it on a sheet.
    pub fn write(&self, sheet: &mut Exposition) {
        sheet.counters(
            "proxy_requests",
            "Forwarded requests by class of the answer's status",
            "class",
            self.requests(),
        );
        let open = self.tunnels_open();
        sheet.gauge("proxy_tunnels_open", "WebSocket tunnels now", open as f64);
        sheet.counter("proxy_tunnels", "WebSocket tunnels opened", self.tunnels());
        sheet.counters(
            "proxy_tunnel_bytes",
            "Bytes through tunnels, as the browser sees them",
            "direction",
            self.tunnel_bytes(),
        );
    }

    /// Requests answered, by class of status.
    #[must_use]
    pub fn requests(&self) -> [(&'static str, u64); 5] {
        let names = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let mut counted = names.map(|name| (name, 0));
        for (place, class) in counted.iter_mut().zip(&self.classes[1..]) {
            place.1 = class.load(Ordering::Relaxed);
        }
        counted
    }

    /// Tunnels opened so far.
    #[must_use]
    pub fn tunnels(&self) -> u64 {
        self.tunnels.load(Ordering::Relaxed)
    }

    /// Tunnels open now.
    #[must_use]
    pub fn tunnels_open(&self) -> u64 {
        self.flow(|flow| flow.open.len() as u64)
    }

    /// Bytes through tunnels so far, by direction as the browser sees it.
    #[must_use]
    pub fn tunnel_bytes(&self) -> [(&'static str, u64); 2] {
        let [up, down] = self.flow(|flow| {
            let open = flow.open.values().map(|traffic| bytes(traffic));
            open.fold(flow.ended, |sum, [up, down]| [sum[0] + up, sum[1] + down])
        });
        [("up", up), ("down", down)]
    }
}

/// An open tunnel.
#[derive(Debug)]
pub(super) struct Open {
    counters: Arc<ProxyCounters>,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counters.flow(|flow| {
            if let Some(traffic) = flow.open.remove(&self.number) {
                let [up, down] = bytes(&traffic);
                flow.ended = [flow.ended[0] + up, flow.ended[1] + down];
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnels_bytes_count_while_it_is_open_and_stay_when_it_has_ended() {
        let counters = Arc::new(ProxyCounters::default());
        let traffic = Arc::new(Traffic::default());
        let open = counters.tunnel(Arc::clone(&traffic));
        traffic.forth.store(7, Ordering::Relaxed);
        assert_eq!((counters.tunnels(), counters.tunnels_open()), (1, 1));
        assert_eq!(counters.tunnel_bytes(), [("up", 7), ("down", 0)]);
        drop(open);
        assert_eq!((counters.tunnels(), counters.tunnels_open()), (1, 0));
        assert_eq!(counters.tunnel_bytes(), [("up", 7), ("down", 0)]);
    }

    #[test]
    fn answers_count_by_class() {
        let counters = ProxyCounters::default();
        for status in [101, 200, 204, 302, 404, 502, 999] {
            counters.answered(status);
        }
        assert_eq!(
            counters.requests(),
            [("1xx", 1), ("2xx", 2), ("3xx", 1), ("4xx", 1), ("5xx", 1)]
        );
    }
}
