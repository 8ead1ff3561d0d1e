//! The `hydraneckwebrtc` program: arguments to a role or a command, and an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    hydraneckwebrtc::main()
}
