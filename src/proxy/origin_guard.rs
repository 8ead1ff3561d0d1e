//! What both roles answer below `/session/` before a stream program hears of the request.
//!
//! The stream pages of all sessions and the operators' page share one origin. A service worker would
//! make up responses in the browser, where no proxy sees them; with the scope `/session/` it would
//! own every session of that browser. So no script can be fetched as one, and no page exists at
//! `/session/<id>`, whose directory is `/session/`.

use crate::http::{Failure, Reply};
use crate::ids::SessionId;
use crate::wire::RequestHead;

/// What a browser says it fetches when it registers a worker that outlives or is shared by pages
/// (Fetch Metadata, `Sec-Fetch-Dest`).
const WORKERS: [&str; 2] = ["serviceworker", "sharedworker"];

/// The answer to a request below `/session/` that must not go on.
///
/// # Errors
/// 403 when the response would become a service worker or a shared worker, and for dot segments: a
/// program behind us would resolve them, and leave the session that we judged.
pub(crate) fn guard(head: &RequestHead) -> Result<Option<Reply>, Failure> {
    let fields = &head.fields;
    let is_worker = fields.count("service-worker") > 0
        || WORKERS
            .iter()
            .any(|w| fields.has_member("sec-fetch-dest", w));
    if is_worker {
        return Err(Failure::new(
            403,
            "forbidden",
            "a stream page may not register service workers or shared workers",
        ));
    }
    let path = head.path();
    let is_dots =
        |part: &str| matches!(&*part.to_ascii_lowercase().replace("%2e", "."), "." | "..");
    if path.split('/').any(is_dots) {
        return Err(Failure::new(
            403,
            "forbidden",
            "the path contains the segment `.` or `..`; write it without",
        ));
    }
    let is_bare = path
        .strip_prefix("/session/")
        .is_some_and(|id| id.parse::<SessionId>().is_ok());
    if !is_bare {
        return Ok(None);
    }
    let query = head.target.get(path.len()..).unwrap_or_default();
    Ok(Some(
        Reply::empty(308).header("Location", format!("{path}/{query}")),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::HeadLimits;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn head(method: &str, target: &str, fields: &str) -> RequestHead {
        let text = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        RequestHead::parse(text.as_bytes(), &HeadLimits::REQUEST).unwrap()
    }

    #[test]
    fn requests_for_worker_scripts_are_refused_whatever_the_case_and_form() {
        for fields in [
            "Service-Worker: script\r\n",
            "SERVICE-WORKER: x\r\n",
            "service-worker:\r\n",
            "Sec-Fetch-Dest: serviceworker\r\n",
            "sec-fetch-dest: ServiceWorker\r\n",
            "SEC-FETCH-DEST:  SHAREDWORKER \r\n",
            "Sec-Fetch-Dest: script\r\nSec-Fetch-Dest: sharedworker\r\n",
            "Sec-Fetch-Dest: script, serviceworker\r\n",
        ] {
            for target in [format!("/session/{ID}/sw.js"), "/session/x".to_owned()] {
                let refused = guard(&head("GET", &target, fields)).unwrap_err();
                assert_eq!(refused.status, 403, "{fields}");
            }
        }
        let page = "Sec-Fetch-Dest: document\r\nSec-Fetch-Site: none\r\n";
        for fields in ["", page, "Sec-Fetch-Dest: worker\r\n"] {
            let target = format!("/session/{ID}/stream.html");
            assert!(guard(&head("GET", &target, fields)).unwrap().is_none());
        }
    }

    #[test]
    fn dot_segments_are_refused_plain_and_encoded() {
        for inner in [
            "..",
            "../",
            "./a",
            "a/../b",
            "a/%2e%2E/b",
            ".%2e",
            "%2E",
            "api/.?a=b",
        ] {
            let target = format!("/session/{ID}/{inner}");
            let refused = guard(&head("GET", &target, "")).unwrap_err();
            assert_eq!(refused.status, 403, "{target}");
        }
        for inner in ["a..b", "...", ".well", "a?b=/../c", "%2e%2e%2e"] {
            let target = format!("/session/{ID}/{inner}");
            assert!(guard(&head("GET", &target, "")).is_ok(), "{target}");
        }
    }

    #[test]
    fn a_session_without_its_slash_is_sent_to_the_one_with_it() {
        for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS"] {
            for accept in ["", "Accept: text/html\r\n", "Accept: */*\r\n"] {
                let target = format!("/session/{ID}?a=1&b=%2F");
                let reply = guard(&head(method, &target, accept)).unwrap().unwrap();
                assert_eq!(reply.status(), 308);
                let location = format!("/session/{ID}/?a=1&b=%2F");
                assert_eq!(reply.field("location"), Some(&*location));
            }
        }
        for target in [format!("/session/{ID}/"), "/session/other".to_owned()] {
            assert!(guard(&head("GET", &target, "")).unwrap().is_none());
        }
    }
}
