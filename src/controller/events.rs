//! What changes in the fleet, told to the log and to listeners.

use serde_json::{Map, Value};

use super::fleet::{Change, FleetEvent};
use crate::http::hub::Hub;

/// One log line and one event.
pub(super) fn announce(hub: &Hub, event: &FleetEvent) {
    let name = event.change.name();
    let mut payload = Map::new();
    payload.insert("worker_id".into(), event.worker_id.as_str().into());
    if let Some(id) = event.change.session_id() {
        payload.insert("session_id".into(), id.as_str().into());
        log::info!(target: "controller", "{name} worker={} session={id}", event.worker_id);
    } else {
        log::info!(target: "controller", "{name} worker={}", event.worker_id);
    }
    if let Change::SessionEnded(_, Some(reason)) = &event.change {
        payload.insert("end_reason".into(), reason.to_string().into());
    }
    hub.publish(name, &event.district, Value::Object(payload));
}
