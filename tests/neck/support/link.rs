//! A wire between two roles that can be cut, or made deaf in one direction.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

/// What the wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Carries {
    Everything,
    /// Requests arrive, their answers are lost with the connection.
    Requests,
    /// Connections are refused or end.
    Nothing,
}

/// Leads to another address while it lives, and longer: its thread ends with the test program.
pub struct Link {
    pub at: SocketAddr,
    carries: Arc<AtomicU8>,
}

impl Link {
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let carries = Arc::new(AtomicU8::new(0));
        let mode = Arc::clone(&carries);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mode = Arc::clone(&mode);
                thread::spawn(move || join(&client, target, &mode));
            }
        });
        Self { at, carries }
    }

    pub fn set(&self, carries: Carries) {
        self.carries.store(carries as u8, Ordering::SeqCst);
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }
}

fn join(client: &TcpStream, target: SocketAddr, mode: &AtomicU8) {
    if mode.load(Ordering::SeqCst) == Carries::Nothing as u8 {
        return;
    }
    let Ok(server) = TcpStream::connect(target) else {
        return;
    };
    thread::scope(|scope| {
        scope.spawn(|| copy(client, &server, mode, Carries::Nothing));
        copy(&server, client, mode, Carries::Requests);
    });
}

/// Copies until the end, or until the wire carries so little that this direction is cut.
fn copy(mut from: &TcpStream, mut to: &TcpStream, mode: &AtomicU8, cut: Carries) {
    let mut piece = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut piece) {
        if mode.load(Ordering::SeqCst) >= cut as u8 || to.write_all(&piece[..n]).is_err() {
            let _ = from.shutdown(Shutdown::Both);
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
