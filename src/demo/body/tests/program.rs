//! A stream program that is none: the calls of the real one's API that the neck makes, with the
//! demo body behind it.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http_types::Method;
use serde_json::{Value, json};
use smol::Async;
use smol::io::AsyncWriteExt as _;

use crate::body::stream_api::USER_HEADER;
use crate::exec::{self, Stopper};
use crate::http::client::{Client, Outgoing};
use crate::http::server::{Api, ConnectionLimits, Listener};
use crate::http::{Call, Failure, Handler, Reply};
use crate::ids;
use crate::tls::Trust;

pub(super) const PREFIX: &str = "/session/0123";

pub(super) struct ProgramDouble {
    pub(super) port: u16,
    pub(super) data_json: PathBuf,
    _stopper: Stopper,
}

struct Double {
    data_json: PathBuf,
    hosts: Mutex<Vec<Host>>,
}

#[derive(Clone)]
struct Host {
    address: SocketAddr,
    unique_id: String,
}

impl ProgramDouble {
    /// Starts with the `data.json` that stands at the path, if one does.
    pub(super) fn start(data_json: PathBuf) -> Self {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stopper, stop) = exec::stop();
        let hosts = std::fs::read_to_string(&data_json)
            .map(|text| seeded(&text))
            .unwrap_or_default();
        let double = Double {
            data_json: data_json.clone(),
            hosts: Mutex::new(hosts),
        };
        let service = Arc::new(Api(Shared(Arc::new(double))));
        exec::spawn(listener.serve(service, ConnectionLimits::default(), stop, Duration::ZERO))
            .detach();
        Self {
            port,
            data_json,
            _stopper: stopper,
        }
    }
}

fn seeded(text: &str) -> Vec<Host> {
    let data: Value = serde_json::from_str(text).unwrap();
    let host = &data["hosts"]["1"];
    let ip = host["address"].as_str().unwrap().parse().unwrap();
    let port = u16::try_from(host["http_port"].as_u64().unwrap()).unwrap();
    vec![Host {
        address: SocketAddr::new(ip, port),
        unique_id: data["users"]["1"]["client_unique_id"]
            .as_str()
            .unwrap()
            .to_owned(),
    }]
}

struct Shared(Arc<Double>);

#[async_trait]
impl Handler for Shared {
    async fn answer(&self, call: Call) -> Result<Reply, Failure> {
        let path = call.path.strip_prefix(PREFIX).unwrap_or_default();
        if (call.method, path) == (Method::Get, "/config.js") {
            let text = format!("export default {{\"path_prefix\":\"{PREFIX}\"}}");
            return Ok(Reply::text(200, "text/javascript", text));
        }
        let Some(user) = call.header(USER_HEADER).map(str::to_owned) else {
            return Err(Failure::new(401, "unauthorized", "no user"));
        };
        let double = &self.0;
        let asked = call
            .query_value("host_id")
            .and_then(|id| id.parse::<usize>().ok());
        match (call.method, path) {
            (Method::Get, "/api/authenticate") => Ok(Reply::empty(200)),
            (Method::Post, "/api/host") => double.add(&call.json()?, user).await,
            (Method::Post, "/api/pair") => double.pair(&call.json()?),
            (Method::Get, "/api/apps") => double.apps(asked).await,
            (Method::Get, "/api/host") => {
                let text = double.ask(asked, "/serverinfo", "").await?;
                let game: u32 = between(&text, "<currentgame>", "<").parse().unwrap();
                Ok(Reply::json(200, &json!({"host": {"current_game": game}})))
            }
            (Method::Post, "/api/host/cancel") => {
                let id = call.json::<Value>()?["host_id"].as_u64().unwrap();
                double.ask(usize::try_from(id).ok(), "/cancel", "").await?;
                Ok(Reply::json(200, &json!({"success": true})))
            }
            _ => Err(Failure::not_found("path")),
        }
    }
}

impl Double {
    async fn add(&self, body: &Value, unique_id: String) -> Result<Reply, Failure> {
        let ip = body["address"].as_str().unwrap().parse().unwrap();
        let port = u16::try_from(body["http_port"].as_u64().unwrap()).unwrap();
        let host_id = {
            let mut hosts = self.hosts.lock().unwrap();
            hosts.push(Host {
                address: SocketAddr::new(ip, port),
                unique_id,
            });
            hosts.len()
        };
        let reached = self.ask(Some(host_id), "/serverinfo", "").await;
        reached.map_err(|_| Failure::new(404, "not_found", "host not found"))?;
        Ok(Reply::json(200, &json!({"host": {"host_id": host_id}})))
    }

    fn pair(&self, body: &Value) -> Result<Reply, Failure> {
        let id = usize::try_from(body["host_id"].as_u64().unwrap()).unwrap();
        let host = self.host(Some(id))?;
        let data_json = self.data_json.clone();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut ours = Async::new(ours).unwrap();
        exec::spawn(async move {
            let _ = ours.write_all(b"{\"Pin\":\"0042\"}\n").await;
            let query =
                "&uuid=1&devicename=roth&updateState=1&phrase=getservercert&salt=00&clientcert=00";
            let answer = fetch(&host, "/pair", query, Duration::from_secs(60)).await;
            let line = match answer {
                Ok(text) if text.contains("<paired>1</paired>") => {
                    remember(&data_json, id, &host);
                    "{\"Paired\":{\"host_id\":1}}\n"
                }
                _ => "\"PairError\"\n",
            };
            let _ = ours.write_all(line.as_bytes()).await;
        })
        .detach();
        let lines = Async::new(theirs).unwrap();
        Ok(Reply::stream("application/x-ndjson", lines))
    }

    async fn apps(&self, id: Option<usize>) -> Result<Reply, Failure> {
        let text = self.ask(id, "/applist", "").await?;
        let apps: Vec<Value> = text
            .split("<App>")
            .skip(1)
            .map(|app| {
                let title = between(app, "<AppTitle>", "</AppTitle>");
                let title = title.replace("&quot;", "\"").replace("&amp;", "&");
                let id: u32 = between(app, "<ID>", "<").parse().unwrap();
                json!({"app_id": id, "title": title, "is_hdr_supported": false})
            })
            .collect();
        Ok(Reply::json(200, &json!({"apps": apps})))
    }

    fn host(&self, id: Option<usize>) -> Result<Host, Failure> {
        let hosts = self.hosts.lock().unwrap();
        let host = id.and_then(|id| hosts.get(id.wrapping_sub(1))).cloned();
        host.ok_or_else(|| Failure::not_found("host"))
    }

    /// As the real one, 500 for everything that Sunshine does not like.
    async fn ask(&self, id: Option<usize>, path: &str, query: &str) -> Result<String, Failure> {
        let host = self.host(id)?;
        let failed = |why: String| Failure::new(500, "failed", why);
        let text = fetch(&host, path, query, Duration::from_secs(5))
            .await
            .map_err(failed)?;
        match text.contains("status_code=\"200\"") {
            true => Ok(text),
            false => Err(failed("moonlight error: unauthenticated".into())),
        }
    }
}

async fn fetch(host: &Host, path: &str, query: &str, within: Duration) -> Result<String, String> {
    let url = format!(
        "http://{}{path}?uniqueid={}{query}",
        host.address, host.unique_id
    );
    let client = Client::new(&Trust::WebPki).map_err(|e| e.to_string())?;
    let answer = client.send(Outgoing::new(Method::Get, url).within(within));
    let answer = answer.await.map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

/// As the genuine one: hosts from before stay, and each pairing makes a key of its own.
fn remember(data_json: &PathBuf, id: usize, host: &Host) {
    let user = json!({"role": "User", "name": host.unique_id, "password": null, "client_unique_id": host.unique_id});
    let text = std::fs::read_to_string(data_json).unwrap_or_default();
    let mut data = serde_json::from_str(&text)
        .unwrap_or_else(|_| json!({"version": "2", "users": {"1": user}, "hosts": {}}));
    let pem = format!("-----BEGIN X-----\n{}\n-----END X-----\n", ids::label());
    data["hosts"][id.to_string()] = json!({
        "owner": 1,
        "address": host.address.ip().to_string(),
        "http_port": host.address.port(),
        "pair_info": {"client_private_key": pem, "client_certificate": pem, "server_certificate": pem},
        "cache": {"name": "demo body", "mac": null},
    });
    std::fs::write(data_json, data.to_string()).unwrap();
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let rest = text.split(start).nth(1).unwrap_or_default();
    rest.split(end).next().unwrap_or_default()
}
