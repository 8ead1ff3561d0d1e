//! The door before Sunshine's servers: it can be slow, closed for a moment, or cut every
//! connection, as a Sunshine that restarts does.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use smol::Async;

use super::DemoError;
use super::state::BodyState;
use crate::clock;
use crate::exec::{self, Stop};

/// Pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// Opens the door at `at` to the server at `behind`.
pub(super) fn open(
    at: SocketAddr,
    behind: SocketAddr,
    state: Arc<BodyState>,
    tls: bool,
    stop: Stop,
) -> Result<SocketAddr, DemoError> {
    let listener = Async::<TcpListener>::bind(at).map_err(DemoError::Socket)?;
    let bound = listener.get_ref().local_addr().map_err(DemoError::Socket)?;
    exec::spawn(async move {
        while let Some(accepted) = stop.or(listener.accept()).await {
            let Ok((stream, _)) = accepted else {
                clock::sleep(PAUSE).await;
                continue;
            };
            let Some(life) = state.life() else {
                continue; // restarting: the connection is closed at once
            };
            let (state, stop) = (Arc::clone(&state), stop.clone());
            exec::spawn(async move {
                if tls {
                    clock::sleep(Duration::from_millis(state.faults().slow_tls_ms)).await;
                }
                // Whatever ends it, both connections close.
                let _ = stop.or(life.or(relay(stream, behind, &state))).await;
            })
            .detach();
        }
    })
    .detach();
    Ok(bound)
}

async fn relay(stream: Async<TcpStream>, behind: SocketAddr, state: &BodyState) -> io::Result<()> {
    let server = Async::<TcpStream>::connect(behind).await?;
    for side in [&stream, &server] {
        side.get_ref().set_nodelay(true)?;
    }
    let peer = server.get_ref().local_addr()?;
    let client = Client::new(state, peer);
    let there = async {
        let copied = smol::io::copy(&stream, &server).await;
        // Who says no more is gone: no client of Sunshine's closes one way only.
        drop(client);
        copied?;
        server.get_ref().shutdown(Shutdown::Write)
    };
    let back = async {
        smol::io::copy(&server, &stream).await?;
        stream.get_ref().shutdown(Shutdown::Write)
    };
    smol::future::try_zip(there, back).await.map(drop)
}

/// A client behind the door, until it is gone.
struct Client<'a> {
    state: &'a BodyState,
    peer: SocketAddr,
}

impl<'a> Client<'a> {
    fn new(state: &'a BodyState, peer: SocketAddr) -> Self {
        state.client_came(peer);
        Self { state, peer }
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        self.state.client_gone(self.peer);
    }
}
