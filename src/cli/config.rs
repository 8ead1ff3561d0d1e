//! `config check` and `config show`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::{EX_CONFIG, fail, print};
use crate::config::{self, Config, ConfigError, SecretFiles};

/// Prints every problem, one a line, to stderr; the verdict to stdout. As JSON all of it is data.
pub(super) fn check(path: Option<&Path>, skip_secret_files: bool, json: bool) -> ExitCode {
    let files = if skip_secret_files {
        SecretFiles::Skip
    } else {
        SecretFiles::Read
    };
    let checked = Config::check(path, files);
    if json {
        return report(&checked.map(|loaded| loaded.warnings));
    }
    match checked {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            let path = loaded.path.unwrap_or_default();
            print(&format!("{}: ok\n", path.display()))
        }
        Err(error) => fail(&error.to_string(), EX_CONFIG),
    }
}

fn report(checked: &Result<Vec<config::Problem>, ConfigError>) -> ExitCode {
    let said = match checked {
        Ok(warnings) => json!({"ok": true, "warnings": warnings}),
        Err(ConfigError::Invalid { path, problems }) => json!({
            "ok": false,
            "file": path,
            "problems": problems.list,
            "left_out": problems.left_out,
        }),
        Err(error) => json!({"ok": false, "problems": [{"what": error.to_string()}]}),
    };
    let printed = print(&format!("{said}\n"));
    if checked.is_err() {
        return ExitCode::from(EX_CONFIG);
    }
    printed
}

/// Prints the effective values.
pub(super) fn show(path: Option<&Path>, json: bool) -> ExitCode {
    let shown = match Config::load(path, None) {
        Ok(loaded) => config::show(&loaded),
        Err(error) => return fail(&error.to_string(), EX_CONFIG),
    };
    if !json {
        return print(&shown);
    }
    match serde_yaml::from_str::<serde_json::Value>(&shown) {
        Ok(value) => print(&format!("{value}\n")),
        Err(error) => fail(&format!("what was to be shown is no YAML: {error}"), 1),
    }
}
