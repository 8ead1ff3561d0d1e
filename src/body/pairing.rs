//! Pairing: the stream program prints a PIN, we post it to Sunshine, they complete the handshake.
//!
//! Sunshine gives a PIN to one of its pending pairings, in practice to the newest, and keeps those
//! whose client is gone. A second PIN for a pairing that already took one makes Sunshine write to
//! freed memory and crash, with every stream of the body. So: one pairing at a time for each body;
//! a client name never used before; no PIN before the program's own request can
//! be pending; no PIN after one that was, or may have been, taken; and whatever is left pending
//! under the program's unique id is dropped before anybody pairs again. Only the program's second line
//! says that it worked.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use smol::lock::MutexGuardArc;

use super::stream_api::{StreamApi, StreamApiError};
use super::sunshine::{Sunshine, SunshineError};
use crate::clock;
use crate::exec::Stop;
use crate::http::client::ClientError;
use crate::sync::Mutex;

/// From the program's PIN to the first post: the program makes an RSA key before it asks Sunshine
/// (0.3 to 1.2 s), and nothing shows when its request is pending. A PIN posted earlier goes to
/// somebody else's pairing.
const FIRST_POST: Duration = Duration::from_millis(1_200);
/// Pause between posts of the PIN while nothing is pending.
const POST_PAUSE: Duration = Duration::from_millis(250);
/// How long nothing may be pending after the first post: the program is late on a loaded machine.
const POST_WINDOW: Duration = Duration::from_secs(15);
/// Silence after an accepted PIN that means it went to somebody else's pairing. A handshake needs
/// 0.2 s, on a loaded machine some seconds.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a handshake may go on after the session was told to end: a program that is killed in
/// the middle leaves a pairing that took a PIN.
pub(crate) const FINISH: Duration = Duration::from_secs(2);

/// Longest wait for the program's second line; the wait for Sunshine ends before.
const VERDICT: Duration = Duration::from_secs(60);

/// Why a pairing failed.
#[derive(Debug)]
pub(crate) enum PairingError {
    /// Another session of ours pairs with this body and does not come to an end.
    Busy(IpAddr, Duration),
    /// The session is to end.
    GivenUp,
    /// The whole took too long.
    Late(Duration),
    /// What an earlier attempt left cannot be dropped.
    Pending,
    /// Sunshine never had a pairing to give the PIN to.
    NeverPending(Duration),
    /// The stream program's side failed.
    Program(StreamApiError),
    /// The program says that it failed; whether Sunshine has or may have the PIN.
    Rejected(bool),
    /// Sunshine has the PIN, and the program hears nothing.
    Silent(Duration),
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
            Self::GivenUp => f.write_str("pairing: the session ends"),
            Self::Late(d) => write!(f, "pairing: not done within {}", span(d)),
            Self::NeverPending(d) => write!(
                f,
                "pairing: the stream program's request did not reach Sunshine within {}; check sunshine.http_port",
                span(d)
            ),
            Self::Pending => f.write_str(
                "pairing: an earlier attempt of this session may be pending, and Sunshine does not answer on sunshine.http_port",
            ),
            Self::Program(error) => write!(f, "pairing: {error}"),
            Self::Rejected(true) => f.write_str(
                "pairing: Sunshine took the PIN, then the handshake failed; the session's log says why",
            ),
            Self::Rejected(false) => f.write_str(
                "pairing: the handshake failed before Sunshine took the PIN (did it restart?); the session's log says why",
            ),
            Self::Silent(d) => write!(
                f,
                "pairing: sunshine took the PIN but nothing followed within {}; restart Sunshine to clear stale pairings",
                span(d)
            ),
            Self::Sunshine(error) => write!(f, "pairing: {error}"),
        }
    }
}

impl std::error::Error for PairingError {}

/// One lock for each body that somebody pairs with.
#[derive(Clone, Debug, Default)]
pub(crate) struct BodyLocks(Arc<Mutex<HashMap<IpAddr, Weak<smol::lock::Mutex<()>>>>>);

/// The right to pair with a body, given back on drop.
#[derive(Debug)]
pub(crate) struct BodyHold(#[allow(dead_code)] MutexGuardArc<()>);

impl BodyLocks {
    /// Waits until nobody else of us pairs with this body.
    ///
    /// # Errors
    /// [`PairingError::Busy`] at the deadline.
    pub(crate) async fn hold(
        &self,
        ip: IpAddr,
        within: Duration,
    ) -> Result<BodyHold, PairingError> {
        let lock = self.lock_of(ip);
        let held = clock::by(clock::now() + within, lock.lock_arc()).await;
        held.map(BodyHold)
            .map_err(|_| PairingError::Busy(ip, within))
    }

    fn lock_of(&self, ip: IpAddr) -> Arc<smol::lock::Mutex<()>> {
        let mut locks = self.0.lock();
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
/// lock until what a failure leaves pending is dropped ([`super::Body::drop_pairing`]).
///
/// # Errors
/// See [`PairingError`]; none comes later than `within`, nor than [`FINISH`] after `stop`.
pub(crate) async fn pair(
    program: &StreamApi,
    sunshine: &Sunshine,
    host: u32,
    name: &str,
    within: Duration,
    stop: &Stop,
) -> Result<(), PairingError> {
    // Sunshine has the PIN, or may have it.
    let is_there = AtomicBool::new(false);
    let work = handshake(program, sunshine, host, name, &is_there, stop);
    let given_up = async {
        stop.wished().await;
        if is_there.load(Relaxed) {
            clock::sleep(FINISH).await;
        }
        Err(PairingError::GivenUp)
    };
    let work = smol::future::or(work, given_up);
    let done = clock::by(clock::now() + within, work).await;
    done.unwrap_or(Err(PairingError::Late(within)))
}

async fn handshake(
    program: &StreamApi,
    sunshine: &Sunshine,
    host: u32,
    name: &str,
    is_there: &AtomicBool,
    stop: &Stop,
) -> Result<(), PairingError> {
    let mut offer = program.pair(host).await.map_err(PairingError::Program)?;
    let digits = offer.pin().to_owned();
    let verdict = async {
        match offer.verdict(VERDICT).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(PairingError::Rejected(is_there.load(Relaxed))),
            Err(error) => Err(PairingError::Program(error)),
        }
    };
    let hand_over = async { Err(hand_over(sunshine, &digits, name, is_there, stop).await) };
    smol::future::or(verdict, hand_over).await
}

/// Posts the PIN until Sunshine has it. Only an error ends it.
async fn hand_over(
    sunshine: &Sunshine,
    digits: &str,
    name: &str,
    is_there: &AtomicBool,
    stop: &Stop,
) -> PairingError {
    clock::sleep(FIRST_POST).await;
    let until = clock::now() + POST_WINDOW;
    loop {
        if stop.is_wished() {
            return PairingError::GivenUp;
        }
        is_there.store(true, Relaxed);
        let failed = match sunshine.post_pin(digits, name).await {
            Ok(true) => break,
            Ok(false) => None,
            // Sunshine restarts and has not got the PIN.
            Err(SunshineError::Call(error @ (ClientError::Connect(..) | ClientError::Tls(..)))) => {
                Some(error)
            }
            // Sunshine may have the PIN: it is not posted again.
            Err(SunshineError::Call(ClientError::Io(_) | ClientError::Timeout(_))) => break,
            Err(error) => return PairingError::Sunshine(error),
        };
        is_there.store(false, Relaxed);
        if clock::now() >= until {
            return match failed {
                Some(error) => PairingError::Sunshine(SunshineError::Call(error)),
                None => PairingError::NeverPending(POST_WINDOW),
            };
        }
        clock::sleep(POST_PAUSE).await;
    }
    clock::sleep(SILENCE).await;
    PairingError::Silent(SILENCE)
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
