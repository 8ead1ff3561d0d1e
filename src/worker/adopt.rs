//! What the process before this one left: adopt what lives, reap what does not.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::admit::launch_of;
use super::driver::Driver;
use super::effects::{self, StepContext};
use super::session_handle::{Birth, SessionHandle, SessionRequest, SessionResources, snippet};
use super::{Worker, ice_servers};
use crate::body::experience::Launch;
use crate::body::sunshine::SunshineCredentials;
use crate::body::{CleanupRecord, SessionBody};
use crate::clock::{self, Mark};
use crate::http::idempotency::RequestKey;
use crate::ids::SessionId;
use crate::protocol::{CreateSession, EndReason};
use crate::secret::Secret;
use crate::session::ledger::{LedgerEntry, Listed};
use crate::session::lifecycle::{Lifecycle, Snapshot};
use crate::session::workspace::Workspace;
use crate::session::{processes, recovery, salvage};

/// Reads the ledger and goes through it; a `[cleanup]` line for each session.
pub(super) async fn adopt_or_reap(worker: &Arc<Worker>) {
    let ledger = worker.ledger.clone();
    let listed = smol::unblock(move || ledger.entries()).await;
    let Listed {
        mut entries,
        mut broken,
        unread,
    } = listed.unwrap_or_else(|error| Listed {
        unread: Some(error),
        ..Listed::default()
    });
    let (sessions, cgroups) = (
        worker.sessions_dir.clone(),
        worker.supervisor.cgroups().cloned(),
    );
    let (survey, broken) = smol::unblock(move || {
        for entry in entries.iter_mut().chain(&mut broken) {
            salvage::complete(entry, &sessions, cgroups.as_ref());
        }
        (recovery::survey(entries), recovery::survey(broken))
    })
    .await;
    let mut known: HashSet<SessionId> = HashSet::new();
    // First those that go on: who ends must see them on the body.
    for entry in survey.adoptable {
        known.insert(entry.id.clone());
        if let Err(why) = adopt(worker, &entry, true).await {
            log::warn!(target: "cleanup", "session {} cannot be adopted: {why}", entry.id);
            reap(worker, &entry).await;
        } else {
            log::info!(target: "cleanup", "session {} adopted port={} pid={}", entry.id, entry.port,
                entry.process.map_or(0, |p| p.pid));
        }
    }
    for entry in broken.adoptable.iter().chain(&broken.dead) {
        known.insert(entry.id.clone());
        end(worker, entry).await;
    }
    for entry in survey.dead {
        known.insert(entry.id.clone());
        reap(worker, &entry).await;
    }
    if let Some(error) = unread {
        // What carries this worker's mark may be a session of the entry that could not be read.
        log::error!(target: "cleanup", "{error}; nothing else of an earlier process is ended");
        return worker.shortages.ledger_unread(&error.to_string());
    }
    recovery::sweep(&worker.sessions_dir, &known, worker.supervisor.cgroups()).await;
}

/// Ends a session whose entry makes no sense like any other that ends, as far as it is known: its
/// process is asked to end, then killed, the body is left and the record is made.
async fn end(worker: &Arc<Worker>, entry: &LedgerEntry) {
    let (seen, streamer) = (entry.clone(), worker.streamer());
    let streams = smol::unblock(move || salvage::is_streaming(&seen, &streamer)).await;
    let mut entry = entry.clone();
    let mut life: Snapshot = entry.kept("life").unwrap_or_else(unknown_life);
    life.end_reason.get_or_insert(EndReason::ProcessExited);
    let mut traces: CleanupRecord = entry.kept("traces").unwrap_or_default();
    traces.streamed |= streams;
    let kept = [
        ("life", serde_json::to_value(life)),
        ("traces", serde_json::to_value(traces)),
    ];
    for (name, value) in kept {
        entry
            .extra
            .insert(name.to_owned(), value.unwrap_or_default());
    }
    log::warn!(target: "cleanup", "session {} is ended, its ledger entry makes no sense: port={} pid={}",
        entry.id, entry.port, entry.process.map_or(0, |p| p.pid));
    match entry.process {
        Some(_) if adopt(worker, &entry, true).await.is_ok() => {}
        _ => reap(worker, &entry).await,
    }
}

/// A life of which nothing is known: a process may run, and the body may have been touched.
fn unknown_life() -> Snapshot {
    Snapshot {
        run: 1,
        body_touched: true,
        ..Snapshot::default()
    }
}

/// The life that the entry tells of, completed from the rest of the entry.
fn life_of(entry: &LedgerEntry, is_alive: bool) -> Snapshot {
    let mut life: Snapshot = entry.kept("life").unwrap_or_else(unknown_life);
    life.stream_path = life.stream_path.or_else(|| entry.stream_path.clone());
    if entry.process.is_some() {
        // Whatever runs is ended with the session.
        life.run = life.run.max(1);
    }
    match (is_alive, life.end_reason) {
        (true, Some(EndReason::Other(reason))) => {
            log::warn!(target: "cleanup", "session {} goes on: this version does not know its end reason {reason:?}", entry.id);
            life.end_reason = None;
        }
        (false, None) => {
            life.end_reason = Some(match life.stream_path {
                Some(_) => EndReason::ProcessExited,
                None => EndReason::StartFailed,
            });
        }
        _ => {}
    }
    life
}

/// The stored request; of one that cannot be read, what the rest of the entry says.
fn request_of(entry: &LedgerEntry) -> Result<CreateSession, String> {
    let mut entry = entry.clone();
    let body: serde_json::Value = entry.body_ip.to_string().into();
    let known = serde_json::json!({
        "body_ip": body, "experience": entry.experience, "district": entry.district,
    });
    let stored = entry.extra.entry("request".to_owned()).or_default();
    match stored.as_object_mut() {
        Some(fields) => {
            fields.entry("body_ip").or_insert(body);
        }
        None => *stored = known.clone(),
    }
    if let Some(request) = entry.kept("request") {
        return Ok(request);
    }
    serde_json::from_value(known).map_err(|error| error.to_string())
}

/// Ends a session whose process is dead like any other that ends, so that the body is left and
/// the record is made; what its tree left is killed first.
async fn reap(worker: &Arc<Worker>, entry: &LedgerEntry) {
    recovery::reap(entry, &worker.sessions_dir, worker.supervisor.cgroups()).await;
    if let Err(why) = adopt(worker, entry, false).await {
        log::warn!(target: "cleanup", "session {} is gone without a record: {why}", entry.id);
        let (ledger, id) = (worker.ledger.clone(), entry.id.clone());
        if let Err(error) = smol::unblock(move || ledger.forget(&id)).await {
            log::error!(target: "cleanup", "{error}");
        }
    }
}

fn kept<T: serde::de::DeserializeOwned>(entry: &LedgerEntry, name: &str) -> Option<T> {
    serde_json::from_value(entry.extra.get(name)?.clone()).ok()
}

/// When the session began. After a start of the machine the wall clock has to do.
fn birth(entry: &LedgerEntry) -> Birth {
    let at = humantime::parse_rfc3339(&entry.created_at).unwrap_or_else(|_| clock::wall());
    let is_of_today = entry.boot.is_some() && entry.boot == processes::boot();
    let mark = match entry.begun_ms.filter(|_| is_of_today) {
        Some(since_boot) => Mark::from_millis(since_boot),
        None => Mark::ago(clock::wall().duration_since(at).unwrap_or_default()),
    };
    Birth { at, mark }
}

/// The stream program asks for ICE servers anew for every stream: they are those of today's
/// configuration.
async fn refresh(worker: &Arc<Worker>, live: &Arc<SessionHandle>) {
    let Some((_, files)) = ice_servers::script(worker, live) else {
        return;
    };
    let workspace = live.workspace.clone();
    let written = smol::unblock(move || {
        let mut files = files.iter();
        files.try_for_each(|(name, content, mode)| workspace.write_file(name, content, *mode))
    });
    if let Err(error) = written.await {
        log::warn!(target: "cleanup", "session {} keeps its old TURN credentials: {error}", live.id);
    }
}

async fn adopt(worker: &Arc<Worker>, entry: &LedgerEntry, is_alive: bool) -> Result<(), String> {
    let snapshot = life_of(entry, is_alive);
    let request = request_of(entry)?;
    let mut traces: CleanupRecord = entry.kept("traces").unwrap_or_default();
    traces.client = traces.client.or_else(|| entry.pairing_name.clone());
    if traces.launch.is_none() {
        traces.launch = launch_of(&request).map(|launch| Launch {
            session_id: entry.id.to_string(),
            ..launch
        });
    }
    let slot = match worker.ports.claim_port(entry.port) {
        Err(error) if is_alive && snapshot.end_reason.is_none() => return Err(error.to_string()),
        slot => slot.ok(),
    };
    let workspace = Workspace::recorded(&entry.workspace, &entry.id)
        .ok_or("its ledger entry has no directory")?;
    let place = SessionResources {
        port: entry.port,
        udp: entry.udp.0..=entry.udp.1,
        slot,
        workspace,
    };
    let settings = &worker.settings;
    let (user, password) = match entry.credentials.clone() {
        Some(credentials) => (credentials.user, credentials.password),
        None => (
            request
                .sunshine_user
                .clone()
                .or_else(|| settings.sunshine_user.clone())
                .unwrap_or_default(),
            request
                .sunshine_pass
                .clone()
                .map(Secret::new)
                .or_else(|| settings.sunshine_password.clone())
                .unwrap_or_else(|| Secret::new("")),
        ),
    };
    let wish = SessionRequest {
        request,
        user,
        password,
        launch: traces.launch.clone(),
        key: kept::<Option<RequestKey>>(entry, "idempotency").flatten(),
    };
    let body: Option<SessionBody> =
        SunshineCredentials::new(wish.user.clone(), wish.password.clone())
            .ok()
            .and_then(|c| worker.bodies.body(entry.body_ip, c).ok());
    let tag = snippet(&entry.id, &wish, settings);
    let run = snapshot.run;
    let (live, inbox) = SessionHandle::new(
        entry.id.clone(),
        wish,
        place,
        entry.user.clone(),
        tag,
        birth(entry),
    );
    live.set_traces(traces);
    let streamer = kept::<Option<PathBuf>>(entry, "streamer").flatten();
    live.set_streamer(streamer.or_else(|| Some(worker.streamer())));
    live.set_ready_at(
        entry
            .ready_at
            .as_deref()
            .and_then(|t| humantime::parse_rfc3339(t).ok()),
    );
    if let Some(score) = kept::<Option<u8>>(entry, "rating").flatten() {
        live.rate(score);
    }
    if let Some(key) = live.wish.key.as_ref().filter(|_| is_alive) {
        worker.keys.restore(key, live.id.clone());
    }
    if is_alive {
        let running = Arc::new(
            worker
                .supervisor
                .adopt(entry)
                .await
                .map_err(|e| e.to_string())?,
        );
        live.set_running(Some(Arc::clone(&running)));
        refresh(worker, &live).await;
        effects::watch(&live, running, run);
    }
    let life = Lifecycle::adopted(clock::now(), live.age(), settings.life, snapshot);
    // Nobody is to see it start again.
    live.show(live.look(&life.0));
    worker.roster.add(&live);
    let claim = worker.owners.add(entry.body_ip, &live.id);
    Driver::new(worker, &live, life, StepContext::new(body, claim)).start(inbox);
    Ok(())
}
