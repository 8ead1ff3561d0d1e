//! The dance, its faults, and pairings that are kept.

use std::time::Duration;

use serde_json::Value;

use super::super::{Answers, BodyOptions, Faults};
use super::{ConfigFormat, LONG, SEED_HOST, marked, pair, stage, with};
use crate::body::pairing::PairingError;
use crate::body::sunshine::SunshineError;
use crate::{clock, exec};

#[test]
fn the_first_pin_waits_for_the_request_and_is_posted_again_until_it_is_pending() {
    let stage = stage(Faults {
        pin_race_ms: 2_000,
        ..Faults::default()
    });
    let (traces, paired) = exec::block_on(stage.pair());
    assert!(paired.is_ok(), "{paired:?}");
    assert_eq!(stage.demo.clients(), [traces.client.unwrap()]);
    assert!(stage.pins() > 1, "{:?}", stage.calls());
    let calls = stage.demo.calls();
    let at = |text: &str| calls.iter().find(|c| c.call.contains(text)).unwrap().at_ms;
    let waited = at("/api/pin") - at("phrase=getservercert");
    assert!(waited >= 1_100, "{waited} ms");
}

#[test]
fn stale_pairings_do_not_get_our_pin() {
    let stage = stage(Faults {
        stale_pending: 50,
        ..Faults::default()
    });
    let (traces, paired) = exec::block_on(stage.pair());
    assert!(paired.is_ok(), "{paired:?}");
    assert_eq!(stage.demo.clients(), [traces.client.unwrap()]);
    assert_eq!(stage.pins(), 1);
}

#[test]
fn a_pin_that_went_to_a_stranger_is_not_posted_again() {
    let stage = stage(Faults {
        stranger_pairs: true,
        ..Faults::default()
    });
    let (_, paired) = exec::block_on(stage.pair());
    let error = paired.unwrap_err();
    assert!(matches!(error, PairingError::Silent(_)), "{error:?}");
    assert!(error.to_string().contains("restart Sunshine"), "{error}");
    assert_eq!(stage.pins(), 1);
    assert_eq!(stage.demo.clients(), Vec::<String>::new());
    assert!(!stage.demo.has_crashed());
}

#[test]
fn a_pairing_that_is_told_to_end_posts_no_pin_or_finishes_its_handshake() {
    for (race, pins, is_paired) in [(0, 0, false), (60_000, 1, false), (0, 1, true)] {
        let stage = stage(Faults {
            pin_race_ms: race,
            ..Faults::default()
        });
        let body = stage.body();
        let (_double, program) = stage.program(None);
        let traces = marked(body.traces(None));
        let (stopper, stop) = exec::stop();
        let (paired, ()) = exec::block_on(smol::future::zip(
            body.pair(&program, &traces, LONG, &stop),
            async {
                // At once, or when a PIN was posted.
                let deadline = clock::now() + LONG;
                while stage.pins() < pins && clock::now() < deadline {
                    clock::sleep(Duration::from_millis(5)).await;
                }
                drop(stopper);
            },
        ));
        assert_eq!(stage.pins(), pins, "{race}");
        assert_eq!(paired.is_ok(), is_paired, "{race}: {paired:?}");
    }
}

#[test]
fn a_pairing_that_fails_says_why_and_leaves_nothing() {
    let off = Faults::default;
    type Is = fn(&PairingError) -> bool;
    let cases: [(Faults, Is); 4] = [
        (
            Faults {
                handshake_fails: true,
                ..off()
            },
            |e| matches!(e, PairingError::Rejected(_)),
        ),
        (
            Faults {
                wrong_password: true,
                ..off()
            },
            |e| matches!(e, PairingError::Sunshine(SunshineError::Unauthorized)),
        ),
        (
            Faults {
                content_type_refused: true,
                ..off()
            },
            |e| matches!(e, PairingError::Sunshine(SunshineError::Status(_, 400, _))),
        ),
        (
            Faults {
                answers: Answers::Garbage,
                ..off()
            },
            |e| matches!(e, PairingError::Sunshine(SunshineError::Garbled(..))),
        ),
    ];
    for (faults, is) in cases {
        let stage = stage(faults.clone());
        let (_, paired) = exec::block_on(stage.pair());
        let error = paired.unwrap_err();
        assert!(is(&error), "{faults:?}: {error:?}");
        assert_eq!(stage.demo.clients(), Vec::<String>::new(), "{faults:?}");
        // What it left pending would be met by the next one.
        stage.demo.fail(off()).unwrap();
        let (_, next) = exec::block_on(stage.pair());
        assert!(next.is_ok(), "{faults:?}: {next:?}");
        assert_eq!(stage.demo.state.pending(), 0, "{faults:?}");
    }
}

#[test]
fn a_pairing_without_end_ends_at_its_deadline() {
    let stage = stage(Faults {
        pin_race_ms: 60_000,
        ..Faults::default()
    });
    let body = stage.body();
    let (_double, program) = stage.program(None);
    let within = Duration::from_millis(700);
    let paired = exec::block_on(pair(
        &body,
        &program,
        &marked(body.traces(None)),
        None,
        within,
    ));
    assert!(matches!(paired, Err(PairingError::Late(_))), "{paired:?}");
}

#[test]
fn two_sessions_pair_with_one_body_one_after_the_other() {
    let stage = stage(Faults {
        pin_race_ms: 300,
        ..Faults::default()
    });
    let (a, b) = exec::block_on(smol::future::zip(stage.pair(), stage.pair()));
    assert!(a.1.is_ok() && b.1.is_ok());
    let mut expected = vec![a.0.client.unwrap(), b.0.client.unwrap()];
    expected.sort();
    let mut clients = stage.demo.clients();
    clients.sort();
    assert_eq!(clients, expected);
    let calls = stage.calls();
    let begun = |c: &&String| c.contains("phrase=getservercert");
    let second = calls.iter().rposition(|c| begun(&c)).unwrap();
    let first_done = calls
        .iter()
        .position(|c| c.ends_with("POST /api/pin"))
        .unwrap();
    assert!(first_done < second, "{calls:?}");
}

#[test]
fn among_a_hundred_clients_only_ours_are_unpaired() {
    let stage = stage(Faults {
        paired_clients: 100,
        ..Faults::default()
    });
    exec::block_on(async {
        let (first, _) = stage.pair().await;
        let (second, _) = stage.pair().await;
        assert_eq!(stage.demo.clients().len(), 102);
        assert_eq!(stage.body().tidy(|| false, LONG).await.unwrap(), None);
        assert_eq!(stage.demo.clients().len(), 102);
        let unpaired = stage.body().tidy(|| true, LONG).await.unwrap();
        let ours = [first, second].map(|traces| traces.client.unwrap());
        assert_eq!(unpaired, Some(ours.to_vec()));
    });
    let clients = stage.demo.clients();
    assert_eq!(clients.len(), 100);
    assert!(clients.iter().all(|c| c.starts_with("somebody else")));
}

#[test]
fn paired_once_later_sessions_need_no_pin_and_one_named_client_stays() {
    let stage = with(BodyOptions::default(), |rules| rules.pair_once = true);
    exec::block_on(async {
        let body = stage.body();
        assert_eq!(body.kept().await, None);
        let (double, program) = stage.program(None);
        let first = marked(body.traces(None));
        let paired = pair(&body, &program, &first, None, LONG).await.unwrap();
        assert!(body.keep(&first, &paired, &double.data_json, LONG).await);
        assert_eq!(stage.pins(), 1);

        for generation in [ConfigFormat::Fork, ConfigFormat::Roles] {
            let (_double, program) = stage.program_of(generation, body.kept().await);
            let second = marked(body.traces(None));
            let seeded = Some(SEED_HOST);
            let paired = pair(&body, &program, &second, seeded, LONG).await.unwrap();
            assert!(!paired.fresh);
            assert!(
                body.target(&program, &paired, None, None, || false)
                    .await
                    .is_ok()
            );
        }
        assert_eq!(stage.pins(), 1, "no second dance");
        assert_eq!(stage.demo.clients(), [first.client.unwrap()]);
        assert_eq!(body.tidy(|| true, LONG).await.unwrap(), Some(Vec::new()));
    });
}

#[test]
fn a_kept_client_that_is_no_longer_wanted_goes_when_no_session_is_there() {
    let mut stage = with(BodyOptions::default(), |rules| rules.pair_once = true);
    exec::block_on(async {
        let body = stage.body();
        let (double, program) = stage.program(None);
        let first = marked(body.traces(None));
        let paired = pair(&body, &program, &first, None, LONG).await.unwrap();
        assert!(body.keep(&first, &paired, &double.data_json, LONG).await);
        stage.change(|rules| rules.pair_once = false);
        let body = stage.body();
        assert_eq!(body.tidy(|| false, LONG).await.unwrap(), None);
        assert_eq!(stage.demo.clients().len(), 1);
        assert!(body.identity().await.is_some());
        let unpaired = body.tidy(|| true, LONG).await.unwrap();
        assert_eq!(unpaired, Some(vec![first.client.unwrap()]));
        assert_eq!(body.identity().await, None);
    });
    assert!(stage.demo.clients().is_empty());
}

#[test]
fn a_body_that_forgot_us_is_paired_with_anew() {
    let stage = with(BodyOptions::default(), |rules| rules.pair_once = true);
    exec::block_on(async {
        let body = stage.body();
        let (double, program) = stage.program(None);
        let first = marked(body.traces(None));
        let paired = pair(&body, &program, &first, None, LONG).await.unwrap();
        assert!(body.keep(&first, &paired, &double.data_json, LONG).await);
        stage.demo.state.unpair(|_| true);

        let (double, program) = stage.program(body.kept().await);
        let second = marked(body.traces(None));
        let paired = pair(&body, &program, &second, Some(SEED_HOST), LONG)
            .await
            .unwrap();
        assert!(paired.fresh && paired.host_id != 1);
        assert!(body.keep(&second, &paired, &double.data_json, LONG).await);
        // The program still has the host of the useless identity, at the same address.
        let data = std::fs::read_to_string(&double.data_json).unwrap();
        let hosts = &serde_json::from_str::<Value>(&data).unwrap()["hosts"];
        assert_eq!(hosts.as_object().unwrap().len(), 2);
        assert_eq!(
            body.kept().await.unwrap().host()["pair_info"],
            hosts[paired.host_id.to_string()]["pair_info"]
        );
        assert_eq!(stage.demo.clients(), [second.client.clone().unwrap()]);
        assert_eq!(body.forget().await.unwrap(), [second.client.unwrap()]);
        assert_eq!(body.identity().await, None);
    });
    assert!(stage.demo.clients().is_empty());
}

#[test]
fn a_sunshine_that_restarts_during_pairing_is_paired_with_when_it_is_back() {
    let stage = stage(Faults {
        restart_during_pairing: true,
        ..Faults::default()
    });
    exec::block_on(async {
        let body = stage.body();
        let (_double, program) = stage.program(None);
        let traces = marked(body.traces(None));
        let paired = pair(&body, &program, &traces, None, LONG).await.unwrap();
        assert!(
            body.target(&program, &paired, None, None, || false)
                .await
                .is_ok()
        );
        assert_eq!(stage.demo.clients(), [traces.client.unwrap()]);
    });
}
