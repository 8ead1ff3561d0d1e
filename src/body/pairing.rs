//! The dance of three: the stream program shows a PIN, Sunshine is told it, they shake hands.
//!
//! Sunshine gives a PIN to *some* pending pairing, and keeps those whose client is gone for ever.
//! So: one pairing at a time for each body, a user name and a client name never used before, and
//! patience. The PIN comes before the program's own request reaches Sunshine; until then Sunshine
//! says `false`. After `true` nothing is posted for three seconds, because a second PIN between
//! the phases of a good pairing breaks it; then silence means that a stale pairing took the PIN
//! (it is gone after two) and the PIN is posted again. Only the program's second line counts.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use smol::lock::MutexGuardArc;

use super::program::{Program, ProgramError};
use super::sunshine::{Sunshine, SunshineError};
use crate::clock;
use crate::http::client::ClientError;

/// Pause between posts of the PIN while nothing is pending.
const POST_PAUSE: Duration = Duration::from_millis(250);
/// How long nothing may be pending: the program needs up to 1.2 s, more on a loaded machine.
const POST_WINDOW: Duration = Duration::from_secs(15);
/// Silence after an accepted PIN that means it went to a stale pairing: a good one needs 0.2 s.
const ACCEPTED_PAUSE: Duration = Duration::from_secs(3);
/// Time to take back what a failed pairing may have left.
const TAKE_BACK: Duration = Duration::from_secs(3);

/// Why a pairing failed.
#[derive(Debug)]
pub enum PairingError {
    /// Another session of ours pairs with this body and does not come to an end.
    Busy(IpAddr, Duration),
    /// The whole took too long; whether Sunshine took the PIN.
    Late(Duration, bool),
    /// Sunshine never had a pairing to give the PIN to.
    NeverPending(Duration),
    /// The stream program's side failed.
    Program(ProgramError),
    /// The program says that it failed; whether Sunshine had taken the PIN.
    Rejected(bool),
    /// Sunshine's side failed.
    Sunshine(SunshineError),
}

impl fmt::Display for PairingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |d: &Duration| humantime::format_duration(*d);
        match self {
            Self::Busy(ip, d) => write!(
                f,
                "pairing: another pairing with {ip} has not ended within {}, try again",
                span(d)
            ),
            Self::Late(d, true) => write!(
                f,
                "pairing: sunshine took the PIN but nothing followed within {}; restart Sunshine to clear stale pairings",
                span(d)
            ),
            Self::Late(d, false) => write!(f, "pairing: not done within {}", span(d)),
            Self::NeverPending(d) => write!(
                f,
                "pairing: the stream program's request did not reach Sunshine within {}; check sunshine.http_port",
                span(d)
            ),
            Self::Program(error) => write!(f, "pairing: {error}"),
            Self::Rejected(true) => f.write_str(
                "pairing: Sunshine took the PIN, then the handshake failed; the session's log says why",
            ),
            Self::Rejected(false) => f.write_str(
                "pairing: the handshake failed before Sunshine took the PIN (did it restart?); the session's log says why",
            ),
            Self::Sunshine(error) => write!(f, "pairing: {error}"),
        }
    }
}

impl std::error::Error for PairingError {}

/// One lock for each body that somebody pairs with.
#[derive(Clone, Debug, Default)]
pub struct BodyLocks(Arc<Mutex<HashMap<IpAddr, Weak<smol::lock::Mutex<()>>>>>);

/// The right to pair with a body, given back on drop.
#[derive(Debug)]
pub struct BodyHold(#[allow(dead_code)] MutexGuardArc<()>);

impl BodyLocks {
    /// Waits until nobody else of us pairs with this body.
    ///
    /// # Errors
    /// [`PairingError::Busy`] at the deadline.
    pub async fn hold(&self, ip: IpAddr, within: Duration) -> Result<BodyHold, PairingError> {
        let lock = self.lock_of(ip);
        let held = clock::by(clock::now() + within, lock.lock_arc()).await;
        held.map(BodyHold)
            .map_err(|_| PairingError::Busy(ip, within))
    }

    fn lock_of(&self, ip: IpAddr) -> Arc<smol::lock::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded by the pairings under way.
        locks.retain(|_, lock| lock.strong_count() > 0);
        let known = locks.get(&ip).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let lock = Arc::new(smol::lock::Mutex::new(()));
            locks.insert(ip, Arc::downgrade(&lock));
            lock
        })
    }
}

/// Pairs the program's host with Sunshine, as a client called `name`. The caller holds the body's
/// lock. A failed pairing is taken back; what its program may still do ends with the program.
///
/// # Errors
/// See [`PairingError`]; none comes later than `within` and three seconds.
pub async fn pair(
    program: &Program,
    sunshine: &Sunshine,
    host: u32,
    name: &str,
    within: Duration,
) -> Result<(), PairingError> {
    let accepted = AtomicBool::new(false);
    let work = dance(program, sunshine, host, name, within, &accepted);
    let done = clock::by(clock::now() + within, work).await;
    let done = done.unwrap_or_else(|_| Err(PairingError::Late(within, accepted.load(Relaxed))));
    if done.is_err() && accepted.load(Relaxed) {
        let gone = clock::by(clock::now() + TAKE_BACK, sunshine.unpair(|n| n == name)).await;
        if !matches!(gone, Ok(Ok(_))) {
            log::warn!(target: "pairing", body:% = sunshine.address().ip();
                "cannot make sure that client {name} is not left on the body");
        }
    }
    done
}

async fn dance(
    program: &Program,
    sunshine: &Sunshine,
    host: u32,
    name: &str,
    within: Duration,
    accepted: &AtomicBool,
) -> Result<(), PairingError> {
    let mut offer = program.pair(host).await.map_err(PairingError::Program)?;
    let pin = offer.pin().to_owned();
    let verdict = async {
        // The caller's deadline is to strike first: it knows what happened so far.
        match offer.verdict(within + TAKE_BACK).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(PairingError::Rejected(accepted.load(Relaxed))),
            Err(error) => Err(PairingError::Program(error)),
        }
    };
    let hand_over = async { Err(hand_over(sunshine, &pin, name, accepted).await) };
    smol::future::or(verdict, hand_over).await
}

/// Posts the PIN for as long as that makes sense. Only an error ends it.
async fn hand_over(
    sunshine: &Sunshine,
    pin: &str,
    name: &str,
    accepted: &AtomicBool,
) -> PairingError {
    let mut until = clock::now() + POST_WINDOW;
    loop {
        match sunshine.post_pin(pin, name).await {
            Ok(true) => {
                accepted.store(true, Relaxed);
                clock::sleep(ACCEPTED_PAUSE).await;
                until = clock::now() + POST_WINDOW;
                continue;
            }
            Ok(false) => {}
            // A Sunshine that restarts; the program's line may come before it is back.
            Err(SunshineError::Call(
                error @ (ClientError::Connect(..)
                | ClientError::Io(_)
                | ClientError::Timeout(_)
                | ClientError::Tls(..)),
            )) => {
                if clock::now() >= until {
                    return PairingError::Sunshine(SunshineError::Call(error));
                }
            }
            Err(error) => return PairingError::Sunshine(error),
        }
        if clock::now() >= until {
            return PairingError::NeverPending(POST_WINDOW);
        }
        clock::sleep(POST_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pairing_at_a_time_for_each_body_and_the_wait_is_bounded() {
        let locks = BodyLocks::default();
        let [a, b]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        smol::block_on(async {
            let first = locks.hold(a, Duration::from_secs(5)).await.unwrap();
            let other = locks.hold(b, Duration::from_secs(5)).await;
            assert!(other.is_ok());
            let second = locks.hold(a, Duration::from_millis(20)).await;
            assert!(matches!(second, Err(PairingError::Busy(..))));
            drop(first);
            assert!(locks.hold(a, Duration::from_secs(5)).await.is_ok());
        });
    }
}
