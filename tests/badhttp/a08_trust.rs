//! A8: nothing that a client claims about who it is reaches the stream program.

use crate::client;
use crate::rig::rig;

#[test]
fn no_claim_of_a_client_reaches_the_stream_program() {
    let rig = rig();
    let rows = [
        (
            "USER",
            "X-Forwarded-User: root\r\nx-forwarded-user: root\r\nX-FORWARDED-USER: root\r\n",
        ),
        (
            "USER-UNDERSCORE",
            "X_Forwarded_User: root\r\nX-Forwarded_User: root\r\n",
        ),
        (
            "USER-BY-CONNECTION",
            "Connection: X-Forwarded-User, x-forwarded-for, host, content-length\r\nX-Forwarded-User: root\r\n",
        ),
        ("FORWARDED", "Forwarded: for=root;proto=https;host=root\r\n"),
        (
            "FORWARDED-FOR",
            "X-Forwarded-For: root\r\nX-Forwarded-Host: root\r\nX-Forwarded-Proto: root\r\nX-Forwarded-Prefix: root\r\n",
        ),
        (
            "REAL-IP",
            "X-Real-IP: root\r\nTrue-Client-IP: root\r\nClient-IP: root\r\n",
        ),
        (
            "AUTHORIZATION",
            "Authorization: Bearer root\r\nProxy-Authorization: Basic root\r\n",
        ),
        (
            "COOKIES",
            "Cookie: a=root; b=root\r\nCookie: mlSessionx=root\r\n",
        ),
        ("VIA", "Via: 1.1 root\r\n"),
    ];
    let mut wrong = Vec::new();
    for (role, address) in rig.roles() {
        for (id, lines) in rows {
            let request = format!(
                "GET {} HTTP/1.1\r\nHost: claimed:1\r\n{lines}Connection: close\r\n\r\n",
                rig.path("mirror/A8")
            );
            let got = client::send(address, request.as_bytes());
            let mirrored = got.answers.first().map(client::Response::text);
            let mirrored = mirrored.unwrap_or_default();
            if got.statuses() != [200] || mirrored.contains("root") {
                wrong.push(format!("{role} {id}: {:?} {mirrored}", got.statuses()));
            }
            let lower = mirrored.to_lowercase();
            for (name, times) in [
                ("host: claimed:1", 1),
                ("x-forwarded-for: 127.0.0.1", 1),
                ("x-forwarded-user:", 1),
                ("\r\nhost:", 1),
                ("connection:", 0),
            ] {
                if lower.matches(name).count() != times {
                    wrong.push(format!("{role} {id}: not {times} of {name} in {mirrored}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_trailing_space_form_is_no_header() {
    let rig = rig();
    for (role, address) in rig.roles() {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: h\r\nX-Forwarded-User : root\r\n\r\n",
            rig.path("mirror/A8-trailing")
        );
        let got = client::send(address, request.as_bytes());
        assert_eq!(got.statuses(), [400], "{role}");
    }
    assert!(!rig.seen().contains("A8-trailing"));
}

#[test]
fn the_stream_programs_own_cookie_passes() {
    let rig = rig();
    for (role, address) in rig.roles() {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: h\r\nCookie: a=b; mlSession=c\r\nConnection: close\r\n\r\n",
            rig.path("mirror/A8-own")
        );
        let got = client::send(address, request.as_bytes());
        let mirrored = got.answers[0].text();
        assert!(
            mirrored.contains("cookie: mlSession=c\r\n"),
            "{role}: {mirrored}"
        );
        assert!(!mirrored.contains("a=b"), "{role}: {mirrored}");
    }
}
