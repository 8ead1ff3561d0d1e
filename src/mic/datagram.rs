//! The protocol of a datagram, by its first bytes; sans-IO.

/// The protocol of a datagram (RFC 7983, RFC 5761).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DatagramKind {
    Dtls,
    /// SRTCP of the sender with this SSRC.
    Rtcp(u32),
    /// SRTP of the stream with this SSRC.
    Rtp(u32),
    Stun,
    Unknown,
}

impl DatagramKind {
    pub(super) fn of(datagram: &[u8]) -> Self {
        let ssrc = |at: usize| {
            let bytes = datagram.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_be_bytes(bytes))
        };
        match datagram {
            [0..=3, ..] => Self::Stun,
            [20..=63, ..] => Self::Dtls,
            [128..=191, second, ..] if (64..96).contains(&(second & 0x7f)) => {
                ssrc(4).map_or(Self::Unknown, Self::Rtcp)
            }
            [128..=191, _, ..] => ssrc(8).map_or(Self::Unknown, Self::Rtp),
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_distinguished_by_the_first_bytes() {
        let with = |first: &[u8]| {
            let mut datagram = first.to_vec();
            datagram.extend([0, 0, 0, 0, 0, 7, 0, 0, 0, 9]);
            DatagramKind::of(&datagram)
        };
        for (first, kind) in [
            ([0, 1], DatagramKind::Stun),
            ([3, 1], DatagramKind::Stun),
            ([4, 1], DatagramKind::Unknown),
            ([22, 254], DatagramKind::Dtls),
            ([64, 0], DatagramKind::Unknown),
            ([0x80, 111], DatagramKind::Rtp(9)),
            ([0x90, 111 | 0x80], DatagramKind::Rtp(9)),
            ([0x81, 200], DatagramKind::Rtcp(7)),
            ([0xbf, 207], DatagramKind::Rtcp(7)),
            ([0xc0, 111], DatagramKind::Unknown),
        ] {
            assert_eq!(with(&first), kind, "{first:?}");
        }
        for short in [
            &[][..],
            &[0x80],
            &[0x80, 111, 0, 0, 0, 0, 0, 0],
            &[0x80, 200, 0],
        ] {
            assert_eq!(DatagramKind::of(short), DatagramKind::Unknown, "{short:?}");
        }
    }
}
