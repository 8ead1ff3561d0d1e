//! The API over real sockets, against a scripted body.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_types::Method;
use serde_json::{Value, json};
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::api::{CardApi, CardState};
use super::gamestream::RequestBody;
use super::settings::CardSettings;
use super::store::CardStore;
use crate::exec::{self, Stopper};
use crate::http::client::{Answer, Client, Outgoing};
use crate::http::server::{self, ConnectionLimits, Listener, Service};
use crate::http::{Call, Failure, Handler, Reply};
use crate::tls::Trust;

const PREFIX: &str = "/session/abc";

/// GameStream answers of a body that lets everybody pair whose name does not start with `bad`; for
/// a name that starts with `busy` an app runs there.
struct ScriptedBody;

#[async_trait]
impl Handler for ScriptedBody {
    async fn answer(&self, call: Call) -> Result<Reply, Failure> {
        let name = call.query_value("uniqueid").unwrap_or_default();
        let xml = match call.path.as_str() {
            "/serverinfo" => {
                "<hostname>body</hostname><appversion>7.1.431.-1</appversion>\
                <GfeVersion>3</GfeVersion><uniqueid>0BF5B71D-6E2C-4D0A-9E2F-0123456789AB</uniqueid>\
                <HttpsPort>1</HttpsPort><ExternalPort>2</ExternalPort><MaxLumaPixelsHEVC>0\
                </MaxLumaPixelsHEVC><LocalIP>10.0.1.50</LocalIP><ServerCodecModeSupport>1\
                </ServerCodecModeSupport><PairStatus>0</PairStatus><currentgame>0</currentgame>\
                <state>SUNSHINE_SERVER_BUSY</state>"
            }
            "/pair" if name.starts_with("bad") => "<paired>0</paired>",
            "/pair" => "<paired>1</paired>",
            "/applist" => "<App><AppTitle>Desktop</AppTitle><ID>7</ID></App>",
            "/cancel" => "<cancel>1</cancel>",
            "/launch" if !name.starts_with("busy") => "<gamesession>1</gamesession>",
            "/resume" if name.starts_with("busy") => "<resume>1</resume>",
            _ => return Ok(Reply::empty(404)),
        };
        let mut xml = xml.to_owned();
        if name.starts_with("busy") {
            xml = xml.replace("<currentgame>0", "<currentgame>7");
        }
        let xml = format!("<root status_code=\"200\">{xml}</root>");
        Ok(Reply::text(200, "application/xml", xml))
    }
}

struct Running {
    url: String,
    body_port: u16,
    client: Client,
    dir: PathBuf,
    _stoppers: [Stopper; 2],
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn listen(service: Arc<dyn Service>) -> (u16, Stopper) {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stopper, stop) = exec::stop();
    let serving = listener.serve(service, ConnectionLimits::default(), stop, Duration::ZERO);
    exec::spawn(serving).detach();
    (port, stopper)
}

fn start() -> Running {
    let dir = std::env::temp_dir().join(format!("testcard-{}", crate::ids::label()));
    std::fs::create_dir_all(&dir).unwrap();
    let settings: CardSettings = serde_json::from_value(json!({
        "web_server": {
            "url_path_prefix": PREFIX,
            "first_login_create_admin": false, "first_login_assign_global_hosts": false,
            "forwarded_header": {"username_header": "X-Forwarded-User"},
        },
        "default_settings": {"dataTransport": "webrtc"},
    }))
    .unwrap();
    let client = Client::new(&Trust::Pinned(None)).unwrap();
    let state = Arc::new(CardState {
        settings,
        store: CardStore::open(dir.join("data.json")).unwrap(),
        streamers: Arc::default(),
        client: client.clone(),
    });
    let (port, api) = listen(Arc::new(CardApi(state)));
    let (body_port, body) = listen(Arc::new(server::Api(ScriptedBody)));
    Running {
        url: format!("http://127.0.0.1:{port}"),
        body_port,
        client,
        dir,
        _stoppers: [api, body],
    }
}

impl Running {
    async fn send(&self, call: Outgoing) -> Answer {
        self.client.send(call).await.unwrap()
    }

    async fn get(&self, user: &str, path: &str) -> Answer {
        let call = Outgoing::new(Method::Get, format!("{}{PREFIX}{path}", self.url));
        self.send(call.header("X-Forwarded-User", user)).await
    }

    async fn post(&self, user: &str, path: &str, content: &Value) -> Answer {
        let call = Outgoing::new(Method::Post, format!("{}{PREFIX}{path}", self.url));
        self.send(call.header("X-Forwarded-User", user).json(content))
            .await
    }

    async fn add_host(&self, user: &str) -> u64 {
        let host = json!({"address": "127.0.0.1", "http_port": self.body_port});
        let added = self.post(user, "/api/host", &host).await;
        assert_eq!(added.status, 200, "{}", added.excerpt());
        let added: Value = added.json().unwrap();
        assert_eq!(added["host"]["server_state"], "Busy");
        added["host"]["host_id"].as_u64().unwrap()
    }

    async fn pair(&self, user: &str, host: u64) -> Vec<Value> {
        let answer = self
            .post(user, "/api/pair", &json!({ "host_id": host }))
            .await;
        let text = String::from_utf8(answer.body).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

#[test]
fn a_host_is_added_paired_and_its_apps_listed() {
    let card = start();
    smol::block_on(async {
        let host = card.add_host("neck-1").await;
        let apps = format!("/api/apps?host_id={host}");
        assert_eq!(card.get("neck-1", &apps).await.status, 500, "not paired");
        let lines = card.pair("neck-1", host).await;
        assert_eq!(lines[0]["Pin"].as_str().map(str::len), Some(4));
        assert_eq!(lines[1]["Paired"]["paired"], "Paired");
        let listed: Value = card.get("neck-1", &apps).await.json().unwrap();
        assert_eq!(listed["apps"][0]["title"], "Desktop");
        assert_eq!(card.pair("neck-1", host).await[1], "PairError", "twice");
        let foreign = card.get("neck-2", &apps).await;
        assert_eq!(foreign.status, 403, "somebody else's host");
        let unknown = card.get("neck-1", "/api/apps?host_id=1").await;
        assert_eq!(unknown.status, 404);
    });
}

#[test]
fn an_app_is_started_or_the_running_one_joined() {
    let card = start();
    smol::block_on(async {
        for unique_id in ["neck-1", "busy-1"] {
            let body = RequestBody {
                client: &card.client,
                address: "127.0.0.1",
                http_port: card.body_port,
                unique_id,
            };
            let started = body.start(7, "1280x720x60").await;
            assert!(matches!(started, Ok(true)), "{unique_id}: {started:?}");
        }
    });
}

#[test]
fn a_refused_pairing_ends_with_the_bare_word() {
    let card = start();
    smol::block_on(async {
        let host = card.add_host("bad-1").await;
        assert_eq!(card.pair("bad-1", host).await[1], "PairError");
    });
}

#[test]
fn a_body_that_is_not_there_and_one_that_is_no_body_are_told_apart() {
    let card = start();
    smol::block_on(async {
        let nobody = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let port = nobody.local_addr().unwrap().port();
        drop(nobody);
        let own_port: u16 = card.url.rsplit(':').next().unwrap().parse().unwrap();
        for (address, port, status) in [
            ("127.0.0.1", port, 404),
            ("127.0.0.1", own_port, 500),
            ("a/b", 80, 400),
        ] {
            let host = json!({"address": address, "http_port": port});
            let answer = card.post("neck-1", "/api/host", &host).await;
            assert_eq!(answer.status, status, "{address}:{port}");
        }
    });
}

#[test]
fn the_first_user_header_counts_and_nobody_gets_in_without() {
    let card = start();
    smol::block_on(async {
        let url = format!("{}{PREFIX}/api/user", card.url);
        let anonymous = card.send(Outgoing::new(Method::Get, url)).await;
        assert_eq!(anonymous.status, 401);
        // By hand: the client keeps one field of a name.
        let address = card.url.strip_prefix("http://").unwrap();
        let mut socket = smol::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "GET {PREFIX}/api/user HTTP/1.1\r\nHost: x\r\nX-FORWARDED-USER: first\r\n\
            X-Forwarded-User: second\r\nConnection: close\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("\"name\":\"first\"") && answer.contains("\"role\":\"User\""));
    });
}

#[test]
fn pages_need_no_user_and_nothing_is_served_outside_the_prefix() {
    let card = start();
    smol::block_on(async {
        for (path, status) in [
            ("/stream.html", 404),
            ("/session/abc", 200),
            ("/session/abc/", 200),
            ("/session/abc/stream.html?hostId=1&appId=2", 200),
            ("/session/abc/nothing.js", 404),
            ("/session/abc/api/authenticate", 401),
            ("/session/abcd/stream.html", 404),
        ] {
            let url = format!("{}{path}", card.url);
            let answer = card.send(Outgoing::new(Method::Get, url)).await;
            assert_eq!(answer.status, status, "{path}");
            let cache = answer.fields.text("cache-control");
            let inside = path.starts_with("/session/abc") && !path.contains("abcd");
            assert_eq!(cache.is_some_and(|c| c.contains("no-store")), inside);
        }
        let config = card.get("neck-1", "/config.js").await;
        let text = String::from_utf8(config.body).unwrap();
        let config: Value =
            serde_json::from_str(text.strip_prefix("export default ").unwrap()).unwrap();
        assert_eq!(config["path_prefix"], PREFIX);
        assert_eq!(config["default_settings"]["dataTransport"], "webrtc");
    });
}
