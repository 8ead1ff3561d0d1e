//! Certificates from a real ACME authority: Debian's `pebble`, on loopback.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::config::Config;
use crate::http::client::{Client, dial};
use crate::http::reply::Reply;
use crate::http::server::{Admission, Api};
use crate::ids;
use crate::tls::Trust;

const DOMAIN: &str = "neck.test";

/// Processes that end with the test.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_tcp() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

fn free_udp() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// A CA, and a certificate of it for localhost, as Pebble's own HTTPS needs them.
fn authority(dir: &Path) {
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = leaf.signed_by(&key, &issuer).unwrap();
    std::fs::write(dir.join("ca.pem"), ca_certificate.pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}

/// Pebble and a name server that knows every name; answers the directory's URL.
fn pebble(dir: &Path, tls_port: u16) -> (Running, String) {
    authority(dir);
    let (port, dns) = (free_tcp(), free_udp());
    let config = serde_json::json!({"pebble": {
        "listenAddress": format!("127.0.0.1:{port}"),
        "managementListenAddress": format!("127.0.0.1:{}", free_tcp()),
        "certificate": dir.join("cert.pem"),
        "privateKey": dir.join("key.pem"),
        "httpPort": free_tcp(),
        "tlsPort": tls_port,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": false,
    }});
    let path = dir.join("pebble.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let names = Command::new("pebble-challtestsrv")
        .args(["-defaultIPv6", "", "-defaultIPv4", "127.0.0.1"])
        .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
        .args(["-dns01", &format!("127.0.0.1:{dns}")])
        .args(["-management", &format!("127.0.0.1:{}", free_tcp())])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("pebble is installed: apt-get install pebble");
    let server = Command::new("pebble")
        .arg("-config")
        .arg(&path)
        .args(["-dnsserver", &format!("127.0.0.1:{dns}")])
        .env("PEBBLE_VA_NOSLEEP", "1")
        .env("PEBBLE_WFE_NONCEREJECT", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("pebble is installed: apt-get install pebble");
    let url = format!("https://localhost:{port}/dir");
    (Running(vec![names, server]), url)
}

fn settings(dir: &Path, directory: &str) -> crate::config::Acme {
    let yaml = format!(
        "server: {{domain: {DOMAIN}, admin_token: t, acme: {{directory: '{directory}', contact: neck@example.com, cache_dir: '{0}/cache', ca_file: '{0}/ca.pem'}}}}",
        dir.display()
    );
    Config::parse(&yaml, None).unwrap().config.server.acme
}

/// Serves with ACME's certificates on that port.
fn serve(acme: &Acme, port: u16, stop: Stop) {
    let listener = Listener::bind(([127, 0, 0, 1], port).into()).unwrap();
    let answer = |_| async { Ok(Reply::text(200, "text/plain", "hello\n")) };
    let service = Arc::new(Api(answer));
    let serving = certified(listener, None, Some(acme)).serve(
        service,
        Admission::default(),
        stop,
        Duration::ZERO,
    );
    exec::spawn(serving).detach();
}

/// Shakes hands until that works; the certificate may be anybody's.
async fn shakes_hands(port: u16, patience: Duration) -> bool {
    let client = Client::new(&Trust::Pinned(None)).unwrap();
    let deadline = clock::now() + patience;
    while clock::now() < deadline {
        if let Ok(tcp) = dial("127.0.0.1", port).await
            && client.secure(tcp, DOMAIN).await.is_ok()
        {
            return true;
        }
        clock::sleep(Duration::from_millis(50)).await;
    }
    false
}

#[test]
fn a_domain_gets_its_certificate_and_serves_it_from_the_cache_without_the_authority() {
    let dir = std::env::temp_dir().join(format!("neck-pebble-{}", ids::label()));
    std::fs::create_dir(&dir).unwrap();
    let port = free_tcp();
    let (running, directory) = pebble(&dir, port);
    let settings = settings(&dir, &directory);
    let (stopper, stop) = exec::stop();
    let acme = acme::start(DOMAIN, &settings, stop.clone()).unwrap();
    serve(&acme, port, stop);
    let got = exec::block_on(shakes_hands(port, Duration::from_secs(60)));
    assert!(got, "{:?}", acme.problem());
    assert_eq!(acme.problem(), None);
    drop((stopper, running));
    // The next process, while the authority is away.
    let (_stopper, stop) = exec::stop();
    let acme = acme::start(DOMAIN, &settings, stop.clone()).unwrap();
    let port = free_tcp();
    serve(&acme, port, stop);
    assert!(exec::block_on(shakes_hands(port, Duration::from_secs(20))));
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn an_authority_that_is_away_is_a_problem_that_is_told_and_no_end() {
    let dir = std::env::temp_dir().join(format!("neck-pebble-{}", ids::label()));
    std::fs::create_dir(&dir).unwrap();
    authority(&dir);
    let directory = format!("https://localhost:{}/dir", free_tcp());
    let (_stopper, stop) = exec::stop();
    let acme = acme::start(DOMAIN, &settings(&dir, &directory), stop).unwrap();
    let deadline = clock::now() + Duration::from_secs(20);
    exec::block_on(async {
        while acme.problem().is_none() && clock::now() < deadline {
            clock::sleep(Duration::from_millis(20)).await;
        }
    });
    let problem = acme.problem().unwrap_or_default();
    assert!(problem.contains(DOMAIN), "{problem}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn certificate_files_are_read_again_and_broken_ones_leave_the_old() {
    let dir = std::env::temp_dir().join(format!("neck-files-{}", ids::label()));
    std::fs::create_dir(&dir).unwrap();
    authority(&dir);
    let paths = Tls {
        certificate: dir.join("cert.pem"),
        private_key: dir.join("key.pem"),
    };
    let files = Files::read(&paths).unwrap();
    let before = files.times();
    std::fs::write(&paths.certificate, "no certificate").unwrap();
    assert!(Files::read(&paths).is_err());
    files.reload();
    authority(&dir);
    files.reload();
    assert_eq!(before.len(), 2);
    let (_stopper, stop) = exec::stop();
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = |_| async { Ok(Reply::empty(204)) };
    let listener = certified(listener, Some(&files), None);
    let serving = listener.serve(
        Arc::new(Api(answer)),
        Admission::default(),
        stop,
        Duration::ZERO,
    );
    exec::spawn(serving).detach();
    assert!(exec::block_on(shakes_hands(port, Duration::from_secs(10))));
    std::fs::remove_dir_all(dir).unwrap();
}
