//! The dashboard, as a browser meets it.

use serde_json::{Value, json};

use crate::support::*;

mod board;
mod door;
mod neighbours;

/// What a browser sends with a call of a page of this origin.
struct Browser {
    origin: String,
    cookie: String,
    proof: String,
}

/// What a browser says of a navigation by a person (Fetch Metadata).
const NAVIGATION: [(&str, &str); 3] = [
    ("Sec-Fetch-Site", "none"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
];
const JSON: (&str, &str) = ("Content-Type", "application/json");

fn origin(node: &Node) -> String {
    format!("http://{}", node.at)
}

fn sign_in(node: &Node, token: &str) -> Answer {
    let origin = origin(node);
    let fields = [JSON, ("Origin", &origin), ("Sec-Fetch-Site", "same-origin")];
    let body = json!({"token": token}).to_string();
    let target = "/admin/api/session";
    call(node.at, "POST", target, &fields, Some(body.as_bytes())).unwrap()
}

/// The cookie of an answer, as a browser sends it back.
fn cookie(answer: &Answer) -> String {
    let set = answer.field("set-cookie").expect("a cookie");
    set.split(';').next().unwrap().to_owned()
}

fn page(node: &Node, fields: &[(&str, &str)]) -> Answer {
    call(node.at, "GET", "/admin", fields, None).unwrap()
}

/// The value that the page holds under this name.
fn meta(page: &Answer, name: &str) -> Option<String> {
    let text = page.text();
    let (_, rest) = text.split_once(&format!("<meta name=\"{name}\" content=\""))?;
    Some(rest.split('"').next().unwrap().to_owned())
}

impl Browser {
    fn signed_in(node: &Node) -> Self {
        let answer = sign_in(node, TOKEN);
        assert_eq!(answer.status, 204, "{}", answer.text());
        let cookie = cookie(&answer);
        let mut fields = NAVIGATION.to_vec();
        fields.push(("Cookie", &cookie));
        let proof = meta(&page(node, &fields), "neck-proof").expect("a proof");
        Self {
            origin: origin(node),
            cookie,
            proof,
        }
    }

    /// The fields of a call, without those named.
    fn fields(&self, without: &[&str]) -> Vec<(&str, &str)> {
        let all = [
            JSON,
            ("Origin", self.origin.as_str()),
            ("Sec-Fetch-Site", "same-origin"),
            ("Cookie", self.cookie.as_str()),
            ("X-Neck-Proof", self.proof.as_str()),
        ];
        let keep = |(name, _): &(&str, &str)| !without.contains(name);
        all.into_iter().filter(keep).collect()
    }

    fn call(&self, node: &Node, method: &str, target: &str, body: Option<Value>) -> Answer {
        let body = body.map(|b| b.to_string());
        let body = body.as_ref().map(String::as_bytes);
        call(node.at, method, target, &self.fields(&[]), body).unwrap()
    }
}
