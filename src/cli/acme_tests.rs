//! Certificates from a real ACME authority: Debian's `pebble`, on loopback.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicUsize, Ordering};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::*;
use crate::config::Config;
use crate::http::reply::Reply;
use crate::http::server::{Api, ConnectionLimits};
use crate::ids;
use crate::tls::{Fingerprint, Trust};

const DOMAIN: &str = "neck.test";
/// Longest wait for what is to come by itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait for one answer.
const SILENCE: Duration = Duration::from_secs(10);
/// Validity of Pebble's certificates, seconds: longer than any test.
const LONG: u64 = 3_600;
/// The same where they are to be renewed: at two thirds of it.
const SHORT: u64 = 6;

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

/// Pebble, with certificates that are valid for so many seconds, and a name server that knows
/// every name; answers the port of its directory.
fn pebble(dir: &Path, tls_port: u16, validity: u64) -> (Running, u16) {
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
        "certificateValidityPeriod": validity,
    }});
    let path = dir.join("pebble.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let start = |program: &mut Command| {
        let quiet = program.stdout(Stdio::null()).stderr(Stdio::null());
        quiet
            .spawn()
            .expect("pebble is installed: apt-get install pebble")
    };
    let names = start(
        Command::new("pebble-challtestsrv")
            .args(["-defaultIPv6", "", "-defaultIPv4", "127.0.0.1"])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-dns01", &format!("127.0.0.1:{dns}")])
            .args(["-management", &format!("127.0.0.1:{}", free_tcp())]),
    );
    let server = start(
        Command::new("pebble")
            .arg("-config")
            .arg(&path)
            .args(["-dnsserver", &format!("127.0.0.1:{dns}")])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "0"),
    );
    (Running(vec![names, server]), port)
}

/// A way to somebody, which can be cut, lead nowhere, or to somebody else.
struct Way {
    port: u16,
    target: Arc<AtomicU16>,
    state: Arc<AtomicU8>,
    /// Connections that nobody speaks on.
    mute: Arc<AtomicUsize>,
}

const OPEN: u8 = 0;
/// Connections are hung up.
const CUT: u8 = 1;
/// Connections stand, and nobody speaks.
const MUTE: u8 = 2;

impl Way {
    fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::new(AtomicU16::new(target));
        let to = Arc::clone(&target);
        let state = Arc::new(AtomicU8::new(OPEN));
        let now = Arc::clone(&state);
        let mute = Arc::new(AtomicUsize::new(0));
        let held = Arc::clone(&mute);
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for near in listener.incoming().flatten() {
                match now.load(Ordering::SeqCst) {
                    OPEN => {
                        let Ok(far) = TcpStream::connect(("127.0.0.1", to.load(Ordering::SeqCst)))
                        else {
                            continue;
                        };
                        let back = (far.try_clone().unwrap(), near.try_clone().unwrap());
                        std::thread::spawn(move || carry(near, far));
                        std::thread::spawn(move || carry(back.0, back.1));
                    }
                    MUTE => {
                        kept.push(near);
                        held.fetch_add(1, Ordering::SeqCst);
                    }
                    _ => {}
                }
            }
        });
        Self {
            port,
            target,
            state,
            mute,
        }
    }

    fn is(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }

    fn leads_to(&self, target: u16) {
        self.target.store(target, Ordering::SeqCst);
    }

    fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}

fn settings(dir: &Path, directory: &str) -> crate::config::Acme {
    let yaml = format!(
        "server: {{domain: {DOMAIN}, admin_token: t, acme: {{directory: '{directory}', contact: neck@example.com, cache_dir: '{0}/cache', ca_file: '{0}/ca.pem'}}}}",
        dir.display()
    );
    Config::parse(&yaml, None).unwrap().config.server.acme
}

/// Serves with ACME's certificates; answers the port.
fn serve(acme: &Acme, stop: Stop) -> u16 {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = listener.local_addr().unwrap().port();
    start(certified(listener, None, Some(acme)), stop);
    port
}

fn start(listener: Listener, stop: Stop) {
    let answer = |_| async { Ok(Reply::empty(204)) };
    let service = Arc::new(Api(answer));
    let serving = listener.serve(service, ConnectionLimits::default(), stop, Duration::ZERO);
    exec::spawn(serving).detach();
}

/// A browser's connection; the certificate may be anybody's.
struct Visitor(StreamOwned<ClientConnection, TcpStream>);

impl Visitor {
    fn connect(port: u16) -> io::Result<Self> {
        let tcp = TcpStream::connect(("127.0.0.1", port))?;
        tcp.set_read_timeout(Some(SILENCE))?;
        let config = tls::client(&Trust::Pinned(None)).unwrap();
        let name = ServerName::try_from(DOMAIN).unwrap();
        let mut stream = StreamOwned::new(ClientConnection::new(config, name).unwrap(), tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self(stream))
    }

    fn certificate(&self) -> Option<Fingerprint> {
        Fingerprint::of(self.0.conn.peer_certificates()?.first()?)
    }

    /// Asks on the connection as it is, and leaves it open.
    fn is_served(&mut self) -> bool {
        let ask = format!("GET / HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n");
        let mut answer = Vec::new();
        let mut byte = [0];
        let sent = self.0.write_all(ask.as_bytes());
        while sent.is_ok() && !answer.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => answer.push(byte[0]),
                _ => return false,
            }
        }
        answer.starts_with(b"HTTP/1.1 204 ")
    }
}

/// What comes in the end, or `None`.
fn in_the_end<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = clock::now() + PATIENCE;
    loop {
        let seen = look();
        if seen.is_some() || clock::now() > deadline {
            return seen;
        }
        exec::block_on(clock::sleep(Duration::from_millis(50)));
    }
}

/// The first visitor to whom another certificate than `old` is shown.
fn visitor(port: u16, old: Option<Fingerprint>) -> Option<Visitor> {
    let mut last = None;
    let came = in_the_end(|| match Visitor::connect(port) {
        Ok(came) => (came.certificate() != old).then_some(came),
        Err(error) => {
            last = Some(error);
            None
        }
    });
    if came.is_none() {
        eprintln!("the last visitor failed with {last:?}");
    }
    came
}

#[test]
fn a_certificate_is_renewed_before_it_ends_and_open_connections_go_on() {
    let dir = std::env::temp_dir().join(format!("neck-pebble-{}", ids::label()));
    std::fs::create_dir(&dir).unwrap();
    let proof = Way::to(0);
    let (_running, authority) = pebble(&dir, proof.port, SHORT);
    let directory = format!("https://localhost:{authority}/dir");
    let (_stopper, stop) = exec::stop();
    let acme = acme::start(DOMAIN, &settings(&dir, &directory), stop.clone()).unwrap();
    let port = serve(&acme, stop);
    proof.leads_to(port);
    let first = visitor(port, None);
    let mut first = first.unwrap_or_else(|| panic!("no certificate: {:?}", acme.problem()));
    let old = first.certificate();
    let second = in_the_end(|| {
        assert!(first.is_served());
        Visitor::connect(port)
            .ok()
            .filter(|v| v.certificate() != old)
    });
    assert!(second.is_some(), "no renewal: {:?}", acme.problem());
    assert!(first.is_served(), "the renewal ended an open connection");
    assert_eq!(first.certificate(), old);
    let _ = std::fs::remove_dir_all(dir);
}

#[test]
fn without_its_authority_a_domain_serves_what_it_has_says_so_and_tries_again() {
    let dir = std::env::temp_dir().join(format!("neck-pebble-{}", ids::label()));
    std::fs::create_dir(&dir).unwrap();
    let proof = Way::to(0);
    let (_running, authority) = pebble(&dir, proof.port, SHORT);
    let way = Way::to(authority);
    let settings = settings(&dir, &way.directory());
    let (stopper, stop) = exec::stop();
    let acme = acme::start(DOMAIN, &settings, stop.clone()).unwrap();
    let port = serve(&acme, stop);
    proof.leads_to(port);
    let first = visitor(port, None);
    let old = first.map(|v| v.certificate());
    assert!(old.is_some(), "no certificate: {:?}", acme.problem());
    let old = old.flatten();
    // It is served a moment before it is kept.
    let kept = |entry: io::Result<std::fs::DirEntry>| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.starts_with("cached_cert_") && name.ends_with(".pem")
    };
    let is_kept = || {
        let mut files = std::fs::read_dir(dir.join("cache")).unwrap();
        files.any(kept).then_some(())
    };
    assert!(in_the_end(is_kept).is_some(), "{:?}", acme.problem());
    drop(stopper);
    way.is(CUT);
    // The next process starts while the authority is away.
    let (_stopper, stop) = exec::stop();
    let acme = acme::start(DOMAIN, &settings, stop.clone()).unwrap();
    let port = serve(&acme, stop);
    proof.leads_to(port);
    assert!(visitor(port, None).is_some(), "{:?}", acme.problem());
    let problem = in_the_end(|| acme.problem()).unwrap_or_default();
    assert!(problem.contains(DOMAIN), "{problem}");
    assert!(
        visitor(port, None).is_some(),
        "nothing is served any more: {problem}"
    );
    way.is(OPEN);
    assert!(
        visitor(port, old).is_some_and(|v| v.certificate().is_some()),
        "{:?}",
        acme.problem()
    );
    assert!(in_the_end(|| acme.problem().is_none().then_some(())).is_some());
    let _ = std::fs::remove_dir_all(dir);
}

#[test]
fn an_authority_that_takes_a_connection_and_says_nothing_is_asked_anew() {
    let dir = std::env::temp_dir().join(format!("neck-pebble-{}", ids::label()));
    std::fs::create_dir(&dir).unwrap();
    let proof = Way::to(0);
    let (_running, authority) = pebble(&dir, proof.port, LONG);
    let way = Way::to(authority);
    way.is(MUTE);
    let settings = settings(&dir, &way.directory());
    let (_stopper, stop) = exec::stop();
    // An order takes two seconds.
    let silence = Duration::from_secs(6);
    let acme = acme::start_with(DOMAIN, &settings, stop.clone(), silence).unwrap();
    let port = serve(&acme, stop);
    proof.leads_to(port);
    let asked = in_the_end(|| (way.mute.load(Ordering::SeqCst) > 0).then_some(()));
    assert!(asked.is_some(), "the authority was not asked");
    way.is(OPEN);
    assert!(visitor(port, None).is_some(), "{:?}", acme.problem());
    let _ = std::fs::remove_dir_all(dir);
}

#[test]
fn certificate_files_that_change_are_read_again_and_open_connections_go_on() {
    let dir = std::env::temp_dir().join(format!("neck-files-{}", ids::label()));
    std::fs::create_dir(&dir).unwrap();
    authority(&dir);
    let paths = Tls {
        certificate: dir.join("cert.pem"),
        private_key: dir.join("key.pem"),
    };
    let files = Files::read(&paths).unwrap();
    let (_stopper, stop) = exec::stop();
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = listener.local_addr().unwrap().port();
    start(certified(listener, Some(&files), None), stop.clone());
    exec::spawn(files.clone().watch(Duration::from_millis(20), stop)).detach();
    let mut first = visitor(port, None).unwrap();
    let old = first.certificate();
    // Broken files leave the old certificate.
    std::fs::write(&paths.certificate, "no certificate").unwrap();
    assert!(Files::read(&paths).is_err());
    files.reload();
    assert_eq!(visitor(port, None).unwrap().certificate(), old);
    authority(&dir);
    assert!(visitor(port, old).is_some(), "the new files are not served");
    assert!(first.is_served(), "the new files ended an open connection");
    let _ = std::fs::remove_dir_all(dir);
}
