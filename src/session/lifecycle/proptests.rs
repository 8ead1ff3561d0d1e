//! Random histories: whatever happens, in whatever order, the promises hold.

use proptest::prelude::*;

use super::*;
use crate::clock;

/// Steps a history takes before it is driven to its end.
const STEPS: usize = 120;
/// Ticks within which a session that ends must be clean, with a shell that answers.
const CLEAN_UP_TICKS: usize = 50;

/// What a random history does next.
#[derive(Clone, Debug)]
enum Step {
    Answer {
        pick: usize,
        well: bool,
    },
    Die,
    Vanish,
    Join(ViewerId),
    Leave(ViewerId),
    End(EndReason),
    Drain(Option<u64>),
    Lift,
    Pass(u64),
    /// The process does not run for so long.
    Sleep(u64),
    Lie(Input),
}

fn a_reason() -> impl Strategy<Value = EndReason> {
    prop_oneof![
        Just(EndReason::Quit),
        Just(EndReason::Deleted),
        Just(EndReason::WorkerShutdown),
    ]
}

/// Reports of runs that are long gone, or never were.
fn a_lie() -> impl Strategy<Value = Input> {
    let run = prop_oneof![Just(0_u32), Just(90), Just(99)];
    let why = || "stale".to_owned();
    (run, 0..9_u8).prop_map(move |(run, which)| match which {
        0 => Input::Spawned(run),
        1 => Input::ProcessExited(run, why()),
        2 => Input::TreeGone(run),
        3 => Input::ProgramReady(run),
        4 => Input::Paired(run, why()),
        5 => Input::ProbeFailed(run, run),
        6 => Input::BodyLeft,
        7 => Input::Launching(run),
        _ => Input::BodyReached,
    })
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<usize>(), prop::bool::weighted(0.9))
            .prop_map(|(pick, well)| Step::Answer { pick, well }),
        1 => Just(Step::Die),
        1 => Just(Step::Vanish),
        3 => (0..3_u64).prop_map(Step::Join),
        3 => (0..3_u64).prop_map(Step::Leave),
        1 => prop::option::of(0..200_u64).prop_map(Step::Drain),
        1 => Just(Step::Lift),
        4 => (0..40_000_u64).prop_map(Step::Pass),
        1 => (0..120_000_u64).prop_map(Step::Sleep),
        1 => a_lie().prop_map(Step::Lie),
    ]
}

/// A history that may be cut short by one request to end.
fn a_history() -> impl Strategy<Value = Vec<Step>> {
    let steps = prop::collection::vec(a_step(), 0..STEPS);
    let end = prop::option::weighted(0.5, (a_reason(), 0..STEPS));
    (steps, end).prop_map(|(mut steps, end)| {
        if let Some((reason, at)) = end {
            steps.insert(at.min(steps.len()), Step::End(reason));
        }
        steps
    })
}

fn limits() -> impl Strategy<Value = SessionLimits> {
    (
        1..60_u64,
        1..300_u64,
        0..60_u64,
        prop::option::of(1..600_u64),
        0..4_u32,
    )
        .prop_map(
            |(start, connect, grace, max, restart_limit)| SessionLimits {
                start_timeout: Duration::from_secs(start),
                connect_timeout: Duration::from_secs(connect),
                disconnect_grace: Duration::from_secs(grace),
                max_duration: max.map(Duration::from_secs),
                restart_limit,
            },
        )
}

/// A shell that keeps the contract of [`Action`], in any order and at any pace, and a witness.
struct World {
    now: Instant,
    life: Lifecycle,
    limits: SessionLimits,
    asked: Vec<Action>,
    live: Vec<Incarnation>,
    files: bool,
    records: usize,
    forgotten: bool,
    spawns: u32,
    viewers: Vec<ViewerId>,
    /// Since when nobody watches a session that is ready.
    unwatched: Option<Instant>,
    /// How late a tick came at most that was no pause.
    late: Duration,
}

impl World {
    fn new(limits: SessionLimits) -> Self {
        let now = clock::now();
        let (life, actions) = Lifecycle::new(now, limits);
        let mut world = Self {
            now,
            life,
            limits,
            asked: Vec::new(),
            live: Vec::new(),
            files: false,
            records: 0,
            forgotten: false,
            spawns: 0,
            viewers: Vec::new(),
            unwatched: None,
            late: Duration::ZERO,
        };
        world.witness(actions);
        world
    }

    fn feed(&mut self, input: Input) {
        let before = self.life.status();
        let reason = self.life.end_reason();
        let actions = self.life.on(self.now, input);
        assert!(
            before != Status::Ended || actions.is_empty(),
            "{actions:?} after the end"
        );
        assert!(
            reason.is_none() || self.life.end_reason() == reason,
            "a second reason"
        );
        self.witness(actions);
    }

    fn witness(&mut self, actions: Vec<Action>) {
        for action in actions {
            assert!(!self.forgotten, "{action:?} after Forget");
            match action {
                Action::Spawn(run) => {
                    assert!(self.live.is_empty(), "{run} spawned beside {:?}", self.live);
                    self.live.push(run);
                    self.files = true;
                    self.spawns += 1;
                    self.asked.push(Action::Spawn(run));
                }
                Action::Record(_) => self.records += 1,
                Action::Forget => self.forgotten = true,
                Action::Publish | Action::NotifyPage(_) => {}
                other => self.asked.push(other),
            }
        }
        let status = self.life.status();
        if status == Status::Ended {
            assert!(self.live.is_empty() && !self.files && self.forgotten);
            assert_eq!(self.records, 1);
            assert_eq!(self.life.next_deadline(), None);
        } else {
            assert_eq!(self.records, 0, "recorded before the end");
            assert!(
                self.life.next_deadline().is_some(),
                "{status} waits for nothing"
            );
        }
        assert!(self.spawns <= self.limits.restart_limit + 1);
        self.watch(status);
    }

    fn watch(&mut self, status: Status) {
        if !matches!(status, Status::Ready | Status::Lingering) {
            self.unwatched = None;
            return;
        }
        let since = *self.unwatched.get_or_insert(self.now);
        let limits = &self.limits;
        let window = limits.connect_timeout.max(limits.disconnect_grace);
        let waited = self.now - since;
        assert!(waited <= window + self.late, "unwatched for {waited:?}");
    }

    /// Answers one open request, well or badly.
    fn answer(&mut self, pick: usize, well: bool) {
        if self.asked.is_empty() {
            return;
        }
        let action = self.asked.remove(pick % self.asked.len());
        let why = || "refused".to_owned();
        let stands = |world: &Self, run: &Incarnation| world.live.contains(run);
        let input = match (action, well) {
            (Action::ReachBody, true) => Input::BodyReached,
            (Action::ReachBody, false) => Input::ReachFailed(why()),
            (Action::Spawn(run), _) if !stands(self, &run) => return,
            (Action::Spawn(run), true) => Input::Spawned(run),
            (Action::Spawn(run), false) => {
                self.live.clear();
                Input::SpawnFailed(run, why())
            }
            (Action::AwaitProgram(run), true) => Input::ProgramReady(run),
            (Action::AwaitProgram(run), false) => Input::ProgramFailed(run, why()),
            (Action::ProbeProgram(run, probe), true) => Input::ProbeOk(run, probe),
            (Action::ProbeProgram(run, probe), false) => Input::ProbeFailed(run, probe),
            (Action::PairBody(run), true) => Input::Paired(run, "/p".to_owned()),
            (Action::PairBody(run), false) => Input::BodyFailed(
                run,
                crate::session::lifecycle::SessionFailure::Pairing(why()),
            ),
            (Action::KillTree(run), true) => {
                self.live.retain(|live| *live != run);
                Input::TreeGone(run)
            }
            (Action::RemoveWorkspace, true) => {
                assert!(self.live.is_empty(), "files removed under a live process");
                self.files = false;
                Input::WorkspaceRemoved
            }
            (Action::LeaveBody, true) => Input::BodyLeft,
            // A kill, a removal or a leave that fails is not answered.
            _ => return,
        };
        self.feed(input);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Answer { pick, well } => self.answer(pick, well),
            Step::Die => {
                let run = self.life.run;
                if self.live.contains(&run) {
                    self.feed(Input::ProcessExited(run, "killed".to_owned()));
                }
            }
            Step::Vanish => {
                let killed = |a: &Action| matches!(a, Action::KillTree(_));
                if self.asked.iter().any(killed) {
                    self.live.clear();
                    self.feed(Input::TreeGone(self.life.run));
                }
            }
            Step::Join(viewer) => {
                self.viewers.push(viewer);
                self.feed(Input::ViewerJoined(viewer));
            }
            Step::Leave(viewer) => {
                self.viewers.retain(|v| *v != viewer);
                self.feed(Input::ViewerLeft(viewer));
            }
            Step::End(reason) => self.feed(Input::EndRequested(reason)),
            Step::Drain(after) => {
                let at = after.map(|s| self.now + Duration::from_secs(s));
                self.feed(Input::DrainOrdered(at));
            }
            Step::Lift => self.feed(Input::DrainLifted),
            Step::Pass(ms) => self.pass(Duration::from_millis(ms)),
            Step::Sleep(ms) => self.sleep(Duration::from_millis(ms)),
            Step::Lie(Input::BodyReached | Input::BodyLeft) => {}
            Step::Lie(lie) => self.feed(lie),
        }
    }

    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(at) = self.life.next_deadline().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.feed(Input::Tick);
        }
        self.now = until;
    }

    /// The process is stopped for a while; its first act is the tick that is overdue.
    fn sleep(&mut self, span: Duration) {
        let due = self.life.next_deadline().map(|at| at.max(self.now));
        self.now += span;
        let paused = due.map_or(Duration::ZERO, |at| self.now.saturating_duration_since(at));
        let was_away = self.unwatched.is_some();
        if paused >= PAUSE_MIN {
            // Nobody could come meanwhile.
            self.limits.disconnect_grace = self.limits.disconnect_grace.max(RETURN_GRACE);
            self.unwatched = self.unwatched.map(|_| self.now);
        } else {
            self.late = self.late.max(paused);
        }
        self.feed(Input::Tick);
        let absent = [EndReason::Disconnected, EndReason::NeverConnected];
        let is_blamed = self.life.end_reason().is_some_and(|r| absent.contains(&r));
        let was_deaf = was_away && paused >= PAUSE_MIN;
        assert!(!(was_deaf && is_blamed), "ended for being deaf {paused:?}");
    }

    /// Everyone goes home and the shell answers: the session must come to its end.
    fn wind_up(&mut self) {
        for viewer in std::mem::take(&mut self.viewers) {
            self.feed(Input::ViewerLeft(viewer));
        }
        let longest = Duration::from_secs(2 * 60 + 300 + 60);
        let end = self.now + longest;
        let mut ticks = 0;
        while self.life.status() != Status::Ended {
            while !self.asked.is_empty() {
                self.answer(0, true);
            }
            let Some(at) = self.life.next_deadline() else {
                break;
            };
            self.now = at.max(self.now);
            assert!(
                self.now <= end,
                "still {} with nobody there",
                self.life.status()
            );
            if self.life.end_reason().is_some() {
                ticks += 1;
                assert!(ticks < CLEAN_UP_TICKS, "the end takes for ever");
            }
            self.feed(Input::Tick);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_history_ends_once_recorded_once_and_clean(
        limits in limits(),
        steps in a_history(),
    ) {
        let mut world = World::new(limits);
        for step in steps {
            world.step(step);
        }
        world.wind_up();
        prop_assert_eq!(world.life.status(), Status::Ended);
        prop_assert_eq!(world.records, 1);
    }

    #[test]
    fn an_adopted_session_comes_to_its_end_too(
        limits in limits(),
        kept_steps in a_history(),
        steps in a_history(),
        age in 0..1_000_u64,
    ) {
        let mut world = World::new(limits);
        for step in kept_steps {
            world.step(step);
        }
        if world.life.status() == Status::Ended {
            return Ok(());
        }
        // The process dies here: what is in flight is lost, trees and files stay.
        let kept = world.life.snapshot();
        let age = Duration::from_secs(age);
        let (life, actions) = Lifecycle::adopted(world.now, age, limits, kept);
        world.life = life;
        world.asked.clear();
        world.viewers.clear();
        world.unwatched = None;
        world.limits.disconnect_grace = limits.disconnect_grace.max(RETURN_GRACE);
        world.witness(actions);
        for step in steps {
            world.step(step);
        }
        world.wind_up();
        prop_assert_eq!(world.life.status(), Status::Ended);
    }
}
