//! Where a role listens: plain HTTP, or HTTPS with files or with certificates from ACME.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::redirect::Redirect;
use super::{EX_CONFIG, EX_UNAVAILABLE};
use crate::acme::{self, Acme};
use crate::config::{Config, Tls};
use crate::exec::{self, Stop};
use crate::http::server::{Certificates, ConnectionLimits, Listener, listen_address};
use crate::{clock, tls};

/// How often certificate files are looked at: they are renewed weeks before they end.
pub(super) const LOOK: Duration = Duration::from_secs(30);
/// Where browsers go first.
const HTTPS: &str = ":443";
const HTTP: &str = ":80";

/// A role's listener, and what stands beside it.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: Listener,
    pub(super) files: Option<Files>,
    pub(super) acme: Option<Acme>,
    /// Redirects to HTTPS.
    pub(super) redirect: Option<Listener>,
}

/// Certificate files, and what is served of them.
#[derive(Clone, Debug)]
pub(super) struct Files {
    paths: Tls,
    served: Certificates,
}

type Refusal = (String, u8);

/// Binds what the configuration names.
///
/// # Errors
/// Why not, and the exit code.
pub(super) fn bind(config: &Config, stop: &Stop) -> Result<Bound, Refusal> {
    let bad = |why: String| (why, EX_CONFIG);
    let server = &config.server;
    let files = match &server.tls {
        Some(paths) => Some(Files::read(paths).map_err(bad)?),
        None => None,
    };
    let acme = match (&server.domain, &server.listen, &files) {
        (Some(domain), None, None) => {
            let started = acme::start(domain, &server.acme, stop.clone());
            Some(started.map_err(|e| bad(e.to_string()))?)
        }
        _ => None,
    };
    let address = server.listen.as_ref().map(ToString::to_string);
    let listener = at(address.as_deref().unwrap_or(HTTPS))?;
    let is_public = server.domain.is_some() && server.listen.is_none();
    let redirect = if is_public { redirect() } else { None };
    Ok(Bound {
        listener: certified(listener, files.as_ref(), acme.as_ref()),
        files,
        acme,
        redirect,
    })
}

fn certified(listener: Listener, files: Option<&Files>, acme: Option<&Acme>) -> Listener {
    match (files, acme) {
        (Some(files), _) => listener.with_tls(files.served.clone()),
        (None, Some(acme)) => {
            let certificates = Certificates::new(Arc::clone(&acme.server));
            listener.with_tls(certificates.with_challenge(Arc::clone(&acme.challenge)))
        }
        (None, None) => listener,
    }
}

fn at(address: &str) -> Result<Listener, Refusal> {
    let address = listen_address(address).map_err(|e| (e.to_string(), EX_CONFIG))?;
    Listener::bind(address).map_err(|e| (e.to_string(), EX_UNAVAILABLE))
}

/// Port 80 is a courtesy: without it HTTPS works all the same.
fn redirect() -> Option<Listener> {
    match at(HTTP) {
        Ok(listener) => Some(listener),
        Err((why, _)) => {
            log::warn!(target: "tls", "no redirect to HTTPS: {why}");
            None
        }
    }
}

/// Serves the redirect until `stop`.
pub(super) fn serve_redirect(listener: Listener, base: String, stop: Stop) {
    let service = Arc::new(Redirect { base });
    let serving = listener.serve(service, ConnectionLimits::default(), stop, Duration::ZERO);
    exec::spawn(serving).detach();
}

impl Files {
    fn read(paths: &Tls) -> Result<Self, String> {
        let loaded = tls::server(&paths.certificate, &paths.private_key);
        Ok(Self {
            paths: paths.clone(),
            served: Certificates::new(loaded.map_err(|e| e.to_string())?),
        })
    }

    /// Reads them again; what cannot be used leaves the old ones. Open connections go on.
    pub(super) fn reload(&self) {
        match tls::server(&self.paths.certificate, &self.paths.private_key) {
            Ok(fresh) => {
                self.served.replace(fresh);
                log::info!(target: "tls", "certificates read again");
            }
            Err(error) => log::error!(target: "tls", "certificates stay as they were: {error}"),
        }
    }

    /// Looks every so often, and reads them again when they have changed.
    pub(super) async fn watch(self, every: Duration, stop: Stop) {
        let mut seen = self.times();
        while stop.or(clock::sleep(every)).await.is_some() {
            let files = self.clone();
            let now = smol::unblock(move || files.times()).await;
            if now != seen {
                self.reload();
                seen = now;
            }
        }
    }

    fn times(&self) -> [Option<SystemTime>; 2] {
        let time = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
        [time(&self.paths.certificate), time(&self.paths.private_key)]
    }
}

#[cfg(test)]
#[path = "acme_tests.rs"]
mod acme_tests;
