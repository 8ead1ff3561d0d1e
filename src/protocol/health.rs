//! Health, as both roles answer it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::word::OtherWord;
use super::{SERVICE, VERSION};
use crate::clock;

/// Most problems that an answer lists: the call needs no token, and a fleet may have thousands.
const PROBLEMS_MAX: usize = 20;

/// `GET /api/v1/health`, both roles, always with HTTP 200.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Health {
    /// Always [`SERVICE`].
    pub service: String,
    /// Version of the answering program.
    #[serde(default)]
    pub version: String,
    /// Configured district, or empty.
    #[serde(default)]
    pub district: String,
    /// Whole seconds since start.
    #[serde(default)]
    pub uptime_seconds: u64,
    /// `degraded` when `extra.problems` is not empty.
    #[serde(default = "HealthStatus::untold")]
    pub status: HealthStatus,
    /// What this service says beyond the family's common fields.
    #[serde(default)]
    pub extra: HealthExtra,
}

/// Overall status of a health answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Nothing to do.
    Ok,
    /// Works, but an operator should look at `problems`.
    Degraded,
    /// What another version says.
    #[serde(untagged)]
    Other(OtherWord),
}

impl HealthStatus {
    /// The status of an answer without one.
    fn untold() -> Self {
        OtherWord::new("unknown").map_or(Self::Degraded, Self::Other)
    }
}

/// `extra` of a health answer. On a controller the numbers are sums over healthy workers and
/// `wireguard` is true only when every healthy worker has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthExtra {
    /// `controller` or `worker`.
    pub mode: String,
    /// Whether a WireGuard interface is up.
    pub wireguard: bool,
    /// Sessions that hold a slot.
    pub active_sessions: usize,
    /// Slots.
    pub max_sessions: usize,
    /// Random id of this process's life.
    pub process_id: String,
    /// Uptime for people, `3h12m`.
    pub uptime: String,
    /// What is wrong, one sentence each; empty when all is well.
    pub problems: Vec<String>,
}

impl Health {
    /// A role's health after running for `uptime`: degraded when it has problems.
    #[must_use]
    pub fn of(role: &Standing<'_>, uptime: Duration, mut problems: Vec<String>) -> Self {
        let unlisted = problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        if unlisted > 0 {
            problems.push(format!("and {unlisted} more"));
        }
        Self {
            service: SERVICE.into(),
            version: VERSION.into(),
            district: role.district.into(),
            uptime_seconds: uptime.as_secs(),
            status: if problems.is_empty() {
                HealthStatus::Ok
            } else {
                HealthStatus::Degraded
            },
            extra: HealthExtra {
                mode: role.mode.into(),
                wireguard: role.wireguard,
                active_sessions: role.active_sessions,
                max_sessions: role.max_sessions,
                process_id: role.process_id.into(),
                uptime: clock::human(uptime),
                problems,
            },
        }
    }
}

/// The state of a role: its health without the problems.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// `controller` or `worker`.
    pub mode: &'a str,
    /// Configured district, or empty.
    pub district: &'a str,
    /// Random id of this process's life.
    pub process_id: &'a str,
    /// Whether a WireGuard interface is up.
    pub wireguard: bool,
    /// Sessions that hold a slot.
    pub active_sessions: usize,
    /// Slots.
    pub max_sessions: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_full_of_problems_is_summed_up() {
        let standing = Standing {
            mode: "controller",
            district: "",
            process_id: "p",
            wireguard: false,
            active_sessions: 0,
            max_sessions: 0,
        };
        let of = |n: usize| Health::of(&standing, Duration::ZERO, vec![String::from("x"); n]);
        assert_eq!(of(0).status, HealthStatus::Ok);
        assert_eq!(of(20).extra.problems.len(), 20);
        let many = of(10_000);
        assert_eq!(many.status, HealthStatus::Degraded);
        assert_eq!(many.extra.problems.len(), 21);
        assert_eq!(many.extra.problems[20], "and 9980 more");
    }
}
