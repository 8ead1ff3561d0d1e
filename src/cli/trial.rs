//! A new binary's first starts: what it owes until it has run for a while.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use http_types::Method;
use smol::channel::Sender;

use super::EX_RESTART;
use super::remote::reachable;
use crate::clock;
use crate::http::client::{Client, ClientError, Outgoing};
use crate::tls::Trust;
use crate::update::{Place, Version, trial};

/// Wait for the process's own answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// This process is a new binary's, and on trial.
#[derive(Debug)]
pub(super) struct Trial {
    place: Place,
}

impl Trial {
    /// The trial that this start belongs to, if any. When the binary was taken back instead, the
    /// old one takes this process's place, so that a supervisor with a limit of starts sees none.
    pub(super) fn of(place: &Place) -> Option<Self> {
        match trial::start(place, &Version::own()) {
            trial::Start::Normal => None,
            trial::Start::OnTrial => Some(Self {
                place: place.clone(),
            }),
            trial::Start::RolledBack => {
                let arguments = std::env::args_os().skip(1);
                let error = Command::new(place.exe()).args(arguments).exec();
                log::error!(target: "updater", "cannot start {}: {error}", place.exe().display());
                std::process::exit(EX_RESTART.into());
            }
        }
    }

    /// The exit code of a process on trial: whatever it failed at, the next start must come, until
    /// the old binary is back. Other exit codes may tell systemd not to try again.
    pub(super) fn code(&self, code: ExitCode) -> ExitCode {
        if code == ExitCode::SUCCESS {
            code
        } else {
            ExitCode::from(EX_RESTART)
        }
    }

    /// Looks whether the process answers when it has run for a while, and asks for a restart when
    /// it does not.
    pub(super) fn watch(
        &self,
        address: SocketAddr,
        is_tls: bool,
        restart: Sender<()>,
    ) -> impl Future<Output = ()> + use<> {
        let place = self.place.clone();
        async move {
            clock::sleep(trial::PASSED_AFTER).await;
            match answers(address, is_tls).await {
                Ok(()) => trial::passed(&place),
                Err(why) => {
                    log::error!(target: "updater", "this version does not answer: {why}");
                    let _ = restart.send(()).await;
                }
            }
        }
    }
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
    use crate::exec;
    use crate::http::reply::Reply;
    use crate::http::server::{Admission, Api, Listener};

    fn served(status: u16) -> (SocketAddr, exec::Stopper) {
        let (stopper, stop) = exec::stop();
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let service = Arc::new(Api(move |_| async move { Ok(Reply::empty(status)) }));
        let serving = listener.serve(service, Admission::default(), stop, Duration::ZERO);
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
    fn on_trial_every_failure_asks_for_another_start() {
        let place = Place::at("/proc/self/exe".as_ref()).unwrap();
        let trial = Trial { place };
        for code in [1, 2, 69, 78] {
            assert_eq!(trial.code(ExitCode::from(code)), ExitCode::from(EX_RESTART));
        }
        assert_eq!(trial.code(ExitCode::SUCCESS), ExitCode::SUCCESS);
    }
}
