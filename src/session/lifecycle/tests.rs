//! A session's promises, one by one, in virtual time.

mod returning;
mod running;

use super::*;
use crate::clock;

const LIMITS: SessionLimits = SessionLimits {
    start_timeout: Duration::from_secs(45),
    connect_timeout: Duration::from_secs(300),
    disconnect_grace: Duration::from_secs(30),
    max_duration: None,
    restart_limit: 2,
};

/// A lifecycle with its own virtual time.
struct Rig {
    now: Instant,
    life: Lifecycle,
    last: Vec<Action>,
    all: Vec<Action>,
}

impl Rig {
    fn starting(limits: SessionLimits) -> Self {
        let now = clock::now();
        let (life, last) = Lifecycle::new(now, limits);
        let all = last.clone();
        Self {
            now,
            life,
            last,
            all,
        }
    }

    fn ready(limits: SessionLimits) -> Self {
        let mut rig = Self::starting(limits);
        rig.feed(Input::BodyReached);
        rig.feed(Input::Spawned(1));
        rig.feed(Input::ProgramReady(1));
        rig.feed(Input::Paired(1, "/session/x/stream.html".to_owned()));
        assert_eq!(rig.life.status(), Status::Ready);
        rig
    }

    fn connected(limits: SessionLimits) -> Self {
        let mut rig = Self::ready(limits);
        rig.feed(Input::ViewerJoined(1));
        assert_eq!(rig.life.status(), Status::Connected);
        rig
    }

    fn feed(&mut self, input: Input) -> &mut Self {
        self.last = self.life.on(self.now, input);
        self.all.extend(self.last.clone());
        self
    }

    /// Lets time pass, ticking at every deadline and answering every probe.
    fn pass(&mut self, span: Duration) -> &mut Self {
        let until = self.now + span;
        while let Some(at) = self.life.next_deadline().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.feed(Input::Tick);
            if let Some((run, probe)) = self.probe() {
                self.feed(Input::ProbeOk(run, probe));
            }
        }
        self.now = until;
        self
    }

    fn clean_up(&mut self) -> &mut Self {
        let run = self.life.run;
        self.feed(Input::TreeGone(run));
        self.feed(Input::WorkspaceRemoved);
        self.feed(Input::BodyLeft)
    }

    /// The probe that the last step asked for.
    fn probe(&self) -> Option<(Incarnation, ProbeNumber)> {
        match self.last.last() {
            Some(Action::ProbeProgram(run, probe)) => Some((*run, *probe)),
            _ => None,
        }
    }

    fn probes(&self) -> usize {
        let probes = |a: &&Action| matches!(a, Action::ProbeProgram(..));
        self.all.iter().filter(probes).count()
    }

    fn asked(&self, action: &Action) -> usize {
        self.all.iter().filter(|a| *a == action).count()
    }

    fn records(&self) -> Vec<&Summary> {
        let all = self.all.iter();
        all.filter_map(|action| match action {
            Action::Record(summary) => Some(summary),
            _ => None,
        })
        .collect()
    }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_session_starts_phase_by_phase() {
    let mut rig = Rig::starting(LIMITS);
    assert_eq!(rig.last, [Action::Publish, Action::ReachBody]);
    let steps = [
        (Input::BodyReached, Action::Spawn(1), Some(Phase::Spawning)),
        (
            Input::Spawned(1),
            Action::AwaitProgram(1),
            Some(Phase::Spawning),
        ),
        (
            Input::ProgramReady(1),
            Action::PairBody(1),
            Some(Phase::Pairing),
        ),
        (Input::Launching(1), Action::Publish, Some(Phase::Launching)),
        (Input::Paired(1, "/p".to_owned()), Action::Publish, None),
    ];
    for (input, action, phase) in steps {
        assert_eq!(rig.life.status(), Status::Starting);
        assert_eq!(rig.life.stream_path(), None);
        rig.feed(input);
        assert!(rig.last.contains(&action), "{:?}", rig.last);
        assert_eq!(rig.life.phase(), phase);
    }
    assert_eq!(rig.life.status(), Status::Ready);
    assert_eq!(rig.life.stream_path(), Some("/p"));
}

#[test]
fn a_session_without_an_experience_is_ready_when_paired() {
    let now = clock::now();
    let (mut life, _) = Lifecycle::new(now, LIMITS);
    for input in [
        Input::BodyReached,
        Input::Spawned(1),
        Input::ProgramReady(1),
        Input::Paired(1, "/p".to_owned()),
    ] {
        let _ = life.on(now, input);
    }
    assert_eq!(life.status(), Status::Ready);
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    let why = || "no".to_owned();
    let reach = [Input::ReachFailed(why())];
    let spawn = [Input::BodyReached, Input::SpawnFailed(1, why())];
    let exit = [
        Input::BodyReached,
        Input::Spawned(1),
        Input::ProcessExited(1, why()),
    ];
    let pair = [
        Input::BodyReached,
        Input::Spawned(1),
        Input::ProgramReady(1),
        Input::BodyFailed(1, SessionFailure::Pairing(why())),
    ];
    let cases: [(&[Input], &str); 4] = [
        (&reach, "body_unreachable"),
        (&spawn, "spawn_failed"),
        (&exit, "program_failed"),
        (&pair, "pairing_failed"),
    ];
    for (inputs, slug) in cases {
        let mut rig = Rig::starting(LIMITS);
        for input in inputs {
            rig.feed(input.clone());
        }
        assert_eq!(
            rig.life.end_reason(),
            Some(EndReason::StartFailed),
            "{slug}"
        );
        assert_eq!(rig.life.failure().unwrap().slug(), slug);
        rig.clean_up();
        assert_eq!(rig.life.status(), Status::Ended, "{slug}");
        assert_eq!(rig.records().len(), 1);
        let begun = rig.asked(&Action::PairBody(1));
        assert_eq!(rig.asked(&Action::LeaveBody), begun, "{slug}");
    }
}

#[test]
fn a_body_that_does_not_answer_the_probe_is_given_up() {
    let mut rig = Rig::starting(LIMITS);
    rig.pass(secs(15));
    assert_eq!(
        rig.life.failure(),
        Some(&SessionFailure::TimedOut(Phase::Reaching))
    );
    assert_eq!(rig.life.status(), Status::Ended);
}

#[test]
fn a_start_that_stalls_ends_at_the_start_timeout() {
    let mut rig = Rig::starting(LIMITS);
    rig.feed(Input::BodyReached).feed(Input::Spawned(1));
    rig.feed(Input::ProgramReady(1)).pass(secs(44));
    assert_eq!(rig.life.phase(), Some(Phase::Pairing));
    rig.pass(secs(1));
    assert_eq!(
        rig.life.failure(),
        Some(&SessionFailure::TimedOut(Phase::Pairing))
    );
}

#[test]
fn nobody_coming_ends_the_session() {
    let mut rig = Rig::ready(LIMITS);
    rig.pass(secs(299));
    assert_eq!(rig.life.status(), Status::Ready);
    rig.pass(secs(1));
    assert_eq!(rig.life.end_reason(), Some(EndReason::NeverConnected));
}

#[test]
fn a_reload_within_the_window_keeps_the_session() {
    let mut rig = Rig::connected(LIMITS);
    rig.feed(Input::ViewerLeft(1)).pass(secs(29));
    assert_eq!(rig.life.status(), Status::Lingering);
    rig.feed(Input::ViewerJoined(2)).pass(secs(3_600));
    assert_eq!(rig.life.status(), Status::Connected);
    assert_eq!(rig.life.disconnect_count(), 1);
    rig.feed(Input::ViewerLeft(2)).pass(secs(30));
    assert_eq!(rig.life.end_reason(), Some(EndReason::Disconnected));
}

#[test]
fn only_the_last_viewer_to_leave_counts() {
    let mut rig = Rig::connected(LIMITS);
    rig.feed(Input::ViewerJoined(2)).feed(Input::ViewerLeft(1));
    rig.feed(Input::ViewerLeft(1)).feed(Input::ViewerLeft(9));
    assert_eq!(rig.life.status(), Status::Connected);
    assert_eq!((rig.life.viewers(), rig.life.disconnect_count()), (1, 0));
}

#[test]
fn the_whole_life_is_bounded_when_configured() {
    let mut rig = Rig::connected(SessionLimits {
        max_duration: Some(secs(600)),
        ..LIMITS
    });
    rig.pass(secs(600)).clean_up();
    assert_eq!(rig.records()[0].reason, EndReason::MaxDuration);
    assert_eq!(rig.records()[0].duration, secs(600));
}

#[test]
fn the_first_reason_stands_and_one_record_is_made() {
    let mut rig = Rig::connected(LIMITS);
    rig.feed(Input::EndRequested(EndReason::Quit));
    assert!(
        rig.last
            .contains(&Action::NotifyPage(Notice::Ended(EndReason::Quit)))
    );
    rig.feed(Input::EndRequested(EndReason::Deleted)).clean_up();
    rig.feed(Input::EndRequested(EndReason::Deleted)).clean_up();
    assert_eq!(rig.records().len(), 1);
    assert_eq!(rig.records()[0].reason, EndReason::Quit);
    assert_eq!(rig.all.last(), Some(&Action::Forget));
    assert!(rig.last.is_empty());
}

#[test]
fn a_session_is_ended_only_when_nothing_is_left() {
    let mut rig = Rig::connected(LIMITS);
    rig.feed(Input::EndRequested(EndReason::Deleted));
    rig.feed(Input::WorkspaceRemoved).feed(Input::BodyLeft);
    assert_eq!(
        rig.asked(&Action::RemoveWorkspace),
        0,
        "files go after processes"
    );
    rig.feed(Input::TreeGone(1));
    assert_eq!(rig.life.status(), Status::Ending);
    rig.feed(Input::WorkspaceRemoved);
    assert_eq!(rig.life.status(), Status::Ended);
}

#[test]
fn a_tree_that_does_not_go_is_killed_again_and_again() {
    let mut rig = Rig::connected(LIMITS);
    rig.feed(Input::EndRequested(EndReason::Quit))
        .pass(secs(21));
    assert_eq!(rig.asked(&Action::KillTree(1)), 5);
    assert_eq!(rig.life.status(), Status::Ending);
}

#[test]
fn a_body_that_does_not_answer_holds_up_the_end_but_not_the_slot() {
    let mut rig = Rig::connected(LIMITS);
    rig.feed(Input::EndRequested(EndReason::Quit))
        .feed(Input::TreeGone(1));
    assert_eq!(rig.asked(&Action::FreeSlot), 0);
    rig.feed(Input::WorkspaceRemoved).pass(secs(29));
    assert_eq!(rig.asked(&Action::FreeSlot), 1);
    assert_eq!(rig.life.status(), Status::Ending);
    rig.pass(secs(1));
    assert_eq!(rig.life.status(), Status::Ended);
}

#[test]
fn a_spawn_that_lands_after_the_end_is_killed() {
    let mut rig = Rig::starting(LIMITS);
    rig.feed(Input::BodyReached);
    rig.feed(Input::EndRequested(EndReason::Deleted));
    rig.feed(Input::Spawned(1));
    assert_eq!(rig.last, [Action::KillTree(1)]);
    rig.clean_up();
    assert_eq!(rig.life.status(), Status::Ended);
}

#[test]
fn a_drain_ends_the_session_at_its_deadline_unless_lifted() {
    for lifted in [true, false] {
        let mut rig = Rig::connected(LIMITS);
        let deadline = Some(rig.now + secs(60));
        rig.feed(Input::DrainOrdered(deadline));
        assert_eq!(rig.last, [Action::NotifyPage(Notice::Draining(deadline))]);
        if lifted {
            rig.feed(Input::DrainLifted);
        }
        rig.pass(secs(61));
        let reason = (!lifted).then_some(EndReason::Drained);
        assert_eq!(rig.life.end_reason(), reason);
    }
}
