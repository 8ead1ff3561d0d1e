//! Sunshine's GameStream side over plain HTTP: XML with the verdict in an attribute.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_types::Method;
use serde_json::Value;

use super::state::BodyState;
use crate::clock;
use crate::http::{Call, Failure, Handler, Reply};

/// Serves what a stream program asks before it streams.
#[derive(Debug)]
pub(super) struct GameStreamApi(pub(super) Arc<BodyState>);

fn xml(status: u16, says: &str, children: &str) -> Reply {
    let says = match says {
        "" => String::new(),
        says => format!(" status_message=\"{}\"", escape(says)),
    };
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<root status_code=\"{status}\"{says}>{children}</root>"
    );
    Reply::text(200, "text/xml", text)
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// The classic desktop's id: the picture that comes with Sunshine counts in it.
const DESKTOP: u32 = 881_448_767;

/// The id that Sunshine derives from the name of an app without a picture: the absolute value of
/// its CRC-32, taken as a signed number.
fn app_id(name: &str) -> u32 {
    if name == "Desktop" {
        return DESKTOP;
    }
    let mut crc = u32::MAX;
    for byte in name.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            let odd = crc & 1 == 1;
            crc >>= 1;
            if odd {
                crc ^= 0xedb8_8320;
            }
        }
    }
    (!crc).cast_signed().unsigned_abs()
}

#[async_trait]
impl Handler for GameStreamApi {
    async fn answer(&self, call: Call) -> Result<Reply, Failure> {
        if self.0.faults().gamestream_away {
            return Ok(Reply::empty(503));
        }
        self.0.record("gamestream", &call);
        let unique_id = call.query_value("uniqueid").unwrap_or_default();
        let paired = self.0.is_paired(&unique_id);
        if paired {
            self.0.use_certificates(false).await;
        }
        Ok(match (call.method, call.path.as_str()) {
            (Method::Get, "/serverinfo") => xml(200, "", &self.server()),
            (Method::Get, "/pair") => self.pair(&call, &unique_id).await,
            (Method::Get, "/applist" | "/launch" | "/resume" | "/cancel") if !paired => xml(
                401,
                "The client is not authorized. Certificate verification failed.",
                "",
            ),
            (Method::Get, "/applist") => xml(200, "", &self.apps()),
            (Method::Get, "/launch") => self.launch(&call),
            (Method::Get, "/resume") if self.0.running().is_none() => {
                xml(503, "No running app to resume", "<resume>0</resume>")
            }
            (Method::Get, "/resume") => xml(200, "", "<resume>1</resume>"),
            (Method::Get, "/cancel") => {
                self.0.run(None);
                xml(200, "", "<cancel>1</cancel>")
            }
            _ => xml(404, "Not Found", ""),
        })
    }
}

impl GameStreamApi {
    fn server(&self) -> String {
        let running = self.0.running();
        let (state, current) = match &running {
            Some(title) => ("SUNSHINE_SERVER_BUSY", i64::from(app_id(title))),
            None if self.0.is_stuck() => ("SUNSHINE_SERVER_FREE", -1),
            None => ("SUNSHINE_SERVER_FREE", 0),
        };
        let (sunshine, http) = self.0.ports();
        let mut text = String::new();
        for (name, value) in [
            ("hostname", "demo body".to_owned()),
            ("appversion", "7.1.431.-1".to_owned()),
            ("GfeVersion", "3.23.0.74".to_owned()),
            ("uniqueid", self.0.unique_id.clone()),
            ("HttpsPort", sunshine.to_string()),
            ("ExternalPort", http.to_string()),
            ("MaxLumaPixelsHEVC", "0".to_owned()),
            ("mac", "00:00:00:00:00:00".to_owned()),
            ("LocalIP", "127.0.0.1".to_owned()),
            ("ServerCodecModeSupport", "1".to_owned()),
            // Sunshine tells nobody more over plain HTTP.
            ("PairStatus", "0".to_owned()),
            ("currentgame", current.to_string()),
            ("state", state.to_owned()),
        ] {
            // Writing to a String does not fail.
            let _ = write!(text, "<{name}>{value}</{name}>");
        }
        text
    }

    /// The first phase waits for the PIN; a program that takes its answer for a pairing is
    /// paired then.
    async fn pair(&self, call: &Call, unique_id: &str) -> Reply {
        if unique_id.is_empty() {
            return xml(400, "Missing uniqueid parameter", "<paired>0</paired>");
        }
        if call.query_value("phrase").as_deref() != Some("getservercert") {
            let says = match self.0.drop_pairing(unique_id) {
                true => "Out of order call: the demo body has no further phases",
                false => "Invalid uniqueid",
            };
            return xml(400, says, "<paired>0</paired>");
        }
        clock::sleep(Duration::from_millis(self.0.faults().pin_race_ms)).await;
        match self.0.begin_pairing(unique_id, call.peer).recv().await {
            Ok(true) => {
                let mut hex = String::new();
                for byte in self.0.pem.bytes() {
                    let _ = write!(hex, "{byte:02X}");
                }
                xml(
                    200,
                    "",
                    &format!("<paired>1</paired><plaincert>{hex}</plaincert>"),
                )
            }
            Ok(false) => xml(400, "Invalid uniqueid", "<paired>0</paired>"),
            Err(_) => xml(503, "Sunshine restarts", "<paired>0</paired>"),
        }
    }

    fn apps(&self) -> String {
        let mut text = String::new();
        for app in self.0.apps() {
            let name = app["name"].as_str().unwrap_or_default();
            let (title, id) = (escape(name), app_id(name));
            let _ = write!(
                text,
                "<App><IsHdrSupported>0</IsHdrSupported><AppTitle>{title}</AppTitle><ID>{id}</ID></App>"
            );
        }
        text
    }

    fn launch(&self, call: &Call) -> Reply {
        if self.0.running().is_some() {
            return xml(
                400,
                "An app is already running on this host",
                "<gamesession>0</gamesession>",
            );
        }
        let wanted = call.query_value("appid").unwrap_or_default();
        let title = |app: &Value| app["name"].as_str().unwrap_or_default().to_owned();
        let mut apps = self.0.apps().into_iter();
        match apps.find(|app| app_id(&title(app)).to_string() == wanted) {
            Some(app) if self.0.faults().commands_fail && forbids(&app) => xml(
                503,
                "Failed to start the specified application",
                "<gamesession>0</gamesession>",
            ),
            Some(app) => {
                self.0.run(Some(title(&app)));
                xml(200, "", "<gamesession>1</gamesession>")
            }
            None => xml(
                404,
                "Cannot find requested application",
                "<gamesession>0</gamesession>",
            ),
        }
    }
}

/// Whether a failed command of the app makes Sunshine refuse its launch: each of `prep-cmd`, and one
/// of `detached` when `cmd` comes after it.
fn forbids(app: &Value) -> bool {
    let has = |name: &str| app[name].as_array().is_some_and(|list| !list.is_empty());
    let starts = app["cmd"].as_str().is_some_and(|cmd| !cmd.is_empty());
    has("prep-cmd") || (has("detached") && starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_ids_are_those_of_sunshine() {
        assert_eq!(app_id("Desktop"), 881_448_767);
        // The check value of CRC-32, 0xcbf43926, as a signed number.
        assert_eq!(app_id("123456789"), 873_187_034);
    }
}
