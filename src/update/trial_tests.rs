//! Trials and the way back, with two roles that run from one binary.

use std::fs;

use super::tests::{
    Installed, OLD, ReleaseServer, client, install_at, install_version, script, version,
};
use super::*;
use crate::exec;

fn start(place: &Installation, role: &str, own: &str) -> trial::Start {
    exec::block_on(trial::start(place, role, &version(own)))
}

fn pass(place: &Installation, role: &str, own: &str) {
    exec::block_on(trial::passed(place, role, &version(own))).unwrap();
}

/// An installed 2.0.0 on trial, with 1.0.0 as its backup.
fn on_trial() -> (ReleaseServer, config::Update, Installed) {
    let (server, installed) = (ReleaseServer::start(), Installed::new());
    server.release("2.0.0", &script("2.0.0"));
    let settings = server.settings("");
    assert!(install_at(&installed, &settings).unwrap());
    (server, settings, installed)
}

#[test]
fn a_binary_that_keeps_failing_is_taken_back_and_not_installed_again() {
    let (_server, _settings, installed) = on_trial();
    let place = &installed.place;
    for _ in 0..3 {
        assert_eq!(start(place, "worker", "2.0.0"), trial::Start::OnTrial);
    }
    assert_eq!(start(place, "worker", "2.0.0"), trial::Start::RolledBack);
    assert_eq!(installed.text(), OLD);
    assert!(trial::was_refused(place, &version("2.0.0")));
    assert!(!trial::was_refused(place, &version("2.0.1")));
    assert_eq!(start(place, "worker", "1.0.0"), trial::Start::Normal);
}

#[test]
fn a_binary_that_runs_well_passes_its_trial_in_each_role() {
    let (_server, _settings, installed) = on_trial();
    let place = &installed.place;
    assert_eq!(start(place, "worker", "2.0.0"), trial::Start::OnTrial);
    pass(place, "worker", "2.0.0");
    for _ in 0..5 {
        assert_eq!(start(place, "worker", "2.0.0"), trial::Start::Normal);
    }
    // The other role starts it for the first time, however late.
    for _ in 0..3 {
        assert_eq!(start(place, "controller", "2.0.0"), trial::Start::OnTrial);
    }
    assert_eq!(
        start(place, "controller", "2.0.0"),
        trial::Start::RolledBack
    );
    assert_eq!(installed.text(), OLD);
}

#[test]
fn starts_of_two_roles_are_not_counted_together() {
    let (_server, _settings, installed) = on_trial();
    for _ in 0..3 {
        for role in ["worker", "controller"] {
            assert_eq!(
                start(&installed.place, role, "2.0.0"),
                trial::Start::OnTrial
            );
        }
    }
    assert_eq!(installed.text().as_bytes(), script("2.0.0"));
}

#[test]
fn a_start_that_was_told_to_stop_is_no_failure() {
    let (_server, _settings, installed) = on_trial();
    for _ in 0..5 {
        assert_eq!(
            start(&installed.place, "worker", "2.0.0"),
            trial::Start::OnTrial
        );
        exec::block_on(trial::stopped(
            &installed.place,
            "worker",
            &version("2.0.0"),
        ));
    }
    assert_eq!(installed.text().as_bytes(), script("2.0.0"));
}

#[test]
fn what_is_installed_already_is_not_installed_again() {
    let (_server, settings, installed) = on_trial();
    assert!(!install_at(&installed, &settings).unwrap());
    assert_eq!(installed.backup(), OLD);
    // By hand, and older.
    assert!(!install_version(&installed, &settings, "1.5.0").unwrap());
    assert_eq!(installed.text().as_bytes(), script("2.0.0"));
}

#[test]
fn a_role_that_runs_the_old_version_starts_what_is_installed_and_leaves_the_backup() {
    let (_server, settings, installed) = on_trial();
    let (client, own) = (client(), version("1.0.0"));
    // `place` was taken before the installation, as a running process does.
    let look = || exec::block_on(auto::look(&settings, &client, &installed.place, &own)).unwrap();
    assert_eq!(look(), Some(version("2.0.0")));
    assert_eq!(installed.backup(), OLD);
    for _ in 0..4 {
        start(&installed.place, "controller", "2.0.0");
    }
    assert_eq!(
        look(),
        None,
        "it was taken back, and is not installed by the other role"
    );
    assert_eq!(installed.text(), OLD);
    assert!(installed.place.is_current());
}

#[test]
fn a_role_that_runs_a_version_that_was_taken_back_starts_the_old_one() {
    let (_server, settings, installed) = on_trial();
    // The other role's process, which runs the new version.
    let other = Installation::at(installed.place.exe()).unwrap();
    for _ in 0..4 {
        start(&installed.place, "worker", "2.0.0");
    }
    assert_eq!(
        start(&other, "controller", "2.0.0"),
        trial::Start::RolledBack
    );
    let (client, own) = (client(), version("2.0.0"));
    let look = exec::block_on(auto::look(&settings, &client, &other, &own));
    assert_eq!(look.unwrap(), Some(version("1.0.0")));
}

#[test]
fn the_backup_is_replaced_by_a_version_that_every_role_ran_well_and_by_no_other() {
    let (server, settings, installed) = on_trial();
    let place = &installed.place;
    let install_next = |text: &str| {
        server.release(text, &script(text));
        assert!(install_version(&installed, &settings, text).unwrap());
    };
    // Nobody has started 2.0.0 yet.
    install_next("2.1.0");
    assert_eq!(installed.backup(), OLD);
    // One role did well, the other one has begun.
    start(place, "controller", "2.1.0");
    pass(place, "controller", "2.1.0");
    start(place, "worker", "2.1.0");
    install_next("2.2.0");
    assert_eq!(installed.backup(), OLD);
    // A process of 2.1.0 that ran for a minute says nothing of 2.2.0.
    pass(place, "worker", "2.1.0");
    assert_eq!(start(place, "worker", "2.2.0"), trial::Start::OnTrial);
    pass(place, "worker", "2.2.0");
    // A role still runs the backup.
    let held = fs::File::open(place.backup()).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockShared).unwrap();
    install_next("2.3.0");
    assert_eq!(installed.backup(), OLD);
    rustix::fs::flock(&held, rustix::fs::FlockOperation::Unlock).unwrap();
    start(place, "worker", "2.3.0");
    pass(place, "worker", "2.3.0");
    install_next("2.4.0");
    assert_eq!(installed.backup().as_bytes(), script("2.3.0"));
}

#[test]
fn the_trial_is_written_before_the_swap() {
    let (server, installed) = (ReleaseServer::start(), Installed::new());
    server.release("2.0.0", &script("2.0.0"));
    // The backup cannot be written: the swap fails.
    fs::create_dir(installed.dir.join("hydraneckwebrtc.backup.new")).unwrap();
    assert!(install_at(&installed, &server.settings("")).is_err());
    assert_eq!(installed.text(), OLD);
    assert!(
        installed
            .files()
            .contains(&"hydraneckwebrtc.trial".to_owned())
    );
    // The old binary goes on; the trial is not its own, and stays for the one it is of.
    assert_eq!(
        start(&installed.place, "worker", "1.0.0"),
        trial::Start::Normal
    );
    assert_eq!(
        start(&installed.place, "worker", "2.0.0"),
        trial::Start::OnTrial
    );
}

#[test]
fn one_process_at_a_time_installs() {
    let (server, installed) = (ReleaseServer::start(), Installed::new());
    server.release("2.0.0", &script("2.0.0"));
    let settings = server.settings("");
    let staged = installed.place.stage().unwrap();
    let busy = install_at(&installed, &settings).unwrap_err();
    assert!(matches!(busy, UpdateError::Busy(_)), "{busy}");
    drop(staged);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let install = || install_at(&installed, &settings);
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(install)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let installs = outcomes.iter().filter(|o| matches!(o, Ok(true))).count();
    assert_eq!(installs, 1, "{outcomes:?}");
    assert_eq!(installed.backup(), OLD);
}

#[test]
fn starts_at_once_are_all_counted() {
    let (_server, _settings, installed) = on_trial();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            for role in ["worker", "controller"] {
                scope.spawn(|| start(&installed.place, role, "2.0.0"));
            }
        }
    });
    assert_eq!(
        start(&installed.place, "worker", "2.0.0"),
        trial::Start::RolledBack
    );
}

#[test]
fn trial_and_backup_of_0_1_0_are_understood() {
    let installed = Installed::new();
    let place = &installed.place;
    installed.beside("backup", OLD);
    fs::write(place.exe(), script("2.0.0")).unwrap();
    installed.beside("trial", r#"{"version":"2.0.0","starts":2}"#);
    assert!(!trial::is_proven(place, Some(&version("2.0.0"))));
    assert_eq!(start(place, "worker", "2.0.0"), trial::Start::OnTrial);
    // 0.1.0 did not say whose starts it counted; each role has those that are left.
    assert_eq!(start(place, "controller", "2.0.0"), trial::Start::OnTrial);
    // What is written has the fields that 0.1.0 needs.
    let text = fs::read_to_string(installed.dir.join("hydraneckwebrtc.trial")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(
        written["version"] == "2.0.0" && written["starts"] == 2,
        "{text}"
    );
    assert_eq!(start(place, "worker", "2.0.0"), trial::Start::RolledBack);
    assert_eq!(installed.text(), OLD);
    // A torn one hinders nobody.
    installed.beside("trial", "{\"vers");
    assert_eq!(start(place, "worker", "1.0.0"), trial::Start::Normal);
}
