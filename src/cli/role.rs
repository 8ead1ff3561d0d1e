//! Running a role: configuration, listener, systemd, signals, and an orderly end.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use smol::channel::Receiver;

use super::signals::{self, Wish};
use super::{EX_CONFIG, EX_UNAVAILABLE, fail};
use crate::config::{Config, Loaded, Role};
use crate::controller::Controller;
use crate::exec::{self, Stop};
use crate::http::server::{Admission, Certificates, Listener, Service, listen_address};
use crate::worker::{Worker, WorkerError};
use crate::{clock, log as lines, tls};

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
    let wishes = match signals::wishes() {
        Ok(wishes) => wishes,
        Err(error) => return fail(&format!("cannot handle signals: {error}"), 1),
    };
    exec::block_on(serve(role, &config, wishes))
}

async fn serve(role: Role, config: &Config, wishes: Receiver<Wish>) -> ExitCode {
    let (listener, certificates) = match listen(config) {
        Ok(bound) => bound,
        Err((why, code)) => return fail(&why, code),
    };
    let port = listener.local_addr().map_or(0, |a| a.port());
    let (stopper, stop) = exec::stop();
    let started = match role {
        Role::Controller => match Controller::start(config, stop.clone()) {
            Ok(controller) => Running::Controller(controller),
            Err(error) => return fail(&error.to_string(), EX_CONFIG),
        },
        Role::Worker => match Worker::start(config, &[port], stop.clone()).await {
            Ok(worker) => Running::Worker(worker),
            Err(error) => return fail(&error.to_string(), code_of(&error)),
        },
    };
    let admission = Admission {
        total: config.server.connections_max,
        ..Admission::default()
    };
    let serving = exec::spawn(listener.serve(started.service(), admission, stop.clone(), GRACE));
    log::info!(target: role.as_str(), "listening on port {port}");
    notify(&[sd_notify::NotifyState::Ready]);
    exec::spawn(watchdog(stop.clone())).detach();
    while let Ok(wish) = wishes.recv().await {
        match (wish, &started) {
            (Wish::Stop, _) => break,
            (Wish::Drain, Running::Worker(worker)) => worker.drain(None),
            (Wish::Drain, Running::Controller(_)) => {
                log::warn!(target: "controller", "a controller does not drain: drain its workers");
            }
            (Wish::Reload, _) => reload(config, certificates.as_ref()),
        }
    }
    log::info!(target: role.as_str(), "stopping");
    notify(&[sd_notify::NotifyState::Stopping]);
    if let Running::Worker(worker) = &started {
        worker
            .shutdown(config.sessions.keep_on_shutdown, END_SESSIONS)
            .await;
    }
    drop(stopper);
    serving.await;
    ExitCode::SUCCESS
}

enum Running {
    Controller(Arc<Controller>),
    Worker(Arc<Worker>),
}

impl Running {
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

type Bound = (Listener, Option<Certificates>);

fn listen(config: &Config) -> Result<Bound, (String, u8)> {
    let bad = |why: String| (why, EX_CONFIG);
    let certificates = match &config.server.tls {
        Some(files) => {
            let loaded = tls::server(&files.certificate, &files.private_key);
            Some(Certificates::new(loaded.map_err(|e| bad(e.to_string()))?))
        }
        None => None,
    };
    let address = match (&config.server.listen, &certificates) {
        (Some(listen), _) => listen.to_string(),
        (None, Some(_)) => ":443".to_owned(),
        (None, None) => {
            return Err(bad(
                "server.domain alone needs certificates: set server.tls to certificate and private_key, or server.listen for plain HTTP behind a proxy".into(),
            ));
        }
    };
    let address = listen_address(&address).map_err(|e| bad(e.to_string()))?;
    let listener = Listener::bind(address).map_err(|e| (e.to_string(), EX_UNAVAILABLE))?;
    Ok(match certificates {
        Some(certificates) => (listener.with_tls(certificates.clone()), Some(certificates)),
        None => (listener, None),
    })
}

fn reload(config: &Config, certificates: Option<&Certificates>) {
    let (Some(files), Some(certificates)) = (&config.server.tls, certificates) else {
        log::info!(target: "config", "nothing to reload: no server.tls");
        return;
    };
    match tls::server(&files.certificate, &files.private_key) {
        Ok(fresh) => {
            certificates.replace(fresh);
            log::info!(target: "config", "certificates read again");
        }
        Err(error) => log::error!(target: "config", "certificates stay as they were: {error}"),
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
