//! The web-server process: configuration, listener, signals, exit codes.

use std::io;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use smol::Async;
use smol::io::AsyncReadExt as _;

use super::api::{CardApi, CardState};
use super::options::{CardOptions, Mode};
use super::say;
use super::settings::{self, CardSettings, SettingsError};
use super::store::CardStore;
use crate::exec;
use crate::http::client::Client;
use crate::http::server::{ConnectionLimits, Listener, ServerError};
use crate::tls::Trust;

/// How long open WebSockets hold the process up after SIGTERM, as in the original.
const GRACE: Duration = Duration::from_secs(30);
/// Connections at once: a session has one visitor, some of whose connections idle.
const CONNECTIONS_MAX: usize = 256;
/// What the original's panic exits with.
const PANIC: u8 = 101;

/// Runs the server.
///
/// As with the original an exit code of 0 is no sign of success: it also follows a taken port.
pub(super) fn run(options: &CardOptions) -> ExitCode {
    let mut settings = match settings::load(&options.config_path) {
        Ok(settings) => settings,
        Err(error) => {
            say::aside(format_args!("{error}"));
            return match error {
                SettingsError::Unreadable(..) => ExitCode::FAILURE,
                SettingsError::Invalid(..) => ExitCode::from(PANIC),
            };
        }
    };
    options.apply(&mut settings);
    if options.mode == Some(Mode::PrintConfig) {
        return print(&settings);
    }
    exec::block_on(async {
        if let Err(why) = serve(settings).await {
            say::line("ERROR", "web_server", format_args!("{why}"));
        }
    });
    ExitCode::SUCCESS
}

fn print(settings: &CardSettings) -> ExitCode {
    use std::io::Write as _;
    let text = serde_json::to_string_pretty(settings).unwrap_or_default();
    let _ = writeln!(io::stdout().lock(), "{text}");
    ExitCode::SUCCESS
}

async fn serve(settings: CardSettings) -> Result<(), String> {
    let address = settings.web_server.bind_address;
    let path = settings.data_storage.path.clone();
    let state = Arc::new(CardState {
        store: CardStore::open(path).map_err(|error| error.to_string())?,
        settings,
        streamers: Arc::default(),
        // Only plain HTTP is spoken, so nobody has to be trusted.
        client: Client::new(&Trust::Pinned(None)).map_err(|error| error.to_string())?,
    });
    let signals = Signals::catch().map_err(|error| error.to_string())?;
    let listener = Listener::bind(address).map_err(|error| match error {
        ServerError::Bind(_, cause) => cause.to_string(),
        other => other.to_string(),
    })?;
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    let (stopper, stop) = exec::stop();
    let admission = ConnectionLimits {
        total: CONNECTIONS_MAX,
        per_address: CONNECTIONS_MAX,
    };
    let service = Arc::new(CardApi(state.clone()));
    let serving = exec::spawn(listener.serve(service, admission, stop, GRACE));
    let what = format_args!("starting service: \"testcard-{bound}\", listening on: {bound}");
    say::line("INFO", "testcard", what);
    if signals.next().await == SignalRequest::Finish {
        drop(stopper);
        let finished = async {
            serving.await;
        };
        let hurried = async { while signals.next().await != SignalRequest::Leave {} };
        smol::future::or(finished, hurried).await;
    }
    state.streamers.kill_all();
    Ok(())
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SignalRequest {
    /// SIGTERM: finish what is open.
    Finish,
    /// SIGINT or SIGQUIT: end now.
    Leave,
}

struct Signals {
    finish: Async<UnixStream>,
    leave: Async<UnixStream>,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        let (finish, finish_end) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGTERM, finish_end)?;
        let (leave, leave_end) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGQUIT, leave_end.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGINT, leave_end)?;
        Ok(Self {
            finish: Async::new(finish)?,
            leave: Async::new(leave)?,
        })
    }

    async fn next(&self) -> SignalRequest {
        let wait = async |pipe: &Async<UnixStream>, wish| {
            let mut pipe = pipe;
            // A broken pipe would be the end of all signals: then leave.
            match pipe.read(&mut [0]).await {
                Ok(1..) => wish,
                _ => SignalRequest::Leave,
            }
        };
        let leave = wait(&self.leave, SignalRequest::Leave);
        smol::future::or(leave, wait(&self.finish, SignalRequest::Finish)).await
    }
}
