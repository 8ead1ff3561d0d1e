//! What the page shows: totals of the whole fleet, and one screenful of its workers and sessions.
//!
//! Filtering, sorting and paging happen here, so that a page of a fleet of ten thousand sessions is
//! as small as that of a fleet of ten.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::query::{Query, SessionOrder, TableQuery, WorkerOrder};
use crate::protocol::{Health, SessionView, Status, WorkerStatus, WorkerView};

/// Rows of one page of a table: more than a screen shows.
pub(super) const ROWS: usize = 50;
/// Problems that are listed; the rest is counted.
const PROBLEMS_MAX: usize = 20;
/// One page of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page<R> {
    /// Rows of the whole fleet.
    pub total: usize,
    /// Rows that pass the filter.
    pub matching: usize,
    /// Number of this page, from 0: the last one where the wanted one is none.
    pub page: usize,
    /// Number of pages, at least 1.
    pub pages: usize,
    /// The rows.
    pub rows: Vec<R>,
}

impl<R> Page<R> {
    fn of(
        wish: &TableQuery<impl Sized>,
        total: usize,
        mut found: Vec<R>,
        order: impl Fn(&R, &R) -> Ordering,
    ) -> Self {
        found.sort_unstable_by(|a, b| {
            let ordering = order(a, b);
            if wish.is_reversed {
                ordering.reverse()
            } else {
                ordering
            }
        });
        let matching = found.len();
        let pages = matching.div_ceil(ROWS).max(1);
        let page = wish.page.min(pages - 1);
        let rows = found.into_iter().skip(page * ROWS).take(ROWS).collect();
        Self {
            total,
            matching,
            page,
            pages,
            rows,
        }
    }

    fn map<S>(self, f: impl FnMut(R) -> S) -> Page<S> {
        Page {
            total: self.total,
            matching: self.matching,
            page: self.page,
            pages: self.pages,
            rows: self.rows.into_iter().map(f).collect(),
        }
    }
}

/// A session as the page lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Its worker.
    pub worker_id: String,
    /// Where a visitor's browser goes, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_url: Option<String>,
    /// The session.
    #[serde(flatten)]
    pub session: SessionView,
}

/// Sums over the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Workers that take sessions.
    pub healthy: usize,
    /// Workers that take no new ones.
    pub draining: usize,
    /// Workers that are silent.
    pub unhealthy: usize,
    /// Sessions by status.
    pub sessions: SessionCounts,
    /// Sessions with the microphone on.
    pub mics: usize,
    /// Viewers of all sessions.
    pub viewers: u64,
}

/// Sessions by status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCounts {
    /// Being made.
    pub starting: usize,
    /// Can be opened.
    pub ready: usize,
    /// With a visitor.
    pub connected: usize,
    /// The visitor went, and may come back.
    pub lingering: usize,
    /// Being cleaned up.
    pub ending: usize,
}

/// `GET /admin/api/v1/board`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Board {
    /// RFC 3339 time of this answer: ages are counted by the controller's clock.
    pub now: String,
    /// The controller's health, with its first problems.
    pub health: Health,
    /// How many problems there are.
    pub problem_count: usize,
    /// Sums over the fleet.
    pub counts: Counts,
    /// Workers.
    pub workers: Page<WorkerView>,
    /// Sessions.
    pub sessions: Page<SessionRow>,
}

impl Board {
    /// What `query` asks for. `base` is where browsers reach this controller.
    pub fn new<'a>(
        query: &Query,
        now: String,
        mut health: Health,
        workers: Vec<WorkerView>,
        sessions: impl Iterator<Item = (&'a str, &'a SessionView)>,
        base: &str,
    ) -> Self {
        let problem_count = health.extra.problems.len();
        health.extra.problems.truncate(PROBLEMS_MAX);
        let mut counts = Counts::default();
        for worker in &workers {
            *match worker.status {
                WorkerStatus::Healthy => &mut counts.healthy,
                WorkerStatus::Draining => &mut counts.draining,
                WorkerStatus::Unhealthy | WorkerStatus::Other(_) => &mut counts.unhealthy,
            } += 1;
        }
        let public: HashMap<String, String> = workers
            .iter()
            .filter_map(|w| Some((w.worker_id.clone(), w.public_url.clone()?)))
            .collect();
        let sessions = session_page(query, sessions, &mut counts).map(|(worker_id, session)| {
            let base = public
                .get(worker_id)
                .map_or(base, |url| url.trim_end_matches('/'));
            let path = session.stream_path.as_deref();
            SessionRow {
                worker_id: worker_id.to_owned(),
                stream_url: path.map(|path| format!("{base}{path}")),
                session: session.clone(),
            }
        });
        Self {
            now,
            health,
            problem_count,
            counts,
            workers: worker_page(&query.worker, workers),
            sessions,
        }
    }
}

fn worker_page(wish: &TableQuery<WorkerOrder>, workers: Vec<WorkerView>) -> Page<WorkerView> {
    let total = workers.len();
    let mut found = workers;
    found.retain(|w| {
        let texts = [&w.worker_id, &w.district, &w.version, &w.url];
        contains_any(&wish.filter, texts.into_iter().map(String::as_str))
    });
    Page::of(wish, total, found, |a, b| {
        let by_name = || a.worker_id.cmp(&b.worker_id);
        match wish.order {
            WorkerOrder::Name => by_name(),
            WorkerOrder::Status => trouble(a.status).cmp(&trouble(b.status)).then_with(by_name),
            WorkerOrder::Load => a.load.total_cmp(&b.load).then_with(by_name),
            WorkerOrder::Heartbeat => a.last_heartbeat.cmp(&b.last_heartbeat).then_with(by_name),
            WorkerOrder::District => a.district.cmp(&b.district).then_with(by_name),
            WorkerOrder::Version => a.version.cmp(&b.version).then_with(by_name),
        }
    })
}

/// Those that want an operator's eye come first.
fn trouble(status: WorkerStatus) -> u8 {
    match status {
        WorkerStatus::Unhealthy | WorkerStatus::Other(_) => 0,
        WorkerStatus::Draining => 1,
        WorkerStatus::Healthy => 2,
    }
}

fn session_page<'a>(
    query: &Query,
    sessions: impl Iterator<Item = (&'a str, &'a SessionView)>,
    counts: &mut Counts,
) -> Page<(&'a str, &'a SessionView)> {
    let wish = &query.session;
    let mut total = 0;
    let mut found = Vec::new();
    for (worker, session) in sessions {
        total += 1;
        counts.mics += usize::from(session.mic);
        counts.viewers += u64::from(session.viewers);
        if let Some(count) = counts.sessions.of(session.status) {
            *count += 1;
        }
        if query.status.is_some_and(|wanted| wanted != session.status) {
            continue;
        }
        let body = session.body_ip.map(|ip| ip.to_string());
        let texts = [
            Some(session.id.as_str()),
            session.experience.as_deref(),
            session.district.as_deref(),
            body.as_deref(),
            Some(worker),
        ];
        if contains_any(&wish.filter, texts.into_iter().flatten()) {
            found.push((worker, session));
        }
    }
    Page::of(wish, total, found, |(worker_a, a), (worker_b, b)| {
        // The newest first, unless something else is asked for.
        let by_age = || {
            b.created_at
                .cmp(&a.created_at)
                .then_with(|| a.id.cmp(&b.id))
        };
        match wish.order {
            SessionOrder::Age => by_age(),
            SessionOrder::Status => stage(a.status).cmp(&stage(b.status)).then_with(by_age),
            SessionOrder::Experience => a.experience.cmp(&b.experience).then_with(by_age),
            SessionOrder::Body => a.body_ip.cmp(&b.body_ip).then_with(by_age),
            SessionOrder::Worker => worker_a.cmp(worker_b).then_with(by_age),
            SessionOrder::Rtt => rtt(a).total_cmp(&rtt(b)).then_with(by_age),
            SessionOrder::Path => path(a).cmp(&path(b)).then_with(by_age),
            SessionOrder::Viewers => a.viewers.cmp(&b.viewers).then_with(by_age),
        }
    })
}

impl SessionCounts {
    fn of(&mut self, status: Status) -> Option<&mut usize> {
        match status {
            Status::Starting => Some(&mut self.starting),
            Status::Ready => Some(&mut self.ready),
            Status::Connected => Some(&mut self.connected),
            Status::Lingering => Some(&mut self.lingering),
            Status::Ending => Some(&mut self.ending),
            Status::Ended | Status::Other(_) => None,
        }
    }
}

/// In the order of a session's life; what another version says comes last.
fn stage(status: Status) -> u8 {
    match status {
        Status::Starting => 0,
        Status::Ready => 1,
        Status::Connected => 2,
        Status::Lingering => 3,
        Status::Ending => 4,
        Status::Ended => 5,
        Status::Other(_) => 6,
    }
}

/// What was not measured comes before everything that was.
fn rtt(session: &SessionView) -> f64 {
    let stats = session.stats.as_ref();
    stats.and_then(|s| s.rtt_ms).unwrap_or(-1.0)
}

fn path(session: &SessionView) -> Option<&str> {
    session.stats.as_ref()?.ice_candidate_type.as_deref()
}

fn contains_any<'a>(filter: &str, mut texts: impl Iterator<Item = &'a str>) -> bool {
    filter.is_empty() || texts.any(|text| contains(text, filter))
}

/// Whether `text` has `wanted`, which is in lower case, in it, whatever its case.
fn contains(text: &str, wanted: &str) -> bool {
    if text.is_ascii() {
        let (text, wanted) = (text.as_bytes(), wanted.as_bytes());
        return text
            .windows(wanted.len())
            .any(|part| part.eq_ignore_ascii_case(wanted));
    }
    text.to_lowercase().contains(wanted)
}
