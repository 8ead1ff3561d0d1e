//! Passing over a worker whose creates fail again and again, for a pause that grows.

use std::time::{Duration, Instant};

/// Creates that may fail in a row.
const FAILURES_MAX: u32 = 3;
/// How long nothing is placed on the worker then; every further create that fails doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The failed creates of one worker since the last that succeeded.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    /// Until when it is passed over.
    until: Option<Instant>,
    /// The reservation of the create that is to show whether it works again.
    trial: Option<u64>,
    why: String,
}

impl Breaker {
    /// A create failed. Whether a pause begins.
    pub(super) fn failed(&mut self, now: Instant, why: &str) -> bool {
        // One of those that were under way when the pause began.
        if self.is_paused(now) {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        why.clone_into(&mut self.why);
        self.pause(now);
        self.is_paused(now)
    }

    /// A create begins. The one after a pause is a trial: until its outcome is known, or for another
    /// pause, there is no second one.
    pub(super) fn begin(&mut self, now: Instant, reservation: u64) {
        self.pause(now);
        self.trial = self.until.map(|_| reservation);
    }

    /// A create made no session. Whether it was the trial: unless it failed, too, there may be another.
    pub(super) fn called_off(&mut self, reservation: u64) -> bool {
        let was_trial = self.trial.take_if(|trial| *trial == reservation).is_some();
        self.until = self.until.filter(|_| !was_trial);
        was_trial
    }

    /// A create made a session. Whether the worker was passed over.
    pub(super) fn succeeded(&mut self) -> bool {
        std::mem::take(self).until.is_some()
    }

    /// Why it is passed over.
    pub(super) fn refusal(&self, now: Instant) -> Option<String> {
        let (n, why) = (self.failures, &self.why);
        let pause = || format!("{n} creates failed in a row, see the worker's health: {why}");
        self.is_paused(now).then(pause)
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    fn pause(&mut self, now: Instant) {
        if let Some(more) = self.failures.checked_sub(FAILURES_MAX) {
            let pause = FIRST_PAUSE * 2_u32.saturating_pow(more.min(16));
            self.until = Some(now + pause.min(LONGEST_PAUSE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_follows_failures_in_a_row_ends_with_one_trial_and_grows() {
        let (mut breaker, mut now) = (Breaker::default(), crate::clock::now());
        assert!(!breaker.failed(now, "no"));
        assert!(!breaker.failed(now, "no"));
        assert!(breaker.failed(now, "no"));
        assert!(!breaker.failed(now, "late"), "it was under way");
        let mut pause = FIRST_PAUSE;
        for _ in 0..10 {
            assert!(breaker.refusal(now).is_some_and(|why| why.contains("no")));
            now += pause;
            assert_eq!(breaker.refusal(now), None);
            breaker.begin(now, 7);
            assert!(breaker.refusal(now).is_some(), "one trial at a time");
            assert!(!breaker.called_off(6), "it began before the pause");
            assert!(breaker.called_off(7));
            assert_eq!(breaker.refusal(now), None);
            assert!(breaker.failed(now, "no"));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        assert_eq!(pause, LONGEST_PAUSE);
        assert!(breaker.succeeded());
        assert!(!breaker.failed(now, "no"));
    }
}
