//! Wall clocks that jump a day: nothing but the dates that people read may change.
//!
//! The roles run with Debian's libfaketime, which gives them a wall clock from a file and leaves
//! the monotonic clock alone, as `settimeofday` does.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use hydraneckwebrtc::testing::{clock, has};
use serde_json::json;

use crate::support::*;

const DAY: u64 = 86_400;
/// More than any session of these tests lives.
const LONG_MS: u64 = 600_000;

/// The wall clock of the roles that are started with it.
struct WallClock {
    library: PathBuf,
    file: PathBuf,
}

impl WallClock {
    /// A clock that is right; `None` where the library is missing.
    fn new(bench: &Bench) -> Option<Self> {
        let library = library();
        has("libfaketime (package faketime)", library.is_some());
        let wall = Self {
            library: library?,
            file: bench.dir.join("clock"),
        };
        wall.set("+0");
        Some(wall)
    }

    /// Starts the role anew under this clock.
    fn rule(&self, node: &mut Node) {
        node.kill();
        node.env = vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone().into()),
            ("FAKETIME_NO_CACHE", OsString::from("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", OsString::from("1")),
            ("DONT_FAKE_MONOTONIC", OsString::from("1")),
        ];
        node.restart();
    }

    /// Jumps to this offset from the machine's time, as `+1d` or `-1d`.
    fn set(&self, offset: &str) {
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, offset).unwrap();
        fs::rename(fresh, &self.file).unwrap();
    }
}

fn library() -> Option<PathBuf> {
    let places = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(Path::new);
    let below = places.iter().filter_map(|place| fs::read_dir(place).ok());
    let triplets = below.flatten().flatten().map(|entry| entry.path());
    let mut all = triplets.chain(places.map(Path::to_owned));
    all.find_map(|dir| {
        let found = dir.join("faketime/libfaketimeMT.so.1");
        found.exists().then_some(found)
    })
}

/// Seconds since 1970 of a time as the APIs write it.
fn seconds(text: &serde_json::Value) -> u64 {
    let text = text.as_str().unwrap_or_else(|| panic!("{text} is no time"));
    let time = humantime::parse_rfc3339(text).unwrap();
    time.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_worker_whose_date_is_a_day_ahead_keeps_to_the_controllers_deadline() {
    let bench = Bench::new();
    let Some(wall) = WallClock::new(&bench) else {
        return;
    };
    let controller = bench.controller();
    let mut worker = bench.worker("w1", Some(&controller), json!({}));
    wall.set("+1d");
    wall.rule(&mut worker);
    controller.is_warm();
    let id = controller.session();
    let drain = |span: &str| {
        let order = Some(json!({"deadline": span}));
        controller
            .call("POST", "/api/v1/workers/w1/drain", order)
            .status
    };
    assert_eq!(drain("1h"), 202);
    until("the worker to obey", || {
        worker
            .call(
                "POST",
                "/api/v1/sessions",
                Some(json!({"body_ip": "127.0.0.1"})),
            )
            .status
            == 503
    });
    let ends = || worker.view(&id)["status"] != "ready";
    assert!(
        !comes(Duration::from_secs(1), ends),
        "the worker's own date"
    );
    assert_eq!(drain("0s"), 202);
    until("the deadline", || controller.sessions().is_empty());
    assert_eq!(bench.one_record(&id)["end_reason"], "drained");
}

#[test]
fn a_wall_clock_that_jumps_a_day_changes_dates_and_nothing_else() {
    let bench = Bench::new();
    let Some(wall) = WallClock::new(&bench) else {
        return;
    };
    let mut controller = bench.controller();
    let more = json!({
        "sessions": {"max_duration": "1h", "connect_timeout": "30m"},
        "turn": {"urls": ["turn:127.0.0.1:3478"], "secret": "s", "ttl": "2h"},
    });
    let mut worker = bench.worker("w1", Some(&controller), more);
    wall.rule(&mut controller);
    wall.rule(&mut worker);
    controller.is_warm();
    let events = controller.events();
    let (watched, waiting) = (controller.session(), controller.session());
    let page = worker.page(&watched);
    worker.becomes(&watched, "connected");
    let before = seconds(&worker.view(&watched)["created_at"]);
    let key = [("Idempotency-Key", "once")];
    let wish = json!({"body_ip": "127.0.0.1"});
    let once = || {
        let made = controller.call_with("POST", "/api/v1/sessions", &key, Some(wish.clone()));
        made.json()["session_id"].as_str().unwrap().to_owned()
    };
    let keyed = once();
    // An order that was given in time spans is kept in time spans.
    let order = worker.call("POST", "/api/v1/drain", Some(json!({"deadline": "1h"})));
    assert_eq!(order.status, 202);
    for (offset, days) in [("+1d", 1), ("-1d", -1)] {
        wall.set(offset);
        // Beats, ticks and probes under the new date.
        pause(Duration::from_secs(3));
        let health = worker.get("/api/v1/health");
        assert!(health["uptime_seconds"].as_u64().unwrap() < LONG_MS / 1_000);
        let fleet = controller.get("/api/v1/workers")[0].clone();
        assert_eq!(fleet["status"], "draining");
        let heard = seconds(&fleet["last_heartbeat"]).abs_diff(before);
        assert!((DAY - 600..DAY + 600).contains(&heard), "{offset}: {heard}");
        for id in [&watched, &waiting, &keyed] {
            let view = worker.view(id);
            assert!(view["duration_ms"].as_u64().unwrap() < LONG_MS, "{view}");
        }
        assert_eq!(worker.view(&watched)["status"], "connected");
        assert_eq!(worker.view(&waiting)["status"], "ready");
        assert_eq!(once(), keyed, "{offset}: the key is still known");
        let info = worker.browse(
            "GET",
            &format!("/session/{watched}/_neck/session.json"),
            None,
        );
        let user = info.json()["ice_servers"][0]["username"].clone();
        let expiry: u64 = user
            .as_str()
            .unwrap()
            .split(':')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let day = Duration::from_secs(DAY);
        let now = if days > 0 {
            clock::wall() + day
        } else {
            clock::wall() - day
        };
        let left = expiry - now.duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(
            (7_200 - 600..=7_200 + 600).contains(&left),
            "{offset}: {left}"
        );
        assert!(!page.has_ended());
    }
    assert_eq!(worker.call("DELETE", "/api/v1/drain", None).status, 204);
    until("the worker to be healthy", || {
        controller.get("/api/v1/workers")[0]["status"] == "healthy"
    });
    // A worker that starts in another day adopts the sessions at their true age.
    let age = worker.view(&waiting)["duration_ms"].as_u64().unwrap();
    wall.set("+1d");
    worker.kill();
    worker.restart();
    let view = worker.view(&waiting);
    assert_eq!(view["status"], "ready", "{view}");
    let now = view["duration_ms"].as_u64().unwrap();
    assert!((age..LONG_MS).contains(&now), "{age} {now}");
    // So does a controller that starts in another day.
    wall.set("-1d");
    controller.kill();
    controller.restart();
    controller.is_warm();
    assert_eq!(controller.sessions().len(), 3);
    let page = worker.page(&watched);
    worker.becomes(&watched, "connected");
    drop((page, events));
    for id in [&watched, &waiting, &keyed] {
        assert_eq!(controller.delete(id), 204);
        let record = bench.one_record(id);
        assert_eq!(record["end_reason"], "deleted");
        assert!(
            record["duration_ms"].as_u64().unwrap() < LONG_MS,
            "{record}"
        );
    }
    worker.has_nothing_left();
}
