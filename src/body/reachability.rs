//! Whether a body is there, lets us in, and how far away it is.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::sunshine::{Sunshine, SunshineError};
use super::tofu_pins::PinError;
use crate::clock;
use crate::http::client::{self, ClientError};

/// Time for the whole probe: a create is refused within 5 s when the body does not answer.
const PROBE: Duration = Duration::from_millis(4_500);
/// TCP connects that are timed; the median of three is not changed by one lost packet.
const CONNECTS: usize = 3;

/// Round trips below this leave a 10 s ICE timeout enough (the runbook's practice).
const NEAR: Duration = Duration::from_millis(80);
/// Round trips above this need the longest ICE timeout.
const FAR: Duration = Duration::from_millis(200);

/// A body that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Median time of three TCP connects.
    pub rtt: Duration,
    /// `currentgame`: 0 when no app runs, negative when Sunshine is stuck.
    pub app: i64,
}

impl Reached {
    /// How long ICE may be disconnected at this distance before the stream is given up.
    #[must_use]
    pub(crate) fn ice_disconnected_timeout(&self) -> Duration {
        ice_disconnected_timeout(self.rtt)
    }
}

/// 10, 15 or 25 s for round trips under 80 ms, up to 200 ms, above.
#[must_use]
pub(crate) fn ice_disconnected_timeout(rtt: Duration) -> Duration {
    Duration::from_secs(match rtt {
        rtt if rtt < NEAR => 10,
        rtt if rtt <= FAR => 15,
        _ => 25,
    })
}

/// Why a body is no use.
#[derive(Debug)]
pub(crate) enum Unreachable {
    /// The certificate changed, or its pin cannot be used.
    Certificate(PinError),
    /// 403.
    Forbidden(IpAddr),
    /// Sunshine answers, but not its GameStream side.
    GameStream(SocketAddr, String),
    /// Sunshine was never set up.
    NotConfigured(IpAddr),
    /// Something answers, but not as Sunshine does.
    NotSunshine(SocketAddr, String),
    /// Nothing listens.
    Refused(SocketAddr),
    /// There is no way there.
    Route(SocketAddr, io::Error),
    /// No answer to a connect.
    Silent(SocketAddr, Duration),
    /// Connected, but no answer to the request.
    Slow(SocketAddr, Duration),
    /// TLS failed.
    Tls(SocketAddr, io::Error),
    /// 401.
    Unauthorized(IpAddr),
}

impl Unreachable {
    /// Whether Sunshine answered and will not have us (`pairing_failed` to the client), rather
    /// than the body being out of reach (`body_unreachable`).
    #[must_use]
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Certificate(_)
                | Self::Forbidden(_)
                | Self::NotConfigured(_)
                | Self::Unauthorized(_)
        )
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |d: &Duration| humantime::format_duration(*d);
        match self {
            Self::Certificate(error) => write!(f, "{error}"),
            Self::Forbidden(ip) => write!(f, "body {ip}: {}", SunshineError::Forbidden),
            Self::GameStream(at, why) => write!(
                f,
                "Sunshine answers, but not at {at}: {why}; check sunshine.http_port and the firewall"
            ),
            Self::NotConfigured(ip) => write!(f, "body {ip}: {}", SunshineError::NotConfigured),
            Self::NotSunshine(at, why) => write!(
                f,
                "{at} answers, but not as Sunshine does: {why}; check sunshine.port"
            ),
            Self::Refused(at) => write!(f, "nothing listens at {at}; start Sunshine there"),
            Self::Route(at, error) => write!(f, "no way to {at}: {error}; check WireGuard"),
            Self::Silent(at, d) => write!(
                f,
                "{at} did not answer within {}; check that it is on, and WireGuard",
                span(d)
            ),
            Self::Slow(at, d) => write!(
                f,
                "{at} accepts connections, but Sunshine did not answer within {}",
                span(d)
            ),
            Self::Tls(at, error) => write!(f, "TLS with {at} failed: {error}"),
            Self::Unauthorized(ip) => write!(f, "body {ip}: {}", SunshineError::Unauthorized),
        }
    }
}

impl std::error::Error for Unreachable {}

/// Asks a Sunshine for its apps, which takes address, port, certificate and credentials to be
/// right. The address was checked by the caller: nothing is sent to a forbidden one.
///
/// # Errors
/// [`Unreachable`] within five seconds.
pub(crate) async fn probe(sunshine: &Sunshine) -> Result<Reached, Unreachable> {
    let at = sunshine.address();
    let connected = AtomicBool::new(false);
    let work = async {
        let mut times = [Duration::ZERO; CONNECTS];
        for time in &mut times {
            let start = clock::now();
            let dialled = client::dial(&at.ip().to_string(), at.port()).await;
            dialled.map_err(|e| unreachable_by(at, e))?;
            *time = clock::now().saturating_duration_since(start);
            connected.store(true, Relaxed);
        }
        times.sort_unstable();
        let patient = sunshine.clone().within(PROBE);
        patient.apps().await.map_err(|e| refused_by(at, e))?;
        Ok(Reached {
            rtt: times[CONNECTS / 2],
            app: 0,
        })
    };
    match clock::by(clock::now() + PROBE, work).await {
        Ok(done) => done,
        Err(_) if connected.load(Relaxed) => Err(Unreachable::Slow(at, PROBE)),
        Err(_) => Err(Unreachable::Silent(at, PROBE)),
    }
}

fn unreachable_by(at: SocketAddr, error: ClientError) -> Unreachable {
    match error {
        ClientError::Connect(_, error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Unreachable::Refused(at),
            io::ErrorKind::TimedOut => Unreachable::Silent(at, PROBE),
            _ => Unreachable::Route(at, error),
        },
        ClientError::Tls(_, error) => Unreachable::Tls(at, error),
        ClientError::Timeout(span) => Unreachable::Slow(at, span),
        other => Unreachable::NotSunshine(at, other.to_string()),
    }
}

fn refused_by(at: SocketAddr, error: SunshineError) -> Unreachable {
    match error {
        SunshineError::Call(error) => unreachable_by(at, error),
        SunshineError::Forbidden => Unreachable::Forbidden(at.ip()),
        SunshineError::NotConfigured => Unreachable::NotConfigured(at.ip()),
        SunshineError::Pin(error) => Unreachable::Certificate(error),
        SunshineError::Unauthorized => Unreachable::Unauthorized(at.ip()),
        other @ (SunshineError::Credential(..)
        | SunshineError::Garbled(..)
        | SunshineError::Status(..)) => Unreachable::NotSunshine(at, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ice_timeout_grows_with_the_distance() {
        for (ms, seconds) in [
            (0, 10),
            (79, 10),
            (80, 15),
            (200, 15),
            (201, 25),
            (5_000, 25),
        ] {
            let timeout = ice_disconnected_timeout(Duration::from_millis(ms));
            assert_eq!(timeout, Duration::from_secs(seconds), "{ms} ms");
        }
    }
}
