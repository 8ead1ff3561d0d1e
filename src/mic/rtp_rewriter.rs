//! Rewrites RTP headers so that all input streams of a session form one output stream, sans-IO.
//!
//! Each new offer brings a new SSRC with its own sequence numbers and timestamps; the body must
//! receive one stream. Both are shifted by an offset for each input stream, so that its first packet
//! follows the last packet of the stream before. Within a stream nothing is reordered or repaired:
//! gaps remain, so that the receiver conceals them; late packets pass; duplicates are dropped.

use std::time::{Duration, Instant};

/// Age in packets up to which a late packet passes: 2.6 s of 20 ms frames, more than any jitter
/// buffer holds.
const WINDOW: u16 = 128;
/// Largest gap in sequence numbers that counts as loss; a larger one is a restarted source (RFC
/// 3550, A.1).
const MAX_DROPOUT: u16 = 3_000;
/// RTP clock of Opus (RFC 7587).
const CLOCK_KHZ: u128 = 48;
/// Least distance of two input streams in samples: one frame of 20 ms, as browsers send.
const FRAME: u32 = 960;

/// The fields of an RTP header that are rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// The stream.
    pub ssrc: u32,
    /// The sequence number.
    pub sequence: u16,
    /// The sampling instant.
    pub timestamp: u32,
    /// Start of a talkspurt.
    pub marker: bool,
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// Drop it: it was received before.
    Duplicate,
    /// Drop it: it is older than the window or the input stream.
    Late,
    /// Send it with this header.
    Forward {
        /// The rewritten header; its SSRC is the one given to [`RtpRewriter::new`].
        header: RtpHeader,
        /// Change of the number of lost packets: the gap before this one, or -1 if it fills one.
        missing: i32,
    },
    /// Drop it: it belongs to another stream.
    Stray,
}

#[derive(Clone, Copy, Debug)]
struct InputStream {
    ssrc: u32,
    /// Newest received sequence number.
    newest: u16,
    /// Bit n: `newest - n` was forwarded.
    seen: u128,
    /// How far the stream reaches back from `newest`, at most [`WINDOW`].
    reach: u16,
    sequence_offset: u16,
    timestamp_offset: u32,
    /// The sequence number that would confirm a restarted source.
    restart: Option<u16>,
}

/// The newest forwarded packet.
#[derive(Clone, Copy, Debug)]
struct LastSent {
    sequence: u16,
    timestamp: u32,
    at: Instant,
}

/// The state of one session's output stream.
#[derive(Clone, Debug)]
pub struct RtpRewriter {
    ssrc: u32,
    input: Option<InputStream>,
    sent: Option<LastSent>,
}

impl RtpRewriter {
    /// An output stream with this SSRC.
    #[must_use]
    pub fn new(ssrc: u32) -> Self {
        Self {
            ssrc,
            input: None,
            sent: None,
        }
    }

    /// Ends the input stream: the next packet starts a new one.
    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// Decides about one packet that was received at `now`.
    pub fn rewrite(&mut self, packet: RtpHeader, now: Instant) -> Rewrite {
        let Some(input) = &mut self.input else {
            return self.start_input(packet, now);
        };
        if input.ssrc != packet.ssrc {
            return Rewrite::Stray;
        }
        let ahead = packet.sequence.wrapping_sub(input.newest);
        let behind = input.newest.wrapping_sub(packet.sequence);
        if behind < WINDOW {
            if (input.seen >> behind) & 1 == 1 {
                return Rewrite::Duplicate;
            }
            if behind > input.reach {
                // Its output sequence number was used by the input stream before.
                return Rewrite::Late;
            }
            input.seen |= 1 << behind;
            let input = *input;
            return Rewrite::Forward {
                header: self.shifted(&input, packet),
                missing: -1,
            };
        }
        if behind <= MAX_DROPOUT {
            return Rewrite::Late;
        }
        if ahead > MAX_DROPOUT {
            // Two consecutive packets after a large gap are a restarted source (RFC 3550, A.1).
            if input.restart == Some(packet.sequence) {
                return self.start_input(packet, now);
            }
            input.restart = Some(packet.sequence.wrapping_add(1));
            return Rewrite::Late;
        }
        input.restart = None;
        input.seen = input.seen.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
        input.reach = input.reach.saturating_add(ahead).min(WINDOW);
        input.newest = packet.sequence;
        let input = *input;
        let header = self.shifted(&input, packet);
        self.sent = Some(last_sent(header, now));
        Rewrite::Forward {
            header,
            missing: i32::from(ahead) - 1,
        }
    }

    fn start_input(&mut self, packet: RtpHeader, now: Instant) -> Rewrite {
        let (sequence_offset, timestamp_offset) = self.sent.map_or((0, 0), |sent| {
            let pause = samples(now.saturating_duration_since(sent.at)).max(FRAME);
            (
                sent.sequence.wrapping_add(1).wrapping_sub(packet.sequence),
                sent.timestamp
                    .wrapping_add(pause)
                    .wrapping_sub(packet.timestamp),
            )
        });
        let input = InputStream {
            ssrc: packet.ssrc,
            newest: packet.sequence,
            seen: 1,
            reach: 0,
            sequence_offset,
            timestamp_offset,
            restart: None,
        };
        let mut header = self.shifted(&input, packet);
        // The receiver may reset its playout at this packet.
        header.marker |= self.sent.is_some();
        self.input = Some(input);
        self.sent = Some(last_sent(header, now));
        Rewrite::Forward { header, missing: 0 }
    }

    fn shifted(&self, input: &InputStream, packet: RtpHeader) -> RtpHeader {
        RtpHeader {
            ssrc: self.ssrc,
            sequence: packet.sequence.wrapping_add(input.sequence_offset),
            timestamp: packet.timestamp.wrapping_add(input.timestamp_offset),
            marker: packet.marker,
        }
    }
}

fn last_sent(header: RtpHeader, at: Instant) -> LastSent {
    LastSent {
        sequence: header.sequence,
        timestamp: header.timestamp,
        at,
    }
}

/// A duration in samples; RTP timestamps wrap, so only the low 32 bits count.
fn samples(span: Duration) -> u32 {
    ((span.as_micros() * CLOCK_KHZ / 1_000) & u128::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use proptest::prelude::*;

    fn header(ssrc: u32, sequence: u16, timestamp: u32) -> RtpHeader {
        RtpHeader {
            ssrc,
            sequence,
            timestamp,
            marker: false,
        }
    }

    fn sent(rewrite: Rewrite) -> RtpHeader {
        match rewrite {
            Rewrite::Forward { header, .. } => header,
            other => panic!("expected a packet, got {other:?}"),
        }
    }

    #[test]
    fn a_new_input_stream_continues_sequence_and_time() {
        let mut rewriter = RtpRewriter::new(7);
        let start = clock::now();
        let first = sent(rewriter.rewrite(header(1, 65_535, u32::MAX - 959), start));
        assert_eq!(
            (first.ssrc, first.sequence, first.marker),
            (7, 65_535, false)
        );
        rewriter.end_input();
        // One second later another browser stream with numbers of its own.
        let second = sent(rewriter.rewrite(header(2, 4_000, 5), start + Duration::from_secs(1)));
        assert_eq!((second.ssrc, second.sequence, second.marker), (7, 0, true));
        assert_eq!(second.timestamp.wrapping_sub(first.timestamp), 48_000);
        let third = sent(rewriter.rewrite(header(2, 4_001, 965), start + Duration::from_secs(1)));
        assert_eq!(
            (third.sequence, third.timestamp),
            (1, second.timestamp + 960)
        );
    }

    #[test]
    fn a_packet_from_before_the_first_of_its_stream_is_dropped() {
        let mut rewriter = RtpRewriter::new(7);
        let now = clock::now();
        sent(rewriter.rewrite(header(1, 10, 0), now));
        rewriter.end_input();
        assert_eq!(sent(rewriter.rewrite(header(2, 500, 0), now)).sequence, 11);
        assert_eq!(rewriter.rewrite(header(2, 499, 0), now), Rewrite::Late);
        assert_eq!(rewriter.rewrite(header(1, 11, 960), now), Rewrite::Stray);
    }

    #[test]
    fn one_packet_after_a_large_gap_is_dropped_and_two_start_a_new_input() {
        let mut rewriter = RtpRewriter::new(7);
        let now = clock::now();
        sent(rewriter.rewrite(header(1, 10, 0), now));
        assert_eq!(rewriter.rewrite(header(1, 30_000, 0), now), Rewrite::Late);
        assert_eq!(sent(rewriter.rewrite(header(1, 11, 960), now)).sequence, 11);
        assert_eq!(rewriter.rewrite(header(1, 50_000, 0), now), Rewrite::Late);
        assert_eq!(
            sent(rewriter.rewrite(header(1, 50_001, 960), now)).sequence,
            12
        );
    }

    #[test]
    fn gaps_remain_and_count_as_lost_until_they_are_filled() {
        let mut rewriter = RtpRewriter::new(7);
        let now = clock::now();
        let missing: Vec<i32> = [65_533_u16, 65_534, 2, 65_535, 1]
            .into_iter()
            .map(|n| match rewriter.rewrite(header(1, n, 0), now) {
                Rewrite::Forward { missing, .. } => missing,
                other => panic!("{n}: {other:?}"),
            })
            .collect();
        assert_eq!(missing, [0, 0, 3, -1, -1]);
        assert_eq!(rewriter.rewrite(header(1, 1, 0), now), Rewrite::Duplicate);
    }

    /// Input streams: first sequence number and timestamp, and the order of arrival of packets.
    fn inputs() -> impl Strategy<Value = Vec<(u16, u32, Vec<u16>)>> {
        let arrivals = proptest::collection::vec(0_u16..300, 1..200);
        proptest::collection::vec((any::<u16>(), any::<u32>(), arrivals), 1..5)
    }

    proptest! {
        #[test]
        fn no_sequence_number_is_sent_twice_and_each_input_keeps_its_distances(inputs in inputs()) {
            let mut rewriter = RtpRewriter::new(7);
            let mut now = clock::now();
            let mut out: std::collections::HashSet<u16> = Default::default();
            let mut newest: Option<u16> = None;
            for (ssrc, (sequence, timestamp, arrivals)) in inputs.iter().enumerate() {
                rewriter.end_input();
                let mut offset = None;
                let mut passed: std::collections::HashSet<u16> = Default::default();
                let mut lost = 0;
                for n in arrivals {
                    now += Duration::from_millis(20);
                    let packet = header(
                        ssrc as u32,
                        sequence.wrapping_add(*n),
                        timestamp.wrapping_add(u32::from(*n) * FRAME),
                    );
                    let again = passed.contains(n);
                    match rewriter.rewrite(packet, now) {
                        Rewrite::Forward { header, missing } => {
                            prop_assert!(!again, "a duplicate passed");
                            prop_assert!(out.insert(header.sequence), "{} twice", header.sequence);
                            passed.insert(*n);
                            lost += missing;
                            let s = (
                                header.sequence.wrapping_sub(packet.sequence),
                                header.timestamp.wrapping_sub(packet.timestamp),
                            );
                            if let (None, Some(last)) = (offset, newest) {
                                prop_assert_eq!(header.sequence, last.wrapping_add(1));
                            }
                            prop_assert_eq!(*offset.get_or_insert(s), s);
                            let ahead = newest.is_none_or(|m| header.sequence.wrapping_sub(m) < 1_000);
                            if ahead { newest = Some(header.sequence); }
                        }
                        Rewrite::Duplicate => prop_assert!(again),
                        Rewrite::Late => {}
                        Rewrite::Stray => prop_assert!(false, "the input stream's own packet is no stray"),
                    }
                }
                let (low, high) = (passed.iter().min().unwrap(), passed.iter().max().unwrap());
                prop_assert_eq!(lost, i32::from(high - low) + 1 - passed.len() as i32);
            }
        }

        #[test]
        fn any_packets_are_rewritten_without_a_panic(
            packets in proptest::collection::vec((0_u32..3, any::<u16>(), any::<u32>(), any::<bool>()), 0..400),
        ) {
            let mut rewriter = RtpRewriter::new(7);
            for (ssrc, sequence, timestamp, cut) in packets {
                if cut && sequence % 7 == 0 { rewriter.end_input(); }
                let _ = rewriter.rewrite(header(ssrc, sequence, timestamp), clock::now());
            }
        }
    }
}
