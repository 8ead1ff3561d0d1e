//! Starts a stream process: leader of its own process group, with a clean environment, in its
//! session's directory, and inside its cgroup before its first instruction, so that even its first
//! fork is inside. A shell starts first; it is moved into the cgroup, gets a line on stdin, and then
//! executes the program.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeWriter, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use async_process::{Child, Command, Stdio};

use super::cgroup::Cgroup;
use super::stream_program::{self, StreamProgram};
use crate::descriptors;

/// Reads the line, then executes `env -i NAME=VALUE... PROGRAM ARGUMENT...` (a shell may add to the
/// environment). Without the line, because the worker died or cancelled the start, it ends.
const GATE: &str =
    r#"read -r go && [ "$go" = go ] && exec /usr/bin/env -i "$@" </dev/null; exit 125"#;
const SHELL: &str = "/bin/sh";
const ENV: &str = "/usr/bin/env";
/// `PATH` when the worker has none.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// `LANG` when the worker has none.
const DEFAULT_LANG: &str = "C.UTF-8";

/// Whether this machine has what the gate is made of.
pub(super) fn is_there() -> bool {
    [SHELL, ENV]
        .iter()
        .all(|path| stream_program::is_executable(Path::new(path)).is_ok())
}

/// All that the program gets to know: a stray `BIND_ADDRESS` or `WEBRTC_PORT_RANGE` of the worker
/// would override its configuration.
pub(super) fn environment(workspace: &Path) -> [(&'static str, OsString); 4] {
    let own = |name: &str, default: &str| std::env::var_os(name).unwrap_or_else(|| default.into());
    [
        ("HOME", workspace.into()),
        ("TMPDIR", workspace.join("tmp").into()),
        ("PATH", own("PATH", DEFAULT_PATH)),
        ("LANG", own("LANG", DEFAULT_LANG)),
    ]
}

/// Starts the program inside `cgroup`.
pub(super) fn through(
    program: &StreamProgram,
    workspace: &Path,
    environment: &[(&str, OsString)],
    output: &File,
    cgroup: &Cgroup,
) -> io::Result<Child> {
    let (word, mut gate): (_, PipeWriter) = io::pipe()?;
    let mut command = std::process::Command::new(SHELL);
    command.args(["-c", GATE, "gate"]).env_clear();
    for (name, value) in environment {
        let mut pair = OsString::from(format!("{name}="));
        pair.push(value);
        command.arg(pair);
    }
    command.arg(&program.executable).args(&program.args);
    let child = launch(command, workspace, Stdio::from(word), output)?;
    cgroup.add(child.id())?;
    descriptors::give_back(Some(child.id()));
    gate.write_all(b"go\n")?;
    Ok(child)
}

/// Starts `command` as leader of its own process group.
pub(super) fn launch(
    mut command: std::process::Command,
    workspace: &Path,
    stdin: Stdio,
    output: &File,
) -> io::Result<Child> {
    command.current_dir(workspace).process_group(0);
    Command::from(command)
        .stdin(stdin)
        .stdout(Stdio::from(output.try_clone()?))
        .stderr(Stdio::from(output.try_clone()?))
        .spawn()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::Scratch;

    #[test]
    fn a_gate_without_the_word_starts_nothing() {
        let scratch = Scratch::new();
        let program = scratch.script("program", "exit 0");
        for word in ["", "g", "stop\n"] {
            let input = scratch.path().join("word");
            std::fs::write(&input, word).unwrap();
            let status = std::process::Command::new(SHELL)
                .args(["-c", GATE, "gate"])
                .arg(&program)
                .stdin(File::open(&input).unwrap())
                .status();
            assert_eq!(status.unwrap().code(), Some(125), "{word:?}");
        }
    }
}
