//! RTCP receiver reports (RFC 3550), sans-IO: loss and jitter of the received stream, from which the
//! browser decides how much error correction to send.

use std::time::{Duration, Instant};

use rtc::rtcp;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::source_description::{
    SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem,
};
use rtc::rtp::Header;

/// Largest gap in sequence numbers that counts as loss; a larger one is a restarted source.
const MAX_DROPOUT: u16 = 3_000;
/// Differences of sequence numbers from here on are negative.
const NEGATIVE: u16 = 1 << 15;
/// Largest loss in a report: 24 bits with a sign.
const LOST_MAX: u32 = (1 << 23) - 1;
/// RTP clock of Opus (RFC 7587).
const CLOCK_HZ: u64 = 48_000;

/// The statistics of the received stream.
#[derive(Clone, Copy, Debug)]
struct StreamStats {
    ssrc: u32,
    /// First and newest extended sequence number: cycles in the upper 16 bits.
    first: u32,
    newest: u32,
    received: u32,
    /// Expected and received packets at the last report.
    expected_before: u32,
    received_before: u32,
    /// Relative transit time of the newest packet, in samples.
    transit: u32,
    /// Interarrival jitter in sixteenths of samples (RFC 3550, A.8).
    jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time, and its time of arrival.
    sender_report: Option<(u32, Instant)>,
}

/// Builds the receiver reports of one peer.
#[derive(Debug)]
pub(super) struct ReceptionStats {
    /// SSRC of the reports.
    ssrc: u32,
    start: Instant,
    stream: Option<StreamStats>,
}

impl ReceptionStats {
    /// Nothing received yet; reports are sent from `ssrc`.
    pub(super) fn new(ssrc: u32, now: Instant) -> Self {
        Self {
            ssrc,
            start: now,
            stream: None,
        }
    }

    /// Counts a packet. There are no duplicates: SRTP drops them.
    pub(super) fn record_packet(&mut self, header: &Header, now: Instant) {
        let arrival = samples(now.saturating_duration_since(self.start));
        let transit = arrival.wrapping_sub(header.timestamp);
        let fresh = StreamStats {
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
        let Some(stream) = self.stream.as_mut().filter(|s| s.ssrc == header.ssrc) else {
            self.stream = Some(fresh);
            return;
        };
        let step = header.sequence_number.wrapping_sub(stream.newest as u16);
        if step < NEGATIVE {
            if step > MAX_DROPOUT {
                *stream = StreamStats {
                    sender_report: stream.sender_report,
                    ..fresh
                };
                return;
            }
            stream.newest = stream.newest.wrapping_add(step.into());
        }
        stream.received = stream.received.saturating_add(1);
        let apart = transit
            .wrapping_sub(stream.transit)
            .cast_signed()
            .unsigned_abs();
        stream.transit = transit;
        let more = stream.jitter.saturating_add(apart);
        stream.jitter = more.saturating_sub((stream.jitter.saturating_add(8)) >> 4);
    }

    /// Records a sender report of `ssrc`.
    pub(super) fn record_sender_report(&mut self, ssrc: u32, ntp: u64, now: Instant) {
        if let Some(stream) = self.stream.as_mut().filter(|s| s.ssrc == ssrc) {
            stream.sender_report = Some(((ntp >> 16) as u32, now));
        }
    }

    /// A receiver report, with the CNAME that every compound packet must have (RFC 3550, section
    /// 6.1). `None` if no packet was received since the last one.
    pub(super) fn receiver_report(&mut self, now: Instant) -> Option<Vec<Box<dyn rtcp::Packet>>> {
        let stream = self.stream.as_mut()?;
        if stream.received == stream.received_before {
            return None;
        }
        let name = SourceDescriptionItem {
            sdes_type: SdesType::SdesCname,
            text: format!("{:08x}", self.ssrc).into(),
        };
        Some(vec![
            Box::new(ReceiverReport {
                ssrc: self.ssrc,
                reports: vec![stream.report_block(now)],
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

impl StreamStats {
    /// The report block (RFC 3550, sections 6.4.1 and A.3).
    fn report_block(&mut self, now: Instant) -> ReceptionReport {
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

/// A duration in samples; RTP timestamps wrap, so only the low 32 bits count.
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

    /// Statistics of packets with these sequence numbers, each late by these milliseconds.
    fn received(numbers: &[(u32, u64)]) -> (ReceptionStats, Instant) {
        let start = clock::now();
        let mut stats = ReceptionStats::new(9, start);
        let mut now = start;
        for (number, late) in numbers {
            let header = Header {
                ssrc: 5,
                sequence_number: *number as u16,
                timestamp: number.wrapping_mul(960),
                ..Default::default()
            };
            now = start + FRAME * (number - numbers[0].0) + Duration::from_millis(*late);
            stats.record_packet(&header, now);
        }
        (stats, now)
    }

    fn block(stats: &mut ReceptionStats, now: Instant) -> Option<ReceptionReport> {
        let reports = stats.receiver_report(now)?;
        let report = reports[0].as_any().downcast_ref::<ReceiverReport>();
        let report = report.map(|report| report.reports[0].clone());
        assert!(report.is_some() && reports.len() == 2);
        report
    }

    #[test]
    fn a_complete_stream_is_reported_without_loss_over_the_wrap_and_then_not_again() {
        let numbers: Vec<(u32, u64)> = (65_500..65_600).map(|n| (n, 0)).collect();
        let (mut stats, now) = received(&numbers);
        let report = block(&mut stats, now).unwrap();
        assert_eq!((report.ssrc, report.last_sequence_number), (5, 65_599));
        assert_eq!(
            (report.total_lost, report.fraction_lost, report.jitter),
            (0, 0, 0)
        );
        assert_eq!((report.last_sender_report, report.delay), (0, 0));
        assert!(block(&mut stats, now).is_none(), "nothing is new");
    }

    #[test]
    fn missing_packets_are_lost_and_late_ones_are_not() {
        // 25 of 100 are missing, two change places.
        let mut numbers: Vec<(u32, u64)> =
            (0..100).filter(|n| n % 4 != 3).map(|n| (n, 0)).collect();
        numbers.swap(4, 5);
        let (mut stats, now) = received(&numbers);
        let report = block(&mut stats, now).unwrap();
        assert_eq!((report.total_lost, report.last_sequence_number), (24, 98));
        assert_eq!(report.fraction_lost, (24 * 256 / 99) as u8);
    }

    #[test]
    fn jitter_converges_to_the_difference_of_arrivals() {
        // Every other packet is 10 ms late: 480 samples between any two.
        let numbers: Vec<(u32, u64)> = (0..500).map(|n| (n, u64::from(n % 2) * 10)).collect();
        let (mut stats, now) = received(&numbers);
        let jitter = block(&mut stats, now).unwrap().jitter;
        assert!((470..=480).contains(&jitter), "{jitter}");
    }

    #[test]
    fn a_sender_report_is_returned_with_its_age() {
        let (mut stats, now) = received(&[(1, 0)]);
        stats.record_sender_report(6, 0xffff_ffff_ffff_ffff, now);
        stats.record_sender_report(5, 0x1234_5678_9abc_def0, now);
        let later = now + Duration::from_millis(1_500);
        let report = block(&mut stats, later).unwrap();
        assert_eq!(report.last_sender_report, 0x5678_9abc);
        assert_eq!(report.delay, 3 << 15);
    }

    #[test]
    fn another_stream_and_a_large_gap_restart_the_statistics() {
        let (mut stats, now) = received(&[(1, 0), (9, 0), (20_000, 0), (20_001, 0)]);
        let report = block(&mut stats, now).unwrap();
        assert_eq!(
            (report.total_lost, report.last_sequence_number),
            (0, 20_001)
        );
        let other = Header {
            ssrc: 8,
            ..Default::default()
        };
        stats.record_packet(&other, now);
        assert_eq!(block(&mut stats, now).unwrap().ssrc, 8);
    }
}
