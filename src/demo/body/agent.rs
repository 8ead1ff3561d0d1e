//! hydrabody, the rating services, and the switches of the demo body itself.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_types::Method;
use serde_json::{Value, json};

use super::state::BodyState;
use super::{Faults, switch};
use crate::http::auth::Bearer;
use crate::http::server::Certificates;
use crate::http::{Call, Failure, Handler, Reply};
use crate::{clock, exec};

/// Serves everything on the agent port.
#[derive(Debug)]
pub(super) struct HydraBody(pub(super) Arc<BodyState>, pub(super) Certificates);

#[async_trait]
impl Handler for HydraBody {
    async fn answer(&self, call: Call) -> Result<Reply, Failure> {
        let state = &self.0;
        match (call.method, call.path.as_str()) {
            (Method::Get, "/calls") => return Ok(Reply::json(200, &state.calls())),
            (Method::Get, "/faults") => return Ok(Reply::json(200, &state.faults())),
            (Method::Post, "/faults") => {
                let faults: Faults = call.json()?;
                switch(state, &self.1, faults)
                    .map_err(|e| Failure::new(500, "failed", e.to_string()))?;
                return Ok(Reply::empty(204));
            }
            (Method::Post, "/restart") => {
                state.restart();
                return Ok(Reply::empty(204));
            }
            _ => state.record("agent", &call),
        }
        if call.path.ends_with("/ratings") {
            return self.rate(&call);
        }
        let done = match (call.method, call.path.as_str()) {
            (Method::Get, "/api/v1/health") => json!({"service": "demo-body", "status": "ok"}),
            (Method::Post, "/api/v1/launch" | "/api/v1/stop" | "/api/v1/stream/started") => {
                if let Some(status) = state.faults().agent_status {
                    return Err(Failure::new(status, "on_purpose", "told to fail"));
                }
                let _: Value = call.json()?;
                match call.path.rsplit('/').next() {
                    Some("launch") => {
                        // Whether or not the caller waits for it.
                        let (state, takes) = (Arc::clone(state), state.faults().launch_takes_ms);
                        let (done, launched) = smol::channel::bounded::<()>(1);
                        exec::spawn(async move {
                            clock::sleep(Duration::from_millis(takes)).await;
                            state.set_experience(true);
                            drop(done);
                        })
                        .detach();
                        let _ = launched.recv().await;
                    }
                    Some("stop") => state.set_experience(false),
                    _ => {}
                }
                json!({"status": "ok"})
            }
            _ => return Err(Failure::not_found("path")),
        };
        Ok(Reply::json(200, &done))
    }
}

impl HydraBody {
    fn rate(&self, call: &Call) -> Result<Reply, Failure> {
        if let Some(token) = &self.0.options.token {
            Bearer::new(vec![token.clone()]).check(call)?;
        }
        match call.method {
            Method::Post => {
                self.0.rate(call.json()?);
                Ok(Reply::json(201, &json!({"status": "ok"})))
            }
            Method::Get => Ok(Reply::json(200, &self.0.ratings())),
            _ => Err(Failure::not_found("path")),
        }
    }
}
