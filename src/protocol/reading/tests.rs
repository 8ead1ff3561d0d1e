use serde_json::json;

use super::mutations::{self, Act, NOVEL, recorded};
use super::*;
use crate::protocol::{
    Created, ErrorBody, Health, Heartbeat, HeartbeatReply, SessionView, WorkerView,
};

fn read_as<T: DeserializeOwned + Serialize>(text: &[u8]) -> Result<Value, String> {
    let reading = read::<T>(text).map_err(|unread| unread.to_string())?;
    Ok(serde_json::to_value(reading.value).unwrap())
}

/// The last heartbeat of a session that is watched and of one that has ended.
fn heartbeat() -> Value {
    let mut beat = recorded("/heartbeat");
    let mut ended = recorded("/ended");
    ended["id"] = "f".repeat(32).into();
    beat["sessions"].as_array_mut().unwrap().push(ended);
    beat
}

#[test]
fn what_0_1_0_and_other_versions_send_is_read_but_for_what_cannot_be() {
    mutations::check(
        &heartbeat(),
        &[
            "/worker_id",
            "/process_id",
            "/sessions/0/id",
            "/sessions/1/id",
        ],
        read_as::<Heartbeat>,
    );
    mutations::check(&recorded("/reply"), &[], read_as::<HeartbeatReply>);
    mutations::check(
        &recorded("/created"),
        &["/session_id", "/stream_url"],
        read_as::<Created>,
    );
    mutations::check(&recorded("/error"), &["/reason"], read_as::<ErrorBody>);
    mutations::check(&recorded("/health"), &["/service"], read_as::<Health>);
    mutations::check(&recorded("/worker"), &["/worker_id"], read_as::<WorkerView>);
    mutations::check(&recorded("/session"), &["/id"], read_as::<SessionView>);
}

#[test]
fn what_0_1_0_sent_comes_out_as_it_went_in() {
    for (at, read) in [
        ("/heartbeat", read_as::<Heartbeat> as fn(&[u8]) -> _),
        ("/reply", read_as::<HeartbeatReply>),
        ("/created", read_as::<Created>),
        ("/health", read_as::<Health>),
        ("/worker", read_as::<WorkerView>),
    ] {
        let document = recorded(at);
        assert_eq!(read(document.to_string().as_bytes()).unwrap(), document);
    }
}

#[test]
fn a_session_of_a_heartbeat_that_cannot_be_read_costs_no_other_and_is_named() {
    let beat = heartbeat();
    let whole: Reading<Heartbeat> = read_value(beat.clone()).unwrap();
    assert_eq!((whole.left_out.len(), whole.value.sessions.len()), (0, 2));
    for mutation in mutations::of(&beat) {
        let Ok(Reading { value, left_out }) = read_value::<Heartbeat>(mutation.value) else {
            continue;
        };
        let Some(rest) = mutation.at.strip_prefix("/sessions/0") else {
            continue;
        };
        assert_eq!(left_out, []);
        let told = &value.sessions.left_out;
        assert_eq!(value.sessions.last(), whole.value.sessions.last());
        let is_silent = mutation.act != Act::Changed && rest != "/id" || rest.contains("/stats");
        assert_eq!(told.is_empty(), is_silent, "{rest} {told:?}");
        let field = rest.rsplit('/').next().unwrap();
        assert!(told.iter().all(|l| l.field.contains(field)), "{told:?}");
    }
}

#[test]
fn a_document_full_of_faults_is_refused_and_its_reports_are_bounded() {
    for text in ["", "[]", "[1]", "null", "{", "\"x\"", "{\"worker_id\":"] {
        assert!(read::<Heartbeat>(text.as_bytes()).is_err(), "{text}");
    }
    let sessions: Vec<Value> = (0..3_000).map(|n| json!({"number": n})).collect();
    let mut beat = recorded("/heartbeat");
    beat["sessions"] = sessions.into();
    let beat: Reading<Heartbeat> = read_value(beat).unwrap();
    assert!(beat.value.sessions.is_empty());
    assert_eq!(beat.value.sessions.left_out.len(), REPORTED_MAX);
    let mut session = recorded("/ended");
    session["id"] = "\n".repeat(5_000).into();
    let each: Each<SessionView> = serde_json::from_value(json!([session])).unwrap();
    assert!(each.left_out[0].field.len() < 2 * NAME_MAX);
}

#[test]
fn words_are_carried_and_what_is_no_word_is_left_out() {
    let with = |status: Value| {
        let mut session = recorded("/ended");
        session["status"] = status;
        let read: Reading<SessionView> = read_value(session).unwrap();
        (read.value.status.to_string(), read.left_out.len())
    };
    assert_eq!(with(NOVEL.into()), (NOVEL.to_owned(), 0));
    assert_eq!(with("w".repeat(64).into()), ("w".repeat(64), 0));
    for bad in [
        json!("w".repeat(65)),
        json!(""),
        json!("a\nb"),
        json!(5),
        json!(null),
    ] {
        assert_eq!(with(bad), ("unknown".to_owned(), 1));
    }
}
