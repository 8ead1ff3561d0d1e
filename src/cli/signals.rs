//! Signals as a stream.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::log as lines;

/// What an operator or systemd wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalAction {
    /// SIGUSR1: take no new sessions.
    Drain,
    /// SIGHUP: read certificates again.
    Reload,
    /// A new binary is in place: no signal, but a stop all the same.
    Renew,
    /// SIGTERM or SIGINT.
    Stop,
}

/// Wishes as they come. A second stop ends the process at once.
///
/// # Errors
/// When the handlers cannot be installed.
pub(super) fn wishes() -> std::io::Result<smol::channel::Receiver<SignalAction>> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1])?;
    let (sender, wishes) = smol::channel::bounded(8);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut stops = 0;
            for signal in signals.forever() {
                let wish = match signal {
                    SIGUSR1 => SignalAction::Drain,
                    SIGHUP => SignalAction::Reload,
                    _ => {
                        stops += 1;
                        SignalAction::Stop
                    }
                };
                if stops > 1 {
                    lines::flush();
                    std::process::exit(1);
                }
                let _ = sender.try_send(wish);
            }
        })?;
    Ok(wishes)
}
