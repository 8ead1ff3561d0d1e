//! Sunshine's list of apps, and the end of the running one.

use std::time::Duration;

use http_types::Method;
use serde_json::{Map, Value, json};

use super::sunshine::{Sunshine, SunshineError, garbled, list};

/// Time for closing an app: answered when it has ended, by default 5 s after it was asked to, and
/// its commands for that have run.
const CLOSE: Duration = Duration::from_secs(15);
impl Sunshine {
    /// The registered apps, as Sunshine keeps them.
    ///
    /// # Errors
    /// See [`SunshineError`].
    pub(crate) async fn apps(&self) -> Result<Vec<Value>, SunshineError> {
        const CALL: &str = "GET /api/apps";
        let value = self.ask(CALL, Method::Get, "/api/apps", None).await?;
        list(value, "apps").ok_or_else(|| garbled(CALL, "there is no list of apps"))
    }

    /// What [`Sunshine::save_app`] has to save so that the app is listed as said; `None` when it is
    /// already. An app of its name keeps its place, and what `app` does not say (a picture, say):
    /// Sunshine itself would list both.
    ///
    /// # Errors
    /// See [`SunshineError`].
    pub(crate) async fn unlike(
        &self,
        app: Map<String, Value>,
    ) -> Result<Option<Map<String, Value>>, SunshineError> {
        let mut apps = self.apps().await?;
        let place = apps.iter().position(|a| a.get("name") == app.get("name"));
        let mut entry = match place.map(|place| apps.swap_remove(place)) {
            Some(Value::Object(old)) => old,
            _ => Map::new(),
        };
        let is_listed = app.iter().all(|(key, value)| {
            let listed = entry.get(key);
            listed == Some(value) || (is_empty(value) && listed.is_none_or(is_empty))
        });
        if place.is_some() && is_listed {
            return Ok(None);
        }
        entry.extend(app);
        entry.insert(
            "index".into(),
            place.map_or(json!(-1), |index| json!(index)),
        );
        Ok(Some(entry))
    }

    /// Saves an app. Sunshine forgets the running app by that, and ends its streams.
    ///
    /// # Errors
    /// See [`SunshineError`].
    pub(crate) async fn save_app(&self, entry: Map<String, Value>) -> Result<(), SunshineError> {
        self.order("POST /api/apps", "/api/apps", Value::Object(entry))
            .await
            .map(drop)
    }

    /// Ends whatever app is running.
    ///
    /// # Errors
    /// See [`SunshineError`].
    pub(crate) async fn close_app(&self) -> Result<(), SunshineError> {
        let patient = self.clone().within(self.within.max(CLOSE));
        patient
            .order("POST /api/apps/close", "/api/apps/close", json!({}))
            .await
            .map(drop)
    }
}

/// Sunshine does not save a list that is empty, old releases save an empty text.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sunshine_does_not_save_is_empty() {
        for value in [json!(null), json!(""), json!([])] {
            assert!(is_empty(&value), "{value}");
        }
        for value in [json!("x"), json!([1]), json!(false), json!({})] {
            assert!(!is_empty(&value), "{value}");
        }
    }
}
