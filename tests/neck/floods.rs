//! What a page asks for without end.

use serde_json::{Value, json};

use crate::support::*;

#[test]
fn a_flood_from_a_page_is_held_back_and_the_visitor_can_still_leave() {
    let bench = Bench::new();
    let controller = bench.controller();
    let worker = bench.worker("w1", Some(&controller), json!({}));
    controller.is_warm();
    let id = controller.session();
    let post = |inner: &str, body: Option<Value>| {
        controller.browse("POST", &format!("/session/{id}/{inner}"), body)
    };
    let answers: Vec<_> = (0..60)
        .map(|_| post("rating", Some(json!({"score": 5}))))
        .collect();
    let taken = answers.iter().filter(|a| a.status == 204).count();
    assert!(taken < 60, "all were taken");
    let refused = answers.iter().find(|a| a.status != 204).unwrap();
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (429, "too_many_requests")
    );
    assert!(refused.field("retry-after").is_some());
    assert_eq!(worker.view(&id)["rating"], 5);
    let lines = worker.log();
    let noted = lines
        .lines()
        .filter(|l| l.contains("[audit]") && l.contains("/rating"));
    assert_eq!(noted.count(), taken, "a flood fills no log");
    assert_eq!(post("quit", None).status, 204);
    until("the session to be gone", || {
        controller.sessions().is_empty()
    });
}
