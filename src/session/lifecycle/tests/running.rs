//! A stream process that dies or hangs: restarted in place while somebody watches.

use super::*;

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
}

#[test]
fn a_launch_that_hangs_is_told_as_a_launch() {
    let mut rig = Rig::starting(LIMITS);
    rig.feed(Input::BodyReached).feed(Input::Spawned(1));
    rig.feed(Input::ProgramReady(1)).feed(Input::Launching(1));
    rig.pass(LIMITS.start_timeout);
    let failure = rig.life.failure().unwrap();
    assert_eq!(*failure, SessionFailure::TimedOut(Phase::Launching));
    assert!(failure.to_string().contains("launching"), "{failure}");
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
                let (run, probe) = rig.probe().unwrap();
                rig.feed(Input::ProbeFailed(run, probe));
            }
        }
        assert_eq!(rig.asked(&Action::KillTree(1)), 1, "silent: {silent}");
        assert_eq!(rig.probes(), 3, "silent: {silent}");
        assert_eq!(rig.life.end_reason(), None);
    }
}

#[test]
fn a_lost_probe_is_no_hang() {
    let mut rig = Rig::connected(LIMITS);
    for lost in [true, true, false, true, true, false] {
        rig.now = rig.life.next_deadline().unwrap();
        rig.feed(Input::Tick);
        let (run, probe) = rig.probe().unwrap();
        rig.feed(if lost {
            Input::ProbeFailed(run, probe)
        } else {
            Input::ProbeOk(run, probe)
        });
    }
    assert!(rig.life.is_up());
}

/// The time limit of a probe equals the interval: the tick and the failure of one probe come
/// together, in either order.
#[test]
fn a_probe_that_is_overdue_and_then_fails_is_one_miss() {
    let mut rig = Rig::connected(LIMITS);
    let mut open = None;
    for tick in 1..=3 {
        rig.now = rig.life.next_deadline().unwrap();
        rig.feed(Input::Tick);
        let next = rig.probe().unwrap();
        if let Some((run, probe)) = open.replace(next) {
            rig.now += Duration::from_millis(1);
            rig.feed(Input::ProbeFailed(run, probe));
        }
        assert!(rig.life.is_up(), "tick {tick}");
    }
    // Two probes are missed. The process runs again and answers the third.
    let (run, probe) = open.unwrap();
    rig.feed(Input::ProbeOk(run, probe));
    rig.pass(secs(60));
    assert!(rig.life.is_up());
    assert_eq!(rig.asked(&Action::KillTree(1)), 0);
}

/// It is given up when its time is over, which is when the next one is due: in either order.
#[test]
fn a_probe_that_this_worker_could_not_send_is_no_miss() {
    for is_late in [false, true] {
        let mut rig = Rig::connected(LIMITS);
        let mut open = None;
        for _ in 0..20 {
            rig.now = rig.life.next_deadline().unwrap();
            rig.feed(Input::Tick);
            let next = rig.probe().unwrap();
            let said = if is_late {
                open.replace(next)
            } else {
                Some(next)
            };
            if let Some((run, probe)) = said {
                rig.feed(Input::ProbeUnsent(run, probe));
            }
        }
        assert!(rig.life.is_up(), "late: {is_late}");
    }
}

/// It is no answer either.
#[test]
fn probes_that_could_not_be_sent_do_not_hide_a_hang() {
    let mut rig = Rig::connected(LIMITS);
    for unsent in [false, true, true, false, true, false] {
        assert!(rig.life.is_up());
        rig.now = rig.life.next_deadline().unwrap();
        rig.feed(Input::Tick);
        let (run, probe) = rig.probe().unwrap();
        rig.feed(if unsent {
            Input::ProbeUnsent(run, probe)
        } else {
            Input::ProbeFailed(run, probe)
        });
    }
    assert!(!rig.life.is_up(), "three were missed");
}

#[test]
fn a_late_answer_counts_for_its_own_probe_and_forgives_those_before() {
    let mut rig = Rig::connected(LIMITS);
    let mut probes = Vec::new();
    for _ in 0..3 {
        rig.now = rig.life.next_deadline().unwrap();
        rig.feed(Input::Tick);
        probes.push(rig.probe().unwrap());
    }
    // Two are overdue. The second one's answer says nothing of the third.
    rig.feed(Input::ProbeOk(probes[1].0, probes[1].1));
    rig.feed(Input::ProbeFailed(probes[2].0, probes[2].1));
    for _ in 0..2 {
        assert!(rig.life.is_up());
        rig.now = rig.life.next_deadline().unwrap();
        rig.feed(Input::Tick);
        let (run, probe) = rig.probe().unwrap();
        rig.feed(Input::ProbeFailed(run, probe));
    }
    assert!(!rig.life.is_up(), "the third and two more");
}
