//! `config check` and `config show`.

use std::path::Path;
use std::process::ExitCode;

use super::{EX_CONFIG, fail, print};
use crate::config::{self, Config, SecretFiles};

/// Prints every problem, one a line, to stderr; the verdict to stdout.
pub(super) fn check(path: Option<&Path>, skip_secret_files: bool) -> ExitCode {
    let files = if skip_secret_files {
        SecretFiles::Skip
    } else {
        SecretFiles::Read
    };
    match config::check(path, None, files) {
        Ok((path, warnings)) => {
            for warning in &warnings {
                eprintln!("warning: {warning}");
            }
            print(&format!("{}: ok\n", path.display()))
        }
        Err(error) => fail(&error.to_string(), EX_CONFIG),
    }
}

/// Prints the effective values.
pub(super) fn show(path: Option<&Path>) -> ExitCode {
    match Config::load(path, None) {
        Ok(loaded) => print(&config::show(&loaded)),
        Err(error) => fail(&error.to_string(), EX_CONFIG),
    }
}
