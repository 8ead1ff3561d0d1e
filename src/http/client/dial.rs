//! Connections to peers, by name or address, plain or under TLS.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use futures_rustls::{TlsConnector, TlsStream};
use http_types::Url;
use rustls::pki_types::ServerName;

use super::{Client, ClientError};
use crate::clock;
use crate::wire::Socket;

/// Time for a connection: a peer that is there answers within a round trip, and a caller that has
/// others to ask does not wait for one that is not.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

impl Client {
    pub(super) async fn connect(&self, url: &Url) -> Result<Socket, ClientError> {
        let wrong = || ClientError::Url(url.to_string());
        let host = url.host_str().ok_or_else(wrong)?;
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(wrong()),
        };
        let port = url.port_or_known_default().ok_or_else(wrong)?;
        let tcp = dial(host, port).await?;
        if !secure {
            return Ok(tcp);
        }
        self.secure(tcp, host).await
    }

    /// Puts TLS over a connection to `host`.
    ///
    /// # Errors
    /// [`ClientError::Tls`] or [`ClientError::Pin`].
    pub async fn secure(&self, tcp: Socket, host: &str) -> Result<Socket, ClientError> {
        let Socket::Plain(tcp) = tcp else {
            return Ok(tcp);
        };
        let bare = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(bare).map_err(|_| ClientError::Url(host.to_owned()))?;
        match TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, tcp)
            .await
        {
            Ok(stream) => Ok(Socket::Tls(Box::new(TlsStream::Client(stream)))),
            Err(error) if is_pin_mismatch(&error) => Err(ClientError::Pin(host.to_owned())),
            Err(error) => Err(ClientError::Tls(host.to_owned(), error)),
        }
    }
}

/// Connects to the first address of `host` that answers.
///
/// # Errors
/// [`ClientError::Resolve`] or that of the last address. The caller sets the deadline.
pub(crate) async fn dial(host: &str, port: u16) -> Result<Socket, ClientError> {
    let bare = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let addresses: Vec<SocketAddr> = match bare.parse() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => {
            let name = bare.clone();
            smol::unblock(move || {
                (name.as_str(), port)
                    .to_socket_addrs()
                    .map(Iterator::collect)
            })
            .await
            .map_err(|e| ClientError::Resolve(bare.clone(), e))?
        }
    };
    let mut last =
        ClientError::Resolve(bare, io::Error::new(io::ErrorKind::NotFound, "no address"));
    let deadline = clock::now() + CONNECT;
    for address in addresses.into_iter().take(ADDRESSES_MAX) {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer");
        let connected = clock::by(deadline, Socket::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(late())) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = ClientError::Connect(address, error),
        }
    }
    Err(last)
}

fn is_pin_mismatch(error: &io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    matches!(
        inner,
        Some(rustls::Error::InvalidCertificate(
            rustls::CertificateError::ApplicationVerificationFailure
        ))
    )
}
