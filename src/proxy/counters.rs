//! What a proxy has done, for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::Sheet;
use crate::wire::relay::Traffic;

/// Counts of one proxy.
#[derive(Debug, Default)]
pub struct Counters {
    /// Answers by the first digit of their status; index 0 is unused.
    classes: [AtomicU64; 6],
    tunnels: AtomicU64,
    ended: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

impl Counters {
    pub(super) fn answered(&self, status: u16) {
        if let Some(class) = self.classes.get(usize::from(status / 100)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a tunnel as open until the guard is dropped, and then its bytes.
    pub(super) fn tunnel(self: &Arc<Self>, traffic: Arc<Traffic>) -> Open {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
        Open {
            counters: Arc::clone(self),
            traffic,
        }
    }

    /// Puts all of it on a sheet.
    pub fn write(&self, sheet: &mut Sheet) {
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
            "Bytes of tunnels that have ended, as the browser sees them",
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
        let ended = self.ended.load(Ordering::Relaxed);
        self.tunnels().saturating_sub(ended)
    }

    /// Bytes of tunnels that have ended, by direction as the browser sees it.
    #[must_use]
    pub fn tunnel_bytes(&self) -> [(&'static str, u64); 2] {
        [
            ("up", self.up.load(Ordering::Relaxed)),
            ("down", self.down.load(Ordering::Relaxed)),
        ]
    }
}

/// An open tunnel.
#[derive(Debug)]
pub(super) struct Open {
    counters: Arc<Counters>,
    traffic: Arc<Traffic>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let (up, down) = (&self.traffic.forth, &self.traffic.back);
        let counters = &self.counters;
        counters
            .up
            .fetch_add(up.load(Ordering::Relaxed), Ordering::Relaxed);
        counters
            .down
            .fetch_add(down.load(Ordering::Relaxed), Ordering::Relaxed);
        counters.ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_is_open_until_it_is_dropped_and_then_its_bytes_count() {
        let counters = Arc::new(Counters::default());
        let traffic = Arc::new(Traffic::default());
        let open = counters.tunnel(Arc::clone(&traffic));
        traffic.forth.store(7, Ordering::Relaxed);
        assert_eq!((counters.tunnels(), counters.tunnels_open()), (1, 1));
        drop(open);
        assert_eq!((counters.tunnels(), counters.tunnels_open()), (1, 0));
        assert_eq!(counters.tunnel_bytes(), [("up", 7), ("down", 0)]);
    }

    #[test]
    fn answers_count_by_class() {
        let counters = Counters::default();
        for status in [101, 200, 204, 302, 404, 502, 999] {
            counters.answered(status);
        }
        assert_eq!(
            counters.requests(),
            [("1xx", 1), ("2xx", 2), ("3xx", 1), ("4xx", 1), ("5xx", 1)]
        );
    }
}
