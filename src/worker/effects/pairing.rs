//! The step that pairs the stream program with the body, launches the experience and finds what to
//! stream. It is told to end, not dropped: a handshake under way may finish.

use std::sync::Arc;
use std::time::Duration;

use super::leaving::is_streaming;
use super::{DATA, Seeded, StepContext, api};
use crate::body::experience::{ExperienceError, Launch};
use crate::body::pairing::PairingError;
use crate::body::stream_api::StreamApi;
use crate::body::{Paired, SessionBody, StreamTarget, TargetError};
use crate::clock;
use crate::exec::{self, Stop};
use crate::session::lifecycle::{Incarnation, Input, SessionFailure};
use crate::session::program_config::{SEED_HOST, path_prefix};
use crate::worker::session_handle::SessionHandle;
use crate::worker::{Worker, pairing_gc};

/// Time for pairing: `sessions.start_timeout` cuts it shorter where that is configured.
const PAIR: Duration = Duration::from_secs(30);
/// Time for the stream program to write its `data.json` after pairing.
const KEEP: Duration = Duration::from_secs(2);

/// Whether the program was started with a kept identity that the body has not recognised.
fn is_unproved(live: &SessionHandle, stage: &StepContext) -> bool {
    let traces = live.traces();
    let is_unpaired = traces.host_id.is_none() && traces.borrowed.is_none();
    is_unpaired && stage.with(|s| s.seeded.is_some())
}

/// Pairs, launches the experience and finds the stream's address.
pub(in crate::worker) async fn pair(
    worker: Arc<Worker>,
    live: Arc<SessionHandle>,
    stage: StepContext,
    run: Incarnation,
    stop: Stop,
) {
    let under_way = stage.pairing.lock().await;
    let outcome = pair_and_target(&worker, &live, &stage, run, &stop).await;
    drop(under_way);
    live.report(match outcome {
        Ok(path) => Input::Paired(run, path),
        Err(why) if is_unproved(&live, &stage) => Input::SeedFailed(run, why.to_string()),
        Err(why) => Input::BodyFailed(run, why),
    })
    .await;
}

async fn pair_and_target(
    worker: &Arc<Worker>,
    live: &Arc<SessionHandle>,
    stage: &StepContext,
    run: Incarnation,
    stop: &Stop,
) -> Result<String, SessionFailure> {
    let ends = || SessionFailure::Pairing(PairingError::GivenUp.to_string());
    let not_paired = |error: PairingError| SessionFailure::Pairing(error.to_string());
    let body = stage.body.as_ref();
    let body =
        body.ok_or_else(|| SessionFailure::Pairing("its address is no longer allowed".to_owned()))?;
    let vacated = stop.or(body.unpairing_ended(PAIR)).await;
    vacated.ok_or_else(ends)?.map_err(not_paired)?;
    let free = stop.or(body.unstick()).await.ok_or_else(ends)?;
    free.map_err(SessionFailure::BodyStuck)?;
    let api = api(live).map_err(SessionFailure::Program)?;
    let found = stop.or(known(body, &api, live, stage)).await;
    let paired = match found.ok_or_else(ends)? {
        Some(paired) => paired,
        None => pair_anew(worker, live, stage, body, &api, stop)
            .await
            .map_err(not_paired)?,
    };
    live.mark(|traces| traces.host_id = Some(paired.host_id))
        .await;
    let target = stop.or(launch_and_target(
        worker, live, stage, run, body, &api, &paired,
    ));
    let target = target.await.ok_or_else(ends)??;
    let (host, app) = (target.host_id, target.app_id);
    Ok(format!(
        "{}/stream.html?hostId={host}&appId={app}",
        path_prefix(&live.id)
    ))
}

/// The pairing that the stream program has already: from its run before, or by a kept identity.
async fn known(
    body: &SessionBody,
    api: &StreamApi,
    live: &Arc<SessionHandle>,
    stage: &StepContext,
) -> Option<Paired> {
    if let Some(host_id) = live.traces().host_id
        && api.apps(host_id).await.is_ok()
    {
        let fresh = false;
        return Some(Paired { host_id, fresh });
    }
    let Seeded { client, unique_id } = stage.with(|s| s.seeded.clone())?;
    // A body that does not answer in time is asked to pair, and says more then.
    let is_known = body.recalls(api, SEED_HOST, PAIR).await;
    if !is_known.unwrap_or_default() {
        return None;
    }
    live.mark(|traces| {
        traces.borrowed = Some(client);
        traces.unique_id = Some(unique_id);
    })
    .await;
    Some(Paired {
        host_id: SEED_HOST,
        fresh: false,
    })
}

async fn pair_anew(
    worker: &Arc<Worker>,
    live: &Arc<SessionHandle>,
    stage: &StepContext,
    body: &SessionBody,
    api: &StreamApi,
    stop: &Stop,
) -> Result<Paired, PairingError> {
    let deadline = clock::now() + PAIR;
    let left = || deadline.saturating_duration_since(clock::now());
    let user = live.program_user.as_str();
    let begin = async {
        let hold = match stage.with(|s| s.hold.take()) {
            Some(hold) => hold,
            None => body.hold(left()).await?,
        };
        // Of an earlier run of this session: Sunshine would go on with that one.
        let before = live.traces();
        if before.may_be_pending() && !body.drop_pairing(before.unique_id(user)).await {
            return Err(PairingError::Pending);
        }
        // A restart in place keeps the data of the first start, over restarts of the worker, too.
        let (seeded, is_unseeded) = stage.with(|s| (s.seeded.clone(), s.is_unseeded));
        let unique_id = seeded.map(|s| s.unique_id).or(before.unique_id);
        let unique_id = unique_id.filter(|_| !is_unseeded);
        live.mark(|traces| {
            (traces.asked, traces.paired, traces.host_id) = (true, false, None);
            (traces.unique_id, traces.borrowed) = (unique_id, None);
        })
        .await;
        Ok(hold)
    };
    let hold = stop.or(begin).await.ok_or(PairingError::GivenUp)??;
    stage.with(|s| s.hold = Some(hold));
    let paired = body.pair(api, &live.traces(), left(), stop).await?;
    live.mark(|traces| traces.paired = true).await;
    stage.with(|s| s.hold = None);
    keep(worker, live, body.clone(), paired.clone());
    Ok(paired)
}

async fn launch_and_target(
    worker: &Arc<Worker>,
    live: &Arc<SessionHandle>,
    stage: &StepContext,
    run: Incarnation,
    body: &SessionBody,
    api: &StreamApi,
    paired: &Paired,
) -> Result<StreamTarget, SessionFailure> {
    let launch = live.wish.launch.as_ref();
    let is_streaming = || is_streaming(worker, live);
    // A restart in place finds it launched; ledgers of 0.1.0 say that by `streamed`.
    let traces = live.traces();
    let is_new = !traces.launched && !traces.streamed;
    if let Some(launch) = launch.filter(|_| is_new) {
        live.mark(|traces| traces.launched = true).await;
        live.report(Input::Launching(run)).await;
        let start = start_experience(live, stage, body, launch);
        body.launch(launch, start, is_streaming).await;
    }
    let app = live.wish.request.app.as_deref();
    let target = body.target(api, paired, app, launch, is_streaming).await;
    target.map_err(|error| match error {
        TargetError::NoApp(_) => SessionFailure::NoApp(error.to_string()),
        TargetError::Program(_) => SessionFailure::Program(error.to_string()),
    })
}

/// Has hydrabody launch the experience. The call is not cancelled with the session: an experience that
/// starts after it was stopped is stopped once more, and the body is the session's until then.
fn start_experience(
    live: &Arc<SessionHandle>,
    stage: &StepContext,
    body: &SessionBody,
    launch: &Launch,
) -> impl Future<Output = Result<(), ExperienceError>> + use<> {
    let (done, outcome) = smol::channel::bounded(1);
    let (live, stage, body, launch) = (
        Arc::clone(live),
        stage.clone(),
        body.clone(),
        launch.clone(),
    );
    exec::spawn(async move {
        let outcome = body.start_experience(&launch).await;
        if live.shown().end_reason.is_some()
            && let Err(error) = body.stop_experience(&launch).await
        {
            log::warn!(target: "cleanup", body:% = body.ip(); "experience may run on: {error}");
        }
        let _ = done.send(outcome).await;
        drop(stage);
    })
    .detach();
    // The sender is dropped only when the executor ends.
    async move { outcome.recv().await.unwrap_or(Ok(())) }
}

/// Keeps the identity of a fresh pairing as soon as the stream program has written it; the stream
/// does not wait for that.
fn keep(worker: &Arc<Worker>, live: &Arc<SessionHandle>, body: SessionBody, paired: Paired) {
    let data = live.workspace.path().join(DATA);
    let (traces, worker) = (live.traces(), Arc::clone(worker));
    exec::spawn(async move {
        let before = body.kept().await;
        if body.keep(&traces, &paired, &data, KEEP).await && before.is_some() {
            pairing_gc::owe(&worker, &body);
        }
    })
    .detach();
}
