//! A worker that was late, paused, or gone: what becomes of its sessions.

use super::*;

#[test]
fn a_late_tick_finds_the_reason_that_came_first() {
    let mut rig = Rig::connected(SessionLimits {
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
    let last = ProbeNumber::try_from(rig.probes()).unwrap();
    rig.feed(Input::ProbeFailed(1, last))
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
    let limits = SessionLimits {
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
