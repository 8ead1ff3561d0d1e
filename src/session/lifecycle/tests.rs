//! A session's promises, one by one, in virtual time.

use super::*;
use crate::clock;

const LIMITS: Limits = Limits {
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
    fn starting(limits: Limits) -> Self {
        let now = clock::now();
        let (life, last) = Lifecycle::new(now, limits, true);
        let all = last.clone();
        Self {
            now,
            life,
            last,
            all,
        }
    }

    fn ready(limits: Limits) -> Self {
        let mut rig = Self::starting(limits);
        rig.feed(Input::BodyReached);
        rig.feed(Input::Spawned(1));
        rig.feed(Input::ProgramReady(1));
        rig.feed(Input::Paired(1, "/session/x/stream.html".to_owned()));
        rig.feed(Input::Launched(1));
        assert_eq!(rig.life.status(), Status::Ready);
        rig
    }

    fn connected(limits: Limits) -> Self {
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
            if let Some(Action::ProbeProgram(run)) = self.last.last().cloned() {
                self.feed(Input::ProbeOk(run));
            }
        }
        self.now = until;
        self
    }

    fn clean_up(&mut self) -> &mut Self {
        let run = self.life.run();
        self.feed(Input::TreeGone(run));
        self.feed(Input::WorkspaceRemoved);
        self.feed(Input::BodyLeft)
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
        (
            Input::Paired(1, "/p".to_owned()),
            Action::LaunchExperience(1),
            Some(Phase::Launching),
        ),
        (Input::Launched(1), Action::Publish, None),
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
    let (mut life, _) = Lifecycle::new(now, LIMITS, false);
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
        Input::PairingFailed(1, why()),
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
fn a_dead_body_is_reported_within_five_seconds() {
    let mut rig = Rig::starting(LIMITS);
    rig.pass(secs(5));
    assert_eq!(
        rig.life.failure(),
        Some(&Failure::TimedOut(Phase::Reaching))
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
    assert_eq!(rig.life.failure(), Some(&Failure::TimedOut(Phase::Pairing)));
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
    let mut rig = Rig::connected(Limits {
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
fn a_body_that_does_not_answer_does_not_hold_up_the_end() {
    let mut rig = Rig::connected(LIMITS);
    rig.feed(Input::EndRequested(EndReason::Quit))
        .feed(Input::TreeGone(1));
    rig.feed(Input::WorkspaceRemoved).pass(secs(4));
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
fn a_process_that_dies_under_a_viewer_is_restarted_in_place() {
    let mut rig = Rig::connected(LIMITS);
    rig.feed(Input::ProcessExited(1, "killed".to_owned()));
    assert!(rig.last.contains(&Action::NotifyPage(Notice::Restarting)));
    assert_eq!(
        rig.asked(&Action::Spawn(2)),
        0,
        "not before the old tree is gone"
    );
    rig.feed(Input::TreeGone(1));
    assert_eq!(rig.asked(&Action::Spawn(2)), 1);
    assert_eq!(rig.life.status(), Status::Connected);
    assert_eq!(rig.life.phase(), Some(Phase::Spawning));
    rig.feed(Input::ProcessExited(1, "old news".to_owned()));
    rig.feed(Input::Spawned(2)).feed(Input::ProgramReady(2));
    rig.feed(Input::Paired(2, "/p".to_owned()));
    assert!(rig.life.is_up());
    assert_eq!(rig.asked(&Action::LaunchExperience(2)), 0);
}

#[test]
fn the_signalling_socket_cut_by_the_death_still_counts_as_a_viewer() {
    let mut rig = Rig::connected(LIMITS);
    rig.feed(Input::ViewerLeft(1))
        .pass(Duration::from_millis(100));
    rig.feed(Input::ProcessExited(1, "killed".to_owned()));
    assert_eq!(rig.life.end_reason(), None);
}

#[test]
fn a_process_that_dies_unwatched_or_too_often_ends_the_session() {
    let mut unwatched = Rig::ready(LIMITS);
    unwatched.feed(Input::ProcessExited(1, "killed".to_owned()));
    assert_eq!(unwatched.life.end_reason(), Some(EndReason::ProcessExited));

    let mut often = Rig::connected(LIMITS);
    for run in 1..=3 {
        assert_eq!(often.life.end_reason(), None);
        often.feed(Input::ProcessExited(run, "killed".to_owned()));
        often
            .feed(Input::TreeGone(run))
            .feed(Input::Spawned(run + 1));
    }
    assert_eq!(often.life.end_reason(), Some(EndReason::ProcessExited));
}

#[test]
fn a_restart_that_stalls_ends_the_session() {
    let mut rig = Rig::connected(LIMITS);
    rig.feed(Input::ProcessExited(1, "killed".to_owned()));
    rig.pass(secs(45));
    assert_eq!(rig.life.end_reason(), Some(EndReason::ProcessExited));
    assert_eq!(rig.asked(&Action::Spawn(2)), 0);
}

#[test]
fn a_hang_is_found_by_probes_and_cured_by_a_restart() {
    for silent in [true, false] {
        let mut rig = Rig::connected(LIMITS);
        while rig.life.is_up() {
            rig.now = rig.life.next_deadline().unwrap();
            rig.feed(Input::Tick);
            if rig.life.is_up() && !silent {
                rig.feed(Input::ProbeFailed(1));
            }
        }
        assert_eq!(rig.asked(&Action::KillTree(1)), 1, "silent: {silent}");
        let probes = rig.asked(&Action::ProbeProgram(1));
        assert_eq!(probes, 3, "silent: {silent}");
        assert_eq!(rig.life.end_reason(), None);
    }
}

#[test]
fn a_lost_probe_is_no_hang() {
    let mut rig = Rig::connected(LIMITS);
    for lost in [true, true, false, true, true, false] {
        rig.now = rig.life.next_deadline().unwrap();
        rig.feed(Input::Tick);
        rig.feed(if lost {
            Input::ProbeFailed(1)
        } else {
            Input::ProbeOk(1)
        });
    }
    assert!(rig.life.is_up());
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

#[test]
fn a_late_tick_finds_the_reason_that_came_first() {
    let mut rig = Rig::connected(Limits {
        max_duration: Some(secs(31)),
        ..LIMITS
    });
    rig.feed(Input::ViewerLeft(1)).pass(secs(29));
    rig.now += secs(4);
    rig.feed(Input::Tick);
    assert_eq!(rig.life.end_reason(), Some(EndReason::Disconnected));
}

#[test]
fn a_worker_that_was_paused_gives_a_visitor_who_had_left_the_whole_window_anew() {
    let mut rig = Rig::connected(LIMITS);
    rig.feed(Input::ViewerLeft(1)).pass(secs(20));
    rig.now += secs(90);
    rig.feed(Input::Tick).pass(secs(29));
    assert_eq!(rig.life.status(), Status::Lingering);
    rig.pass(secs(2));
    assert_eq!(rig.life.end_reason(), Some(EndReason::Disconnected));
}

#[test]
fn a_worker_that_was_paused_blames_neither_a_first_visitor_nor_the_stream_process() {
    let mut rig = Rig::ready(LIMITS);
    rig.pass(secs(290));
    rig.now += secs(600);
    rig.feed(Input::ProbeFailed(1))
        .feed(Input::Tick)
        .pass(secs(29));
    assert_eq!(rig.life.status(), Status::Ready);
    rig.feed(Input::ViewerJoined(1));
    assert_eq!(rig.life.status(), Status::Connected);

    let mut rig = Rig::starting(LIMITS);
    rig.feed(Input::BodyReached).feed(Input::Spawned(1));
    rig.now += secs(90);
    rig.feed(Input::Tick);
    assert_eq!(rig.life.status(), Status::Starting);
    rig.feed(Input::ProgramReady(1)).pass(secs(45));
    assert_eq!(rig.life.end_reason(), Some(EndReason::StartFailed));
}

#[test]
fn a_pause_moves_no_deadline_that_people_were_told_of() {
    let mut rig = Rig::connected(LIMITS);
    let deadline = Some(rig.now + secs(60));
    rig.feed(Input::DrainOrdered(deadline));
    rig.now += secs(90);
    rig.feed(Input::Tick);
    assert_eq!(rig.life.end_reason(), Some(EndReason::Drained));
}

#[test]
fn an_adopted_session_waits_for_its_viewer_and_keeps_its_age() {
    let limits = Limits {
        max_duration: Some(secs(3_600)),
        ..LIMITS
    };
    let kept = Rig::connected(limits).life.snapshot();
    let text = serde_json::to_string(&kept).unwrap();
    let kept: Snapshot = serde_json::from_str(&text).unwrap();
    let now = clock::now();
    let (mut life, actions) = Lifecycle::adopted(now, secs(3_000), limits, kept);
    assert_eq!(actions, [Action::Publish]);
    assert_eq!(life.status(), Status::Lingering);
    let _ = life.on(now + secs(4), Input::ViewerJoined(7));
    assert_eq!(life.status(), Status::Connected);
    assert_eq!(life.disconnect_count(), 0);
    let _ = life.on(now + secs(600), Input::Tick);
    assert_eq!(life.end_reason(), Some(EndReason::MaxDuration));
    assert_eq!(life.duration(now + secs(900)), secs(3_600));
}

#[test]
fn a_session_found_dead_or_half_made_is_cleaned_up_and_recorded() {
    let mut dead = Rig::connected(LIMITS).life.snapshot();
    dead.end_reason = Some(EndReason::ProcessExited);
    let mut half = Rig::starting(LIMITS);
    half.feed(Input::BodyReached);
    for (kept, reason) in [
        (dead, EndReason::ProcessExited),
        (half.life.snapshot(), EndReason::StartFailed),
    ] {
        let now = clock::now();
        let (life, last) = Lifecycle::adopted(now, secs(1), LIMITS, kept);
        let mut rig = Rig {
            now,
            life,
            all: last.clone(),
            last,
        };
        assert_eq!(rig.asked(&Action::KillTree(1)), 1);
        rig.clean_up();
        assert_eq!(rig.asked(&Action::RemoveWorkspace), 1);
        assert_eq!(rig.records()[0].reason, reason);
    }
}
