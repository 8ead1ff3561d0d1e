//! The worker's health.

use super::Worker;
use crate::acme::Acme;
use crate::http::{Failure, Reply};
use crate::protocol::{Health, Standing};
use crate::{clock, descriptors};

/// `GET /api/v1/health`.
pub(super) fn health(worker: &Worker) -> Health {
    let mut problems = Vec::new();
    if !has_wireguard(worker) {
        problems
            .push("no WireGuard interface is up: bodies behind it cannot be reached".to_owned());
    }
    let of_controller = worker.controller_problem.lock();
    problems.extend(of_controller.clone());
    problems.extend(worker.acme.get().and_then(Acme::problem));
    problems.extend(worker.shortages.problems());
    problems.extend(worker.keys.problem());
    let program = worker.program.refusal().into_iter();
    problems.extend(program.map(|why| format!("new sessions are refused: {why}")));
    problems.extend(descriptors::problems());
    let standing = Standing {
        mode: "worker",
        district: &worker.settings.district,
        process_id: &worker.process_id,
        wireguard: has_wireguard(worker),
        active_sessions: worker.roster.slots(),
        max_sessions: worker.settings.max,
    };
    let uptime = clock::now().saturating_duration_since(worker.started);
    Health::of(&standing, uptime, problems)
}

/// Whether a WireGuard interface is up now: tunnels come and go while a worker runs.
pub(super) fn has_wireguard(worker: &Worker) -> bool {
    worker.machine.has_wireguard()
}

/// `GET /readyz`: whether a session would be admitted now.
pub(super) fn ready(worker: &Worker) -> Result<Reply, Failure> {
    if let Some(why) = worker.refusal() {
        return Err(Failure::new(503, "draining", why));
    }
    if worker.roster.slots() >= worker.settings.max {
        return Err(Failure::new(
            503,
            "no_capacity",
            format!("all {} slots are taken", worker.settings.max),
        ));
    }
    if let Some((slug, why)) = worker.shortage() {
        return Err(Failure::new(503, slug, why));
    }
    Ok(Reply::json(200, &serde_json::json!({"status": "ready"})))
}
