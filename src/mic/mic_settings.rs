//! How microphones are received and sent on.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Payload type of Opus that the body expects by default: what Chromium calls it.
const PAYLOAD_TYPE: u8 = 111;
/// Microphones of one worker by default: its default number of sessions.
const MAX: usize = 15;
/// Default time without a packet after which a microphone is closed. Silence is sent as well,
/// so this is a page that forgot it.
const IDLE: Duration = Duration::from_secs(60);

/// How microphones are received and sent on.
#[derive(Clone, Debug)]
pub struct MicSettings {
    /// The one address that peers listen on. TURN relays must be allowed to reach it.
    pub bind: IpAddr,
    /// Ports of the peers; any free one without a range. Each microphone takes one.
    pub ports: Option<RangeInclusive<u16>>,
    /// The address RTP is sent from, for example the tunnel's; the kernel's choice when absent.
    pub source: Option<IpAddr>,
    /// RTP payload type on the way to the body.
    pub payload_type: u8,
    /// Microphones at once.
    pub max: usize,
    /// A microphone that sends nothing for this long is closed.
    pub idle: Duration,
}

impl MicSettings {
    /// The defaults, on one address.
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
