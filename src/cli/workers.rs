//! `workers list|drain|undrain`.

use http_types::Method;
use serde_json::{Value, json};

use super::args::WorkersCommand;
use super::remote::{CommandError, RemoteServer, json_line, segment};
use super::table::table;
use crate::protocol::WorkerView;
use crate::protocol::reading::Each;

pub(super) async fn run(
    peer: RemoteServer,
    command: WorkersCommand,
    json: bool,
) -> Result<String, CommandError> {
    match command {
        WorkersCommand::List => {
            let asked = peer.fetch::<Value>("/api/v1/workers").await;
            let listed = asked.map_err(|error| match error {
                CommandError::NotFound(_) => CommandError::NotFound(format!(
                    "{} is a worker and knows no others: name its controller with --url",
                    peer.url()
                )),
                other => other,
            })?;
            if json {
                return json_line(&listed);
            }
            let workers: Each<WorkerView> = serde_json::from_value(listed)
                .map_err(|e| CommandError::Refused(format!("{}: {e}", peer.url())))?;
            for unread in &workers.left_out {
                eprintln!("cannot read {unread}");
            }
            Ok(rows(&workers))
        }
        WorkersCommand::Drain { worker, deadline } => {
            let mut call = peer.call(Method::Post, &drain_path(worker.as_deref())?);
            if let Some(deadline) = deadline {
                call = call.json(&json!({ "deadline": deadline }));
            }
            let answer = peer.send(call).await;
            let answer = answer.map_err(|e| nobody(&peer, worker.as_deref(), e))?;
            if json {
                let said: Value = answer
                    .json()
                    .map_err(|e| CommandError::Refused(e.to_string()))?;
                return json_line(&said);
            }
            eprintln!("{} takes no new sessions", name(worker.as_deref()));
            Ok(String::new())
        }
        WorkersCommand::Undrain { worker } => {
            let path = drain_path(worker.as_deref())?;
            let answer = peer.send(peer.call(Method::Delete, &path)).await;
            answer.map_err(|e| nobody(&peer, worker.as_deref(), e))?;
            if json {
                return json_line(&json!({ "worker_id": worker, "draining": false }));
            }
            eprintln!("{} takes sessions again", name(worker.as_deref()));
            Ok(String::new())
        }
    }
}

/// What a controller that was given no name, or a strange one, would have needed.
fn nobody(peer: &RemoteServer, worker: Option<&str>, error: CommandError) -> CommandError {
    match (error, worker) {
        (CommandError::NotFound(_), None) => CommandError::NotFound(format!(
            "{} is a controller: name the worker, as `workers list` does",
            peer.url()
        )),
        (error, _) => error,
    }
}

fn name(worker: Option<&str>) -> String {
    worker.map_or_else(|| "the worker".to_owned(), |w| format!("worker {w}"))
}

/// A controller drains a worker by name; a worker drains itself.
fn drain_path(worker: Option<&str>) -> Result<String, CommandError> {
    Ok(match worker {
        Some(worker) => format!("/api/v1/workers/{}/drain", segment(worker)?),
        None => "/api/v1/drain".to_owned(),
    })
}

fn rows(workers: &[WorkerView]) -> String {
    let rows: Vec<_> = workers
        .iter()
        .map(|w| {
            [
                w.worker_id.clone(),
                serde_json::to_value(w.status)
                    .ok()
                    .and_then(|v| v.as_str().map(str::to_owned))
                    .unwrap_or_default(),
                format!("{}/{}", w.active_sessions, w.max_sessions),
                if w.wireguard { "up" } else { "down" }.to_owned(),
                w.district.clone(),
                w.version.clone(),
                w.last_heartbeat.clone(),
                w.url.clone(),
            ]
        })
        .collect();
    table(
        [
            "WORKER",
            "STATUS",
            "SESSIONS",
            "WIREGUARD",
            "DISTRICT",
            "VERSION",
            "LAST HEARTBEAT",
            "URL",
        ],
        &rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_drained_by_name_at_its_controller_and_by_itself_without() {
        assert_eq!(drain_path(Some("w1")).unwrap(), "/api/v1/workers/w1/drain");
        assert_eq!(drain_path(None).unwrap(), "/api/v1/drain");
        assert!(drain_path(Some("../x")).is_err());
    }
}
