//! The steps of a session's life: each does one thing and says how it went.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::live::Live;
use super::{Worker, ice, tidy};
use crate::body::program::{Program as Api, ProgramError, USER_HEADER};
use crate::body::{Body, Neighbours, Paired};
use crate::protocol::{Phase, Status};
use crate::session::lifecycle::{Input, ProbeNumber, Run};
use crate::session::program_config::{
    IceServer, Reach, SEED_HOST, Seed, Settings as ProgramSettings, path_prefix,
};
use crate::session::running::Exit;
use crate::{clock, exec, ids};

/// Wait for the stream program's first answer; it needs 25 to 40 ms, a loaded machine more.
const READY: Duration = Duration::from_secs(15);
/// Wait for a probe's answer.
const PROBE: Duration = Duration::from_secs(5);
/// Time for pairing: `sessions.start_timeout` cuts it shorter where that is configured.
const PAIR: Duration = Duration::from_secs(30);
/// Time for undoing everything on the body.
const LEAVE: Duration = Duration::from_secs(8);
/// Time for ending every process of a session: SIGINT, 2 s, SIGKILL, and the kernel's work.
const KILL: Duration = Duration::from_secs(6);
/// Time for the stream program to write its `data.json` after pairing.
const KEEP: Duration = Duration::from_secs(2);
/// Silence after which a peer counts as disconnected, until the body's distance is known.
const ICE_DISCONNECTED: Duration = Duration::from_secs(15);
/// How much of the stream program's output explains a failed start.
const TAIL: u32 = 400;

/// What the steps of one session hand on to each other.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) body: Option<Body>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    ice_disconnected: Option<Duration>,
    /// As which host the body was in the program's first `data.json`.
    seeded: Option<u32>,
    paired: Option<Paired>,
}

impl Stage {
    pub(super) fn new(body: Option<Body>) -> Self {
        Self {
            body,
            shared: Arc::default(),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Shared) -> T) -> T {
        work(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) async fn reach(_worker: Arc<Worker>, live: Arc<Live>, stage: Stage) {
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

pub(super) async fn spawn(worker: Arc<Worker>, live: Arc<Live>, stage: Stage, run: Run) {
    let spawning = live.spawning.lock().await;
    let outcome = if live.is_abandoned(run) {
        Err("it was given up before it was started".to_owned())
    } else {
        prepare_and_spawn(&worker, &live, &stage).await
    };
    let said = match outcome {
        Ok(running) => {
            let running = Arc::new(running);
            log::info!(target: "session", session = live.id.as_str();
                "stream process pid={} port={}", running.pid(), live.port);
            live.set_streamer(Some(worker.program.streamer.clone()));
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
pub(super) fn watch(live: &Arc<Live>, running: Arc<crate::session::running::Running>, run: Run) {
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
    live: &Arc<Live>,
    stage: &Stage,
) -> Result<crate::session::running::Running, String> {
    let mut settings = program_settings(worker, live, stage);
    let mut files = Vec::new();
    if let Some((script, parts)) = ice::script(worker, live) {
        settings.ice_server_script = Some(script);
        files = parts;
    }
    if let Some(body) = &stage.body {
        settings.seed = body.kept().await.map(|identity| Seed {
            client_unique_id: identity.unique_id().to_owned(),
            host: identity.host(),
        });
    }
    let (dir, program, existing) = (
        worker.sessions_dir.clone(),
        worker.program.clone(),
        live.workspace.clone(),
    );
    let seeded = settings.seed.as_ref().map(|_| SEED_HOST);
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
        workspace.configure(&program, &settings)?;
        Ok::<_, crate::session::workspace::WorkspaceError>((workspace, fresh))
    });
    let (workspace, fresh) = workspace.await.map_err(|e| e.to_string())?;
    if fresh {
        stage.with(|s| s.seeded = seeded);
    }
    worker
        .supervisor
        .spawn(&worker.program, &workspace)
        .await
        .map_err(|e| e.to_string())
}

fn program_settings(worker: &Worker, live: &Live, stage: &Stage) -> ProgramSettings {
    let settings = &worker.settings;
    let direct = settings
        .public_ip
        .map_or(Reach::Direct, Reach::PublicAddress);
    ProgramSettings {
        id: live.id.clone(),
        port: live.port,
        user_header: USER_HEADER.to_owned(),
        user: live.program_user.clone(),
        ice_servers: ice::servers(worker, live)
            .into_iter()
            .map(|(urls, username, credential)| IceServer {
                urls,
                username,
                credential,
            })
            .collect(),
        ice_server_script: None, // set with its files
        udp_ports: live.udp.clone(),
        // The browser is held to the relay; the streamer stands beside it and offers itself.
        reach: if settings.relay_only {
            direct
        } else {
            Reach::Direct
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

fn api(live: &Live) -> Result<Api, String> {
    Api::new(live.port, &path_prefix(&live.id), &live.program_user).map_err(|e| e.to_string())
}

pub(super) async fn await_program(live: Arc<Live>, run: Run) {
    let ready = match api(&live) {
        Ok(api) => api.ready(READY).await.map_err(|e| e.to_string()),
        Err(why) => Err(why),
    };
    live.report(match ready {
        Ok(_) => Input::ProgramReady(run),
        Err(why) => Input::ProgramFailed(run, why),
    })
    .await;
}

pub(super) async fn probe(worker: Arc<Worker>, live: Arc<Live>, run: Run, probe: ProbeNumber) {
    let said = match Api::new(live.port, &path_prefix(&live.id), &live.program_user) {
        Ok(api) => api.ready(PROBE).await.map(drop),
        Err(error) => Err(error),
    };
    live.settle_streamers().await;
    live.report(match said {
        Ok(()) => Input::ProbeOk(run, probe),
        Err(ProgramError::Unsent(error)) => {
            worker
                .shortages
                .call_failed(&format!("a stream process could not be probed: {error}"));
            Input::ProbeUnsent(run, probe)
        }
        Err(_) => Input::ProbeFailed(run, probe),
    })
    .await;
}

/// Pairs, launches the experience and finds the stream's address.
pub(super) async fn pair(worker: Arc<Worker>, live: Arc<Live>, stage: Stage, run: Run) {
    let outcome = pair_and_target(&worker, &live, &stage).await;
    live.set_launching(false);
    live.report(match outcome {
        Ok(path) => Input::Paired(run, path),
        Err(why) => Input::PairingFailed(run, why),
    })
    .await;
}

async fn pair_and_target(
    worker: &Arc<Worker>,
    live: &Arc<Live>,
    stage: &Stage,
) -> Result<String, String> {
    let body = stage
        .body
        .as_ref()
        .ok_or("its address is no longer allowed")?;
    let api = api(live)?;
    let mut traces = live.traces();
    let paired = match stage.with(|s| s.paired.clone()) {
        // A restart in place: the stream program has kept its pairing.
        Some(paired) if api.apps(paired.host_id).await.is_ok() => paired,
        _ => {
            let seeded = stage.with(|s| s.seeded);
            let paired = body
                .pair(&api, &traces, seeded, PAIR)
                .await
                .map_err(|e| e.to_string())?;
            if paired.fresh {
                keep(live, body.clone());
            }
            stage.with(|s| s.paired = Some(paired.clone()));
            paired
        }
    };
    let launch = live.wish.launch.as_ref();
    if let Some(launch) = launch.filter(|_| !traces.streamed) {
        live.set_launching(true);
        let begun = clock::now();
        body.launch(launch).await;
        let span = clock::now().saturating_duration_since(begun);
        worker.counters.passed(Phase::Launching, span);
    }
    let target = body
        .target(&api, &paired, live.wish.request.app.as_deref(), launch)
        .await
        .map_err(|e| e.to_string())?;
    traces.streamed = true;
    live.set_traces(traces);
    tidy::visited(worker, body);
    let (host, app) = (target.host_id, target.app_id);
    Ok(format!(
        "{}/stream.html?hostId={host}&appId={app}",
        path_prefix(&live.id)
    ))
}

/// Keeps the identity of a fresh pairing as soon as the stream program has written it; the stream
/// does not wait for that.
fn keep(live: &Arc<Live>, body: Body) {
    let data = live.workspace.path().join("server/data.json");
    let traces = live.traces();
    exec::spawn(async move {
        body.keep(&traces, &data, KEEP).await;
    })
    .detach();
}

pub(super) async fn kill(worker: Arc<Worker>, live: Arc<Live>, run: Run) {
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

pub(super) async fn leave(worker: Arc<Worker>, live: Arc<Live>, stage: Stage) {
    if let Some(body) = &stage.body {
        let stay = neighbours(&worker, &live);
        let departure = body.leave(&live.traces(), &stay, LEAVE).await;
        tidy::left(&worker, body, &departure);
    }
    live.report(Input::BodyLeft).await;
}

/// The sessions that stay on the body: a visitor may have come back in a new one while the old one
/// still waited for him.
fn neighbours(worker: &Worker, live: &Live) -> Neighbours {
    let ip = live.wish.request.body_ip;
    let all = worker.roster.all().into_iter();
    let stay = all.filter(|other| {
        let is_there = other.id != live.id && other.wish.request.body_ip == ip;
        is_there && other.shown().end_reason.is_none()
    });
    let mut neighbours = Neighbours::default();
    for other in stay {
        // One that waits for its first viewer starts the app anew.
        let status = other.shown().status;
        neighbours.is_watched |= matches!(status, Status::Connected | Status::Lingering);
        neighbours
            .experiences
            .extend(other.traces().launch.map(|l| l.experience));
    }
    neighbours
}

pub(super) async fn remove_workspace(live: Arc<Live>) {
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
