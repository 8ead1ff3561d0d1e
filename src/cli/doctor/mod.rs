//! `doctor`: what is wrong with this machine, and the remedy. One line a check.

mod body;
mod certificate;
mod machine;
mod peers;
mod turn;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::remote::one_line;
use super::{EX_CONFIG, print};
use crate::config::{Config, ConfigError, Loaded, Role};
use crate::exec;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Fail,
    Ok,
    Warn,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fail => "fail",
            Self::Ok => "ok",
            Self::Warn => "warn",
        })
    }
}

/// One check's line.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Ok,
            what: one_line(&what.into()),
            remedy: None,
        }
    }

    fn warn(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warn,
            remedy: Some(one_line(&remedy.into())).filter(|r| !r.is_empty()),
            ..Self::ok(check, what)
        }
    }

    fn fail(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Fail,
            ..Self::warn(check, what, remedy)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<4}  {:<13}  {}", self.verdict, self.check, self.what)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// What `doctor` is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct DoctorOptions {
    /// Look at this body too.
    pub(super) body: Option<IpAddr>,
    /// Remove this worker's pairings from it.
    pub(super) unpair: bool,
    pub(super) json: bool,
}

/// Runs every check that the configuration's role needs.
pub(super) fn run(path: Option<&Path>, wish: DoctorOptions) -> ExitCode {
    // The findings say it all; the rooms' own warnings would say it twice.
    log::set_max_level(log::LevelFilter::Off);
    let findings = match Config::load(path, None) {
        Ok(loaded) => exec::block_on(examine(&loaded, wish)),
        Err(error) => {
            let text = say(&unusable(&error), wish.json);
            let _ = print(&text);
            return ExitCode::from(EX_CONFIG);
        }
    };
    let printed = print(&say(&findings, wish.json));
    if findings.iter().any(|f| f.verdict == Verdict::Fail) {
        return ExitCode::FAILURE;
    }
    printed
}

fn unusable(error: &ConfigError) -> Vec<Finding> {
    match error {
        ConfigError::Invalid { path, problems } => problems
            .to_string()
            .lines()
            .map(|line| Finding::fail("configuration", format!("{}: {line}", path.display()), ""))
            .collect(),
        other => vec![Finding::fail("configuration", other.to_string(), "")],
    }
}

async fn examine(loaded: &Loaded, wish: DoctorOptions) -> Vec<Finding> {
    let config = &loaded.config;
    let is_controller = config.mode == Some(Role::Controller);
    let shown = loaded.path.as_deref().unwrap_or(Path::new("-")).display();
    let mut findings = vec![Finding::ok("configuration", shown.to_string())];
    findings.extend(
        loaded
            .warnings
            .iter()
            .map(|w| Finding::warn("configuration", w.to_string(), "")),
    );
    findings.extend(peers::own(config).await);
    findings.extend(certificate::check(config));
    findings.extend(machine::clock().await);
    if !is_controller {
        findings.extend(machine::wireguard().await);
        findings.extend(machine::program(config).await);
        findings.push(machine::ports(config));
        findings.extend(turn::check(config).await);
        findings.extend(peers::controller(config).await);
    }
    findings.extend(machine::disk(config));
    findings.push(machine::open_files(config));
    if let Some(ip) = wish.body {
        findings.extend(body::check(config, ip, wish.unpair).await);
    }
    findings
}

fn say(findings: &[Finding], json: bool) -> String {
    if json {
        let failed = findings.iter().any(|f| f.verdict == Verdict::Fail);
        let report = serde_json::json!({ "ok": !failed, "checks": findings });
        return format!("{report}\n");
    }
    findings.iter().map(|f| format!("{f}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_with_verdict_check_and_remedy() {
        let finding = Finding::fail("disk", "no space\nleft", "free some");
        assert_eq!(
            finding.to_string(),
            "fail  disk           no space left; free some"
        );
        assert_eq!(
            Finding::ok("clock", "right").to_string(),
            "ok    clock          right"
        );
    }

    #[test]
    fn json_says_whether_all_is_well() {
        let findings = [Finding::ok("a", "b"), Finding::warn("c", "d", "e")];
        let report: serde_json::Value = serde_json::from_str(&say(&findings, true)).unwrap();
        assert_eq!(report["ok"], true);
        assert_eq!(report["checks"][1]["verdict"], "warn");
        assert_eq!(report["checks"][1]["remedy"], "e");
    }
}
