//! How long one controller's news takes until another shows it.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use hydraneckwebrtc::testing::clock;
use serde_json::{Value, json};

use super::caller::Caller;
use super::{Inside as _, Outcome, TOKEN, body, heartbeat, micros, pause, session, since};

/// The worker that speaks: none of those that beat.
const BYSTANDER: usize = 99_999;

pub(crate) fn lag(samples: usize, told: &str, shown: &str) -> Outcome<Value> {
    let mut stream = TcpStream::connect(shown.trim_start_matches("http://"))?;
    write!(
        stream,
        "GET /api/v1/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    )?;
    let sent: Mutex<HashMap<String, Instant>> = Mutex::default();
    let spans = Mutex::new(Vec::new());
    thread::scope(|scope| -> Outcome<()> {
        let (sent, spans) = (&sent, &spans);
        let reader = stream.try_clone()?;
        scope.spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                let Some(data) = line.strip_prefix("data: ") else {
                    continue;
                };
                let data: Value = serde_json::from_str(data).unwrap_or_default();
                let id = data["session_id"].as_str().unwrap_or_default();
                if let Some(at) = sent.lock().held().remove(id) {
                    spans.lock().held().push(since(at));
                }
            }
        });
        let mut caller = Caller::new(told);
        let url = "http://10.0.0.1:1".to_owned();
        for n in 0..samples {
            // The first of a worker's sessions is found, not created: it is there before.
            let view = session(body(n as u64))?;
            sent.lock().held().insert(view.id.to_string(), clock::now());
            let beat = heartbeat(BYSTANDER, url.clone(), n as u64 + 1, vec![view]);
            let _ = caller.call(
                "POST",
                "/api/v1/workers/heartbeat",
                &serde_json::to_vec(&beat)?,
            )?;
            pause(Duration::from_millis(10));
        }
        pause(Duration::from_secs(1));
        stream.shutdown(std::net::Shutdown::Both)?;
        Ok(())
    })?;
    let spans = spans.into_inner().unwrap_or_default();
    Ok(json!({"samples": spans.len(), "lag": micros(spans)}))
}
