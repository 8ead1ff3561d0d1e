//! How well a stream is received, sans IO: the numbers of RFC 3550 that its sender gets back, so
//! that the browser knows what is lost and how much error correction is worth.

use std::time::{Duration, Instant};

use rtc::rtcp;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::source_description::{
    SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem,
};
use rtc::rtp::Header;

/// Largest step forward that is loss and not a restarted source (`MAX_DROPOUT` of RFC 3550).
const STEP_MAX: u16 = 3_000;
/// Steps above this are steps back.
const BACK: u16 = 1 << 15;
/// Greatest loss that a report can name: 24 bits with a sign.
const LOST_MAX: u32 = (1 << 23) - 1;
/// Opus in RTP counts at 48 kHz (RFC 7587).
const CLOCK_HZ: u64 = 48_000;

/// What is known of the stream that is heard.
#[derive(Clone, Copy, Debug)]
struct Source {
    ssrc: u32,
    /// First and newest sequence number, with cycles in the upper half.
    first: u32,
    newest: u32,
    received: u32,
    /// Both as of the last report.
    expected_before: u32,
    received_before: u32,
    /// Relative transit time of the newest packet, in samples.
    transit: u32,
    /// Interarrival jitter in sixteenths of samples (RFC 3550, A.8).
    jitter: u32,
    /// Middle of the last sender report's NTP time, and when it came.
    sender_report: Option<(u32, Instant)>,
}

/// The reception of one peer's stream.
#[derive(Debug)]
pub(super) struct ReceptionStats {
    /// Who reports.
    ssrc: u32,
    began: Instant,
    source: Option<Source>,
}

impl ReceptionStats {
    /// Nothing received yet; reports will come from `ssrc`.
    pub(super) fn new(ssrc: u32, now: Instant) -> Self {
        Self {
            ssrc,
            began: now,
            source: None,
        }
    }

    /// Counts a packet. Copies are not among them: SRTP drops them.
    pub(super) fn packet(&mut self, header: &Header, now: Instant) {
        let arrival = samples(now.saturating_duration_since(self.began));
        let transit = arrival.wrapping_sub(header.timestamp);
        let fresh = Source {
            ssrc: header.ssrc,
            first: header.sequence_number.into(),
            newest: header.sequence_number.into(),
            received: 1,
            expected_before: 0,
            received_before: 0,
            transit,
            jitter: 0,
            sender_report: None,
        };
        let Some(source) = self.source.as_mut().filter(|s| s.ssrc == header.ssrc) else {
            self.source = Some(fresh);
            return;
        };
        let step = header.sequence_number.wrapping_sub(source.newest as u16);
        if step < BACK {
            if step > STEP_MAX {
                *source = Source {
                    sender_report: source.sender_report,
                    ..fresh
                };
                return;
            }
            source.newest = source.newest.wrapping_add(step.into());
        }
        source.received = source.received.saturating_add(1);
        let apart = transit
            .wrapping_sub(source.transit)
            .cast_signed()
            .unsigned_abs();
        source.transit = transit;
        let more = source.jitter.saturating_add(apart);
        source.jitter = more.saturating_sub((source.jitter.saturating_add(8)) >> 4);
    }

    /// Takes what the sender reports.
    pub(super) fn report(&mut self, ssrc: u32, ntp: u64, now: Instant) {
        if let Some(source) = self.source.as_mut().filter(|s| s.ssrc == ssrc) {
            source.sender_report = Some(((ntp >> 16) as u32, now));
        }
    }

    /// What goes back: a receiver report with our name beside it, as every compound packet has one
    /// (RFC 3550, section 6.1). None when nothing has come since the last.
    pub(super) fn reports(&mut self, now: Instant) -> Option<Vec<Box<dyn rtcp::Packet>>> {
        let source = self.source.as_mut()?;
        if source.received == source.received_before {
            return None;
        }
        let name = SourceDescriptionItem {
            sdes_type: SdesType::SdesCname,
            text: format!("{:08x}", self.ssrc).into(),
        };
        Some(vec![
            Box::new(ReceiverReport {
                ssrc: self.ssrc,
                reports: vec![source.block(now)],
                ..Default::default()
            }),
            Box::new(SourceDescription {
                chunks: vec![SourceDescriptionChunk {
                    source: self.ssrc,
                    items: vec![name],
                }],
            }),
        ])
    }
}

impl Source {
    /// The block of one report (RFC 3550, section 6.4.1 and A.3).
    fn block(&mut self, now: Instant) -> ReceptionReport {
        let expected = self.newest.wrapping_sub(self.first).saturating_add(1);
        let expected_since = expected.saturating_sub(self.expected_before);
        let received_since = self.received.saturating_sub(self.received_before);
        let lost_since = u64::from(expected_since.saturating_sub(received_since));
        let fraction = (lost_since << 8).checked_div(expected_since.into());
        self.expected_before = expected;
        self.received_before = self.received;
        let (last_sender_report, delay) = self.sender_report.map_or((0, 0), |(ntp, at)| {
            let since = now.saturating_duration_since(at).as_micros();
            (
                ntp,
                u32::try_from((since << 16) / 1_000_000).unwrap_or(u32::MAX),
            )
        });
        ReceptionReport {
            ssrc: self.ssrc,
            fraction_lost: u8::try_from(fraction.unwrap_or(0)).unwrap_or(u8::MAX),
            total_lost: expected.saturating_sub(self.received).min(LOST_MAX),
            last_sequence_number: self.newest,
            jitter: self.jitter >> 4,
            last_sender_report,
            delay,
        }
    }
}

/// A span on the Opus clock; timestamps wrap, so only the low 32 bits count.
fn samples(span: Duration) -> u32 {
    let seconds = span.as_secs().wrapping_mul(CLOCK_HZ);
    let rest = u64::from(span.subsec_nanos()) * CLOCK_HZ / 1_000_000_000;
    seconds.wrapping_add(rest) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const FRAME: Duration = Duration::from_millis(20);

    /// A reception that has heard the given numbers, each at its own time and as late as it says.
    fn heard(numbers: &[(u32, u64)]) -> (ReceptionStats, Instant) {
        let start = clock::now();
        let mut reception = ReceptionStats::new(9, start);
        let mut now = start;
        for (number, late) in numbers {
            let header = Header {
                ssrc: 5,
                sequence_number: *number as u16,
                timestamp: number.wrapping_mul(960),
                ..Default::default()
            };
            now = start + FRAME * (number - numbers[0].0) + Duration::from_millis(*late);
            reception.packet(&header, now);
        }
        (reception, now)
    }

    fn block(reception: &mut ReceptionStats, now: Instant) -> Option<ReceptionReport> {
        let reports = reception.reports(now)?;
        let report = reports[0].as_any().downcast_ref::<ReceiverReport>();
        let report = report.map(|report| report.reports[0].clone());
        assert!(report.is_some() && reports.len() == 2);
        report
    }

    #[test]
    fn a_whole_stream_is_reported_without_loss_over_the_wrap_and_then_not_again() {
        let numbers: Vec<(u32, u64)> = (65_500..65_600).map(|n| (n, 0)).collect();
        let (mut reception, now) = heard(&numbers);
        let report = block(&mut reception, now).unwrap();
        assert_eq!((report.ssrc, report.last_sequence_number), (5, 65_599));
        assert_eq!(
            (report.total_lost, report.fraction_lost, report.jitter),
            (0, 0, 0)
        );
        assert_eq!((report.last_sender_report, report.delay), (0, 0));
        assert!(block(&mut reception, now).is_none(), "nothing is new");
    }

    #[test]
    fn what_is_missing_is_lost_and_what_comes_late_is_not() {
        // 25 of 100 are missing, two change places.
        let mut numbers: Vec<(u32, u64)> =
            (0..100).filter(|n| n % 4 != 3).map(|n| (n, 0)).collect();
        numbers.swap(4, 5);
        let (mut reception, now) = heard(&numbers);
        let report = block(&mut reception, now).unwrap();
        assert_eq!((report.total_lost, report.last_sequence_number), (24, 98));
        assert_eq!(report.fraction_lost, (24 * 256 / 99) as u8);
    }

    #[test]
    fn jitter_comes_to_what_arrivals_differ_by() {
        // Every other packet is 10 ms late: 480 samples between any two.
        let numbers: Vec<(u32, u64)> = (0..500).map(|n| (n, u64::from(n % 2) * 10)).collect();
        let (mut reception, now) = heard(&numbers);
        let jitter = block(&mut reception, now).unwrap().jitter;
        assert!((470..=480).contains(&jitter), "{jitter}");
    }

    #[test]
    fn a_sender_report_comes_back_with_its_age() {
        let (mut reception, now) = heard(&[(1, 0)]);
        reception.report(6, 0xffff_ffff_ffff_ffff, now);
        reception.report(5, 0x1234_5678_9abc_def0, now);
        let later = now + Duration::from_millis(1_500);
        let report = block(&mut reception, later).unwrap();
        assert_eq!(report.last_sender_report, 0x5678_9abc);
        assert_eq!(report.delay, 3 << 15);
    }

    #[test]
    fn another_stream_and_a_jump_are_counted_anew() {
        let (mut reception, now) = heard(&[(1, 0), (9, 0), (20_000, 0), (20_001, 0)]);
        let report = block(&mut reception, now).unwrap();
        assert_eq!(
            (report.total_lost, report.last_sequence_number),
            (0, 20_001)
        );
        let other = Header {
            ssrc: 8,
            ..Default::default()
        };
        reception.packet(&other, now);
        assert_eq!(block(&mut reception, now).unwrap().ssrc, 8);
    }
}
