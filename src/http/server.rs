//! Accepting connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::call::Handler;
pub use super::certificates::Certificates;
use super::connection;
use super::connection_limit::ConnectionLimiter;
pub use super::connection_limit::ConnectionLimits;
use super::exchange::{API_BODY_MAX, Done, Exchange};
pub(crate) use super::listen::ServerError;
use super::listen::bind;
pub use super::listen::listen_address;
use crate::exec::{self, Stop};
use crate::wire::tcp::{Accepted, Acceptor};
use crate::{clock, descriptors, wire};

/// Connections accepted in a row before other tasks of the thread run.
const YIELD_AFTER: u32 = 32;
/// How often idle connections are woken because other clients wait for a place.
const ROUSE_PAUSE: Duration = Duration::from_secs(1);
/// How often they are told after somebody was turned away: those who came in the same second have
/// been idle for long enough only at the second time.
const ROUSES: u32 = 2;
/// Pause while there is no descriptor for another connection, so that the accept loop does not spin.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// Answers requests, with the connection in hand.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Answers one request.
    async fn serve(&self, exchange: Exchange) -> Done;
}

/// A service that is only an API.
#[derive(Debug)]
pub struct Api<H>(pub H);

#[async_trait]
impl<H: Handler> Service for Api<H> {
    async fn serve(&self, exchange: Exchange) -> Done {
        exchange.serve(&self.0, API_BODY_MAX).await
    }
}

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    socket: Acceptor,
    tls: Option<Certificates>,
}

impl Listener {
    /// Binds `address`; `[::]` takes IPv4 too, or IPv4 alone on a machine without IPv6.
    ///
    /// # Errors
    /// [`ServerError::Bind`].
    pub fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        let socket = bind(address)
            .and_then(Acceptor::new)
            .map_err(|e| ServerError::Bind(address, e))?;
        Ok(Self { socket, tls: None })
    }

    /// Speaks TLS on this listener.
    #[must_use]
    pub fn with_tls(mut self, certificates: Certificates) -> Self {
        self.tls = Some(certificates);
        self
    }

    /// The bound address, with the port that the kernel chose.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    /// Serves until `stop` is wished, then finishes what is being answered, at most `grace` long.
    pub async fn serve(
        self,
        service: Arc<dyn Service>,
        admission: ConnectionLimits,
        stop: Stop,
        grace: Duration,
    ) {
        let doors = ConnectionLimiter::new(admission);
        let mut turn: u32 = 0;
        let mut roused = clock::now();
        let mut rouses: u32 = 0;
        while !stop.is_wished() {
            turn = turn.wrapping_add(1);
            if turn.is_multiple_of(YIELD_AFTER) {
                smol::future::yield_now().await;
            }
            let near_limit = doors.near_limit() || rouses > 0;
            if near_limit && clock::now() - roused >= ROUSE_PAUSE {
                roused = clock::now();
                rouses = rouses.saturating_sub(1);
                descriptors::look();
                wire::deadline::wake_all();
            }
            if !descriptors::admit() {
                // Who waits is let in, in turn, as soon as idle connections have given way.
                stop.or(clock::sleep(EXHAUSTED_PAUSE)).await;
                continue;
            }
            let Some(accepted) = stop.or(self.next(near_limit)).await else {
                break;
            };
            match accepted {
                None => {}
                Some(Ok((stream, peer))) => {
                    let peer = canonical(peer);
                    let Some(place) = ConnectionLimiter::enter(&doors, peer.ip()) else {
                        log::debug!(target: "http", "too many connections, turned away {peer}");
                        rouses = ROUSES;
                        continue;
                    };
                    let (service, stop, tls) =
                        (Arc::clone(&service), stop.clone(), self.tls.clone());
                    exec::spread(|seat| async move {
                        connection::serve(stream, peer, tls, &*service, &stop, &place).await;
                        drop((place, seat));
                    })
                    .detach();
                }
                Some(Err(error)) if descriptors::is_shortage(&error) => {
                    descriptors::note(format!(
                        "cannot accept a connection: {error}; raise LimitNOFILE"
                    ));
                    log::debug!(target: "http", "cannot accept a connection: {error}");
                    stop.or(clock::sleep(EXHAUSTED_PAUSE)).await;
                }
                // The client was gone before it was accepted.
                Some(Err(error)) => {
                    log::debug!(target: "http", "cannot accept a connection: {error}")
                }
            }
        }
        drop(self);
        let deadline = clock::now() + grace;
        wire::deadline::wake_all();
        while !doors.is_empty() && clock::now() < deadline {
            clock::sleep(EXHAUSTED_PAUSE).await;
        }
    }

    /// The next connection. While idle ones are to give way, `None` when it is time to tell them
    /// again though nobody comes.
    async fn next(&self, near_limit: bool) -> Option<io::Result<(Accepted, SocketAddr)>> {
        let accepted = async { Some(self.socket.accept().await) };
        if !near_limit {
            return accepted.await;
        }
        smol::future::or(accepted, async {
            clock::sleep(ROUSE_PAUSE).await;
            None
        })
        .await
    }
}

/// An IPv4 client of a dual-stack listener shows its IPv4 address.
fn canonical(peer: SocketAddr) -> SocketAddr {
    (peer.ip().to_canonical(), peer.port()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_the_remedy() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let taken = first.local_addr().unwrap();
        let error = Listener::bind(taken).unwrap_err().to_string();
        assert!(
            error.contains(&taken.to_string()) && error.contains("another port"),
            "{error}"
        );
    }
}
