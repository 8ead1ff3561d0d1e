//! Running a role: configuration, listener, systemd, signals, and an orderly end.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use smol::channel::Receiver;

use super::listen::{self, Bound};
use super::signals::{self, SignalAction};
use super::trial::Trial;
use super::{EX_CONFIG, EX_RESTART, EX_UNAVAILABLE, fail};
use crate::acme::Acme;
use crate::config::{Config, Loaded, Role};
use crate::controller::Controller;
use crate::exec::{self, Stop};
use crate::http::client::Client;
use crate::http::server::{ConnectionLimits, Service};
use crate::tls::Trust;
use crate::update::{self, Installation, UpdateError};
use crate::worker::{Worker, WorkerError};
use crate::{clock, descriptors, log as lines};

/// How long requests and tunnels may go on after a stop: systemd's own patience is 90 s.
const GRACE: Duration = Duration::from_secs(5);
/// Time for ending sessions when they are not to be kept.
const END_SESSIONS: Duration = Duration::from_secs(20);

/// Runs the controller.
pub(super) fn run(role: Role, config: Option<&Path>) -> ExitCode {
    run_role(role, config, None)
}

/// Runs the worker.
pub(super) fn run_worker(config: Option<&Path>, keep_sessions: Option<bool>) -> ExitCode {
    run_role(Role::Worker, config, keep_sessions)
}

fn run_role(role: Role, path: Option<&Path>, keep_sessions: Option<bool>) -> ExitCode {
    descriptors::raise();
    let place = Installation::own();
    // Before anything that a new binary may fail at.
    let trial = place.as_ref().ok().and_then(|place| Trial::of(place, role));
    let _held = place.as_ref().ok().and_then(Installation::hold);
    let code = configured(role, path, keep_sessions, place, trial.as_ref());
    trial.map_or(code, |trial| trial.end(code))
}

fn configured(
    role: Role,
    path: Option<&Path>,
    keep_sessions: Option<bool>,
    place: Result<Installation, UpdateError>,
    trial: Option<&Trial>,
) -> ExitCode {
    let loaded = match Config::load(path, Some(role)) {
        Ok(loaded) => loaded,
        Err(error) => return fail(&error.to_string(), EX_CONFIG),
    };
    let Loaded {
        mut config,
        warnings,
        ..
    } = loaded;
    lines::init(config.log.level, config.log.format);
    for warning in warnings {
        log::warn!(target: "config", "{warning}");
    }
    if let Some(keep) = keep_sessions {
        config.sessions.keep_on_shutdown = keep;
    }
    let slots = match role {
        Role::Worker => config.sessions.max.into(),
        Role::Controller => 0,
    };
    if let Some(misfit) = descriptors::plan(slots, config.server.connections_max) {
        log::warn!(target: "config", "{misfit}");
    }
    let wishes = match signals::wishes() {
        Ok(wishes) => wishes,
        Err(error) => return fail(&format!("cannot handle signals: {error}"), 1),
    };
    exec::block_on(serve(role, &config, wishes, place, trial))
}

async fn serve(
    role: Role,
    config: &Config,
    wishes: Receiver<SignalAction>,
    place: Result<Installation, UpdateError>,
    trial: Option<&Trial>,
) -> ExitCode {
    let (stopper, stop) = exec::stop();
    let Bound {
        listener,
        files,
        acme,
        redirect,
    } = match listen::bind(config, &stop) {
        Ok(bound) => bound,
        Err((why, code)) => return fail(&why, code),
    };
    let address = listener.local_addr().ok();
    let port = address.map_or(0, |a| a.port());
    let is_tls = files.is_some() || acme.is_some();
    let started = match role {
        Role::Controller => match Controller::start(config, stop.clone()).await {
            Ok(controller) => Running::Controller(controller),
            Err(error) if error.is_configuration() => return fail(&error.to_string(), EX_CONFIG),
            Err(error) => return fail(&error.to_string(), EX_UNAVAILABLE),
        },
        Role::Worker => match Worker::start(config, &[port], stop.clone()).await {
            Ok(worker) => Running::Worker(worker),
            Err(error) => return fail(&error.to_string(), code_of(&error)),
        },
    };
    if let Some(acme) = acme {
        started.watch_certificates(acme);
    }
    if let (Some(redirect), Some(base)) = (redirect, &config.server.public_url) {
        listen::serve_redirect(redirect, base.clone(), stop.clone());
    }
    if let Some(files) = files.clone() {
        exec::spawn(files.watch(listen::LOOK, stop.clone())).detach();
    }
    let admission = ConnectionLimits::of(config.server.connections_max);
    let serving = exec::spawn(listener.serve(started.service(), admission, stop.clone(), GRACE));
    log::info!(target: role.as_str(), "listening on port {port}");
    notify(&[sd_notify::NotifyState::Ready]);
    exec::spawn(watchdog(stop.clone())).detach();
    let started = Arc::new(started);
    let (renewed, renewal) = smol::channel::bounded(1);
    if let (Some(trial), Some(address)) = (trial, address) {
        exec::spawn(trial.watch(address, is_tls, renewed.clone())).detach();
    }
    if config.update.enabled {
        renew(
            config.update.clone(),
            place,
            Arc::clone(&started),
            stop.clone(),
            renewed,
        );
    }
    let mut code = ExitCode::SUCCESS;
    loop {
        let wish = async { wishes.recv().await.ok() };
        let renewed = async {
            match renewal.recv().await {
                Ok(()) => Some(SignalAction::Renew),
                // No updates here.
                Err(_) => std::future::pending().await,
            }
        };
        let Some(wish) = smol::future::or(wish, renewed).await else {
            break;
        };
        match (wish, &*started) {
            (SignalAction::Stop, _) => break,
            (SignalAction::Renew, _) => {
                code = ExitCode::from(EX_RESTART);
                break;
            }
            (SignalAction::Drain, Running::Worker(worker)) => worker.drain(None),
            (SignalAction::Drain, Running::Controller(_)) => {
                log::warn!(target: "controller", "a controller does not drain: drain its workers");
            }
            (SignalAction::Reload, _) => match &files {
                Some(files) => files.reload(),
                None => log::info!(target: "config", "nothing to reload: no server.tls"),
            },
        }
    }
    log::info!(target: role.as_str(), "stopping");
    notify(&[sd_notify::NotifyState::Stopping]);
    if let Running::Worker(worker) = &*started {
        // A renewed binary takes the sessions over.
        let keep = config.sessions.keep_on_shutdown || code != ExitCode::SUCCESS;
        worker.shutdown(keep, END_SESSIONS).await;
    }
    if let Running::Controller(controller) = &*started {
        controller.leave().await;
    }
    drop(stopper);
    serving.await;
    code
}

/// Looks for updates; says when a new binary waits to be started.
fn renew(
    settings: crate::config::Update,
    place: Result<Installation, UpdateError>,
    running: Arc<Running>,
    stop: Stop,
    renewed: smol::channel::Sender<()>,
) {
    let place = match place.and_then(|place| place.check().map(|()| place)) {
        Ok(place) => place,
        Err(why) => return log::info!(target: "updater", "no updates by itself: {why}"),
    };
    let client = match Client::new(&Trust::WebPki) {
        Ok(client) => client,
        Err(error) => return log::error!(target: "updater", "{error}"),
    };
    exec::spawn(async move {
        let is_idle = || running.is_idle();
        let wait = update::auto::wait(&settings, &client, &place, is_idle, &stop);
        if let Some(version) = wait.await {
            // By hand nobody would start it again.
            if std::env::var_os("INVOCATION_ID").is_none() {
                log::warn!(target: "updater", "restart this process to run {version}");
                return std::future::pending().await;
            }
            let _ = renewed.send(()).await;
        }
    })
    .detach();
}

enum Running {
    Controller(Arc<Controller>),
    Worker(Arc<Worker>),
}

impl Running {
    fn watch_certificates(&self, acme: Acme) {
        match self {
            Self::Controller(controller) => controller.watch_certificates(acme),
            Self::Worker(worker) => worker.watch_certificates(acme),
        }
    }

    fn is_idle(&self) -> bool {
        match self {
            Self::Controller(controller) => controller.active_sessions() == 0,
            Self::Worker(worker) => worker.active_sessions() == 0,
        }
    }

    fn service(&self) -> Arc<dyn Service> {
        match self {
            Self::Controller(controller) => controller.service(),
            Self::Worker(worker) => worker.service(),
        }
    }
}

fn code_of(error: &WorkerError) -> u8 {
    match error {
        WorkerError::Lock(_) => EX_UNAVAILABLE,
        _ => EX_CONFIG,
    }
}

/// Tells systemd; without it nothing happens.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!(target: "exec", "cannot notify systemd: {error}");
    }
}

/// Feeds systemd's watchdog from the executor: proves that tasks are still scheduled, not that
/// every one of them is well.
async fn watchdog(stop: Stop) {
    let Some(span) = sd_notify::watchdog_enabled() else {
        return;
    };
    while stop.or(clock::sleep(span / 3)).await.is_some() {
        notify(&[sd_notify::NotifyState::Watchdog]);
    }
}
