//! What can be made to go wrong on a demo body.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol::Async;
use smol::io::AsyncWriteExt as _;

use crate::http::Reply;
use crate::{clock, exec};

/// Pause between the bytes of a slow answer.
const DRIP: Duration = Duration::from_millis(500);

/// Faults, all off by default. Counts and changes (`stale_pending`, `paired_clients`,
/// `changed_certificate`, `stuck`) take effect when they are switched on; the others stay on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// hydrabody answers with this status.
    pub agent_status: Option<u16>,
    /// How Sunshine's configuration API answers.
    pub answers: Answers,
    /// Sunshine has a new certificate.
    pub changed_certificate: bool,
    /// hydrabody launches an experience so much later than it was told to.
    pub launch_takes_ms: u64,
    /// A running app that is closed leaves `currentgame` at -1 until the next close.
    pub close_leaves_stuck: bool,
    /// Closing an app takes so long, and Sunshine's configuration API answers nobody meanwhile.
    pub close_takes_ms: u64,
    /// Every command that Sunshine runs for an app fails.
    pub commands_fail: bool,
    /// Every content type is refused.
    pub content_type_refused: bool,
    /// 403 to everybody.
    pub forbidden: bool,
    /// A stream of this app that somebody else started runs.
    pub foreign_app: Option<String>,
    /// Sunshine's GameStream side does not answer yet.
    pub gamestream_away: bool,
    /// The handshake fails after the PIN was taken; the pairing stays pending.
    pub handshake_fails: bool,
    /// Sunshine was never given credentials.
    pub not_configured: bool,
    /// That many clients of others are paired.
    pub paired_clients: u32,
    /// The pairing request needs this long to get to Sunshine.
    pub pin_race_ms: u64,
    /// Sunshine restarts when a pairing is pending, once.
    pub restart_during_pairing: bool,
    /// Each TLS handshake is this late.
    pub slow_tls_ms: u64,
    /// That many pairings are pending whose clients are gone.
    pub stale_pending: u32,
    /// A stranger's pairing comes right after each one that is pending, and takes its PIN.
    pub stranger_pairs: bool,
    /// `currentgame` is -1 until an app is closed.
    pub stuck: bool,
    /// `currentgame` is -1, and closing an app changes nothing.
    pub stuck_for_good: bool,
    /// No password is the right one.
    pub wrong_password: bool,
}

/// How answers are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answers {
    /// 200 with JSON that never ends.
    Endless,
    /// 200 with something that is no JSON.
    Garbage,
    /// As Sunshine does.
    #[default]
    Honest,
    /// 200 with a byte now and then.
    Slow,
}

impl Answers {
    /// The bad answer, if one is to be given.
    pub(super) fn reply(self) -> Option<Reply> {
        const JSON: &str = "application/json";
        match self {
            Self::Endless => Some(Reply::stream(JSON, smol::io::repeat(b' '))),
            Self::Garbage => Some(Reply::text(200, JSON, "<html>\u{0}\u{1b}[31mnot json")),
            Self::Honest => None,
            Self::Slow => {
                let (ours, theirs) = UnixStream::pair().ok()?;
                let mut ours = Async::new(ours).ok()?;
                exec::spawn(async move {
                    // Ends when the client leaves.
                    while ours.write_all(b" ").await.is_ok() {
                        clock::sleep(DRIP).await;
                    }
                })
                .detach();
                Some(Reply::stream(JSON, Async::new(theirs).ok()?))
            }
        }
    }
}
