//! Tunnels: bytes both ways after a protocol switch, until both sides are done or it is cut.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use smol::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::socket::Socket;

/// Bytes a direction holds while they are in flight.
const BLOCK: usize = 64 * 1024;
/// Reads after which a busy direction lets other tasks of its thread run.
const TURN: u32 = 32;

/// What went through a tunnel.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes from `a` to `b`.
    pub forth: AtomicU64,
    /// Bytes from `b` to `a`.
    pub back: AtomicU64,
}

/// Copies both ways until both directions have ended, an error, or `cut` is done. The end of one
/// direction is passed on and the other goes on (half-close). `a_early` and `b_early` are bytes
/// that came from each side before the tunnel stood.
pub async fn run(
    a: Socket,
    a_early: &[u8],
    b: Socket,
    b_early: &[u8],
    traffic: &Traffic,
    cut: impl Future<Output = ()>,
) {
    let (mut a_read, mut a_write) = smol::io::split(a);
    let (mut b_read, mut b_write) = smol::io::split(b);
    let both = smol::future::try_zip(
        one_way(&mut a_read, a_early, &mut b_write, &traffic.forth),
        one_way(&mut b_read, b_early, &mut a_write, &traffic.back),
    );
    let _ = smol::future::or(async { both.await.map(|_| ()) }, async {
        cut.await;
        Ok::<(), io::Error>(())
    })
    .await;
}

async fn one_way(
    from: &mut (impl AsyncRead + Unpin),
    early: &[u8],
    to: &mut (impl AsyncWrite + Unpin),
    count: &AtomicU64,
) -> io::Result<()> {
    let copied = async {
        if !early.is_empty() {
            to.write_all(early).await?;
            to.flush().await?;
            count.fetch_add(early.len() as u64, Ordering::Relaxed);
        }
        let mut block = vec![0_u8; BLOCK];
        let mut turn = 0;
        loop {
            let n = from.read(&mut block).await?;
            if n == 0 {
                return Ok::<(), io::Error>(());
            }
            to.write_all(&block[..n]).await?;
            to.flush().await?;
            count.fetch_add(n as u64, Ordering::Relaxed);
            turn += 1;
            if turn % TURN == 0 {
                smol::future::yield_now().await;
            }
        }
    }
    .await;
    copied?;
    to.close().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        far.set_read_timeout(Some(std::time::Duration::from_secs(10)))
            .unwrap();
        (far, Socket::plain(listener.accept().unwrap().0).unwrap())
    }

    #[test]
    fn the_end_of_one_direction_leaves_the_other_open() {
        let ((mut left, a), (mut right, b)) = (pair(), pair());
        let tunnel = std::thread::spawn(move || {
            let traffic = Traffic::default();
            smol::block_on(run(a, b"early ", b, b"", &traffic, std::future::pending()));
            (traffic.forth.into_inner(), traffic.back.into_inner())
        });
        left.write_all(b"question").unwrap();
        left.shutdown(std::net::Shutdown::Write).unwrap();
        let mut got = String::new();
        right.read_to_string(&mut got).unwrap();
        assert_eq!(got, "early question");
        right.write_all(b"answer").unwrap();
        drop(right);
        got.clear();
        left.read_to_string(&mut got).unwrap();
        assert_eq!(got, "answer");
        assert_eq!(tunnel.join().unwrap(), (14, 6));
    }

    #[test]
    fn a_reset_on_one_side_ends_the_tunnel() {
        let ((left, a), (mut right, b)) = (pair(), pair());
        let tunnel = std::thread::spawn(move || {
            smol::block_on(run(
                a,
                b"",
                b,
                b"",
                &Traffic::default(),
                std::future::pending(),
            ));
        });
        socket2::SockRef::from(&left)
            .set_linger(Some(std::time::Duration::ZERO))
            .unwrap();
        drop(left);
        tunnel.join().unwrap();
        assert_eq!(right.read(&mut [0; 8]).unwrap_or(0), 0);
    }
}
