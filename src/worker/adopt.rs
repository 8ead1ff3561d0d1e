//! What the process before this one left: adopt what lives, reap what does not.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::driver::Driver;
use super::live::{Birth, Live, Place, Wish, snippet};
use super::steps::{self, Stage};
use super::{Worker, ice};
use crate::body::sunshine::Credentials;
use crate::body::{Body, Traces};
use crate::clock::{self, Mark};
use crate::ids::SessionId;
use crate::protocol::{CreateSession, EndReason};
use crate::session::ledger::{Entry, Listed};
use crate::session::lifecycle::{Lifecycle, Snapshot};
use crate::session::workspace::Workspace;
use crate::session::{orphans, processes};

/// Reads the ledger and goes through it; a `[cleanup]` line for each session.
pub(super) async fn adopt_or_reap(worker: &Arc<Worker>) {
    let ledger = worker.ledger.clone();
    let listed = smol::unblock(move || ledger.entries()).await;
    let Listed {
        entries,
        broken,
        unread,
    } = listed.unwrap_or_else(|error| Listed {
        unread: Some(error),
        ..Listed::default()
    });
    let survey = smol::unblock(move || orphans::survey(entries)).await;
    let mut known: HashSet<SessionId> = HashSet::new();
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
    for id in &broken {
        log::warn!(target: "cleanup", "session {id} has no ledger entry that can be read; its processes are ended");
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
    orphans::sweep(&worker.sessions_dir, &known, worker.supervisor.cgroups()).await;
}

/// Ends a session whose process is dead like any other that ends, so that the body is left and
/// the record is made; what its tree left is killed first.
async fn reap(worker: &Arc<Worker>, entry: &Entry) {
    orphans::reap(entry, &worker.sessions_dir, worker.supervisor.cgroups()).await;
    if let Err(why) = adopt(worker, entry, false).await {
        log::warn!(target: "cleanup", "session {} is gone without a record: {why}", entry.id);
        let (ledger, id) = (worker.ledger.clone(), entry.id.clone());
        if let Err(error) = smol::unblock(move || ledger.forget(&id)).await {
            log::error!(target: "cleanup", "{error}");
        }
    }
}

fn kept<T: serde::de::DeserializeOwned>(entry: &Entry, name: &str) -> Option<T> {
    serde_json::from_value(entry.extra.get(name)?.clone()).ok()
}

/// When the session began. After a start of the machine the wall clock has to do.
fn birth(entry: &Entry) -> Birth {
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
async fn refresh(worker: &Arc<Worker>, live: &Arc<Live>) {
    let Some((_, files)) = ice::script(worker, live) else {
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

async fn adopt(worker: &Arc<Worker>, entry: &Entry, is_alive: bool) -> Result<(), String> {
    let mut snapshot: Snapshot = kept(entry, "life").ok_or("its ledger entry has no lifecycle")?;
    if !is_alive {
        snapshot
            .end_reason
            .get_or_insert(match snapshot.stream_path {
                Some(_) => EndReason::ProcessExited,
                None => EndReason::StartFailed,
            });
    }
    let request: CreateSession = kept(entry, "request").ok_or("its ledger entry has no request")?;
    let traces: Traces = kept(entry, "traces").unwrap_or_default();
    let slot = match worker.ports.claim_port(entry.port) {
        Err(error) if is_alive => return Err(error.to_string()),
        slot => slot.ok(),
    };
    let workspace = Workspace::recorded(&entry.workspace, &entry.id)
        .ok_or("its ledger entry has no directory")?;
    let place = Place {
        port: entry.port,
        udp: entry.udp.0..=entry.udp.1,
        slot,
        workspace,
    };
    let credentials = entry
        .credentials
        .clone()
        .ok_or("its ledger entry has no credentials")?;
    let wish = Wish {
        request,
        user: credentials.user,
        password: credentials.password,
        launch: traces.launch.clone(),
    };
    let body: Option<Body> = Credentials::new(wish.user.clone(), wish.password.clone())
        .ok()
        .and_then(|c| worker.bodies.body(entry.body_ip, c).ok());
    let settings = &worker.settings;
    let tag = snippet(&entry.id, &wish, settings);
    let run = snapshot.run;
    let (live, inbox) = Live::new(
        entry.id.clone(),
        wish,
        place,
        entry.user.clone(),
        tag,
        birth(entry),
    );
    live.set_traces(traces);
    let streamer = kept::<Option<PathBuf>>(entry, "streamer").flatten();
    live.set_streamer(streamer.or_else(|| Some(worker.program.streamer.clone())));
    live.set_ready_at(
        entry
            .ready_at
            .as_deref()
            .and_then(|t| humantime::parse_rfc3339(t).ok()),
    );
    if let Some(score) = kept::<Option<u8>>(entry, "rating").flatten() {
        live.rate(score);
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
        steps::watch(&live, running, run);
    }
    let life = Lifecycle::adopted(clock::now(), live.age(), settings.life, snapshot);
    // Nobody is to see it start again.
    live.show(live.look(&life.0));
    worker.roster.add(&live);
    Driver::new(worker, &live, life, Stage::new(body)).start(inbox);
    Ok(())
}
