//! Writes numbers and addresses as text into a head without allocating.

use std::io::Write as _;
use std::net::IpAddr;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends `n` in decimal.
pub(crate) fn decimal(out: &mut Vec<u8>, n: u64) {
    // 20 digits are the longest u64.
    let (mut text, mut at, mut left) = ([0; 20], 20, n);
    loop {
        at -= 1;
        text[at] = DIGITS[(left % 10) as usize];
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

/// `n` in hexadecimal, padded with zeros, and the index of the first digit after the padding.
#[must_use]
pub(crate) fn hex(n: u64) -> ([u8; 16], usize) {
    let mut text = [b'0'; 16];
    for (i, digit) in text.iter_mut().rev().enumerate() {
        *digit = DIGITS[(n >> (4 * i) & 15) as usize];
    }
    let zeros = (n | 1).leading_zeros() as usize / 4;
    (text, zeros)
}

/// Appends the chunk-size line for `n` bytes.
pub(crate) fn chunk_size(out: &mut Vec<u8>, n: usize) {
    let (text, start) = hex(n as u64);
    out.extend_from_slice(&text[start..]);
    out.extend_from_slice(b"\r\n");
}

/// Appends an address.
pub(crate) fn address(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (i, octet) in ip.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                decimal(out, u64::from(octet));
            }
        }
        // Writing into memory does not fail.
        IpAddr::V6(ip) => drop(write!(out, "{ip}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_the_standard_library_writes_them() {
        for n in [
            0,
            1,
            9,
            10,
            15,
            16,
            255,
            1024,
            65_535,
            65_536,
            u64::MAX / 10,
            u64::MAX,
        ] {
            let mut out = Vec::new();
            decimal(&mut out, n);
            assert_eq!(out, n.to_string().as_bytes());
            let (text, start) = hex(n);
            assert_eq!(&text[start..], format!("{n:x}").as_bytes());
            assert_eq!(&text[..], format!("{n:016x}").as_bytes());
        }
    }

    #[test]
    fn addresses_read_as_the_standard_library_writes_them() {
        for ip in ["0.0.0.0", "127.0.0.1", "255.10.9.100", "::1", "2001:db8::1"] {
            let mut out = Vec::new();
            address(&mut out, ip.parse().unwrap());
            assert_eq!(out, ip.as_bytes());
        }
    }
}
