//! Changes of the fleet as log lines and as events.

use serde_json::{Map, Value};

use super::fleet::{FleetChange, FleetEvent};
use crate::http::event_bus::EventBus;

/// One log line.
pub(super) fn log(event: &FleetEvent) {
    let name = event.change.name();
    match event.change.session_id() {
        Some(id) => {
            log::info!(target: "controller", "{name} worker={} session={id}", event.worker_id);
        }
        None => log::info!(target: "controller", "{name} worker={}", event.worker_id),
    }
}

/// One event for the listeners of this controller.
pub(super) fn publish(event_bus: &EventBus, event: &FleetEvent) {
    event_bus.publish(event.change.name(), &event.district, payload(event));
}

/// An event's name and content, for controllers that share a store.
pub(super) fn written(event: &FleetEvent) -> (&'static str, String) {
    let data = EventBus::data(&event.district, payload(event));
    (event.change.name(), data)
}

fn payload(event: &FleetEvent) -> Value {
    let mut payload = Map::new();
    payload.insert("worker_id".into(), event.worker_id.as_str().into());
    if let Some(id) = event.change.session_id() {
        payload.insert("session_id".into(), id.as_str().into());
    }
    if let FleetChange::SessionEnded(_, Some(reason)) = &event.change {
        payload.insert("end_reason".into(), reason.to_string().into());
    }
    Value::Object(payload)
}
