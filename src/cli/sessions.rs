//! `sessions list|get|create|end`.

use http_types::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::args::{SessionsCommand, Wish};
use super::remote::{CommandError, Peer, json_line, segment};
use super::table::{pairs, table};
use crate::clock;
use crate::protocol::{CreateSession, Created, SessionView, Status, WorkerSessions};

/// Both roles' lists: a controller's has the workers, a worker's is flat.
#[derive(Deserialize)]
#[serde(untagged)]
enum Listed {
    OfFleet(Vec<WorkerSessions>),
    OfWorker(Vec<SessionView>),
}

/// A controller names the worker beside the session.
#[derive(Deserialize, Serialize)]
struct One {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    worker_id: Option<String>,
    #[serde(flatten)]
    session: SessionView,
}

pub(super) async fn run(
    peer: Peer,
    command: SessionsCommand,
    json: bool,
) -> Result<String, CommandError> {
    match command {
        SessionsCommand::List => list(&peer, json).await,
        SessionsCommand::Get { id } => {
            let path = format!("/api/v1/sessions/{}", segment(&id)?);
            if json {
                return json_line(&peer.fetch::<Value>(&path).await?);
            }
            Ok(shown(&peer.fetch(&path).await?))
        }
        SessionsCommand::Create(wish) => create(&peer, *wish, json).await,
        SessionsCommand::End { id } => {
            let path = format!("/api/v1/sessions/{}", segment(&id)?);
            peer.send(peer.call(Method::Delete, &path)).await?;
            if json {
                return json_line(&json!({ "id": id, "status": "ended" }));
            }
            eprintln!("session {id} ended");
            Ok(String::new())
        }
    }
}

async fn list(peer: &Peer, json: bool) -> Result<String, CommandError> {
    if json {
        return json_line(&peer.fetch::<Value>("/api/v1/sessions").await?);
    }
    let rows: Vec<_> = match peer.fetch("/api/v1/sessions").await? {
        Listed::OfWorker(sessions) => sessions.iter().map(|s| row("", s)).collect(),
        Listed::OfFleet(workers) => workers
            .iter()
            .flat_map(|w| w.sessions.iter().map(|s| row(&w.worker_id, s)))
            .collect(),
    };
    Ok(table(
        [
            "SESSION",
            "WORKER",
            "STATUS",
            "BODY",
            "EXPERIENCE",
            "AGE",
            "VIEWERS",
            "RTT",
            "PATH",
        ],
        &rows,
    ))
}

fn row(worker: &str, session: &SessionView) -> [String; 9] {
    let stats = session.stats.clone().unwrap_or_default();
    [
        session.id.to_string(),
        worker.to_owned(),
        status(session),
        session.body_ip.to_string(),
        session.experience.clone().unwrap_or_default(),
        age(session),
        session.viewers.to_string(),
        stats
            .rtt_ms
            .map(|ms| format!("{ms:.0}ms"))
            .unwrap_or_default(),
        stats.ice_candidate_type.unwrap_or_default(),
    ]
}

fn status(session: &SessionView) -> String {
    match (session.status, session.phase, session.end_reason) {
        (Status::Starting, Some(phase), _) => {
            format!("starting ({})", format!("{phase:?}").to_lowercase())
        }
        (status, _, Some(reason)) => format!("{status} ({reason})"),
        (status, ..) => status.to_string(),
    }
}

fn age(session: &SessionView) -> String {
    clock::human(std::time::Duration::from_millis(session.duration_ms))
}

fn shown(one: &One) -> String {
    let session = &one.session;
    let stats = session.stats.clone().unwrap_or_default();
    pairs(&[
        ("session", Some(session.id.to_string())),
        ("worker", one.worker_id.clone()),
        ("status", Some(status(session))),
        ("detail", session.detail.clone()),
        ("body", Some(session.body_ip.to_string())),
        ("experience", session.experience.clone()),
        ("district", session.district.clone()),
        ("created", Some(session.created_at.clone())),
        ("ready", session.ready_at.clone()),
        ("age", Some(age(session))),
        ("viewers", Some(session.viewers.to_string())),
        ("disconnects", Some(session.disconnect_count.to_string())),
        (
            "microphone",
            Some(if session.mic { "on" } else { "off" }.into()),
        ),
        ("rating", session.rating.map(|n| n.to_string())),
        ("port", Some(session.port.to_string())),
        ("path", session.stream_path.clone()),
        ("connection", stats.connection_state),
        ("candidate", stats.ice_candidate_type),
        ("rtt", stats.rtt_ms.map(|v| format!("{v:.0} ms"))),
        (
            "bitrate",
            stats.bitrate_kbps.map(|v| format!("{v:.0} kbit/s")),
        ),
        ("fps", stats.fps.map(|v| format!("{v:.0}"))),
        ("lost", stats.packets_lost.map(|v| format!("{v} packets"))),
    ])
}

async fn create(peer: &Peer, wish: Wish, json: bool) -> Result<String, CommandError> {
    let key = wish.idempotency_key;
    let request = CreateSession {
        body_ip: wish.body_ip,
        sunshine_user: wish.sunshine_user,
        sunshine_pass: wish.sunshine_pass,
        experience: wish.experience,
        exe_path: wish.exe_path,
        district: wish.district,
        app: wish.app,
        wait: !wish.no_wait,
    };
    let mut call = peer.call(Method::Post, "/api/v1/sessions").json(&request);
    if let Some(key) = key {
        call = call.header("idempotency-key", key);
    }
    let answer = peer.send(call).await?;
    let created: Created = answer
        .json()
        .map_err(|e| CommandError::Refused(e.to_string()))?;
    if json {
        return json_line(&created);
    }
    Ok(pairs(&[
        ("session", Some(created.session_id.to_string())),
        ("worker", Some(created.worker_id)),
        ("status", Some(created.status.to_string())),
        ("stream", Some(created.stream_url)),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_roles_lists_are_understood() {
        let session = r#"{"id":"0123456789abcdef0123456789abcdef","status":"starting",
            "phase":"pairing","body_ip":"10.0.0.1","created_at":"x","connected":false,
            "viewers":0,"disconnect_count":0,"duration_ms":61000,"port":8080}"#;
        let flat: Listed = serde_json::from_str(&format!("[{session}]")).unwrap();
        assert!(matches!(&flat, Listed::OfWorker(s) if s.len() == 1));
        let fleet = format!(r#"[{{"worker_id":"w","sessions":[{session}]}}]"#);
        let Listed::OfFleet(workers) = serde_json::from_str(&fleet).unwrap() else {
            panic!("not read as a fleet's");
        };
        let row = row(&workers[0].worker_id, &workers[0].sessions[0]);
        assert_eq!(&row[1..4], ["w", "starting (pairing)", "10.0.0.1"]);
        assert_eq!(row[5], "1m1s");
    }
}
