//! The socket that a peer gets.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::ops::RangeInclusive;

use super::error::PeerError;

/// A socket on `bind` that does not block, on a port of the range when there is one. The socket is
/// the claim: the kernel knows which ports are free.
pub(super) fn bound(
    bind: IpAddr,
    ports: Option<&RangeInclusive<u16>>,
) -> Result<UdpSocket, PeerError> {
    let failed = |e| PeerError::Bind(bind, e);
    let socket = match ports {
        None => UdpSocket::bind((bind, 0)).map_err(failed)?,
        Some(range) => first_free(bind, range)?,
    };
    socket.set_nonblocking(true).map_err(failed)?;
    Ok(socket)
}

fn first_free(bind: IpAddr, range: &RangeInclusive<u16>) -> Result<UdpSocket, PeerError> {
    for port in range.clone() {
        match UdpSocket::bind((bind, port)) {
            Ok(socket) => return Ok(socket),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
            Err(e) => return Err(PeerError::Bind(bind, e)),
        }
    }
    Err(PeerError::NoPort(range.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn ports_come_from_the_range_and_return_to_it() {
        // A range that is free now: the kernel names its first port.
        let socket = bound(LOOPBACK, None).unwrap();
        let first = socket.local_addr().unwrap().port();
        let range = first..=first;
        let full = bound(LOOPBACK, Some(&range)).err();
        assert!(matches!(full, Some(PeerError::NoPort(_))), "{full:?}");
        drop(socket);
        let again = bound(LOOPBACK, Some(&range)).unwrap();
        assert_eq!(again.local_addr().unwrap().port(), first);
    }

    #[test]
    fn an_address_that_is_not_ours_is_named() {
        let error = bound("192.0.2.1".parse().unwrap(), None).err();
        assert!(error.unwrap().to_string().contains("192.0.2.1"));
    }
}
