//! Bodies that cannot be used, told apart.

use super::super::{Answers, BodyOptions, Faults};
use super::{Stage, stage, with};
use crate::body::allowlist::{Allowed, Machine};
use crate::body::reachability::Unreachable;
use crate::body::sunshine::SunshineCredentials;
use crate::exec;
use crate::secret::Secret;

fn reach(stage: &Stage) -> Result<(), Unreachable> {
    exec::block_on(stage.body().reach()).map(drop)
}

#[test]
fn a_body_that_cannot_be_used_is_told_apart() {
    let off = Faults::default;
    type Is = fn(&Unreachable) -> bool;
    let cases: [(Faults, Is, &str); 7] = [
        (
            Faults {
                wrong_password: true,
                ..off()
            },
            |e| matches!(e, Unreachable::Unauthorized(_)),
            "401",
        ),
        (
            Faults {
                forbidden: true,
                ..off()
            },
            |e| matches!(e, Unreachable::Forbidden(_)),
            "403",
        ),
        (
            Faults {
                not_configured: true,
                ..off()
            },
            |e| matches!(e, Unreachable::NotConfigured(_)),
            "welcome",
        ),
        (
            Faults {
                slow_tls_ms: 5_000,
                ..off()
            },
            |e| matches!(e, Unreachable::Slow(..)),
            "did not answer",
        ),
        (
            Faults {
                answers: Answers::Garbage,
                ..off()
            },
            |e| matches!(e, Unreachable::NotSunshine(..)),
            "no sense",
        ),
        (
            Faults {
                answers: Answers::Endless,
                ..off()
            },
            |e| matches!(e, Unreachable::NotSunshine(..)),
            "larger than",
        ),
        (
            Faults {
                answers: Answers::Slow,
                ..off()
            },
            |e| matches!(e, Unreachable::Slow(..)),
            "did not answer",
        ),
    ];
    for (faults, is, says) in cases {
        let stage = stage(faults.clone());
        let error = reach(&stage).unwrap_err();
        assert!(is(&error), "{faults:?}: {error:?}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!error.to_string().contains('\u{1b}'), "{error:?}");
        assert!(
            !stage.dir.join("state").exists(),
            "{faults:?}: pinned too early"
        );
    }
}

#[test]
fn a_port_where_nothing_listens_or_no_tls_is_spoken_is_told_apart() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let stage1 = with(BodyOptions::default(), |rules| rules.ports.sunshine = port);
    assert!(matches!(reach(&stage1), Err(Unreachable::Refused(_))));
    let stage2 = with(BodyOptions::default(), |rules| {
        rules.ports.sunshine = rules.ports.agent
    });
    assert!(matches!(reach(&stage2), Err(Unreachable::Tls(..))));
}

#[test]
fn nothing_is_sent_to_a_forbidden_address() {
    let stage = with(BodyOptions::default(), |rules| {
        rules.allowed = Allowed::new(&[], &Machine::default());
    });
    let credentials = SunshineCredentials::new("u", Secret::new("p")).unwrap();
    let refused = stage
        .bodies
        .body("::ffff:127.0.0.1".parse().unwrap(), credentials);
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains("127.0.0.1") && error.contains("bodies.allowed_networks"),
        "{error}"
    );
    assert!(stage.demo.calls().is_empty());
}

#[test]
fn the_first_certificate_is_held_to_and_a_changed_one_names_the_file_to_delete() {
    let stage = stage(Faults::default());
    reach(&stage).unwrap();
    stage
        .demo
        .fail(Faults {
            changed_certificate: true,
            ..Faults::default()
        })
        .unwrap();
    let error = reach(&stage).unwrap_err();
    let file = stage.dir.join("state/pins/127.0.0.1.pin");
    assert!(matches!(error, Unreachable::Certificate(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .contains(&format!("delete {}", file.display())),
        "{error}"
    );
    let before = stage.demo.calls().len();
    std::fs::remove_file(file).unwrap();
    reach(&stage).unwrap();
    assert_eq!(
        stage.demo.calls().len(),
        before + 2,
        "no call went over the other certificate"
    );
}

#[test]
fn credentials_pass_as_data() {
    let (user, password) = ("zoë \"q\"", "p:ä$(x)'€");
    let stage = with(
        BodyOptions {
            user: user.into(),
            password: Secret::new(password),
            ..BodyOptions::default()
        },
        |_| {},
    );
    exec::block_on(async {
        stage.body_as(user, password).reach().await.unwrap();
        let wrong = stage.body_as(user, "other").reach().await;
        assert!(matches!(wrong, Err(Unreachable::Unauthorized(_))));
    });
}
