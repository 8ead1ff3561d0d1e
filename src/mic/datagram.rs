//! What a datagram is, as far as its first bytes tell, sans IO.

/// What a datagram is by its first bytes (RFC 7983, RFC 5761).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DatagramKind {
    Dtls,
    Unknown,
    /// SRTCP of the sender with this number.
    Rtcp(u32),
    /// SRTP of the stream with this number.
    Rtp(u32),
    Stun,
}

impl DatagramKind {
    pub(super) fn of(datagram: &[u8]) -> Self {
        let number = |at: usize| {
            let bytes = datagram.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_be_bytes(bytes))
        };
        match datagram {
            [0..=3, ..] => Self::Stun,
            [20..=63, ..] => Self::Dtls,
            [128..=191, second, ..] if (64..96).contains(&(second & 0x7f)) => {
                number(4).map_or(Self::Unknown, Self::Rtcp)
            }
            [128..=191, _, ..] => number(8).map_or(Self::Unknown, Self::Rtp),
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_told_apart_by_their_first_bytes() {
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
