//! Counts the probes that a stream process left unanswered.
//!
//! Each probe has a number and counts once: the answer to one that was counted as overdue already
//! is no second miss.

use super::{HANG_PROBES, ProbeNumber};

/// The probes of one run.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// Number of the last probe; the numbers never start again, so a late answer is recognised.
    last: ProbeNumber,
    /// The probe that waits for its answer.
    open: Option<ProbeNumber>,
    /// Unanswered probes since the last answer: [`HANG_PROBES`] at most.
    missed: Vec<ProbeNumber>,
}

impl Probes {
    /// Makes the next probe.
    pub(super) fn ask(&mut self) -> ProbeNumber {
        self.last = self.last.wrapping_add(1);
        self.open = Some(self.last);
        self.last
    }

    /// The open probe is overdue.
    pub(super) fn overdue(&mut self) {
        if let Some(number) = self.open {
            self.failed(number);
        }
    }

    /// The process did not answer this probe.
    pub(super) fn failed(&mut self, number: ProbeNumber) {
        if self.open == Some(number) {
            self.open = None;
            self.missed.push(number);
        }
    }

    /// The process answered this probe, perhaps late: what it missed up to then is forgiven.
    pub(super) fn answered(&mut self, number: ProbeNumber) {
        self.close(number);
        self.missed.retain(|missed| *missed > number);
    }

    /// This probe could not be made, for a reason that is not the process's.
    pub(super) fn unsent(&mut self, number: ProbeNumber) {
        self.close(number);
        self.missed.retain(|missed| *missed != number);
    }

    /// Forgets what was asked and missed so far.
    pub(super) fn clear(&mut self) {
        self.open = None;
        self.missed.clear();
    }

    /// Whether so many were missed in a row that the process hangs.
    pub(super) fn is_hang(&self) -> bool {
        self.missed.len() >= HANG_PROBES
    }

    fn close(&mut self, number: ProbeNumber) {
        self.open = self.open.filter(|open| *open != number);
    }
}
