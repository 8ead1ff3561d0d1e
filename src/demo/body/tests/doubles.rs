//! The stream program's port, and the demo body's own promises.

use std::time::Duration;

use http_types::Method;
use serde_json::{Value, json};

use super::super::{BodyOptions, DemoBody, Faults};
use super::program::PREFIX;
use super::{LONG, stage};
use crate::body::stream_api::{StreamApi, StreamApiError};
use crate::exec;
use crate::http::client::{Client, Outgoing};
use crate::secret::Secret;
use crate::tls::Trust;

#[test]
fn a_stranger_on_the_programs_port_is_recognised() {
    let stage = stage(Faults::default());
    let short = Duration::from_secs(1);
    exec::block_on(async {
        let (double, _) = stage.program(None);
        let other = StreamApi::new(double.port, "/session/4567", "u").unwrap();
        let error = other.ready(LONG).await.unwrap_err();
        assert!(matches!(error, StreamApiError::Stranger(..)), "{error}");
        let agent = StreamApi::new(stage.demo.agent().port(), PREFIX, "u").unwrap();
        assert!(matches!(
            agent.ready(LONG).await,
            Err(StreamApiError::Stranger(..))
        ));
        let tls = StreamApi::new(stage.demo.sunshine().port(), PREFIX, "u").unwrap();
        assert!(matches!(
            tls.ready(short).await,
            Err(StreamApiError::Stranger(..))
        ));
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = closed.local_addr().unwrap().port();
        drop(closed);
        let program = StreamApi::new(port, PREFIX, "u").unwrap();
        let gone = program.ready(short).await;
        assert!(
            matches!(gone, Err(StreamApiError::NotReady(..))),
            "{gone:?}"
        );
    });
}

#[test]
fn ratings_are_kept_for_whoever_has_the_token_and_faults_are_switched_over_http() {
    let token = Secret::new("nps");
    let demo = DemoBody::start(BodyOptions {
        token: Some(token.clone()),
        ..BodyOptions::default()
    })
    .unwrap();
    let at = |path: &str| format!("http://{}{path}", demo.agent());
    let client = Client::new(&Trust::WebPki).unwrap();
    let post = |path: &str, body: Value| Outgoing::new(Method::Post, at(path)).json(&body);
    exec::block_on(async {
        let record = json!({"session_id": "s1", "score": 9});
        let rating = post("/api/v1/ratings", record.clone());
        assert_eq!(client.send(rating.clone()).await.unwrap().status, 401);
        assert_eq!(
            client.send(rating.bearer(&token)).await.unwrap().status,
            201
        );
        assert_eq!(demo.ratings(), [record]);
        let faults = post("/faults", json!({"stale_pending": 2, "answers": "garbage"}));
        assert_eq!(client.send(faults).await.unwrap().status, 204);
        let typo = post("/faults", json!({"stale": 2}));
        assert_eq!(client.send(typo).await.unwrap().status, 400);
        let calls = client
            .send(Outgoing::new(Method::Get, at("/calls")))
            .await
            .unwrap();
        assert_eq!(calls.json::<Vec<Value>>().unwrap().len(), 2, "two ratings");
    });
}

#[test]
fn a_kept_certificate_survives_a_restart_of_the_demo_body() {
    let stage = stage(Faults::default());
    let file = stage.dir.join("body.pem");
    let start = || {
        DemoBody::start(BodyOptions {
            identity_file: Some(file.clone()),
            ..BodyOptions::default()
        })
    };
    let seen = |demo: &DemoBody| {
        let client = Client::new(&Trust::Pinned(None)).unwrap();
        let call = Outgoing::new(Method::Get, format!("https://{}/", demo.sunshine()));
        exec::block_on(client.send(call)).unwrap().fingerprint
    };
    let first = seen(&start().unwrap());
    assert!(first.is_some());
    assert_eq!(seen(&start().unwrap()), first);
}
