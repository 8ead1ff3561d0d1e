//! Binds the UDP socket of a peer, within the configured port range.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::ops::RangeInclusive;

use super::error::PeerError;

/// A non-blocking socket on `bind`, on the first free port of the range if there is one. Binding
/// reserves the port: only the kernel knows which ports are free.
pub(super) fn bind_in_range(
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
    fn ports_are_taken_from_the_range_and_freed() {
        // A port that was free: the kernel chose it.
        let socket = bind_in_range(LOOPBACK, None).unwrap();
        let first = socket.local_addr().unwrap().port();
        let range = first..=first;
        let full = bind_in_range(LOOPBACK, Some(&range)).err();
        assert!(matches!(full, Some(PeerError::NoPort(_))), "{full:?}");
        drop(socket);
        let again = bind_in_range(LOOPBACK, Some(&range)).unwrap();
        assert_eq!(again.local_addr().unwrap().port(), first);
    }

    #[test]
    fn an_address_of_another_machine_is_named_in_the_error() {
        let error = bind_in_range("192.0.2.1".parse().unwrap(), None).err();
        assert!(error.unwrap().to_string().contains("192.0.2.1"));
    }
}
