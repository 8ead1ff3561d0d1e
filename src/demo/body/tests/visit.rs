//! A whole visit, and what an experience needs.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::{BodyOptions, Faults};
use super::{LEAVE, LONG, marked, pair, stage, with};
use crate::body::SiblingSessions;
use crate::body::experience::Launch;
use crate::{clock, exec};

#[test]
fn a_whole_visit_leaves_nothing_on_the_body() {
    let stage = stage(Faults::default());
    let mut phases: Vec<(&str, Duration)> = Vec::new();
    let mut last = clock::now();
    let mut phase = |name| {
        let now: Instant = clock::now();
        phases.push((name, now.saturating_duration_since(last)));
        last = now;
    };
    exec::block_on(async {
        let body = stage.body();
        let launch = Launch::new(Some("Mars"), r"C:\games\mars.exe", "s1");
        body.reach().await.unwrap();
        phase("reach");
        let (_double, program) = stage.program(None);
        program.ready(LONG).await.unwrap();
        phase("ready");
        let mut traces = marked(body.traces(Some(launch.clone())));
        let paired = pair(&body, &program, &traces, None, LONG).await.unwrap();
        assert!(paired.fresh);
        phase("pair");
        assert_eq!(
            body.launch(&launch, body.start_experience(&launch), || false)
                .await,
            Vec::<String>::new()
        );
        phase("launch");
        let target = body
            .target(&program, &paired, None, Some(&launch), || false)
            .await;
        assert_ne!(
            target.unwrap().app_id,
            881_448_767,
            "the experience, not the desktop"
        );
        phase("target");
        assert_eq!(stage.demo.clients(), [traces.client.clone().unwrap()]);
        traces.streamed = true;
        for _ in 0..2 {
            let left = body.leave(&traces, SiblingSessions::default, LEAVE).await;
            assert_eq!(left, Vec::<String>::new());
        }
        phase("leave");
        let unpaired = body.tidy(|| true, LONG).await.unwrap();
        assert_eq!(unpaired, Some(vec![traces.client.clone().unwrap()]));
    });
    assert_eq!(stage.demo.clients(), Vec::<String>::new());
    assert_eq!(stage.demo.running(), None);
    let calls = stage.demo.calls();
    for call in &calls {
        assert!(!call.from_a_page, "{call:?}");
        let json = call.content_type.starts_with("application/json");
        assert!(json || call.to == "gamestream", "{call:?}");
    }
    let sunshine: Vec<String> = stage.calls();
    for (name, took) in phases {
        println!("{name}: {took:?}");
    }
    for call in &calls {
        println!("{:>5} ms {} {}", call.at_ms, call.to, call.call);
    }
    let count = |text: &str| sunshine.iter().filter(|c| c.contains(text)).count();
    assert_eq!(count("agent POST /api/v1/launch"), 1);
    assert_eq!(
        count("sunshine POST /api/apps/close"),
        2,
        "once for each leave"
    );
    assert_eq!(count("sunshine POST /api/clients/unpair"), 1);
}

#[test]
fn an_experience_takes_the_place_of_the_one_of_its_name() {
    let stage = stage(Faults::default());
    let nasty = "Zoë's \"q\" & 100 %";
    exec::block_on(async {
        for exe in [r"C:\a b\ü.exe", "C:\\x\n\"$(calc)\".exe"] {
            let launch = Launch::new(Some(nasty), exe, "s1");
            assert_eq!(
                stage
                    .body()
                    .launch(&launch, stage.body().start_experience(&launch), || false)
                    .await,
                Vec::<String>::new()
            );
        }
    });
    let apps = stage.demo.state.apps();
    assert_eq!(
        apps.iter().filter(|a| a["name"] == nasty).count(),
        1,
        "{apps:?}"
    );
    let calls = stage.demo.calls();
    let mut launches = calls.iter().filter(|c| c.call == "POST /api/v1/launch");
    let last: Value = serde_json::from_str(&launches.next_back().unwrap().body).unwrap();
    assert_eq!(last["exe_path"], "C:\\x\n\"$(calc)\".exe");
}

#[test]
fn what_hydrabody_or_sunshine_does_not_take_is_a_warning() {
    let refused = stage(Faults {
        agent_status: Some(500),
        ..Faults::default()
    });
    let launch = Launch::new(Some("Mars"), r"C:\mars.exe", "s1");
    let warnings = exec::block_on(refused.body().launch(
        &launch,
        refused.body().start_experience(&launch),
        || false,
    ));
    assert!(
        warnings.len() == 1 && warnings[0].contains("answers POST /api/v1/launch with 500"),
        "{warnings:?}"
    );
    let cmd = refused
        .demo
        .state
        .apps()
        .iter()
        .find(|a| a["name"] == "Mars")
        .unwrap()["cmd"]
        .clone();
    assert_eq!(
        cmd, r#""C:\mars.exe""#,
        "Sunshine starts it when hydrabody does not"
    );

    let stage = stage(Faults::default());
    let long = Launch::new(Some(&"x".repeat(10_000)), &"y".repeat(10_000), "s1");
    let warnings = exec::block_on(stage.body().launch(
        &long,
        stage.body().start_experience(&long),
        || false,
    ));
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("experience has 10000 bytes"),
        "{warnings:?}"
    );
}

#[test]
fn where_no_hydrabody_listens_sunshine_starts_the_executable_and_tells_nobody() {
    let mut stage = stage(Faults::default());
    let launch = Launch::new(Some("Mars"), r"C:\mars.exe", "s1");
    let entry = |stage: &super::Stage| {
        let apps = stage.demo.state.apps();
        apps.into_iter().find(|a| a["name"] == "Mars").unwrap()
    };
    let warnings = exec::block_on(stage.body().launch(
        &launch,
        stage.body().start_experience(&launch),
        || false,
    ));
    assert_eq!(warnings, Vec::<String>::new());
    let told = entry(&stage);
    assert!(
        told["cmd"] == "" && told["detached"][0].is_string(),
        "{told}"
    );

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    stage.change(|rules| rules.ports.agent = port);
    let warnings = exec::block_on(stage.body().launch(
        &launch,
        stage.body().start_experience(&launch),
        || false,
    ));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let alone = entry(&stage);
    assert_eq!(alone["detached"], Value::Null, "{alone}");
    assert_eq!(alone["cmd"], r#""C:\mars.exe""#);
}

#[test]
fn what_another_session_on_the_body_needs_stays_until_the_last_one_leaves() {
    let stage = stage(Faults {
        foreign_app: Some("Mars".into()),
        ..Faults::default()
    });
    let body = stage.body();
    let mut traces = marked(body.traces(Some(Launch::new(Some("Mars"), r"C:\mars.exe", "s1"))));
    traces.streamed = true;
    let leave = |is_watched, experiences: &[&str]| {
        let neighbours = SiblingSessions {
            is_watched,
            experiences: experiences.iter().map(|e| (*e).to_owned()).collect(),
        };
        let left = exec::block_on(body.leave(&traces, || neighbours.clone(), LEAVE));
        assert_eq!(left, Vec::<String>::new());
        let calls = stage.calls();
        let count = |text: &str| calls.iter().filter(|c| c.contains(text)).count();
        (
            stage.demo.running().is_some(),
            count("agent POST /api/v1/stop"),
        )
    };
    assert_eq!(leave(true, &["Mars"]), (true, 0));
    assert_eq!(leave(true, &["Venus"]), (true, 1));
    assert_eq!(leave(false, &[]), (false, 2));
}

#[test]
fn a_body_that_is_gone_is_left_in_bounded_time_and_what_stays_is_said() {
    let stage = stage(Faults {
        slow_tls_ms: 60_000,
        agent_status: Some(503),
        ..Faults::default()
    });
    let launch = Launch::new(Some("Mars"), r"C:\mars.exe", "s1");
    let body = stage.body();
    let mut traces = marked(body.traces(Some(launch)));
    traces.streamed = true;
    let left = exec::block_on(body.leave(
        &traces,
        SiblingSessions::default,
        Duration::from_millis(300),
    ));
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_missing_app_is_an_error_when_it_was_asked_for_and_the_desktop_otherwise() {
    let stage = stage(Faults {
        foreign_app: Some("Other".into()),
        ..Faults::default()
    });
    exec::block_on(async {
        let body = stage.body();
        let (_double, program) = stage.program(None);
        let paired = pair(&body, &program, &marked(body.traces(None)), None, LONG)
            .await
            .unwrap();
        let launch = Launch::new(Some("Mars"), "x", "s1");
        let desktop = body
            .target(&program, &paired, None, Some(&launch), || false)
            .await
            .unwrap();
        assert_eq!(desktop.app_id, 881_448_767);
        let missing = body
            .target(&program, &paired, Some("Venus"), None, || false)
            .await
            .unwrap_err();
        assert!(missing.to_string().contains("Venus"), "{missing}");
    });
    assert_eq!(
        stage.demo.running().as_deref(),
        Some("Other"),
        "not ours to close"
    );
}

#[test]
fn a_foreign_app_is_closed_when_configured() {
    let faults = Faults {
        foreign_app: Some("Other".into()),
        ..Faults::default()
    };
    let stage = with(
        BodyOptions {
            faults,
            ..BodyOptions::default()
        },
        |rules| rules.close_foreign_app = true,
    );
    exec::block_on(async {
        let body = stage.body();
        let (_double, program) = stage.program(None);
        let paired = pair(&body, &program, &marked(body.traces(None)), None, LONG)
            .await
            .unwrap();
        body.target(&program, &paired, None, None, || false)
            .await
            .unwrap();
    });
    assert_eq!(stage.demo.running(), None);
}
