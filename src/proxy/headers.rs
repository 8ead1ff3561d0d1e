//! Which header fields pass, and in which direction.

use crate::wire::Fields;

/// Fields of one connection, never passed on (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [&[u8]; 9] = [
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];
/// Request fields that framing, the proxy or its trust decide.
const DECIDED: [&[u8]; 8] = [
    b"authorization",
    b"client-ip",
    b"content-length",
    b"expect",
    b"forwarded",
    b"true-client-ip",
    b"via",
    b"x-real-ip",
];
/// Request fields that would let an HTML document come back partial, unchanged or compressed.
const CONDITIONAL: [&[u8]; 7] = [
    b"accept-encoding",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"range",
];
/// Response fields that would rule over more than the page they come with: all sessions share an
/// origin, with each other and with the dashboard.
const OF_THE_ORIGIN: [&[u8]; 9] = [
    b"accept-ch",
    b"alt-svc",
    b"clear-site-data",
    b"cross-origin-opener-policy",
    b"nel",
    b"origin-agent-cluster",
    b"report-to",
    b"service-worker-allowed",
    b"strict-transport-security",
];
/// Response fields that describe the bytes before a snippet was put in.
const OF_UNCHANGED_BYTES: [&[u8]; 7] = [
    b"accept-ranges",
    b"content-digest",
    b"content-md5",
    b"digest",
    b"etag",
    b"last-modified",
    b"repr-digest",
];

fn is_one_of(name: &[u8], list: &[&[u8]]) -> bool {
    list.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// Fields that `Connection` may not take away: without them a request means another thing.
const END_TO_END: [&[u8]; 3] = [b"host", b"origin", b"content-type"];

/// Whether a `Connection` field names this field as one of its connection only.
fn is_named_by_connection(fields: &Fields, name: &[u8]) -> bool {
    !is_one_of(name, &END_TO_END)
        && fields
            .members("connection")
            .any(|m| m.eq_ignore_ascii_case(name))
}

/// `Some(fields)` only if `Connection` lists other names than the standard ones: this skips a
/// comparison for each field.
#[must_use]
pub(crate) fn limited_by_connection(fields: &Fields) -> Option<&Fields> {
    const USUAL: [&[u8]; 3] = [b"close", b"keep-alive", b"upgrade"];
    fields
        .members("connection")
        .any(|m| !is_one_of(m, &USUAL))
        .then_some(fields)
}

/// Whether a request field passes to the upstream. `limited` comes from
/// [`limited_by_connection`].
/// `set` are the names that the proxy sets itself; `document` says that the answer may get a snippet.
#[must_use]
pub(crate) fn passes_upstream(
    limited: Option<&Fields>,
    name: &[u8],
    set: &[(&str, String)],
    document: bool,
) -> bool {
    let is_look_alike = name.contains(&b'_');
    let is_forwarded = name.len() >= 11 && name[..11].eq_ignore_ascii_case(b"x-forwarded");
    !is_look_alike
        && !is_forwarded
        && !is_one_of(name, &HOP_BY_HOP)
        && !is_one_of(name, &DECIDED)
        && !set
            .iter()
            .any(|(n, _)| name.eq_ignore_ascii_case(n.as_bytes()))
        && !name.eq_ignore_ascii_case(b"cookie")
        && !(document && is_one_of(name, &CONDITIONAL))
        && !limited.is_some_and(|fields| is_named_by_connection(fields, name))
}

/// Whether a response field passes to the client. `changed` says that a snippet goes in.
#[must_use]
pub(crate) fn passes_downstream(limited: Option<&Fields>, name: &[u8], changed: bool) -> bool {
    let is_stale = changed && is_one_of(name, &OF_UNCHANGED_BYTES);
    !is_stale
        && !is_one_of(name, &HOP_BY_HOP)
        && !is_one_of(name, &OF_THE_ORIGIN)
        && !name.eq_ignore_ascii_case(b"content-length")
        && !limited.is_some_and(|fields| is_named_by_connection(fields, name))
}

/// Whether a trailer field of a response passes: none that framing, routing or trust read
/// (RFC 9110 section 6.5.1).
#[must_use]
pub(crate) fn passes_as_trailer(name: &[u8]) -> bool {
    const NEVER: [&[u8]; 5] = [
        b"content-length",
        b"content-type",
        b"host",
        b"set-cookie",
        b"location",
    ];
    !is_one_of(name, &HOP_BY_HOP) && !is_one_of(name, &DECIDED) && !is_one_of(name, &NEVER)
}

/// The cookies of these names out of all `Cookie` lines, as one value; `None` when there are none.
#[must_use]
pub(crate) fn cookies(fields: &Fields, names: &[&str]) -> Option<Vec<u8>> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for line in fields.all("cookie") {
        for pair in line.split(|b| *b == b';').map(<[u8]>::trim_ascii) {
            let name = pair.split(|b| *b == b'=').next().unwrap_or_default();
            if names.iter().any(|n| n.as_bytes() == name) {
                kept.push(pair);
            }
        }
    }
    (!kept.is_empty()).then(|| kept.join(&b"; "[..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in lines {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    #[test]
    fn nothing_a_client_says_about_who_it_is_passes() {
        let set = [
            ("X-Forwarded-User", "u".to_owned()),
            ("X-Neck", "n".to_owned()),
        ];
        let all = fields(&[("Connection", "close, x-named, host, origin")]);
        let all = limited_by_connection(&all);
        for name in [
            "x-forwarded-user",
            "X-FORWARDED-USER",
            "X_Forwarded_User",
            "X-Forwarded-For",
            "Forwarded",
            "x-real-ip",
            "Authorization",
            "Cookie",
            "X-Named",
            "x-neck",
            "Upgrade",
            "TE",
            "Expect",
            "Proxy-Authorization",
            "Content-Length",
            "Transfer-Encoding",
            "Keep-Alive",
        ] {
            assert!(
                !passes_upstream(all, name.as_bytes(), &set, false),
                "{name}"
            );
        }
        for name in [
            "Host",
            "Accept",
            "User-Agent",
            "If-None-Match",
            "Range",
            "Sec-WebSocket-Key",
            "Origin",
        ] {
            assert!(passes_upstream(all, name.as_bytes(), &set, false), "{name}");
        }
        assert!(!passes_upstream(all, b"if-none-match", &set, true));
    }

    #[test]
    fn a_stream_program_does_not_rule_over_the_origin() {
        for name in [
            "Service-Worker-Allowed",
            "clear-site-data",
            "Cross-Origin-Opener-Policy",
            "Alt-Svc",
            "NEL",
            "Strict-Transport-Security",
        ] {
            assert!(!passes_downstream(None, name.as_bytes(), false), "{name}");
        }
        for name in ["Content-Security-Policy", "Set-Cookie", "Cache-Control"] {
            assert!(passes_downstream(None, name.as_bytes(), false), "{name}");
        }
    }

    #[test]
    fn only_the_named_cookies_are_kept() {
        let all = fields(&[
            ("Cookie", "a=1; mlSession=x; b=2"),
            ("cookie", "mlSession=y;mlsession=z"),
        ]);
        assert_eq!(
            cookies(&all, &["mlSession"]).unwrap(),
            b"mlSession=x; mlSession=y"
        );
        assert_eq!(cookies(&all, &["other"]), None);
    }
}
