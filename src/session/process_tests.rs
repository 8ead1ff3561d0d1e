//! Supervision against real processes, each promise with a cgroup and with a process group.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::cgroup::CgroupLimits;
use super::ledger::{Ledger, LedgerEntry};
use super::output_log::{self, LOG_FILE};
use super::processes::{self, ProcessIdentity};
use super::recovery;
use super::spawner::{AdoptError, SpawnError, Spawner};
use super::stream_process::{Exit, StreamProcess};
use super::testing::{self, Scratch, Stray};
use super::workspace::{SessionsDir, Workspace};
use crate::ids::SessionId;
use crate::{clock, exec};

const LOG_MAX: u64 = 64 * 1024;

/// With process groups, and with cgroups where the machine has them.
fn supervisors() -> Vec<Spawner> {
    let with = |cgroups| Spawner::with(cgroups, CgroupLimits::default(), LOG_MAX);
    let cgroups = testing::cgroups().map(|c| with(Some(c)));
    [Some(with(None)), cgroups].into_iter().flatten().collect()
}

fn workspace(sessions: &SessionsDir) -> Workspace {
    sessions.create(&SessionId::random().unwrap()).unwrap()
}

/// A scratch directory with a script that runs in a workspace of it.
fn started(supervisor: &Spawner, scratch: &Scratch, body: &str) -> (StreamProcess, Workspace) {
    let workspace = workspace(&scratch.sessions());
    let running = exec::block_on(supervisor.spawn(&scratch.program(body), &workspace)).unwrap();
    (running, workspace)
}

fn soon() -> Instant {
    clock::now() + Duration::from_secs(10)
}

fn end(running: &StreamProcess) -> super::stream_process::Ended {
    let ended = exec::block_on(running.end(soon()));
    assert!(ended.left.is_empty(), "left: {:?}", ended.left);
    assert!(
        !running.cgroup().is_some_and(Path::exists),
        "the cgroup is left"
    );
    ended
}

/// The pid that the script wrote to `name` in its directory.
fn pid_in(workspace: &Workspace, name: &str) -> ProcessIdentity {
    let path = workspace.path().join(name);
    let mut found = None;
    testing::eventually(name, || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        found = text
            .strip_suffix('\n')
            .and_then(|t| ProcessIdentity::of(t.parse().ok()?));
        found.is_some()
    });
    found.unwrap()
}

fn entry_of(running: &StreamProcess, workspace: &Workspace) -> LedgerEntry {
    let path = workspace.path().to_owned();
    let id = workspace.id().clone();
    let mut entry = LedgerEntry::new(id, 8_080, (40_000, 40_019), path, [10, 0, 0, 5].into());
    entry.process = Some(running.identity());
    entry.cgroup = running.cgroup().map(Path::to_owned);
    entry
}

#[test]
fn a_stream_process_gets_a_clean_environment_and_its_own_group() {
    for supervisor in supervisors() {
        let scratch = Scratch::new();
        let body = "tr '\\0' '\\n' < /proc/$$/environ | sort > env; pwd > cwd; \
                    readlink /proc/$$/fd/0 > stdin; ls /proc/self/fd > fds; echo hello; echo oops >&2; exit 7";
        let (running, workspace) = started(&supervisor, &scratch, body);
        assert_eq!(exec::block_on(running.exited()), Exit::Code(7));
        assert_eq!(exec::block_on(running.exited()), Exit::Code(7));
        assert_eq!(end(&running).exit, Some(Exit::Code(7)));
        let read = |name: &str| fs::read_to_string(workspace.path().join(name)).unwrap();
        let env = read("env");
        let names: Vec<&str> = env.lines().filter_map(|l| l.split('=').next()).collect();
        assert_eq!(names, ["HOME", "LANG", "PATH", "TMPDIR"]);
        let home = format!("HOME={}\n", workspace.path().display());
        assert!(env.contains(&home), "{env}");
        assert_eq!(read("cwd").trim(), workspace.path().to_str().unwrap());
        assert_eq!(read("stdin").trim(), "/dev/null");
        // Nothing but what the test's own parent leaves open to all.
        let inherited = std::process::Command::new("ls")
            .arg("/proc/self/fd")
            .output();
        assert_eq!(
            read("fds"),
            String::from_utf8(inherited.unwrap().stdout).unwrap()
        );
        assert_eq!(read(LOG_FILE), "hello\noops\n");
    }
}

#[test]
fn a_process_starts_inside_its_cgroup_as_leader_of_its_group() {
    let Some(cgroups) = testing::cgroups() else {
        return;
    };
    let supervisor = Spawner::with(Some(cgroups), CgroupLimits::default(), LOG_MAX);
    let scratch = Scratch::new();
    let body = "grep ^0:: /proc/self/cgroup > group; echo $$ > pid; exec sleep 300";
    let (running, workspace) = started(&supervisor, &scratch, body);
    assert_eq!(pid_in(&workspace, "pid"), running.identity());
    let group = fs::read_to_string(workspace.path().join("group")).unwrap();
    assert!(
        group
            .trim()
            .ends_with(&format!("/session-{}", workspace.id())),
        "{group}"
    );
    assert_eq!(processes::stat(running.pid()).unwrap().group, running.pid());
    assert_eq!(end(&running).exit, Some(Exit::Signal(2)));
}

#[test]
fn an_end_that_was_asked_for_is_clean_when_the_program_obeys() {
    for supervisor in supervisors() {
        let scratch = Scratch::new();
        let body = "trap 'echo bye; exit 3' INT; echo $$ > ready; while :; do sleep 0.05; done";
        let (running, workspace) = started(&supervisor, &scratch, body);
        pid_in(&workspace, "ready");
        let ended = end(&running);
        assert_eq!(ended.exit, Some(Exit::Code(3)));
        assert_eq!(output_log::tail(workspace.path(), 100), "bye\n");
        assert_eq!(end(&running), ended);
        assert_eq!(
            ProcessIdentity::of(running.pid()),
            None,
            "the zombie is not reaped"
        );
    }
}

#[test]
fn nothing_survives_the_end_of_a_session() {
    // Each ignores SIGINT, and has a descendant in `deep` that must go too.
    let bodies = [
        // A tree in the leader's group.
        "trap '' INT; (trap '' INT TERM HUP; sh -c 'echo $$ > deep; sleep 300') & wait; sleep 300",
        // A daemon: its own session, adopted by init, elsewhere.
        "trap '' INT; setsid sh -c 'cd /; sh -c \"echo \\$\\$ > \\$HOME/deep; exec sleep 300\" &'; sleep 300",
        // A daemon that has cleared its environment.
        "trap '' INT; setsid env -i sh -c 'sh -c \"echo \\$\\$ > deep; exec sleep 300\" &'; sleep 300",
        // A leader that has gone before its descendant.
        "setsid sh -c 'echo $$ > deep; exec sleep 300' & exit 0",
        // A hang: stopped processes get no SIGINT.
        "trap '' INT HUP; sh -c 'echo $$ > deep; kill -STOP $$' & kill -STOP $$",
    ];
    // Side by side, since each takes the two seconds of grace.
    std::thread::scope(|scope| {
        for supervisor in supervisors() {
            for body in bodies {
                let supervisor = supervisor.clone();
                scope.spawn(move || {
                    let scratch = Scratch::new();
                    let (running, workspace) = started(&supervisor, &scratch, body);
                    let deep = pid_in(&workspace, "deep");
                    let bystander = Stray::sleeping(Path::new("/"));
                    assert!(end(&running).killed > 0, "{body}");
                    assert!(!running.identity().is_alive() && !deep.is_alive(), "{body}");
                    assert!(ProcessIdentity::of(bystander.pid()).unwrap().is_alive());
                    workspace.remove().unwrap();
                });
            }
        }
    });
}

#[test]
fn a_cgroup_ends_even_what_has_hidden_from_every_search() {
    let Some(cgroups) = testing::cgroups() else {
        return;
    };
    let supervisor = Spawner::with(Some(cgroups), CgroupLimits::default(), LOG_MAX);
    let scratch = Scratch::new();
    let hidden = "setsid env -i W=$PWD sh -c 'exec 9>$W/deep; unset W; cd /; echo $$ >&9; exec env -i sleep 300' >/dev/null 2>&1 & exit 0";
    let (running, workspace) = started(&supervisor, &scratch, hidden);
    let deep = pid_in(&workspace, "deep");
    end(&running);
    assert!(!deep.is_alive());
}

#[test]
fn a_fork_bomb_ends_with_its_session() {
    for supervisor in supervisors() {
        let scratch = Scratch::new();
        // Always eight alive, each forking its successor before it ends.
        let body = "f() { sleep 0.02; (f) & }; for n in 1 2 3 4 5 6 7 8; do (f) & done; echo $$ > deep; exec sleep 300";
        let (running, workspace) = started(&supervisor, &scratch, body);
        pid_in(&workspace, "deep");
        end(&running);
        let left = processes::all();
        let left = left
            .iter()
            .filter(|s| processes::is_in_workspace(s.identity.pid, workspace.path()));
        assert_eq!(left.count(), 0);
    }
}

#[test]
fn a_process_that_is_killed_at_once_is_noticed() {
    for supervisor in supervisors() {
        let scratch = Scratch::new();
        let (running, _) = started(&supervisor, &scratch, "exec sleep 300");
        running.identity().signal(Signal::KILL).unwrap();
        assert_eq!(exec::block_on(running.exited()), Exit::Signal(9));
        end(&running);
    }
}

#[test]
fn endless_output_neither_blocks_the_process_nor_fills_the_disk() {
    for supervisor in supervisors() {
        let scratch = Scratch::new();
        let body = "head -c 1073741824 /dev/zero; exit 4";
        let (running, workspace) = started(&supervisor, &scratch, body);
        assert_eq!(exec::block_on(running.exited()), Exit::Code(4));
        end(&running);
        let size = fs::metadata(workspace.path().join(LOG_FILE)).unwrap().len();
        assert!((LOG_MAX..LOG_MAX + 200).contains(&size), "{size}");
        let tail = output_log::tail(workspace.path(), 80);
        assert!(tail.contains("log_max_bytes=65536 reached"), "{tail}");
    }
}

#[test]
fn a_program_that_is_not_there_starts_nothing() {
    for supervisor in supervisors() {
        let scratch = Scratch::new();
        let workspace = workspace(&scratch.sessions());
        let mut program = scratch.program("");
        program.executable = scratch.path().join("missing");
        let error = exec::block_on(supervisor.spawn(&program, &workspace)).unwrap_err();
        assert!(matches!(error, SpawnError::Program { .. }));
        assert!(error.to_string().contains("sessions.web_server"), "{error}");
        let group = supervisor
            .cgroups()
            .and_then(|c| c.existing(workspace.id()));
        assert_eq!(group, None);

        workspace.remove().unwrap();
        let program = scratch.program("exec sleep 300");
        let error = exec::block_on(supervisor.spawn(&program, &workspace)).unwrap_err();
        assert!(matches!(error, SpawnError::Output { .. }), "{error}");
    }
}

#[test]
fn a_session_restarts_in_place() {
    for supervisor in supervisors() {
        let scratch = Scratch::new();
        let workspace = workspace(&scratch.sessions());
        let program = scratch.program("echo run; exit 0");
        for _ in 0..3 {
            let running = exec::block_on(supervisor.spawn(&program, &workspace)).unwrap();
            exec::block_on(running.exited());
            end(&running);
        }
        assert_eq!(output_log::tail(workspace.path(), 100), "run\nrun\nrun\n");
    }
}

#[test]
fn a_new_worker_adopts_what_still_runs() {
    for supervisor in supervisors() {
        let scratch = Scratch::new();
        let body = "trap 'exit 0' INT; echo before; echo $$ > ready; \
                    while :; do if [ -e say ]; then rm say; echo after; echo $$ > said; fi; sleep 0.02; done";
        let (first, workspace) = started(&supervisor, &scratch, body);
        pid_in(&workspace, "ready");
        let ledger = Ledger::open(&scratch.path().join("state")).unwrap();
        ledger.write(&entry_of(&first, &workspace)).unwrap();
        // The first worker is gone: its watch and its copying with it. The process prints on.
        drop(first);
        fs::write(workspace.path().join("say"), "").unwrap();
        pid_in(&workspace, "said");

        let survey = recovery::survey(ledger.entries().unwrap().entries);
        assert!(survey.dead.is_empty());
        let entry = &survey.adoptable[0];
        let second = exec::block_on(supervisor.adopt(entry)).unwrap();
        let ended = end(&second);
        assert_eq!(ended.exit, Some(Exit::Unknown));
        assert!(!second.identity().is_alive());
        assert_eq!(output_log::tail(workspace.path(), 100), "before\nafter\n");
        let error = exec::block_on(supervisor.adopt(entry)).unwrap_err();
        assert!(matches!(error, AdoptError::Gone));
    }
}

#[test]
fn the_death_of_an_adopted_process_is_noticed() {
    for supervisor in supervisors() {
        let scratch = Scratch::new();
        let (first, workspace) = started(&supervisor, &scratch, "exec sleep 300");
        let entry = entry_of(&first, &workspace);
        let second = exec::block_on(supervisor.adopt(&entry)).unwrap();
        let still = exec::block_on(clock::by(clock::now(), second.exited()));
        assert!(still.is_err());
        first.identity().signal(Signal::KILL).unwrap();
        assert_eq!(exec::block_on(second.exited()), Exit::Unknown);
        assert_eq!(exec::block_on(first.exited()), Exit::Signal(9));
        end(&first);
    }
}

#[test]
fn a_strangers_process_is_never_adopted_or_killed() {
    let scratch = Scratch::new();
    let sessions = scratch.sessions();
    let workspace = workspace(&sessions);
    let stranger = Stray::sleeping(Path::new("/"));
    let process = ProcessIdentity::of(stranger.pid());
    let id = workspace.id().clone();
    let path = workspace.path().to_owned();
    let mut entry = LedgerEntry::new(id, 8_080, (1, 2), path, [10, 0, 0, 5].into());
    // The pid was given away: same number, another start.
    entry.process = process.map(|p| ProcessIdentity {
        start_time: p.start_time - 1,
        ..p
    });
    let supervisor = &supervisors()[0];
    let error = exec::block_on(supervisor.adopt(&entry)).unwrap_err();
    assert!(matches!(error, AdoptError::Gone));
    let survey = recovery::survey(vec![entry]);
    let reaped = exec::block_on(recovery::reap(&survey.dead[0], &sessions, None));
    assert_eq!((reaped.killed, reaped.is_clean), (0, true));
    assert!(process.unwrap().is_alive());
    assert!(!workspace.path().exists());
}

#[test]
fn what_a_dead_worker_left_is_reaped() {
    for supervisor in supervisors() {
        let scratch = Scratch::new();
        let sessions = scratch.sessions();
        // In the ledger, the leader dead, a streamer alive.
        let body = "setsid sh -c 'echo $$ > deep; exec sleep 300' & exit 0";
        let (first, dead) = started(&supervisor, &scratch, body);
        let streamer = pid_in(&dead, "deep");
        exec::block_on(first.exited());
        let entry = entry_of(&first, &dead);
        // Not in the ledger, all alive.
        let (second, lost) = started(&supervisor, &scratch, "exec sleep 300");
        // In the ledger and alive: stays.
        let (third, kept) = started(&supervisor, &scratch, "exec sleep 300");
        let alive = entry_of(&third, &kept);

        let survey = recovery::survey(vec![entry, alive]);
        assert_eq!((survey.adoptable.len(), survey.dead.len()), (1, 1));
        let reaped = recovery::reap(&survey.dead[0], &sessions, supervisor.cgroups());
        assert!(exec::block_on(reaped).is_clean);
        assert!(!streamer.is_alive() && !dead.path().exists());
        assert!(!first.cgroup().is_some_and(Path::exists));

        let known: HashSet<SessionId> = survey.adoptable.iter().map(|e| e.id.clone()).collect();
        let swept = recovery::sweep(&sessions, &known, supervisor.cgroups());
        let swept = exec::block_on(swept);
        assert_eq!(swept.len(), 1);
        assert_eq!((&swept[0].id, swept[0].is_clean), (lost.id(), true));
        assert!(!second.identity().is_alive());
        assert!(!lost.path().exists() && kept.path().exists());
        assert!(third.identity().is_alive());
        end(&third);
    }
}

#[test]
fn a_process_of_another_start_of_the_machine_is_a_strangers() {
    let scratch = Scratch::new();
    let sessions = scratch.sessions();
    let workspace = workspace(&sessions);
    let stranger = Stray::sleeping(Path::new("/"));
    let (id, path) = (workspace.id().clone(), workspace.path().to_owned());
    let mut entry = LedgerEntry::new(id, 1, (2, 3), path, [10, 0, 0, 5].into());
    // Its pid and its start time, counted from another start.
    entry.process = ProcessIdentity::of(stranger.pid());
    entry.boot = Some("another".to_owned());
    let survey = recovery::survey(vec![entry]);
    let reaped = exec::block_on(recovery::reap(&survey.dead[0], &sessions, None));
    assert!(reaped.is_clean && reaped.killed == 0);
    assert!(is_alive(&stranger) && !workspace.path().exists());
}

fn is_alive(stray: &Stray) -> bool {
    ProcessIdentity::of(stray.pid()).is_some_and(|i| i.is_alive())
}

#[test]
fn streamers_are_known_by_their_name_wherever_an_update_has_put_the_next_version() {
    let scratch = Scratch::new();
    for supervisor in supervisors() {
        // Copies of a shell that waits, as the streamers of two versions. Not of `sleep`, which on
        // some systems is one program with all of coreutils and goes by its name.
        let old = scratch.path().join("1/streamer");
        fs::create_dir_all(old.parent().unwrap()).unwrap();
        let copied = std::process::Command::new("sh")
            .args(["-c", "cp \"$(command -v bash)\" \"$1\"", "sh"])
            .arg(&old)
            .status();
        assert!(copied.unwrap().success());
        let streamer = format!("{} -c 'read -r _ <> never' &", old.display());
        let body = format!("mkfifo never; {streamer} {streamer} echo $! > last; exec sleep 300");
        let (running, workspace) = started(&supervisor, &scratch, &body);
        let last = pid_in(&workspace, "last");
        let new = scratch.path().join("2/streamer");
        testing::eventually("two streamers", || {
            exec::block_on(running.end_older_streamers(&new)) == 1
        });
        testing::eventually("one to be left", || {
            exec::block_on(running.end_older_streamers(&new)) == 0
        });
        assert!(last.is_alive(), "the youngest lives on");
        assert_eq!(exec::block_on(running.end_streamers(&new)), 1);
        testing::eventually("it to end", || !last.is_alive());
        assert!(running.identity().is_alive());
        end(&running);
    }
}
