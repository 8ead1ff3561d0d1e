//! Faults in random order while sessions come and go; then the invariants are checked over what
//! the clients saw.

use std::time::Duration;

use serde_json::json;

use crate::soak::{Dice, number};
use crate::support::*;

/// Steps in CI's budget; `HYDRANECK_CHAOS` asks for more.
const STEPS: u64 = 40;
const SLOTS: usize = 4;

#[test]
fn after_faults_in_any_order_every_session_lives_or_has_a_recorded_end() {
    let steps = number("HYDRANECK_CHAOS").unwrap_or(STEPS);
    let seed = number("HYDRANECK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("chaos: HYDRANECK_CHAOS={steps} HYDRANECK_SEED={seed}");
    let mut dice = Dice(seed);
    let bench = Bench::new();
    let mut controller = bench.controller();
    let small = json!({"sessions": {"max": SLOTS}});
    let mut worker = bench.worker("w1", Some(&controller), small);
    controller.is_warm();
    // Every session that was promised, and those whose end was.
    let (mut promised, mut deleted) = (Vec::<String>::new(), Vec::<String>::new());
    let mut history = Vec::new();
    for _ in 0..steps {
        let roll = dice.roll(12);
        let live: Vec<String> = worker
            .sessions()
            .iter()
            .filter(|s| s["status"] != "ending" && s["status"] != "ended")
            .map(|s| s["id"].as_str().unwrap().to_owned())
            .collect();
        assert!(live.len() <= SLOTS, "I1 {history:?}");
        let back = live.iter().find(|id| deleted.contains(id));
        assert_eq!(back, None, "I6 {history:?}");
        let one = (!live.is_empty())
            .then(|| &live[usize::try_from(dice.roll(live.len() as u64)).unwrap()]);
        let did = match (roll, one) {
            (0..=4, _) => {
                let wish = json!({"wait": dice.roll(3) > 0});
                let answer = controller.create_with(wish);
                if answer.status == 201 {
                    promised.push(answer.json()["session_id"].as_str().unwrap().to_owned());
                }
                format!("create {}", answer.status)
            }
            (5, Some(id)) => {
                let status = worker.delete(id);
                if status == 204 {
                    deleted.push(id.clone());
                }
                format!("delete {id} {status}")
            }
            (6, Some(id)) => {
                let answer = worker.browse("POST", &format!("/session/{id}/quit"), None);
                format!("quit {id} {}", answer.status)
            }
            (7, Some(id)) => {
                let pid = worker.entry(id)["process"]["pid"].as_u64();
                if let Some(pid) = pid {
                    signal(u32::try_from(pid).unwrap(), "KILL");
                }
                format!("kill the process of {id}")
            }
            (8, _) => {
                controller.kill();
                controller.restart();
                "kill the controller".to_owned()
            }
            (9, _) => {
                signal(worker.pid(), "STOP");
                pause(Duration::from_millis(300));
                signal(worker.pid(), "CONT");
                "stop the worker for a while".to_owned()
            }
            (10, _) => {
                worker.kill();
                worker.restart();
                "kill the worker".to_owned()
            }
            (11, _) => {
                assert!(worker.stop().success());
                worker.restart();
                "restart the worker".to_owned()
            }
            _ => continue,
        };
        history.push(did);
    }
    // I5: when the faults are over all is ready again.
    controller.is_warm();
    until("every session to be settled", || {
        let all = worker.sessions();
        // One whose process has just been killed may not have noticed.
        let lives = |s: &serde_json::Value| {
            let pid = worker.entry(s["id"].as_str().unwrap())["process"]["pid"].as_u64();
            pid.is_some_and(|pid| is_running(u32::try_from(pid).unwrap()))
        };
        all.iter().all(|s| s["status"] == "ready" && lives(s))
            && controller.sessions().len() == all.len()
    });
    let live = worker.sessions();
    for session in &live {
        let url = session["stream_path"].as_str().unwrap();
        assert_eq!(controller.browse("GET", url, None).status, 200);
        assert_eq!(controller.delete(session["id"].as_str().unwrap()), 204);
    }
    for id in &promised {
        let recorded = comes(Duration::from_secs(30), || !bench.records(id).is_empty());
        assert!(recorded, "I3: {id} has no end, seed {seed}, {history:?}");
        // A kill between the service's answer and the removal of the record repeats it.
        let records = bench.records(id);
        let same = records
            .iter()
            .all(|r| r["end_reason"] == records[0]["end_reason"]);
        assert!(same, "I7: {records:?}, seed {seed}, {history:?}");
    }
    worker.has_nothing_left();
    until("no pairing to be left", || bench.body.clients().is_empty());
}
