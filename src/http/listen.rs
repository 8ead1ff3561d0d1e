//! Listen addresses, and binding them.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};

use crate::wire;

/// Connections the kernel may hold before they are accepted.
const BACKLOG: i32 = 4096;

/// Why a server could not start.
#[derive(Debug)]
pub enum ServerError {
    /// The listen address is none.
    Address(String),
    /// The address cannot be bound.
    Bind(SocketAddr, io::Error),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(text) => {
                write!(
                    f,
                    "cannot listen on {text:?}: write it as \":8080\", \"127.0.0.1:8080\" or \"[::1]:8080\""
                )
            }
            Self::Bind(address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "cannot listen on {address}: another program does, stop it or choose another port"
                )
            }
            Self::Bind(address, error) => write!(f, "cannot listen on {address}: {error}"),
        }
    }
}

impl Error for ServerError {}

/// Parses a listen address as the runbook writes it: `:8080` is every interface, both families.
///
/// # Errors
/// [`ServerError::Address`].
pub fn listen_address(text: &str) -> Result<SocketAddr, ServerError> {
    let wrong = || ServerError::Address(text.to_owned());
    match text.strip_prefix(':') {
        Some(port) => Ok((
            IpAddr::from(Ipv6Addr::UNSPECIFIED),
            port.parse().map_err(|_| wrong())?,
        )
            .into()),
        None => text.parse().map_err(|_| wrong()),
    }
}

/// Binds `address`; `[::]` takes IPv4 too, or IPv4 alone on a machine without IPv6.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    bind_as_is(address).or_else(|error| {
        let no_ipv6 = error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
        match address.ip() {
            IpAddr::V6(ip) if ip.is_unspecified() && no_ipv6 => {
                bind_as_is(([0, 0, 0, 0], address.port()).into())
            }
            _ => Err(error),
        }
    })
}

fn bind_as_is(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    wire::socket::set_options(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_are_written_as_in_the_runbook() {
        assert_eq!(
            listen_address(":8080").unwrap(),
            "[::]:8080".parse::<SocketAddr>().unwrap()
        );
        assert_eq!(
            listen_address("127.0.0.1:1").unwrap(),
            "127.0.0.1:1".parse::<SocketAddr>().unwrap()
        );
        for bad in ["", "8080", ":", ":x", "host:80", ":99999"] {
            assert!(listen_address(bad).is_err(), "{bad}");
        }
    }
}
