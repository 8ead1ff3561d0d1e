//! The same under TLS, and tunnels between TLS and plain connections.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use http_types::Method;
use rustls::ServerConfig;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::client::{ClientError, Outgoing};
use super::server::Certificates;
use super::tests::{client, serve};
use crate::exec;
use crate::tls::{self, Trust};
use crate::wire::{Socket, tunnel};

/// A new one each time.
fn certificate() -> Arc<ServerConfig> {
    let key = rcgen::generate_simple_self_signed(vec!["a".into()]).unwrap();
    let chain = vec![key.cert.der().clone()];
    let private =
        rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    tls::server_from(chain, private).unwrap()
}

#[test]
fn tls_is_spoken_and_a_changed_certificate_is_told_apart() {
    let certificates = Certificates::new(certificate());
    let (address, _stop) = serve(Some(certificates.clone()));
    let call = || Outgoing::new(Method::Get, format!("https://{address}/nowhere"));
    exec::block_on(async {
        let first = client(&Trust::Pinned(None)).send(call()).await.unwrap();
        assert_eq!(first.status, 404);
        let pinned = client(&Trust::Pinned(first.fingerprint));
        assert_eq!(pinned.send(call()).await.unwrap().status, 404);
        assert!(matches!(
            client(&Trust::WebPki).send(call()).await,
            Err(ClientError::Tls(..))
        ));
        certificates.replace(certificate());
        assert!(matches!(
            pinned.send(call()).await,
            Err(ClientError::Pin(_))
        ));
    });
}

#[test]
fn a_tunnel_between_tls_and_plain_passes_every_byte_both_ways() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accept = || crate::wire::tests::socket(listener.accept().unwrap().0);
    let far = exec::block_on(super::client::dial("127.0.0.1", address.port())).unwrap();
    let near = accept();
    let mut plain = TcpStream::connect(address).unwrap();
    let b = accept();
    let shake = async {
        let Socket::Plain(tcp) = near else {
            unreachable!("no TLS yet")
        };
        futures_rustls::TlsAcceptor::from(certificate())
            .accept(tcp)
            .await
    };
    let client = client(&Trust::Pinned(None));
    let (a, far) = exec::block_on(smol::future::zip(shake, client.secure(far, "a")));
    let a = Socket::Tls(Box::new(futures_rustls::TlsStream::Server(a.unwrap())));
    let mut far = far.unwrap();
    let tunnel = exec::spawn(async move {
        let traffic = tunnel::Traffic::default();
        tunnel::run(a, b"early", b, b"", &traffic, std::future::pending()).await;
        (traffic.forth.into_inner(), traffic.back.into_inner())
    });
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let echoed = std::thread::spawn(move || {
        let mut got = Vec::new();
        plain.read_to_end(&mut got).unwrap();
        plain.write_all(&got).unwrap();
    });
    let mut got = Vec::new();
    exec::block_on(async {
        far.write_all(&sent).await.unwrap();
        far.close().await.unwrap();
        let _ = far.read_to_end(&mut got).await;
    });
    echoed.join().unwrap();
    assert!(got.strip_prefix(b"early").is_some_and(|rest| rest == sent));
    assert_eq!(exec::block_on(tunnel), (1_000_005, 1_000_005));
}
