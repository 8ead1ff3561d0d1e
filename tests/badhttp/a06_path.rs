//! A6: paths are routed by their raw bytes and forwarded byte for byte, or refused.

use crate::client::{self, latin1};
use crate::rig::{Rig, rig};

#[test]
fn a_path_is_forwarded_byte_for_byte_or_not_at_all() {
    let rig = rig();
    let session = &rig.session;
    let other = "0123456789abcdef0123456789abcdef";
    let first = session.as_bytes()[0] ^ 1;
    let flipped = format!("{}{}", char::from(first), &session[1..]);
    let upper = session.to_uppercase();
    let long = "a".repeat(10_000);
    let below = |inner: &[u8]| [format!("/session/{session}/").as_bytes(), inner].concat();
    let rows: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("DOT-DOT", below(b"mirror/A6-a/../b"), &[403]),
        ("DOT", below(b"./mirror/A6-b"), &[403]),
        ("DOT-DOT-OUT", below(b"../../api/v1/sessions/A6-c"), &[403]),
        ("ENCODED-DOTS", below(b"mirror/A6-d/%2e%2e/x"), &[403]),
        ("ENCODED-SLASH", below(b"mirror%2fA6-e"), &[403]),
        ("ENCODED-BACKSLASH", below(b"mirror/A6-f%5c..%5c"), &[403]),
        ("BACKSLASH", below(b"mirror/A6-g\\..\\"), &[400]),
        ("DOUBLE-SLASH", below(b"/mirror/A6-h"), &[403]),
        ("SEMICOLON", below(b"mirror/A6-i;x=y/z;?q;%2e%2e"), &[200]),
        ("NUL", below(b"mirror/A6-j\0"), &[400]),
        (
            "OVERLONG-UTF8",
            below(b"mirror/A6-k/\xc0\xae\xc0\xae/"),
            &[400],
        ),
        ("ENCODED-OVERLONG", below(b"mirror/A6-l/%c0%ae"), &[403]),
        ("ENCODED-CRLF", below(b"mirror/A6-m%0d%0aX:%20y"), &[403]),
        (
            "QUERY-CRLF",
            below(b"mirror/A6-n?%0d%0aX:%20y&/../"),
            &[200],
        ),
        (
            "ODD-BUT-LEGAL",
            below(b"mirror/A6-o/~!$&'()*+,=:@/x//y?{a}|^`'"),
            &[200],
        ),
        (
            "OTHER-SESSION",
            format!("/session/{other}/mirror/A6-p").into(),
            &[404],
        ),
        (
            "FLIPPED-BIT",
            format!("/session/{flipped}/mirror/A6-q").into(),
            &[404],
        ),
        (
            "UPPER-CASE-ID",
            format!("/session/{upper}/mirror/A6-r").into(),
            &[404],
        ),
        (
            "ENCODED-ID",
            format!(
                "/session/%{:02x}{}/mirror/A6-s",
                session.as_bytes()[0],
                &session[1..]
            )
            .into(),
            &[404],
        ),
        (
            "LONG-ID",
            format!("/session/{long}/mirror/A6-t").into(),
            &[414],
        ),
        ("EMPTY-ID", b"/session//mirror/A6-u".to_vec(), &[404]),
        (
            "PREFIX-CASE",
            format!("/Session/{session}/mirror/A6-v").into(),
            &[404],
        ),
        (
            "DOUBLE-SLASH-PREFIX",
            format!("//session/{session}/mirror/A6-w").into(),
            &[404],
        ),
        ("CLOSED-API", below(b"api/hosts?A6-x"), &[403]),
        ("CLOSED-API-DOT", below(b"./api/hosts?A6-y"), &[403]),
    ];
    let mut wrong = Vec::new();
    for (role, address) in rig.roles() {
        for (id, path, wanted) in &rows {
            let request = [
                b"GET ",
                path.as_slice(),
                b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            ]
            .concat();
            let got = client::send(address, &request);
            let statuses = got.statuses();
            if statuses.len() != 1 || !wanted.contains(&statuses[0]) || !got.closed {
                wrong.push(format!("{role} {id}: {statuses:?} instead of {wanted:?}"));
                continue;
            }
            let mark = latin1(path)
                .split("A6-")
                .nth(1)
                .map(|m| format!("A6-{}", &m[..1]))
                .unwrap();
            if statuses == [200] {
                let line = format!("GET {} HTTP/1.1\r\n", latin1(path));
                if !got.answers[0].text().starts_with(&line) {
                    wrong.push(format!("{role} {id}: arrived as {}", got.answers[0].text()));
                }
            } else if rig.seen().contains(&mark) {
                wrong.push(format!("{role} {id}: reached the stream program"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_session_without_its_slash_is_still_that_session() {
    let rig = rig();
    for (role, address) in rig.roles() {
        let request = format!(
            "GET /session/{} HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\nConnection: close\r\n\r\n",
            rig.session
        );
        let got = client::send(address, request.as_bytes());
        assert_eq!(got.statuses(), [308], "{role}");
        let place = got.answers[0].field("location").unwrap();
        let below = format!("/session/{}/", rig.session);
        assert!(place.contains(&below), "{role}: {place}");
    }
}

/// Routes of the API are matched by the bytes as they came: nothing is decoded or joined first.
#[test]
fn another_spelling_of_an_api_path_is_no_path_of_the_api() {
    for (role, address) in rig().roles() {
        for (path, wanted) in [
            ("/api/v1/../v1/sessions", 404),
            ("/api/v1/%2e%2e/sessions", 404),
            ("/api%2fv1%2fsessions", 404),
            ("/api/v1%5csessions", 404),
            ("/api\\v1\\sessions", 400),
            ("//api/v1/sessions", 404),
            ("/api//v1/sessions", 404),
            ("/livez;x=y", 404),
            ("/livez%00", 404),
            ("/LIVEZ", 404),
            ("/livez/", 404),
        ] {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: h\r\n{}Connection: close\r\n\r\n",
                Rig::bearer()
            );
            let got = client::send(address, request.as_bytes());
            assert_eq!(got.statuses(), [wanted], "{role} {path}");
        }
    }
}
