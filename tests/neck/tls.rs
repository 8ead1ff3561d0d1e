//! A role with `server.tls`: HTTPS on its own files, read again on SIGHUP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hydraneckwebrtc::testing::tls::{self, Fingerprint, Trust};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::json;

use crate::support::*;

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A certificate for localhost, signed by itself, and its key.
fn certificate(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

/// A connection that stays open.
struct Visitor(StreamOwned<ClientConnection, TcpStream>);

impl Visitor {
    fn connect(port: u16) -> std::io::Result<Self> {
        let tcp = TcpStream::connect(loopback(port))?;
        let config = tls::client(&Trust::Pinned(None)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = StreamOwned::new(ClientConnection::new(config, name).unwrap(), tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self(stream))
    }

    fn certificate(&self) -> Fingerprint {
        Fingerprint::of(&self.0.conn.peer_certificates().unwrap()[0]).unwrap()
    }

    /// The status of an answer on the connection as it is.
    fn health(&mut self) -> String {
        let ask = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
        self.0.write_all(ask).unwrap();
        let mut answer = String::new();
        let mut byte = [0];
        while !answer.ends_with("\r\n\r\n") {
            self.0.read_exact(&mut byte).unwrap();
            answer.push(byte[0].into());
        }
        let length = answer.to_ascii_lowercase();
        let length = length.split("content-length: ").nth(1).unwrap();
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        self.0.read_exact(&mut vec![0; length]).unwrap();
        answer[9..12].to_owned()
    }
}

#[test]
fn sighup_serves_new_certificate_files_and_open_connections_go_on() {
    let bench = Bench::new();
    certificate(&bench.dir);
    let port = ports(1);
    let config = json!({
        "mode": "controller",
        "server": {
            "listen": format!("127.0.0.1:{port}"),
            "public_url": format!("https://localhost:{port}"),
            "admin_token": TOKEN,
            "tls": {
                "certificate": bench.dir.join("cert.pem"),
                "private_key": bench.dir.join("key.pem"),
            },
        },
    });
    let file = bench.dir.join("config.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    let mut command = Command::new(BINARY);
    command.arg("--config").arg(&file).arg("controller");
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let node = Running(command.spawn().unwrap());
    let mut first = None;
    until("HTTPS", || {
        first = Visitor::connect(port).ok();
        first.is_some()
    });
    let mut first = first.unwrap();
    assert_eq!(first.health(), "200");
    let old = first.certificate();

    certificate(&bench.dir);
    signal(node.0.id(), "HUP");
    // The files are looked at every 30 s without any signal, too: that would be no proof.
    let came = comes(std::time::Duration::from_secs(20), || {
        Visitor::connect(port).unwrap().certificate() != old
    });
    assert!(came, "the new certificate is not served");
    assert_eq!(first.health(), "200", "the reload ended an open connection");
}
