//! Server and client over real loopback sockets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use http_types::Method;
use serde_json::{Value, json};
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::auth::Bearer;
use super::client::{Client, ClientError, Outgoing};
use super::router::Router;
use super::server::{Api, Certificates, ConnectionLimits, Listener};
use super::{Call, Failure, Reply, sse};
use crate::exec::{self, Stopper};
use crate::secret::Secret;
use crate::tls::Trust;

fn router() -> Router {
    let bearer = Arc::new(Bearer::new(vec![Secret::new("token")]));
    Router::new(bearer)
        .open(Method::Post, "/echo/:word", |call: Call| async move {
            let value: Value = call.json()?;
            Ok(Reply::json(
                200,
                &json!({"word": call.param("word"), "value": value}),
            ))
        })
        .open(Method::Get, "/lines", |_| async {
            Ok(Reply::stream(
                "application/x-ndjson",
                smol::io::Cursor::new(b"one\ntwo\nthree".to_vec()),
            ))
        })
        .open(Method::Get, "/switch", |_| async {
            Ok(Reply::switch(|mut stream| async move {
                let mut bytes = [0; 5];
                if stream.read_exact(&mut bytes).await.is_ok() {
                    bytes.reverse();
                    let _ = stream.write_all(&bytes).await;
                }
            })
            .header("upgrade", "echo"))
        })
        .open(Method::Get, "/events", |_| async {
            let (feed, reply) = sse::feed(());
            let event = sse::Event {
                id: Some(1),
                name: "n".into(),
                data: "d".into(),
            };
            feed.send(event).map_err(|_| Failure::new(500, "x", "x"))?;
            Ok(reply)
        })
        .secured(Method::Delete, "/secret", |_| async {
            Ok(Reply::empty(204))
        })
}

pub(super) fn serve(tls: Option<Certificates>) -> (SocketAddr, Stopper) {
    let mut listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    if let Some(tls) = tls {
        listener = listener.with_tls(tls);
    }
    let (stopper, stop) = exec::stop();
    let service = Arc::new(Api(router()));
    exec::spawn(listener.serve(service, ConnectionLimits::default(), stop, Duration::ZERO))
        .detach();
    (address, stopper)
}

pub(super) fn client(trust: &Trust) -> Client {
    Client::new(trust).unwrap()
}

/// Everything the server sends until it closes.
fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn json_goes_there_and_back() {
    let (address, _stop) = serve(None);
    let call = Outgoing::new(Method::Post, format!("http://{address}/echo/a%20b"))
        .json(&json!({"x": "é"}));
    let answer = exec::block_on(client(&Trust::WebPki).send(call)).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json::<Value>().unwrap(),
        json!({"word": "a%20b", "value": {"x": "é"}})
    );
    assert!(answer.fields.get("x-request-id").is_some());
}

#[test]
fn what_is_wrong_is_said_in_the_one_error_shape() {
    let (address, _stop) = serve(None);
    let ask = |method: Method, path: &str, auth: Option<&str>| {
        let mut call =
            Outgoing::new(method, format!("http://{address}{path}")).header("x-request-id", "r-1");
        if let Some(token) = auth {
            call = call.bearer(&Secret::new(token));
        }
        let answer = exec::block_on(client(&Trust::WebPki).send(call)).unwrap();
        let reason = answer
            .json::<Value>()
            .map_or(Value::Null, |v| v["reason"].clone());
        if answer.status != 204 {
            assert_eq!(answer.json::<Value>().unwrap()["request_id"], "r-1");
        }
        (answer.status, reason)
    };
    assert_eq!(
        ask(Method::Get, "/nowhere", None),
        (404, json!("not_found"))
    );
    assert_eq!(
        ask(Method::Put, "/lines", None),
        (405, json!("method_not_allowed"))
    );
    assert_eq!(
        ask(Method::Delete, "/secret", None),
        (401, json!("unauthorized"))
    );
    assert_eq!(
        ask(Method::Delete, "/secret", Some("Token")),
        (401, json!("unauthorized"))
    );
    assert_eq!(
        ask(Method::Delete, "/secret", Some("token")),
        (204, Value::Null)
    );
    assert_eq!(
        ask(Method::Post, "/echo/x", None),
        (415, json!("unsupported_media_type"))
    );
}

#[test]
fn a_streamed_answer_is_read_line_by_line() {
    let (address, _stop) = serve(None);
    exec::block_on(async {
        let call = Outgoing::new(Method::Get, format!("http://{address}/lines"));
        let mut incoming = client(&Trust::WebPki).open(call).await.unwrap();
        let mut lines = Vec::new();
        while let Some(line) = incoming.line(Duration::from_secs(5)).await.unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, ["one", "two", "three"]);
    });
}

#[test]
fn after_a_switch_the_connection_is_the_handlers_with_its_early_bytes() {
    let (address, _stop) = serve(None);
    let answer = raw(address, b"GET /switch HTTP/1.1\r\nHost: a\r\n\r\nhello");
    assert!(
        answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\nolleh"), "{answer}");
}

#[test]
fn events_end_when_their_feed_ends() {
    let (address, _stop) = serve(None);
    let answer = raw(address, b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.contains("id: 1\nevent: n\ndata: d\n\n"), "{answer}");
    assert!(answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[test]
fn pipelined_calls_are_answered_in_order_and_rubbish_after_them_once() {
    let (address, _stop) = serve(None);
    let two = b"GET /a HTTP/1.1\r\nHost: a\r\nX-Request-Id: first\r\n\r\nDELETE /secret HTTP/1.1\r\nHost: a\r\n\r\nrubbish\r\n\r\n";
    let answer = raw(address, two);
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|a| &a[..3]).collect();
    assert_eq!(statuses, ["404", "401", "400"], "{answer}");
    assert!(answer.contains("x-request-id: first"));
}

#[test]
fn content_over_the_limit_is_refused_before_it_is_read() {
    let (address, _stop) = serve(None);
    let request = b"POST /echo/x HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n";
    assert!(raw(address, request).starts_with("HTTP/1.1 413 "));
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it() {
    let (address, _stop) = serve(None);
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let head = b"POST /echo/x HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    stream.write_all(head).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[test]
fn a_silent_peer_and_a_dead_one_are_told_apart() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let ask = || {
        let call = Outgoing::new(Method::Get, format!("http://{address}/"))
            .within(Duration::from_millis(200));
        exec::block_on(client(&Trust::WebPki).send(call))
    };
    assert!(matches!(ask(), Err(ClientError::Timeout(_))));
    drop(silent);
    assert!(matches!(ask(), Err(ClientError::Connect(..))));
}

/// Sends one request and reads the whole answer.
fn tell(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_call_that_changes_something_leaves_one_audit_line_and_no_token() {
    let path = std::env::temp_dir().join(format!("neck-audit-{}", crate::ids::label()));
    let audit = super::audit::Audit::open(Some(&path)).unwrap();
    let bearer = Bearer::named(vec![
        ("admin_token", Secret::new("alpha")),
        ("controller_token", Secret::new("beta")),
    ]);
    let router = Router::new(Arc::new(bearer))
        .audit(Arc::new(audit))
        .secured(Method::Post, "/things", |_| async {
            Ok(Reply::empty(201).header("Location", "/things/7"))
        })
        .secured(Method::Delete, "/things/:id", |_| async {
            Err(Failure::not_found("thing"))
        })
        .secured(Method::Post, "/beat", |_| async { Ok(Reply::empty(200)) })
        .unaudited()
        .secured(Method::Get, "/things", |_| async { Ok(Reply::empty(200)) });
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (_stopper, stop) = exec::stop();
    exec::spawn(listener.serve(
        Arc::new(Api(router)),
        ConnectionLimits::default(),
        stop,
        Duration::ZERO,
    ))
    .detach();
    for (line, token) in [
        ("POST /things", "alpha"),
        ("DELETE /things/9", "beta"),
        ("DELETE /things/9", "guess"),
        ("POST /beat", "beta"),
        ("GET /things", "alpha"),
    ] {
        let length = if line.starts_with("POST") {
            "Content-Length: 0\r\n"
        } else {
            ""
        };
        tell(
            address,
            &format!(
                "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: r1\r\nAuthorization: Bearer {token}\r\n{length}\r\n"
            ),
        );
    }
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let told: Vec<_> = lines
        .iter()
        .map(|l| {
            json!([
                l["who"],
                l["method"],
                l["path"],
                l["status"],
                l["result"],
                l["made"],
                l["request_id"]
            ])
        })
        .collect();
    assert_eq!(
        told,
        [
            json!([
                "admin_token",
                "POST",
                "/things",
                201,
                "ok",
                "/things/7",
                "r1"
            ]),
            json!([
                "controller_token",
                "DELETE",
                "/things/9",
                404,
                "not_found",
                null,
                "r1"
            ]),
            json!([
                "nobody",
                "DELETE",
                "/things/9",
                401,
                "unauthorized",
                null,
                "r1"
            ]),
        ]
    );
    for token in ["alpha", "beta", "guess"] {
        assert!(!text.contains(token), "{text}");
    }
}
