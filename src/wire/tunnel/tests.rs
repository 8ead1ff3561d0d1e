//! Real sockets on both sides of a tunnel.

use super::super::tests::pair;
use super::*;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

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
fn a_half_closed_tunnel_stays_open_while_bytes_arrive() {
    let ((mut left, a), (mut right, b)) = (pair(), pair());
    let tunnel = std::thread::spawn(move || {
        let (traffic, never) = (Traffic::default(), std::future::pending());
        crate::exec::block_on(run(a, b"", b, b"", &traffic, never));
    });
    left.shutdown(std::net::Shutdown::Write).unwrap();
    let begun = clock::now();
    while clock::now() - begun < LINGER * 2 {
        right.write_all(b"x").unwrap();
        assert_eq!(left.read(&mut [0; 8]).unwrap(), 1);
        std::thread::park_timeout(LINGER / 6);
    }
    drop(right);
    assert_eq!(left.read(&mut [0; 8]).unwrap(), 0);
    tunnel.join().unwrap();
}

#[test]
fn a_half_closed_idle_tunnel_is_closed() {
    for from_left in [true, false] {
        let ((left, a), (right, b)) = (pair(), pair());
        let tunnel = std::thread::spawn(move || {
            let (traffic, never) = (Traffic::default(), std::future::pending());
            crate::exec::block_on(run(a, b"", b, b"", &traffic, never));
        });
        let (mut leaves, mut stays) = if from_left {
            (left, right)
        } else {
            (right, left)
        };
        leaves.shutdown(std::net::Shutdown::Write).unwrap();
        tunnel.join().unwrap();
        // Both sides are closed.
        assert_eq!(leaves.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(stays.read(&mut [0; 8]).unwrap(), 0);
    }
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

/// Sends `total` bytes through a tunnel of `a` and `b` and checks them on the other side.
fn flood(a: Socket, b: Socket, mut left: TcpStream, mut right: TcpStream, total: usize) {
    let tunnel = std::thread::spawn(move || {
        let traffic = Traffic::default();
        crate::exec::block_on(run(a, b"", b, b"", &traffic, std::future::pending()));
        traffic.forth.into_inner()
    });
    let sender = std::thread::spawn(move || {
        let mut sent = 0;
        // Pieces of every size, so that both copying and splicing are used.
        for size in (0..).map(|n| 1 << (n % 19)) {
            let size = size.min(total - sent);
            let piece: Vec<u8> = (sent..sent + size).map(|n| (n % 251) as u8).collect();
            left.write_all(&piece).unwrap();
            sent += size;
            if sent == total {
                return left;
            }
        }
        left
    });
    let mut block = vec![0; 100_000];
    let mut got = 0;
    while got < total {
        let n = right.read(&mut block).unwrap();
        assert!(n > 0, "ended after {got} bytes");
        assert!(
            block[..n]
                .iter()
                .enumerate()
                .all(|(i, b)| usize::from(*b) == (got + i) % 251)
        );
        got += n;
    }
    drop((sender.join().unwrap(), right));
    assert_eq!(tunnel.join().unwrap(), total as u64);
}

#[test]
fn copied_and_spliced_bytes_arrive_in_order() {
    let ((left, a), (right, b)) = (pair(), pair());
    flood(a, b, left, right, 20_000_000);
}

#[test]
fn a_receiver_that_stops_reading_blocks_the_sender_and_the_tunnel_can_be_cut() {
    let ((mut left, a), (right, b)) = (pair(), pair());
    let (stopper, stop) = crate::exec::stop();
    let tunnel = crate::exec::spawn(async move {
        let traffic = Traffic::default();
        run(a, b"", b, b"", &traffic, async { stop.wished().await }).await;
        traffic.forth.into_inner()
    });
    left.set_write_timeout(Some(std::time::Duration::from_millis(500)))
        .unwrap();
    let block = vec![0; 65_536];
    let mut sent = 0;
    while let Ok(n) = left.write(&block) {
        sent += n;
    }
    assert!(sent < 64 * 1024 * 1024, "{sent} bytes were taken");
    drop(stopper);
    let passed = crate::exec::block_on(tunnel);
    assert!(passed > 0 && passed <= sent as u64);
    drop(right);
}

#[test]
fn a_busy_tunnel_yields_to_other_tasks() {
    let ((mut left, a), (mut right, b)) = (pair(), pair());
    let end = left.try_clone().unwrap();
    let (mut echo_near, echo_far) = pair();
    // All three on one thread of the executor.
    let start = crate::exec::spawn(async move {
        crate::exec::spawn(async move {
            run(a, b"", b, b"", &Traffic::default(), std::future::pending()).await;
        })
        .detach();
        crate::exec::spawn(async move {
            let mut conn = super::super::Conn::new(echo_far);
            while let Ok(1..) = conn.fill().await {
                let bytes = conn.unread().to_vec();
                conn.consume(bytes.len());
                let _ = conn
                    .write_all(&bytes, std::time::Duration::from_secs(5))
                    .await;
            }
        })
        .detach();
    });
    crate::exec::block_on(start);
    let sink = std::thread::spawn(move || {
        let mut block = vec![0; 262_144];
        while let Ok(1..) = right.read(&mut block) {}
    });
    let source = std::thread::spawn(move || {
        let block = vec![0; 262_144];
        while left.write_all(&block).is_ok() {}
    });
    echo_near
        .set_read_timeout(Some(std::time::Duration::from_secs(10)))
        .unwrap();
    let mut byte = [0];
    for n in 0..100 {
        echo_near.write_all(&[n]).unwrap();
        echo_near.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [n]);
    }
    end.shutdown(std::net::Shutdown::Both).unwrap();
    source.join().unwrap();
    sink.join().unwrap();
}
