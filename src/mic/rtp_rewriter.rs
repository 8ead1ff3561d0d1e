//! One continuous RTP stream out of however many a browser sends, sans IO.
//!
//! Every re-offer brings a new SSRC with sequence and timestamp of its own; the body must see
//! one stream. A *leg* is what one peer sends: it is shifted so that its first packet follows
//! the last one of the leg before. Inside a leg nothing is reordered or repaired: gaps stay
//! gaps, so that the receiver conceals them, late packets pass as they come, duplicates do not.

use std::time::{Duration, Instant};

/// Packets behind the newest that still pass: 2.6 s of 20 ms frames, above any jitter buffer.
const WINDOW: u16 = 128;
/// Largest step forward that is loss and not a restarted source: RFC 3550's `MAX_DROPOUT`.
const STEP_MAX: u16 = 3_000;
/// Opus in RTP counts at 48 kHz (RFC 7587).
const CLOCK_KHZ: u128 = 48;
/// Least distance of two legs in samples: one frame of 20 ms, what browsers send.
const FRAME: u32 = 960;

/// What counts of a packet's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// The stream it belongs to.
    pub ssrc: u32,
    /// Its sequence number.
    pub sequence: u16,
    /// Its sampling instant.
    pub timestamp: u32,
    /// Start of a talk spurt.
    pub marker: bool,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// It was here before.
    Duplicate,
    /// It is older than the window or the leg.
    Late,
    /// It goes out with this stamp; `missing` is how the count of lost packets changes.
    Pass {
        /// The stamp to send; the SSRC is the one given to [`RtpRewriter::new`].
        stamp: RtpHeader,
        /// Gap before it, or -1 when it fills one.
        missing: i32,
    },
    /// It is of another stream than the leg's.
    Stray,
}

#[derive(Clone, Copy, Debug)]
struct InputStream {
    ssrc: u32,
    /// Newest sequence number, as received.
    newest: u16,
    /// Bit n: `newest - n` has passed.
    seen: u128,
    /// How far back the leg reaches from `newest`, at most [`WINDOW`].
    reach: u16,
    sequence_shift: u16,
    timestamp_shift: u32,
    /// The sequence number that would confirm a restarted source.
    suspect: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    sequence: u16,
    timestamp: u32,
    at: Instant,
}

/// The rebasing core of one session's uplink.
#[derive(Clone, Debug)]
pub struct RtpRewriter {
    ssrc: u32,
    leg: Option<InputStream>,
    sent: Option<Newest>,
}

impl RtpRewriter {
    /// A stream that goes out under `ssrc`.
    #[must_use]
    pub fn new(ssrc: u32) -> Self {
        Self {
            ssrc,
            leg: None,
            sent: None,
        }
    }

    /// Ends the leg: the next packet opens a new one.
    pub fn cut(&mut self) {
        self.leg = None;
    }

    /// Judges one packet that came at `now`.
    pub fn pass(&mut self, packet: RtpHeader, now: Instant) -> Rewrite {
        let Some(leg) = &mut self.leg else {
            return self.open(packet, now);
        };
        if leg.ssrc != packet.ssrc {
            return Rewrite::Stray;
        }
        let ahead = packet.sequence.wrapping_sub(leg.newest);
        let behind = leg.newest.wrapping_sub(packet.sequence);
        if behind < WINDOW {
            if (leg.seen >> behind) & 1 == 1 {
                return Rewrite::Duplicate;
            }
            if behind > leg.reach {
                // Its place in the outgoing sequence belongs to the leg before.
                return Rewrite::Late;
            }
            leg.seen |= 1 << behind;
            let leg = *leg;
            return Rewrite::Pass {
                stamp: self.shifted(&leg, packet),
                missing: -1,
            };
        }
        if behind <= STEP_MAX {
            return Rewrite::Late;
        }
        if ahead > STEP_MAX {
            // Two packets in sequence far off are a restarted source, one is noise (RFC 3550 A.1).
            if leg.suspect == Some(packet.sequence) {
                return self.open(packet, now);
            }
            leg.suspect = Some(packet.sequence.wrapping_add(1));
            return Rewrite::Late;
        }
        leg.suspect = None;
        leg.seen = leg.seen.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
        leg.reach = leg.reach.saturating_add(ahead).min(WINDOW);
        leg.newest = packet.sequence;
        let leg = *leg;
        let stamp = self.shifted(&leg, packet);
        self.sent = Some(newest(stamp, now));
        Rewrite::Pass {
            stamp,
            missing: i32::from(ahead) - 1,
        }
    }

    fn open(&mut self, packet: RtpHeader, now: Instant) -> Rewrite {
        let (sequence_shift, timestamp_shift) = self.sent.map_or((0, 0), |sent| {
            let pause = samples(now.saturating_duration_since(sent.at)).max(FRAME);
            (
                sent.sequence.wrapping_add(1).wrapping_sub(packet.sequence),
                sent.timestamp
                    .wrapping_add(pause)
                    .wrapping_sub(packet.timestamp),
            )
        });
        let leg = InputStream {
            ssrc: packet.ssrc,
            newest: packet.sequence,
            seen: 1,
            reach: 0,
            sequence_shift,
            timestamp_shift,
            suspect: None,
        };
        let mut stamp = self.shifted(&leg, packet);
        // After a pause the receiver may reset its playout at this packet.
        stamp.marker |= self.sent.is_some();
        self.leg = Some(leg);
        self.sent = Some(newest(stamp, now));
        Rewrite::Pass { stamp, missing: 0 }
    }

    fn shifted(&self, leg: &InputStream, packet: RtpHeader) -> RtpHeader {
        RtpHeader {
            ssrc: self.ssrc,
            sequence: packet.sequence.wrapping_add(leg.sequence_shift),
            timestamp: packet.timestamp.wrapping_add(leg.timestamp_shift),
            marker: packet.marker,
        }
    }
}

fn newest(stamp: RtpHeader, at: Instant) -> Newest {
    Newest {
        sequence: stamp.sequence,
        timestamp: stamp.timestamp,
        at,
    }
}

/// A span on the Opus clock; timestamps wrap, so only the low 32 bits count.
fn samples(span: Duration) -> u32 {
    ((span.as_micros() * CLOCK_KHZ / 1_000) & u128::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use proptest::prelude::*;

    fn stamp(ssrc: u32, sequence: u16, timestamp: u32) -> RtpHeader {
        RtpHeader {
            ssrc,
            sequence,
            timestamp,
            marker: false,
        }
    }

    fn sent(verdict: Rewrite) -> RtpHeader {
        match verdict {
            Rewrite::Pass { stamp, .. } => stamp,
            other => panic!("expected a packet, got {other:?}"),
        }
    }

    #[test]
    fn a_new_leg_continues_sequence_and_time() {
        let mut rebase = RtpRewriter::new(7);
        let start = clock::now();
        let first = sent(rebase.pass(stamp(1, 65_535, u32::MAX - 959), start));
        assert_eq!(
            (first.ssrc, first.sequence, first.marker),
            (7, 65_535, false)
        );
        rebase.cut();
        // One second later another browser stream with numbers of its own.
        let second = sent(rebase.pass(stamp(2, 4_000, 5), start + Duration::from_secs(1)));
        assert_eq!((second.ssrc, second.sequence, second.marker), (7, 0, true));
        assert_eq!(second.timestamp.wrapping_sub(first.timestamp), 48_000);
        let third = sent(rebase.pass(stamp(2, 4_001, 965), start + Duration::from_secs(1)));
        assert_eq!(
            (third.sequence, third.timestamp),
            (1, second.timestamp + 960)
        );
    }

    #[test]
    fn what_came_before_the_legs_first_packet_never_takes_the_place_of_an_older_one() {
        let mut rebase = RtpRewriter::new(7);
        let now = clock::now();
        sent(rebase.pass(stamp(1, 10, 0), now));
        rebase.cut();
        assert_eq!(sent(rebase.pass(stamp(2, 500, 0), now)).sequence, 11);
        assert_eq!(rebase.pass(stamp(2, 499, 0), now), Rewrite::Late);
        assert_eq!(rebase.pass(stamp(1, 11, 960), now), Rewrite::Stray);
    }

    #[test]
    fn one_packet_far_off_is_dropped_and_two_in_sequence_open_a_leg() {
        let mut rebase = RtpRewriter::new(7);
        let now = clock::now();
        sent(rebase.pass(stamp(1, 10, 0), now));
        assert_eq!(rebase.pass(stamp(1, 30_000, 0), now), Rewrite::Late);
        assert_eq!(sent(rebase.pass(stamp(1, 11, 960), now)).sequence, 11);
        assert_eq!(rebase.pass(stamp(1, 50_000, 0), now), Rewrite::Late);
        assert_eq!(sent(rebase.pass(stamp(1, 50_001, 960), now)).sequence, 12);
    }

    #[test]
    fn gaps_stay_and_are_counted_until_they_are_filled() {
        let mut rebase = RtpRewriter::new(7);
        let now = clock::now();
        let missing: Vec<i32> = [65_533_u16, 65_534, 2, 65_535, 1]
            .into_iter()
            .map(|n| match rebase.pass(stamp(1, n, 0), now) {
                Rewrite::Pass { missing, .. } => missing,
                other => panic!("{n}: {other:?}"),
            })
            .collect();
        assert_eq!(missing, [0, 0, 3, -1, -1]);
        assert_eq!(rebase.pass(stamp(1, 1, 0), now), Rewrite::Duplicate);
    }

    /// One leg: where its numbers start, and which packets arrive in which order.
    fn legs() -> impl Strategy<Value = Vec<(u16, u32, Vec<u16>)>> {
        let arrivals = proptest::collection::vec(0_u16..300, 1..200);
        proptest::collection::vec((any::<u16>(), any::<u32>(), arrivals), 1..5)
    }

    proptest! {
        #[test]
        fn no_sequence_number_goes_out_twice_and_each_leg_keeps_its_distances(legs in legs()) {
            let mut rebase = RtpRewriter::new(7);
            let mut now = clock::now();
            let mut out: std::collections::HashSet<u16> = Default::default();
            let mut newest: Option<u16> = None;
            for (ssrc, (sequence, timestamp, arrivals)) in legs.iter().enumerate() {
                rebase.cut();
                let mut shift = None;
                let mut passed: std::collections::HashSet<u16> = Default::default();
                let mut lost = 0;
                for n in arrivals {
                    now += Duration::from_millis(20);
                    let packet = stamp(
                        ssrc as u32,
                        sequence.wrapping_add(*n),
                        timestamp.wrapping_add(u32::from(*n) * FRAME),
                    );
                    let again = passed.contains(n);
                    match rebase.pass(packet, now) {
                        Rewrite::Pass { stamp, missing } => {
                            prop_assert!(!again, "a duplicate passed");
                            prop_assert!(out.insert(stamp.sequence), "{} twice", stamp.sequence);
                            passed.insert(*n);
                            lost += missing;
                            let s = (
                                stamp.sequence.wrapping_sub(packet.sequence),
                                stamp.timestamp.wrapping_sub(packet.timestamp),
                            );
                            if let (None, Some(last)) = (shift, newest) {
                                prop_assert_eq!(stamp.sequence, last.wrapping_add(1));
                            }
                            prop_assert_eq!(*shift.get_or_insert(s), s);
                            let ahead = newest.is_none_or(|m| stamp.sequence.wrapping_sub(m) < 1_000);
                            if ahead { newest = Some(stamp.sequence); }
                        }
                        Rewrite::Duplicate => prop_assert!(again),
                        Rewrite::Late => {}
                        Rewrite::Stray => prop_assert!(false, "a leg's own packet is no stray"),
                    }
                }
                let (low, high) = (passed.iter().min().unwrap(), passed.iter().max().unwrap());
                prop_assert_eq!(lost, i32::from(high - low) + 1 - passed.len() as i32);
            }
        }

        #[test]
        fn any_packets_are_judged_without_a_panic(
            packets in proptest::collection::vec((0_u32..3, any::<u16>(), any::<u32>(), any::<bool>()), 0..400),
        ) {
            let mut rebase = RtpRewriter::new(7);
            for (ssrc, sequence, timestamp, cut) in packets {
                if cut && sequence % 7 == 0 { rebase.cut(); }
                let _ = rebase.pass(stamp(ssrc, sequence, timestamp), clock::now());
            }
        }
    }
}
