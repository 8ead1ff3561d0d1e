//! The inputs and actions of a lifecycle.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::protocol::{EndReason, Phase, SPAWN_FAILED};

/// The configured windows of a session (`sessions.*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionLimits {
    /// From admission to ready, and from the death of a stream process to its successor's readiness.
    pub start_timeout: Duration,
    /// From ready to the first viewer.
    pub connect_timeout: Duration,
    /// From the last viewer's leaving to the next one's coming.
    pub disconnect_grace: Duration,
    /// Whole life from admission; `None` for no limit.
    pub max_duration: Option<Duration>,
    /// Restarts in place over the whole life.
    pub restart_limit: u32,
}

/// Counts the stream processes of one session: 1 for the first, one more for each restart.
/// What is said of an older run is recognised and ignored.
pub(crate) type Incarnation = u32;

/// Counts the probes of one session, from 1.
pub(crate) type ProbeNumber = u32;

/// Names one open viewer: a signalling WebSocket or a page's event stream. Never reused.
pub(crate) type ViewerId = u64;

/// An input of a lifecycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The body answered.
    BodyReached,
    /// The body answered, and refused us: wrong credentials, or not from here.
    BodyRefused(String),
    /// Everything on the body was undone, or there is no hope of it.
    BodyLeft,
    /// Existing sessions live until this deadline; none: until they end by themselves.
    DrainOrdered(Option<Instant>),
    /// The drain was called off.
    DrainLifted,
    /// Quit, delete, shutdown or drain. Only the first end of a session counts.
    EndRequested(EndReason),
    /// The ledger does not know what the session is about to do. A session that is starting ends:
    /// after a crash nobody would find it.
    LedgerFailed(String),
    /// The stream process is paired; the experience is being registered and launched.
    Launching(Incarnation),
    /// The stream process is paired; its page is at this path and query.
    Paired(Incarnation, String),
    /// The stream process could not be paired, or there is nothing to stream.
    BodyFailed(Incarnation, SessionFailure),
    /// The stream process did not answer a probe in time.
    ProbeFailed(Incarnation, ProbeNumber),
    /// The stream process answered a probe.
    ProbeOk(Incarnation, ProbeNumber),
    /// The probe could not be sent, for a reason of this worker's own (no descriptor, memory or
    /// port): it says nothing about the program.
    ProbeUnsent(Incarnation, ProbeNumber),
    /// The stream process is gone; children of it may not be.
    ProcessExited(Incarnation, String),
    /// The stream process answers and is ours (its prefix was checked).
    ProgramReady(Incarnation),
    /// The stream process runs but is not usable.
    ProgramFailed(Incarnation, String),
    /// The body did not answer.
    ReachFailed(String),
    /// The stream process of this start runs with a kept identity.
    Seeded(Incarnation),
    /// The body does not know the kept identity, nor did the stream process pair anew.
    SeedFailed(Incarnation, String),
    /// The stream process runs.
    Spawned(Incarnation),
    /// There is no stream process: no port, no workspace, no executable.
    SpawnFailed(Incarnation, String),
    /// A deadline came (see `next_deadline`).
    Tick,
    /// No process of this run exists, nor will one.
    TreeGone(Incarnation),
    /// A viewer came.
    ViewerJoined(ViewerId),
    /// A viewer went.
    ViewerLeft(ViewerId),
    /// No file of the session is left.
    WorkspaceRemoved,
}

/// What a lifecycle asks for. Repeated requests must be harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Wait until the program answers: [`Input::ProgramReady`] or [`Input::ProgramFailed`].
    AwaitProgram(Incarnation),
    /// The last action: drop the session from the table and the ledger.
    Forget,
    /// Release its slot and ports: no process and no file of it is left.
    FreeSlot,
    /// End every process of the run, and a spawn in flight: SIGINT, deadline, SIGKILL; always
    /// answered by [`Input::TreeGone`], after which nothing more is said of the run.
    KillTree(Incarnation),
    /// Cancel a pairing in flight, close the app, unpair: [`Input::BodyLeft`].
    LeaveBody,
    /// Tell the visitor's page.
    NotifyPage(Notice),
    /// Pair with the body, unless it still is, and launch the experience, if there is one:
    /// [`Input::Launching`], then [`Input::Paired`] or [`Input::BodyFailed`].
    PairBody(Incarnation),
    /// Ask once whether the program answers: [`Input::ProbeOk`], [`Input::ProbeFailed`] or
    /// [`Input::ProbeUnsent`] with this number.
    ProbeProgram(Incarnation, ProbeNumber),
    /// What others see has changed: write the ledger (before anything else is done), wake
    /// waiters, send a heartbeat.
    Publish,
    /// Ask the body whether it is there: [`Input::BodyReached`], [`Input::BodyRefused`] or
    /// [`Input::ReachFailed`].
    ReachBody,
    /// Hand the one record of this session on.
    Record(Summary),
    /// Remove the session's directory: [`Input::WorkspaceRemoved`].
    RemoveWorkspace,
    /// Prepare the workspace, unless it is there, and start the program: [`Input::Spawned`] or
    /// [`Input::SpawnFailed`], then at any time [`Input::ProcessExited`].
    Spawn(Incarnation),
}

/// A notice for the visitor's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The worker drains; the session ends at the deadline.
    Draining(Option<Instant>),
    /// The session is over.
    Ended(EndReason),
    /// The stream process is being replaced; same address.
    Restarting,
}

/// What went wrong, when the end reason alone does not say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SessionFailure {
    /// The body's `currentgame` is negative, and a close does not help.
    BodyStuck(String),
    /// The body did not answer.
    BodyUnreachable(String),
    /// The ledger could not be written.
    Ledger(String),
    /// The body does not list the app that was asked for.
    NoApp(String),
    /// The body or the stream process refused to pair.
    Pairing(String),
    /// The stream process died, hung or misbehaved.
    Program(String),
    /// The stream process could not be started.
    Spawn(String),
    /// A phase of the start took too long.
    TimedOut(Phase),
}

impl SessionFailure {
    /// The stable slug of an error answer.
    #[must_use]
    pub(crate) fn slug(&self) -> &'static str {
        match self {
            Self::BodyStuck(_) => "body_stuck",
            Self::BodyUnreachable(_) | Self::TimedOut(Phase::Reaching) => "body_unreachable",
            Self::Ledger(_) => "disk_full",
            Self::NoApp(_) => "app_not_found",
            Self::Pairing(_) => "pairing_failed",
            Self::Program(_) => "program_failed",
            Self::Spawn(_) => SPAWN_FAILED,
            Self::TimedOut(_) => "timeout",
        }
    }
}

impl std::fmt::Display for SessionFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BodyUnreachable(why) => write!(f, "body unreachable: {why}"),
            Self::BodyStuck(why) => write!(f, "the body is stuck: {why}; restart Sunshine"),
            Self::Ledger(why) | Self::NoApp(why) => f.write_str(why),
            Self::Pairing(why) => write!(f, "pairing failed: {why}"),
            Self::Program(why) => write!(f, "stream process: {why}"),
            Self::Spawn(why) => write!(f, "the stream process could not be started: {why}"),
            Self::TimedOut(phase) => {
                let doing = match phase {
                    Phase::Reaching => "reaching the body",
                    Phase::Spawning => "waiting for the stream process",
                    Phase::Pairing => "pairing with the body",
                    Phase::Launching => "launching the experience",
                    Phase::Other(phase) => phase.as_str(),
                };
                write!(f, "timed out while {doing}")
            }
        }
    }
}

/// A finished session, for its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Why it ended.
    pub reason: EndReason,
    /// What went wrong, if something did.
    pub failure: Option<SessionFailure>,
    /// From admission to the end's request.
    pub duration: Duration,
    /// How often the last viewer went away.
    pub disconnect_count: u32,
    /// Whether anyone ever saw it.
    pub was_connected: bool,
}

/// What the ledger keeps of a lifecycle, enough to adopt the session after a worker's restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// The last run that was asked for; 0 when none was.
    #[serde(default)]
    pub run: Incarnation,
    /// Restarts used up.
    #[serde(default)]
    pub restarts: u32,
    /// Path and query of the stream page, once ready.
    #[serde(default)]
    pub stream_path: Option<String>,
    /// Whether pairing was ever begun, so that the body has to be left; unknown counts as begun.
    #[serde(default = "yes")]
    pub body_touched: bool,
    /// Whether anyone ever saw it.
    #[serde(default)]
    pub was_connected: bool,
    /// How often the last viewer went away.
    #[serde(default)]
    pub disconnect_count: u32,
    /// Set as soon as the session is ending.
    #[serde(default)]
    pub end_reason: Option<EndReason>,
}

fn yes() -> bool {
    true
}
