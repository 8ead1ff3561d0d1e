//! A new binary's first starts: what it owes until it has run for a while.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use http_types::Method;
use smol::channel::Sender;

use super::EX_RESTART;
use super::remote::reachable;
use crate::config::Role;
use crate::http::client::{Client, ClientError, Outgoing};
use crate::tls::Trust;
use crate::update::{Installation, ReleaseVersion, trial};
use crate::{clock, descriptors, exec, log as lines};

/// Wait for the process's own answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Before another try: what hindered the first may pass, as a port that is still taken does.
const PAUSE: Duration = Duration::from_secs(1);

/// This process is a new binary's, and on trial in its role.
#[derive(Debug)]
pub(super) struct Trial {
    place: Installation,
    role: &'static str,
}

impl Trial {
    /// The trial that this start belongs to, if any. When the binary was taken back instead, the
    /// old one takes this process's place.
    pub(super) fn of(place: &Installation, role: Role) -> Option<Self> {
        let role = role.as_str();
        match exec::block_on(trial::start(place, role, &ReleaseVersion::own())) {
            trial::Start::Normal => None,
            trial::Start::OnTrial => Some(Self {
                place: place.clone(),
                role,
            }),
            trial::Start::RolledBack => {
                become_installed(place);
                lines::flush();
                std::process::exit(EX_RESTART.into());
            }
        }
    }

    /// What a process on trial ends with. A failure starts it once more, in its own place: a
    /// supervisor may refuse another start after this exit code, or after so many starts, and the
    /// old binary would never come back.
    pub(super) fn end(&self, code: ExitCode) -> ExitCode {
        if code == ExitCode::SUCCESS {
            exec::block_on(trial::stopped(
                &self.place,
                self.role,
                &ReleaseVersion::own(),
            ));
            return code;
        }
        if code == ExitCode::from(EX_RESTART) {
            return code;
        }
        exec::block_on(clock::sleep(PAUSE));
        become_installed(&self.place);
        ExitCode::from(EX_RESTART)
    }

    /// Looks whether the process answers when it has run for a while, and asks for a restart when
    /// it does not, or when the other role has taken this version back.
    pub(super) fn watch(
        &self,
        address: SocketAddr,
        is_tls: bool,
        restart: Sender<()>,
    ) -> impl Future<Output = ()> + use<> {
        let (place, role, own) = (self.place.clone(), self.role, ReleaseVersion::own());
        async move {
            loop {
                clock::sleep(trial::PASSED_AFTER).await;
                if trial::is_taken_back(&place, &own) {
                    log::error!(target: "updater", "version {own} was taken back: starting the one from before");
                    let _ = restart.send(()).await;
                    return;
                }
                if let Err(why) = answers(address, is_tls).await {
                    log::error!(target: "updater", "this version does not answer: {why}");
                    let _ = restart.send(()).await;
                    return;
                }
                match trial::passed(&place, role, &own).await {
                    Ok(()) => return,
                    Err(error) => log::warn!(target: "updater", "the trial goes on: {error}"),
                }
            }
        }
    }
}

/// Puts the installed binary, with the same arguments, in this process's place; returns when that
/// fails.
fn become_installed(place: &Installation) {
    descriptors::give_back(None);
    let arguments = std::env::args_os().skip(1);
    lines::flush();
    let error = Command::new(place.exe()).args(arguments).exec();
    log::error!(target: "updater", "cannot start {}: {error}", place.exe().display());
}

/// Whether the process behind this address is alive.
async fn answers(address: SocketAddr, is_tls: bool) -> Result<(), String> {
    let scheme = if is_tls { "https" } else { "http" };
    let url = format!("{scheme}://{}/livez", reachable(address));
    // Ourselves, whatever name our certificate has.
    let client = Client::new(&Trust::Pinned(None)).map_err(|e| e.to_string())?;
    let call = Outgoing::new(Method::Get, url).within(ANSWER_WITHIN);
    match client.send(call).await {
        Ok(answer) if answer.is_ok() => Ok(()),
        Ok(answer) => Err(format!("status {}", answer.status)),
        // Without a certificate yet, but there.
        Err(ClientError::Tls(..)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::http::reply::Reply;
    use crate::http::server::{Api, ConnectionLimits, Listener};

    fn served(status: u16) -> (SocketAddr, exec::Stopper) {
        let (stopper, stop) = exec::stop();
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let service = Arc::new(Api(move |_| async move { Ok(Reply::empty(status)) }));
        let serving = listener.serve(service, ConnectionLimits::default(), stop, Duration::ZERO);
        exec::spawn(serving).detach();
        (address, stopper)
    }

    #[test]
    fn a_process_is_well_when_it_answers_with_success() {
        let (well, _stopper) = served(204);
        let (ill, _stopper) = served(503);
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let gone = nobody.local_addr().unwrap();
        drop(nobody);
        assert_eq!(exec::block_on(answers(well, false)), Ok(()));
        let said = exec::block_on(answers(ill, false)).unwrap_err();
        assert!(said.contains("503"), "{said}");
        assert!(exec::block_on(answers(gone, false)).is_err());
    }

    #[test]
    fn a_process_that_did_not_fail_ends_as_it_would_without_a_trial() {
        let place = Installation::at("/proc/self/exe".as_ref()).unwrap();
        let trial = Trial {
            place,
            role: "worker",
        };
        for code in [ExitCode::SUCCESS, ExitCode::from(EX_RESTART)] {
            assert_eq!(trial.end(code), code);
        }
    }
}
