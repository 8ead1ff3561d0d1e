//! Settings of microphones.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Default payload type of Opus towards the body: the one that Chromium uses.
const PAYLOAD_TYPE: u8 = 111;
/// Default of `max`: the default number of sessions of a worker.
const MAX: usize = 15;
/// Default of `idle`. Browsers send packets during silence too, so a microphone without packets was
/// abandoned.
const IDLE: Duration = Duration::from_secs(60);

/// Settings of microphones.
#[derive(Clone, Debug)]
pub struct MicSettings {
    /// The address that peers listen on. TURN relays must be allowed to send to it.
    pub bind: IpAddr,
    /// Port range of the peers; any free port if absent. Each microphone uses one.
    pub ports: Option<RangeInclusive<u16>>,
    /// The address that RTP is sent from, for example the tunnel's; chosen by the kernel if absent.
    pub source: Option<IpAddr>,
    /// RTP payload type towards the body.
    pub payload_type: u8,
    /// Most microphones at once.
    pub max: usize,
    /// A microphone without packets for this long is closed.
    pub idle: Duration,
}

impl MicSettings {
    /// The defaults, listening on `bind`.
    #[must_use]
    pub fn on(bind: IpAddr) -> Self {
        Self {
            bind,
            ports: None,
            source: None,
            payload_type: PAYLOAD_TYPE,
            max: MAX,
            idle: IDLE,
        }
    }
}
