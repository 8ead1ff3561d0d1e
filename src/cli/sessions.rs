//! `sessions list|get|create|end`.

use http_types::Method;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::args::{CreateOptions, SessionsCommand};
use super::remote::{CommandError, RemoteServer, json_line, segment};
use super::table::{pairs, table};
use crate::clock;
use crate::protocol::reading::{self, Each};
use crate::protocol::{CreateSession, Created, SessionView, Status, WorkerSessions};

/// Both roles' lists, as pairs of worker and session: a controller's has the workers, a worker's is
/// flat. What cannot be read is said on stderr.
fn listed(list: Value) -> Result<Vec<(String, SessionView)>, serde_json::Error> {
    let is_of_fleet = list.get(0).is_some_and(|e| e.get("sessions").is_some());
    let workers = if is_of_fleet {
        Each::<WorkerSessions>::deserialize(list)?
    } else {
        let sessions = Each::deserialize(list)?;
        Each::from(vec![WorkerSessions {
            worker_id: String::new(),
            sessions,
        }])
    };
    let unread = workers.iter().flat_map(|w| &w.sessions.left_out);
    for unread in workers.left_out.iter().chain(unread) {
        eprintln!("cannot read {unread}");
    }
    let pairs = workers.into_vec().into_iter().flat_map(|w| {
        let sessions = w.sessions.into_vec().into_iter();
        sessions.map(move |session| (w.worker_id.clone(), session))
    });
    Ok(pairs.collect())
}

pub(super) async fn run(
    peer: RemoteServer,
    command: SessionsCommand,
    json: bool,
) -> Result<String, CommandError> {
    match command {
        SessionsCommand::List => list(&peer, json).await,
        SessionsCommand::Get { id } => {
            let path = format!("/api/v1/sessions/{}", segment(&id)?);
            let one = peer.fetch::<Value>(&path).await?;
            if json {
                return json_line(&one);
            }
            // A controller names the worker beside the session.
            let worker = one.get("worker_id").and_then(Value::as_str);
            let worker = worker.map(str::to_owned);
            let session = reading::read_value(one)
                .map_err(|unread| CommandError::Refused(format!("{}: {unread}", peer.url())))?;
            Ok(shown(worker, &session.value))
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

async fn list(peer: &RemoteServer, json: bool) -> Result<String, CommandError> {
    if json {
        return json_line(&peer.fetch::<Value>("/api/v1/sessions").await?);
    }
    let list = listed(peer.fetch("/api/v1/sessions").await?);
    let list = list.map_err(|e| CommandError::Refused(format!("{}: {e}", peer.url())))?;
    let rows: Vec<_> = list.iter().map(|(worker, s)| row(worker, s)).collect();
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
        body(session).unwrap_or_default(),
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
        (Status::Starting, Some(phase), _) => format!("starting ({phase})"),
        (status, _, Some(reason)) => format!("{status} ({reason})"),
        (status, ..) => status.to_string(),
    }
}

fn body(session: &SessionView) -> Option<String> {
    session.body_ip.map(|ip| ip.to_string())
}

fn age(session: &SessionView) -> String {
    clock::human(std::time::Duration::from_millis(session.duration_ms))
}

fn shown(worker: Option<String>, session: &SessionView) -> String {
    let stats = session.stats.clone().unwrap_or_default();
    pairs(&[
        ("session", Some(session.id.to_string())),
        ("worker", worker),
        ("status", Some(status(session))),
        ("detail", session.detail.clone()),
        ("body", body(session)),
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

async fn create(
    peer: &RemoteServer,
    wish: CreateOptions,
    json: bool,
) -> Result<String, CommandError> {
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
        takeover: wish.takeover,
    };
    let mut call = peer.call(Method::Post, "/api/v1/sessions").json(&request);
    if let Some(key) = key {
        call = call.header("idempotency-key", key);
    }
    let answer = peer.send(call).await?;
    let created: Created = answer
        .read()
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
        let list = |text: &str| listed(serde_json::from_str(text).unwrap()).unwrap();
        let flat = list(&format!("[{session}]"));
        assert!(matches!(&flat[..], [(worker, _)] if worker.is_empty()));
        let fleet = format!(r#"[{{"worker_id":"w","sessions":[{session}]}}]"#);
        let (worker, session) = &list(&fleet)[0];
        let row = row(worker, session);
        assert_eq!(&row[1..4], ["w", "starting (pairing)", "10.0.0.1"]);
        assert_eq!(row[5], "1m1s");
    }
}
