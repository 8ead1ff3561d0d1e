//! `events [--follow]`: a role's event stream, a line an event.

use std::io::Write as _;
use std::time::Duration;

use http_types::Method;
use serde_json::{Map, Value};

use super::remote::{CommandError, RemoteServer, one_line};
use crate::clock;
use crate::http::client::Incoming;

/// Without `--follow` the command ends when nothing came for so long: what the server keeps comes
/// at once.
const QUIET: Duration = Duration::from_millis(400);
/// With it, a silent stream is a dead one: the server sends a comment every 15 s.
const DEAD: Duration = Duration::from_secs(45);
/// Pauses between tries to come back, doubling.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Prints until the stream is quiet, or for ever with `follow`.
pub(super) async fn run(
    peer: RemoteServer,
    since: Option<u64>,
    follow: bool,
    json: bool,
) -> Result<String, CommandError> {
    // The past is asked for by the id before the first event.
    let mut last = since.or(if follow { None } else { Some(0) });
    let mut stream = open(&peer, last).await?;
    if !follow {
        while let Some(event) = next(&mut stream, QUIET).await {
            print(&event, json)?;
        }
        return Ok(String::new());
    }
    let mut pause = BACK_OFF.0;
    loop {
        while let Some(event) = next(&mut stream, DEAD).await {
            last = event.id.or(last);
            pause = BACK_OFF.0;
            print(&event, json)?;
        }
        eprintln!("the event stream broke off, coming back");
        loop {
            clock::sleep(pause).await;
            pause = (pause * 2).min(BACK_OFF.1);
            match open(&peer, last).await {
                Ok(fresh) => {
                    stream = fresh;
                    break;
                }
                Err(error @ CommandError::Refused(_)) => return Err(error),
                Err(error) => eprintln!("{error}"),
            }
        }
    }
}

async fn open(peer: &RemoteServer, last: Option<u64>) -> Result<Incoming, CommandError> {
    let mut call = peer.call(Method::Get, "/api/v1/events");
    if let Some(last) = last {
        call = call.header("last-event-id", last.to_string());
    }
    peer.open(call).await
}

#[derive(Debug, Default, PartialEq)]
struct Event {
    id: Option<u64>,
    name: String,
    data: String,
}

/// The next event; `None` when the stream ends or is silent for `within`.
async fn next(stream: &mut Incoming, within: Duration) -> Option<Event> {
    let mut event = Event::default();
    loop {
        let line = stream.line(within).await.ok()??;
        if let Some(whole) = take(&mut event, line.trim_end_matches('\r')) {
            return Some(whole);
        }
    }
}

/// Takes one line of the stream (WHATWG HTML 9.2.6); an empty one ends the event.
fn take(event: &mut Event, line: &str) -> Option<Event> {
    if line.is_empty() {
        let whole = std::mem::take(event);
        return (!whole.data.is_empty()).then_some(whole);
    }
    let (field, value) = line.split_once(':').unwrap_or((line, ""));
    let value = value.strip_prefix(' ').unwrap_or(value);
    match field {
        "id" => event.id = value.parse().ok(),
        "event" => value.clone_into(&mut event.name),
        "data" => event.data.push_str(value),
        // Comments keep the stream alive; other fields are not ours.
        _ => {}
    }
    None
}

fn print(event: &Event, json: bool) -> Result<(), CommandError> {
    let line = if json { as_json(event) } else { as_text(event) };
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .map_err(CommandError::Output)
}

fn fields(event: &Event) -> Map<String, Value> {
    match serde_json::from_str(&event.data) {
        Ok(Value::Object(map)) => map,
        Ok(value) => Map::from_iter([("value".to_owned(), value)]),
        Err(_) => Map::from_iter([("value".to_owned(), event.data.as_str().into())]),
    }
}

fn as_json(event: &Event) -> String {
    let mut out = Map::new();
    out.insert("id".into(), event.id.into());
    out.insert("event".into(), event.name.as_str().into());
    out.extend(fields(event));
    format!("{}\n", Value::Object(out))
}

fn as_text(event: &Event) -> String {
    let mut fields = fields(event);
    let at = match fields.remove("timestamp") {
        Some(Value::String(at)) => at,
        _ => "-".to_owned(),
    };
    let mut line = format!("{at} {:<18}", event.name);
    for (name, value) in fields {
        let value = match value {
            Value::Null => continue,
            Value::String(text) if text.is_empty() => continue,
            Value::String(text) => text,
            other => other.to_string(),
        };
        line.push_str(&format!(" {name}={value}"));
    }
    one_line(&line) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Vec<Event> {
        let mut event = Event::default();
        text.lines().filter_map(|l| take(&mut event, l)).collect()
    }

    #[test]
    fn comments_are_skipped_and_events_read_whole() {
        let read = events(": connected\n\nid: 7\nevent: worker_up\ndata: {\"a\":1}\n\n: alive\n\n");
        let wanted = Event {
            id: Some(7),
            name: "worker_up".into(),
            data: "{\"a\":1}".into(),
        };
        assert_eq!(read, [wanted]);
    }

    #[test]
    fn an_event_is_one_line_in_either_form() {
        let event = Event {
            id: Some(3),
            name: "session_ended".into(),
            data: r#"{"session_id":"ab","end_reason":"quit\n","timestamp":"T","district":""}"#
                .into(),
        };
        assert_eq!(
            as_text(&event),
            "T session_ended      session_id=ab end_reason=quit \n"
        );
        let json: Value = serde_json::from_str(&as_json(&event)).unwrap();
        assert_eq!(
            (json["id"].as_u64(), json["event"].as_str()),
            (Some(3), Some("session_ended"))
        );
    }
}
