//! The steps of a session's life: each does one thing and says how it went.

mod leaving;
mod pairing;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::body_owners::Claim;
use super::session_handle::SessionHandle;
use super::{Worker, ice_servers, pairing_gc};
use crate::body::SessionBody;
use crate::body::pairing::{BodyHold, FINISH};
use crate::body::stream_api::{StreamApi, StreamApiError, USER_HEADER};
use crate::session::lifecycle::{Incarnation, Input, ProbeNumber};
use crate::session::program_config::{
    ProgramSettings, Seed, StreamerAddress, StreamerIceServer, path_prefix,
};
use crate::session::stream_process::Exit;
use crate::sync::Mutex;
use crate::{clock, descriptors, exec, ids};

pub(super) use leaving::leave;
pub(super) use pairing::pair;

/// Wait for the stream program's first answer; it needs 25 to 40 ms, a loaded machine more.
const READY: Duration = Duration::from_secs(15);
/// Wait for a probe's answer.
const PROBE: Duration = Duration::from_secs(5);
/// Wait for a pairing that is being cancelled: a call to Sunshine under way, and its handshake.
const PAIRING_ENDS: Duration = FINISH.saturating_add(Duration::from_secs(1));
/// Time for ending every process of a session: SIGINT, 2 s, SIGKILL, and the kernel's work.
const KILL: Duration = Duration::from_secs(6);
/// Silence after which a peer counts as disconnected, until the body's distance is known.
const ICE_DISCONNECTED: Duration = Duration::from_secs(15);
/// Where the stream program keeps its hosts, below its session's directory.
const DATA: &str = "server/data.json";
/// How much of the stream program's output explains a failed start.
const TAIL: u32 = 400;

/// What one step of a session needs from the steps before it.
#[derive(Clone, Debug)]
pub(super) struct StepContext {
    pub(super) body: Option<SessionBody>,
    shared: Arc<Mutex<Shared>>,
    /// Held while the session pairs.
    pairing: Arc<smol::lock::Mutex<()>>,
    /// Until the session is gone and has left the body.
    _claim: Arc<Claim>,
}

#[derive(Debug, Default)]
struct Shared {
    ice_disconnected: Option<Duration>,
    /// The kept client with which the program was started.
    seeded: Option<Seeded>,
    /// Set once a start with a kept client failed.
    is_unseeded: bool,
    /// Kept from before a pairing until nothing of it can be pending.
    hold: Option<BodyHold>,
}

/// A kept client, as far as the steps need it.
#[derive(Clone, Debug)]
struct Seeded {
    client: String,
    unique_id: String,
}

impl StepContext {
    pub(super) fn new(body: Option<SessionBody>, claim: Claim) -> Self {
        Self {
            body,
            shared: Arc::default(),
            pairing: Arc::default(),
            _claim: Arc::new(claim),
        }
    }

    /// Waits until no pairing is under way.
    async fn pairing_ended(&self) {
        let _ = clock::by(clock::now() + PAIRING_ENDS, self.pairing.lock()).await;
    }

    fn with<T>(&self, work: impl FnOnce(&mut Shared) -> T) -> T {
        work(&mut self.shared.lock())
    }
}

pub(super) async fn reach(_worker: Arc<Worker>, live: Arc<SessionHandle>, stage: StepContext) {
    let Some(body) = &stage.body else {
        return live
            .report(Input::ReachFailed(
                "its address is no longer allowed".into(),
            ))
            .await;
    };
    match body.reach().await {
        Ok(reach) => {
            stage.with(|s| s.ice_disconnected = Some(reach.ice_disconnected_timeout()));
            // Written down with the next step, before anything is left on the body.
            live.set_traces(body.traces(live.wish.launch.clone()));
            log::info!(target: "session", session = live.id.as_str();
                "body={} reached rtt_ms={}", body.ip(), reach.rtt.as_millis());
            live.report(Input::BodyReached).await;
        }
        Err(error) if error.is_refusal() => {
            live.report(Input::BodyRefused(error.to_string())).await
        }
        Err(error) => live.report(Input::ReachFailed(error.to_string())).await,
    }
}

pub(super) async fn spawn(
    worker: Arc<Worker>,
    live: Arc<SessionHandle>,
    stage: StepContext,
    run: Incarnation,
) {
    let spawning = live.spawning.lock().await;
    let outcome = if live.is_abandoned(run) {
        Err("it was given up before it was started".to_owned())
    } else {
        prepare_and_spawn(&worker, &live, &stage).await
    };
    let said = match outcome {
        Ok(running) => {
            let running = Arc::new(running);
            if live.traces().host_id.is_none() && stage.with(|s| s.seeded.is_some()) {
                live.report(Input::Seeded(run)).await;
            }
            log::info!(target: "session", session = live.id.as_str();
                "stream process pid={} port={}", running.pid(), live.port);
            live.set_running(Some(Arc::clone(&running)));
            watch(&live, running, run);
            Input::Spawned(run)
        }
        Err(why) => Input::SpawnFailed(run, why),
    };
    drop(spawning);
    live.report(said).await;
}

/// Tells the session when its stream process ends.
pub(super) fn watch(
    live: &Arc<SessionHandle>,
    running: Arc<crate::session::stream_process::StreamProcess>,
    run: Incarnation,
) {
    let live = Arc::clone(live);
    exec::spawn(async move {
        let how = match running.exited().await {
            Exit::Code(code) => format!("it exited with code {code}"),
            Exit::Signal(signal) => format!("it was killed by signal {signal}"),
            Exit::Unknown => "it is gone".to_owned(),
        };
        let words = running.last_words(TAIL).await;
        let why = match words.trim() {
            "" => how,
            words => format!("{how}; its last words: {words}"),
        };
        live.report(Input::ProcessExited(run, why)).await;
    })
    .detach();
}

async fn prepare_and_spawn(
    worker: &Arc<Worker>,
    live: &Arc<SessionHandle>,
    stage: &StepContext,
) -> Result<crate::session::stream_process::StreamProcess, String> {
    let program = worker.program.usable()?;
    let (script, files) = ice_servers::script(worker, live).unzip();
    let files = files.unwrap_or_default();
    let mut settings = program_settings(worker, live, stage, script);
    let mut seeded = None;
    if let Some(body) = &stage.body {
        let is_paired = live.traces().host_id.is_some();
        let failed = stage.with(|s| s.seeded.take_if(|_| !is_paired));
        if let Some(Seeded { client, .. }) = failed {
            log::warn!(target: "pairing", session = live.id.as_str();
                "the start with the kept identity of {client} failed, starting without it");
            body.drop_kept(&client).await;
            pairing_gc::owe(worker, body);
            stage.with(|s| s.is_unseeded = true);
            drop_data(live).await?;
        } else if !stage.with(|s| s.is_unseeded) {
            let kept = body.kept().await;
            seeded = kept.as_ref().map(|identity| Seeded {
                client: identity.client.clone(),
                unique_id: identity.unique_id().to_owned(),
            });
            settings.seed = kept.map(|identity| Seed {
                client_unique_id: identity.unique_id().to_owned(),
                host: identity.host(),
            });
        }
    }
    let (dir, wanted, existing) = (
        worker.sessions_dir.clone(),
        program.clone(),
        live.workspace.clone(),
    );
    let workspace = smol::unblock(move || {
        let fresh = !existing.path().exists();
        let workspace = if fresh {
            dir.create(existing.id())?
        } else {
            existing
        };
        for (name, content, mode) in &files {
            workspace.write_file(name, content, *mode)?;
        }
        // A restart in place keeps the data of the run before, where the pairing is.
        workspace.configure(&wanted, &settings)?;
        Ok::<_, crate::session::workspace::WorkspaceError>((workspace, fresh))
    });
    let (workspace, fresh) = workspace.await.map_err(|e| e.to_string())?;
    if fresh {
        stage.with(|s| s.seeded = seeded);
    }
    let spawned = worker.supervisor.spawn(&program, &workspace).await;
    let running = spawned.map_err(|e| e.to_string())?;
    live.set_streamer(Some(program.streamer));
    Ok(running)
}

/// Removes what the program of a failed start knew.
async fn drop_data(live: &SessionHandle) -> Result<(), String> {
    let data = live.workspace.path().join(DATA);
    let removed = smol::unblock(move || std::fs::remove_file(data)).await;
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    }
}

fn program_settings(
    worker: &Worker,
    live: &SessionHandle,
    stage: &StepContext,
    script: Option<PathBuf>,
) -> ProgramSettings {
    let settings = &worker.settings;
    // What the script prints comes in addition.
    let servers = match script {
        Some(_) => ice_servers::configured(worker),
        None => ice_servers::servers(worker, live),
    };
    let direct = settings
        .public_ip
        .map_or(StreamerAddress::Direct, StreamerAddress::PublicAddress);
    ProgramSettings {
        id: live.id.clone(),
        port: live.port,
        user_header: USER_HEADER.to_owned(),
        user: live.program_user.clone(),
        ice_servers: servers
            .into_iter()
            .map(|(urls, username, credential)| StreamerIceServer {
                urls,
                username,
                credential,
            })
            .collect(),
        ice_server_script: script,
        udp_ports: live.udp.clone(),
        // The browser is held to the relay; the streamer stands beside it and offers itself.
        reach: if settings.relay_only {
            direct
        } else {
            StreamerAddress::Direct
        },
        include_loopback_candidates: !settings.relay_only,
        ice_disconnected_timeout: stage
            .with(|s| s.ice_disconnected)
            .unwrap_or(ICE_DISCONNECTED),
        bitrate: settings.bitrate,
        fps: settings.fps,
        video_size: settings.video_size.clone(),
        seed: None,
    }
}

fn api(live: &SessionHandle) -> Result<StreamApi, String> {
    StreamApi::new(live.port, &path_prefix(&live.id), &live.program_user).map_err(|e| e.to_string())
}

pub(super) async fn await_program(worker: Arc<Worker>, live: Arc<SessionHandle>, run: Incarnation) {
    let ready = match api(&live) {
        Ok(api) => api.ready(READY).await.map_err(|e| e.to_string()),
        Err(why) => Err(why),
    };
    live.report(match ready {
        Ok(_) => {
            worker.start_succeeded();
            Input::ProgramReady(run)
        }
        Err(why) => Input::ProgramFailed(run, why),
    })
    .await;
}

pub(super) async fn probe(live: Arc<SessionHandle>, run: Incarnation, probe: ProbeNumber) {
    let said = match StreamApi::new(live.port, &path_prefix(&live.id), &live.program_user) {
        Ok(api) => api.ready(PROBE).await.map(drop),
        Err(error) => Err(error),
    };
    live.settle_streamers().await;
    live.report(match said {
        Ok(()) => Input::ProbeOk(run, probe),
        Err(StreamApiError::Unsent(error)) => {
            descriptors::note(format!(
                "session {} could not be probed: {error}; check LimitNOFILE, memory and ports of this machine",
                live.id
            ));
            Input::ProbeUnsent(run, probe)
        }
        Err(_) => Input::ProbeFailed(run, probe),
    })
    .await;
}

pub(super) async fn kill(
    worker: Arc<Worker>,
    live: Arc<SessionHandle>,
    stage: StepContext,
    run: Incarnation,
) {
    stage.pairing_ended().await;
    // A start in flight comes to its end first, so that there is something to kill.
    let Ok(_spawning) = clock::by(clock::now() + KILL, live.spawning.lock()).await else {
        log::error!(target: "session", session = live.id.as_str(); "its start takes for ever");
        // The lifecycle asks again.
        return;
    };
    if let Some(running) = live.running() {
        let ended = running.end(clock::now() + KILL).await;
        if !ended.left.is_empty() {
            log::error!(target: "session", session = live.id.as_str(); "processes {:?} survive SIGKILL", ended.left);
            // The lifecycle asks again.
            return;
        }
        if ended.killed > 0 {
            log::info!(target: "session", session = live.id.as_str(); "killed {} left-over processes", ended.killed);
        }
        live.set_running(None);
    }
    worker.proxy.forget(&live.upstream());
    live.report(Input::TreeGone(run)).await;
}

pub(super) async fn remove_workspace(live: Arc<SessionHandle>) {
    let workspace = live.workspace.clone();
    match smol::unblock(move || workspace.remove()).await {
        Ok(()) => live.report(Input::WorkspaceRemoved).await,
        // The lifecycle asks again.
        Err(error) => log::error!(target: "session", session = live.id.as_str(); "{error}"),
    }
}

/// A name for the stream program's user: never used twice, because Sunshine keeps what it knows
/// of a name that failed to pair.
pub(super) fn program_user() -> String {
    format!("neck-{}", ids::label())
}
