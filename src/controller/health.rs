//! The controller's health: sums over its workers, and what an operator should look at.

use super::Controller;
use crate::acme::Acme;
use crate::http::{Failure, Reply};
use crate::protocol::{Health, Standing, WorkerStatus};
use crate::{clock, descriptors};

/// `GET /api/v1/health`.
pub(super) fn health(controller: &Controller) -> Health {
    let now = clock::now();
    let (totals, workers) = {
        let fleet = controller.fleet();
        (fleet.totals(now), fleet.workers(now))
    };
    // The controller's own problems first: the list is cut.
    let mut problems = Vec::new();
    problems.extend(controller.store.problems(now));
    problems.extend(controller.acme.get().and_then(Acme::problem));
    problems.extend(descriptors::problems());
    if workers.is_empty() {
        problems.push("no worker has registered yet".to_owned());
    }
    for worker in &workers {
        if worker.status == WorkerStatus::Unhealthy {
            problems.push(format!(
                "worker {} is silent since {}",
                worker.worker_id, worker.last_heartbeat
            ));
            continue;
        }
        if let Some(why) = &worker.refuses {
            let id = &worker.worker_id;
            problems.push(format!("worker {id} takes no sessions: {why}"));
        }
        if !worker.wireguard {
            problems.push(format!(
                "worker {} has no WireGuard interface",
                worker.worker_id
            ));
        }
    }
    let standing = Standing {
        mode: "controller",
        district: &controller.settings.district,
        process_id: &controller.process_id,
        wireguard: totals.has_wireguard,
        active_sessions: totals.active_sessions,
        max_sessions: totals.max_sessions,
    };
    let uptime = now.saturating_duration_since(controller.started);
    Health::of(&standing, uptime, problems)
}

/// `GET /readyz`: whether a session could be created now.
pub(super) fn ready(controller: &Controller) -> Result<Reply, Failure> {
    controller.store.check_ready()?;
    let now = clock::now();
    if controller.fleet().totals(now).healthy == 0 {
        let failure = Failure::new(503, "no_workers", "no healthy worker");
        return Err(failure.retry_after(controller.settings.pace.heartbeat_interval));
    }
    Ok(Reply::json(200, &serde_json::json!({"status": "ready"})))
}
