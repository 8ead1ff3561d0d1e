//! Whether the store is there: this controller can both watch it and write its pulse.

use std::collections::VecDeque;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use crate::clock;
use crate::sync::Mutex;

/// How long the watch may be lost before the store counts as away: another member takes it over
/// within a try or two.
const GRACE: Duration = Duration::from_secs(2);
/// Most pulses that are written and not yet shown by the watch.
const IN_FLIGHT_MAX: usize = 16;

/// The state of the store as this controller sees it.
#[derive(Debug, Default)]
pub(super) struct StoreHealth(Mutex<HealthState>);

#[derive(Debug, Default)]
struct HealthState {
    /// Since when there is no watch; none while there is one, and before the first.
    unwatched: Option<Instant>,
    pulsing: bool,
    away: Option<(Instant, String)>,
    pulse: u64,
    in_flight: VecDeque<(u64, Instant)>,
    lag: Duration,
    /// When something was last wrong.
    trouble: Option<Instant>,
}

/// A pulse that comes back later than this is trouble: an election, a slow disk.
const PROMPT: Duration = Duration::from_secs(1);
/// How long after trouble the store may not know yet what was made meanwhile: its controllers write
/// again at once, and workers tell within some heartbeats.
const DOUBT: Duration = Duration::from_secs(15);

impl StoreHealth {
    fn lock(&self) -> MutexGuard<'_, HealthState> {
        self.0.lock()
    }

    pub(super) fn is_there(&self) -> bool {
        self.lock().is_there()
    }

    /// Since when and why it is away.
    pub(super) fn away(&self) -> Option<(Instant, String)> {
        let inner = self.lock();
        if inner.is_there() {
            return None;
        }
        let unknown = || (clock::now(), "not reached yet".to_owned());
        Some(inner.away.clone().unwrap_or_else(unknown))
    }

    pub(super) fn watching(&self, outcome: Result<(), String>) {
        let mut inner = self.lock();
        inner.unwatched = match &outcome {
            Ok(()) => None,
            Err(_) => inner.unwatched.or_else(|| Some(clock::now())),
        };
        inner.judge(outcome.err());
    }

    pub(super) fn pulsing(&self, outcome: Result<(), String>) {
        let mut inner = self.lock();
        inner.pulsing = outcome.is_ok();
        inner.judge(outcome.err());
    }

    /// Whether something was wrong lately, or is now, so that a session which the store does not know
    /// may exist all the same.
    pub(super) fn is_doubtful(&self, now: Instant) -> bool {
        let inner = self.lock();
        let late = inner.in_flight.front().map(|(_, sent)| *sent);
        let is_late = |sent| now.saturating_duration_since(sent) > PROMPT;
        let is_recent = |at| now.saturating_duration_since(at) < DOUBT;
        late.is_some_and(is_late) || inner.trouble.is_some_and(is_recent)
    }

    /// Number of the next pulse, which is written now.
    pub(super) fn pulse(&self, now: Instant) -> u64 {
        let mut inner = self.lock();
        inner.pulse += 1;
        if inner.in_flight.len() == IN_FLIGHT_MAX {
            inner.in_flight.pop_front();
        }
        let pulse = inner.pulse;
        inner.in_flight.push_back((pulse, now));
        pulse
    }

    /// The watch shows a pulse.
    pub(super) fn returned(&self, now: Instant, pulse: u64) {
        let mut inner = self.lock();
        while let Some((number, sent)) = inner.in_flight.front().copied() {
            if number > pulse {
                return;
            }
            inner.in_flight.pop_front();
            inner.lag = now.saturating_duration_since(sent);
            if inner.lag > PROMPT {
                inner.trouble = Some(now);
            }
        }
    }

    /// Time from writing the last pulse that the watch showed until it showed it.
    pub(super) fn lag(&self) -> Duration {
        self.lock().lag
    }
}

impl HealthState {
    fn is_there(&self) -> bool {
        let lost = |since| clock::now().saturating_duration_since(since) >= GRACE;
        self.pulsing && !self.unwatched.is_some_and(lost)
    }

    fn judge(&mut self, why: Option<String>) {
        if why.is_some() {
            self.trouble = Some(clock::now());
        }
        match (self.is_there(), why) {
            (true, _) => {
                if let Some((since, _)) = self.away.take() {
                    let span = clock::human(clock::now().saturating_duration_since(since));
                    log::info!(target: "controller", "store: there again after {span}");
                }
            }
            (false, Some(why)) => match &mut self.away {
                Some((_, known)) => *known = why,
                None => {
                    log::warn!(target: "controller", "store: away, going on from the copy: {why}");
                    self.away = Some((clock::now(), why));
                }
            },
            (false, None) => {}
        }
    }
}
