//! What the rating services are told: everything, once.

use serde_json::json;

use crate::support::*;

#[test]
fn a_visitors_rating_is_forwarded_and_is_in_the_record() {
    let bench = Bench::new();
    let worker = bench.worker("w1", None, json!({}));
    let id = worker.session_with(json!({"experience": "Moon"}));
    let rate = |score: u8| {
        worker.browse(
            "POST",
            &format!("/session/{id}/rating"),
            Some(json!({"score": score})),
        )
    };
    assert_eq!(rate(3).status, 204);
    assert_eq!(rate(8).status, 204);
    let digest = json!({"ice_candidate_type": "relay", "disconnect_count": 2});
    assert_eq!(
        worker
            .browse("POST", &format!("/session/{id}/stats"), Some(digest))
            .status,
        204
    );
    let forwarded = || -> Vec<_> {
        bench
            .body
            .ratings()
            .into_iter()
            .filter(|r| r["end_reason"].is_null())
            .map(|r| r["score"].clone())
            .collect()
    };
    until("both ratings", || forwarded().len() == 2);
    assert_eq!(forwarded(), [json!(3), json!(8)]);
    assert_eq!(worker.delete(&id), 204);
    let record = bench.one_record(&id);
    for (field, value) in [
        ("experience", json!("Moon")),
        ("score", json!(8)),
        ("body_ip", json!("127.0.0.1")),
        ("district", json!("test1")),
        ("end_reason", json!("deleted")),
        ("ice_candidate_type", json!("relay")),
        ("disconnect_count", json!(2)),
    ] {
        assert_eq!(record[field], value, "{field}: {record}");
    }
    assert!(record["duration_ms"].is_u64());
}

#[test]
fn records_wait_for_a_service_that_is_away_and_outlive_the_worker() {
    let bench = Bench::new();
    let nobody = format!("http://127.0.0.1:{}", ports(1));
    let mut worker = bench.worker("w1", None, json!({"nps": {"url": nobody}}));
    let ids = [worker.session(), worker.session(), worker.session()];
    for id in &ids {
        assert_eq!(worker.delete(id), 204);
    }
    worker.kill();
    assert!(bench.body.ratings().is_empty());
    worker.config["nps"]["url"] = format!("http://{}", bench.body.agent()).into();
    worker.restart();
    for id in &ids {
        assert_eq!(bench.one_record(id)["end_reason"], "deleted");
    }
    // A record that was taken just before the kill would be sent again: the worker cannot know.
    until("the outbox to be empty", || {
        entries(&worker.dir.join("state/outbox/nps")).is_empty()
    });
    worker.kill();
    worker.restart();
    let id = worker.session();
    assert_eq!(worker.delete(&id), 204);
    bench.one_record(&id);
    assert_eq!(bench.body.ratings().len(), 4, "nothing is sent twice");
}
