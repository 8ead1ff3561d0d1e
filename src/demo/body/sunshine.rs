//! Sunshine's configuration API, as far as the neck and its tests go.

use std::sync::Arc;

use async_trait::async_trait;
use http_types::Method;
use http_types::auth::BasicAuth;
use serde_json::{Value, json};

use super::state::BodyState;
use crate::http::{Call, Failure, Handler, Reply};

/// Answers as Sunshine does: content type before credentials, its own error shape.
#[derive(Debug)]
pub(super) struct SunshineRest(pub(super) Arc<BodyState>);

fn wrong(status: u16, says: &str) -> Reply {
    let body = json!({"error": says, "status": false, "status_code": status});
    Reply::json(status, &body).header("X-Frame-Options", "DENY")
}

#[async_trait]
impl Handler for SunshineRest {
    async fn answer(&self, call: Call) -> Result<Reply, Failure> {
        self.0.record("sunshine", &call);
        let faults = self.0.faults();
        if faults.forbidden {
            return Ok(Reply::empty(403));
        }
        if faults.not_configured {
            return Ok(Reply::empty(307).header("Location", "/welcome"));
        }
        if call.method == Method::Post {
            let kind = call.header("content-type").unwrap_or_default();
            if kind.is_empty() {
                return Ok(wrong(400, "Content type not provided"));
            }
            let essence = kind.split(';').next().unwrap_or_default();
            if faults.content_type_refused || !essence.eq_ignore_ascii_case("application/json") {
                return Ok(wrong(400, "Content type mismatch"));
            }
        }
        if faults.wrong_password || !self.knows(&call) {
            let realm = "Basic realm=\"Sunshine Gamestream Host\", charset=\"UTF-8\"";
            return Ok(wrong(401, "Unauthorized").header("WWW-Authenticate", realm));
        }
        if let Some(bad) = faults.answers.reply() {
            return Ok(bad);
        }
        if call.path == "/api/apps/close" {
            self.0.begin_close();
        }
        self.0.closed().await;
        if call.path.starts_with("/api/clients/unpair") {
            self.0.use_certificates(true).await;
        }
        Ok(self.act(&call))
    }
}

impl SunshineRest {
    fn knows(&self, call: &Call) -> bool {
        let options = &self.0.options;
        let Some(encoded) = call
            .header("authorization")
            .and_then(|v| v.strip_prefix("Basic "))
        else {
            return false;
        };
        BasicAuth::from_credentials(encoded.as_bytes()).is_ok_and(|basic| {
            basic.username().eq_ignore_ascii_case(&options.user)
                && options.password.matches(basic.password().as_bytes())
        })
    }

    fn act(&self, call: &Call) -> Reply {
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let status = |status: bool| Reply::json(200, &json!({"status": status}));
        match (call.method, call.path.as_str()) {
            (Method::Get, "/api/apps") => {
                Reply::json(200, &json!({"apps": self.0.apps(), "env": {}}))
            }
            (Method::Post, "/api/apps") => self.save(body),
            (Method::Post, "/api/apps/close") => {
                self.0.close();
                status(true)
            }
            (Method::Post, "/api/pin") => {
                let pin = text("pin");
                if pin.is_empty() || !pin.bytes().all(|b| b.is_ascii_digit()) {
                    return wrong(400, "Invalid PIN");
                }
                status(pin.len() == 4 && self.0.give_pin(text("name")))
            }
            (Method::Get, "/api/clients/list") => {
                let certs: Vec<Value> = self
                    .0
                    .paired()
                    .iter()
                    .map(|c| json!({"name": c.name, "uuid": c.uuid, "enabled": true}))
                    .collect();
                Reply::json(200, &json!({"named_certs": certs, "status": true}))
            }
            (Method::Post, "/api/clients/unpair") => {
                status(self.0.unpair(|c| c.uuid == text("uuid")))
            }
            (Method::Post, "/api/clients/unpair-all") => {
                self.0.unpair(|_| true);
                self.0.run(None);
                status(true)
            }
            (Method::Delete, path) if path.starts_with("/api/apps/") => self.delete(path),
            (Method::Get, _) => wrong(404, "Not Found"),
            _ => wrong(400, "Bad Request"),
        }
    }

    /// As Sunshine: what is empty is not kept, and the running app is forgotten.
    fn save(&self, mut app: Value) -> Reply {
        let index = app.as_object_mut().and_then(|a| {
            for list in ["prep-cmd", "detached"] {
                if a.get(list)
                    .and_then(Value::as_array)
                    .is_some_and(Vec::is_empty)
                {
                    a.remove(list);
                }
            }
            a.remove("index")
        });
        let (Some(index), true) = (index.and_then(|i| i.as_i64()), app["name"].is_string()) else {
            return wrong(400, "type must be number, but is null");
        };
        let saved = self.0.change_apps(|apps| match usize::try_from(index) {
            Err(_) => {
                apps.push(app);
                true
            }
            Ok(index) => apps.get_mut(index).map(|old| *old = app).is_some(),
        });
        match saved {
            true => {
                self.0.run(None);
                Reply::json(200, &json!({"status": true}))
            }
            false => wrong(400, "index out of range"),
        }
    }

    fn delete(&self, path: &str) -> Reply {
        let index = path.trim_start_matches("/api/apps/").parse::<usize>();
        let gone = self.0.change_apps(|apps| match index {
            Ok(index) if index < apps.len() => {
                apps.remove(index);
                true
            }
            _ => false,
        });
        match gone {
            true => Reply::json(
                200,
                &json!({"result": "application deleted", "status": true}),
            ),
            false => wrong(400, "index out of range"),
        }
    }
}
