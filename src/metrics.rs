//! Metrics in OpenMetrics text, which Prometheus reads.
//!
//! Counters and histograms live where things happen ([`CounterVec`], [`HistogramVec`]); what is a state is
//! read when it is asked for. A [`Exposition`] puts both together. No label ever has a value that a
//! visitor or a body chose, and none is a session's id: series stay few.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Before every name.
const PREFIX: &str = "hydraneckwebrtc";
/// What [`Exposition::text`] is.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Upper bounds for the phases of a start, in seconds: a good one takes less than two, the
/// default `sessions.start_timeout` is 45.
const START_BUCKETS: [f64; 11] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 45.0];
/// Upper bounds for round trips, in seconds: a street, a country, a continent, a planet.
const TRIP_BUCKETS: [f64; 9] = [0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.15, 0.3, 1.0];

type Labels = Vec<(&'static str, &'static str)>;

/// A counter for each value of one label.
#[derive(Clone, Debug)]
pub struct CounterVec {
    label: &'static str,
    family: Family<Labels, Counter>,
}

impl CounterVec {
    /// Counts by `label`. Values that are listed are there from the start, at zero, so that a
    /// first event is seen as a change.
    #[must_use]
    pub fn by(label: &'static str, values: &[&'static str]) -> Self {
        let family = Family::default();
        for value in values {
            drop(family.get_or_create(&vec![(label, *value)]));
        }
        Self { label, family }
    }

    /// One more.
    pub fn add(&self, value: &'static str) {
        self.add_many(value, 1);
    }

    /// `n` more.
    pub fn add_many(&self, value: &'static str, n: u64) {
        self.family
            .get_or_create(&vec![(self.label, value)])
            .inc_by(n);
    }

    /// How many so far.
    #[must_use]
    pub fn of(&self, value: &'static str) -> u64 {
        self.family.get_or_create(&vec![(self.label, value)]).get()
    }
}

/// A histogram of times for each value of one label.
#[derive(Clone, Debug)]
pub struct HistogramVec {
    label: &'static str,
    family: Family<Labels, Histogram, fn() -> Histogram>,
}

impl HistogramVec {
    /// Phases of starts.
    #[must_use]
    pub fn of_starts(label: &'static str) -> Self {
        let make: fn() -> Histogram = || Histogram::new(START_BUCKETS);
        let family = Family::new_with_constructor(make);
        Self { label, family }
    }

    /// Round trips.
    #[must_use]
    pub fn of_trips(label: &'static str) -> Self {
        let make: fn() -> Histogram = || Histogram::new(TRIP_BUCKETS);
        let family = Family::new_with_constructor(make);
        Self { label, family }
    }

    /// One more observation.
    pub fn observe(&self, value: &'static str, span: Duration) {
        self.family
            .get_or_create(&vec![(self.label, value)])
            .observe(span.as_secs_f64());
    }
}

/// All metrics of one moment.
#[derive(Debug)]
pub struct Exposition(Registry);

impl Exposition {
    /// A sheet with what every role has.
    #[must_use]
    pub fn new(role: &'static str, version: &'static str, uptime: Duration) -> Self {
        let mut sheet = Self(Registry::with_prefix(PREFIX));
        let build = Family::<Labels, Gauge>::default();
        build
            .get_or_create(&vec![("role", role), ("version", version)])
            .set(1);
        sheet.0.register("build_info", "The running build", build);
        sheet.gauge("uptime_seconds", "Time since start", uptime.as_secs_f64());
        sheet
    }

    /// A state.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.0.register(name, help, ConstGauge::new(value));
    }

    /// A state for each value of a label.
    pub fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, usize)>,
    ) {
        let family = Family::<Labels, Gauge>::default();
        for (value, n) in values {
            family
                .get_or_create(&vec![(label, value)])
                .set(i64::try_from(n).unwrap_or(i64::MAX));
        }
        self.0.register(name, help, family);
    }

    /// A count that is kept elsewhere.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.0.register(name, help, ConstCounter::new(value));
    }

    /// Counts that are kept elsewhere, for each value of a label.
    pub fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        let counts = CounterVec::by(label, &[]);
        for (value, n) in values {
            counts.add_many(value, n);
        }
        self.counts(name, help, &counts);
    }

    /// Counts.
    pub fn counts(&mut self, name: &str, help: &str, counts: &CounterVec) {
        self.0.register(name, help, counts.family.clone());
    }

    /// Histograms.
    pub fn spans(&mut self, name: &str, help: &str, spans: &HistogramVec) {
        self.0.register(name, help, spans.family.clone());
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.0);
        text
    }
}

/// How many of `items` have each of the listed values; values that are not listed count as the
/// last one.
pub(crate) fn tally<const N: usize>(
    values: [&'static str; N],
    items: impl IntoIterator<Item = impl AsRef<str>>,
) -> [(&'static str, usize); N] {
    let mut counted = values.map(|value| (value, 0));
    for item in items {
        let found = values.iter().position(|v| *v == item.as_ref());
        if let Some(place) = counted.get_mut(found.unwrap_or(N.saturating_sub(1))) {
            place.1 += 1;
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_has_prefix_help_unit_and_end() {
        let mut sheet = Exposition::new("worker", "1.2.3", Duration::from_secs(5));
        let ends = CounterVec::by("reason", &["quit", "deleted"]);
        ends.add("quit");
        sheet.counts("session_ends", "Ended sessions by reason", &ends);
        let starts = HistogramVec::of_starts("phase");
        starts.observe("pairing", Duration::from_millis(700));
        sheet.spans("start_phase_seconds", "Time in a phase", &starts);
        let text = sheet.text();
        for line in [
            "hydraneckwebrtc_build_info{role=\"worker\",version=\"1.2.3\"} 1",
            "hydraneckwebrtc_uptime_seconds 5.0",
            "hydraneckwebrtc_session_ends_total{reason=\"quit\"} 1",
            "hydraneckwebrtc_session_ends_total{reason=\"deleted\"} 0",
            "hydraneckwebrtc_start_phase_seconds_bucket{le=\"1.0\",phase=\"pairing\"} 1",
            "hydraneckwebrtc_start_phase_seconds_count{phase=\"pairing\"} 1",
            "# HELP hydraneckwebrtc_session_ends Ended sessions by reason.",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_value_that_is_not_listed_counts_as_the_last_one() {
        let seen = tally(["relay", "host", "other"], ["relay", "x\"y", "relay"]);
        assert_eq!(seen, [("relay", 2), ("host", 0), ("other", 1)]);
    }
}
