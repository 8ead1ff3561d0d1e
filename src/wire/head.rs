//! Request and response heads (RFC 9112 sections 2 to 5): tokenised by `httparse`, then judged.
//!
//! Sans-IO: [`Scanner`] is shown the bytes received so far and says when a head is whole or
//! hopeless; [`RequestHead::parse`] and [`ResponseHead::parse`] take the whole head.

use std::io::BufRead as _;
use std::mem::MaybeUninit;

use super::fields::Fields;
use super::framing::{self, Framing};
use super::target;

/// Most field lines a head may have; the array lives on the stack.
const LINES_MAX: usize = 100 + RELAYED_LINES;
/// What a neck before this one may have added to a head that was within its own limits: an
/// address, a protocol, `Via`, a request id, a length, a host, an encoding.
const RELAYED_BYTES: usize = 1024;
const RELAYED_LINES: usize = 8;
/// How a neck names itself in `Via`. A client that claims to be one gains those few bytes.
pub const VIA: &[u8] = b"1.1 hydraneckwebrtc";
/// Status line or request line beyond the target: method, version, blanks.
const REQUEST_LINE_EXTRA: usize = 64;

/// What a head may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest head in bytes, request line and final empty line included.
    pub head: usize,
    /// Longest request target in bytes.
    pub target: usize,
    /// Most field lines.
    pub lines: usize,
}

impl Limits {
    /// For requests of strangers: browsers send 2 KiB or less, 16 KiB is what nginx and HAProxy
    /// take with their usual settings; 8000 bytes of target are what RFC 9110 section 4.1 asks for.
    pub const REQUEST: Self = Self {
        head: 16 * 1024,
        target: 8_000,
        lines: 100,
    };
    /// For responses of upstreams and peers.
    pub const RESPONSE: Self = Self {
        head: 32 * 1024,
        target: 0,
        lines: 100,
    };

    fn is_of_requests(&self) -> bool {
        self.target > 0
    }

    /// The limit of bytes while the fields are not known.
    fn scanned(&self) -> usize {
        self.head
            + if self.is_of_requests() {
                RELAYED_BYTES
            } else {
                0
            }
    }
}

/// Why a message is not accepted: the status to answer with, and the reason in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400.
    BadRequest(&'static str),
    /// 413.
    ContentTooLarge(&'static str),
    /// 414.
    TargetTooLong(&'static str),
    /// 417.
    ExpectationFailed(&'static str),
    /// 431.
    HeadTooLarge(&'static str),
    /// 501.
    NotImplemented(&'static str),
    /// 505.
    VersionNotSupported(&'static str),
}

impl Refusal {
    /// The HTTP status code.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::ContentTooLarge(_) => 413,
            Self::TargetTooLong(_) => 414,
            Self::ExpectationFailed(_) => 417,
            Self::HeadTooLarge(_) => 431,
            Self::NotImplemented(_) => 501,
            Self::VersionNotSupported(_) => 505,
        }
    }

    /// What was wrong.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::BadRequest(w)
            | Self::ContentTooLarge(w)
            | Self::TargetTooLong(w)
            | Self::ExpectationFailed(w)
            | Self::HeadTooLarge(w)
            | Self::NotImplemented(w)
            | Self::VersionNotSupported(w) => w,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.what())
    }
}

impl std::error::Error for Refusal {}

/// HTTP version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// The methods that are served or forwarded; any other is answered with 501.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// DELETE
    Delete,
    /// GET
    Get,
    /// HEAD
    Head,
    /// OPTIONS
    Options,
    /// PATCH
    Patch,
    /// POST
    Post,
    /// PUT
    Put,
}

impl Method {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "DELETE" => Self::Delete,
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "OPTIONS" => Self::Options,
            "PATCH" => Self::Patch,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            _ => return None,
        })
    }

    /// As it stands in a request line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }

    /// Whether sending it twice is the same as sending it once (RFC 9110 section 9.2.2).
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Self::Patch | Self::Post)
    }
}

/// A request head that was accepted.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// Path and query, byte for byte as received; starts with `/`, or is `*`.
    pub target: String,
    /// The version.
    pub version: Version,
    /// The field lines.
    pub fields: Fields,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the client wants the connection kept.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
    /// Whether this is a well-formed WebSocket upgrade (RFC 6455 section 4.1): the only protocol
    /// that is switched to.
    pub is_upgrade: bool,
}

impl RequestHead {
    /// Judges a whole head, final empty line included.
    ///
    /// # Errors
    /// The one correct refusal.
    pub fn parse(head: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        let mut lines = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; LINES_MAX];
        let mut parsed = httparse::Request::new(&mut []);
        let slots = (limits.lines + RELAYED_LINES).min(LINES_MAX);
        match parsed.parse_with_uninit_headers(head, &mut lines[..slots]) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(Refusal::BadRequest("incomplete head")),
            Err(error) => return Err(refuse(error, head)),
        }
        let (Some(method), Some(target), Some(minor)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(Refusal::BadRequest("incomplete request line"));
        };
        let version = if minor == 0 {
            Version::Http10
        } else {
            Version::Http11
        };
        if target.len() > limits.target {
            return Err(Refusal::TargetTooLong("request target too long"));
        }
        let method =
            Method::parse(method).ok_or(Refusal::NotImplemented("method not implemented"))?;
        let fields = collect(parsed.headers, head.len());
        check_size(head, &fields, limits)?;
        let target = checked_target(method, target, &fields)?;
        check_host(&fields, version)?;
        let framing = framing::of_request(&fields, version)?;
        let expects_continue = match fields.get("expect") {
            None => false,
            Some(v) if v.eq_ignore_ascii_case(b"100-continue") => version == Version::Http11,
            Some(_) => return Err(Refusal::ExpectationFailed("unknown expectation")),
        };
        let keep_alive = match version {
            Version::Http11 => !fields.has_member("connection", "close"),
            Version::Http10 => {
                fields.has_member("connection", "keep-alive")
                    && !fields.has_member("connection", "close")
            }
        };
        let is_upgrade = version == Version::Http11
            && method == Method::Get
            && framing == Framing::Empty
            && fields.has_member("connection", "upgrade")
            && fields
                .get("upgrade")
                .is_some_and(|p| p.eq_ignore_ascii_case(b"websocket"));
        Ok(Self {
            method,
            target,
            version,
            fields,
            framing,
            keep_alive,
            expects_continue,
            is_upgrade,
        })
    }

    /// The raw path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The raw query, without the question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The `Host` field, empty for an HTTP/1.0 request without one.
    #[must_use]
    pub fn host(&self) -> &str {
        self.fields.text("host").unwrap_or_default()
    }
}

/// A response head of an upstream.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// Status code, 100 to 999.
    pub status: u16,
    /// Reason phrase, visible ASCII or empty.
    pub reason: String,
    /// The version.
    pub version: Version,
    /// The field lines.
    pub fields: Fields,
    /// Whether the upstream keeps the connection.
    pub keep_alive: bool,
}

impl ResponseHead {
    /// Judges a whole head, final empty line included.
    ///
    /// # Errors
    /// What is wrong with it; the caller answers 502.
    pub fn parse(head: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        let mut lines = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; LINES_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let slots = &mut lines[..limits.lines.min(LINES_MAX)];
        match config.parse_response_with_uninit_headers(&mut parsed, head, slots) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(Refusal::BadRequest("incomplete head")),
            Err(error) => return Err(refuse(error, head)),
        }
        let (Some(status @ 100..), Some(minor)) = (parsed.code, parsed.version) else {
            return Err(Refusal::BadRequest("no valid status code"));
        };
        let version = if minor == 0 {
            Version::Http10
        } else {
            Version::Http11
        };
        let fields = collect(parsed.headers, head.len());
        let keep_alive = match version {
            Version::Http11 => !fields.has_member("connection", "close"),
            Version::Http10 => fields.has_member("connection", "keep-alive"),
        };
        let reason = parsed
            .reason
            .filter(|r| r.bytes().all(|b| (b' '..=b'~').contains(&b)));
        Ok(Self {
            status,
            reason: reason.unwrap_or_default().to_owned(),
            version,
            fields,
            keep_alive,
        })
    }
}

fn collect(lines: &[httparse::Header<'_>], bytes: usize) -> Fields {
    let mut fields = Fields::with_capacity(lines.len(), bytes);
    for line in lines {
        fields.push(line.name.as_bytes(), line.value);
    }
    fields
}

fn check_size(head: &[u8], fields: &Fields, limits: &Limits) -> Result<(), Refusal> {
    if head.len() <= limits.head && fields.len() <= limits.lines {
        return Ok(());
    }
    if fields.all("via").any(|v| v == VIA) {
        return Ok(());
    }
    Err(if head.len() > limits.head {
        Refusal::HeadTooLarge("head too large")
    } else {
        Refusal::HeadTooLarge("too many header fields")
    })
}

fn refuse(error: httparse::Error, head: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadTooLarge("too many header fields"),
        httparse::Error::Version => {
            let head = head.trim_ascii_start();
            let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
            let version = line.rsplit(|b| *b == b' ').next().unwrap_or_default();
            match version {
                [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                    Refusal::VersionNotSupported("only HTTP/1.0 and HTTP/1.1 are spoken here")
                }
                _ => Refusal::BadRequest("malformed HTTP version"),
            }
        }
        httparse::Error::HeaderName => Refusal::BadRequest("malformed field name"),
        httparse::Error::HeaderValue => Refusal::BadRequest("malformed field value"),
        httparse::Error::NewLine => Refusal::BadRequest("malformed line ending"),
        httparse::Error::Status => Refusal::BadRequest("malformed status line"),
        httparse::Error::Token => Refusal::BadRequest("malformed request line or field"),
    }
}

fn checked_target(method: Method, target: &str, fields: &Fields) -> Result<String, Refusal> {
    if target == "*" && method == Method::Options {
        return Ok(target.to_owned());
    }
    if !target::is_clean(target.as_bytes()) {
        return Err(Refusal::BadRequest(
            "request target has a byte that must be percent-encoded",
        ));
    }
    match target::split(target.as_bytes()) {
        None => Err(Refusal::BadRequest(
            "request target is neither origin-form nor http absolute-form",
        )),
        Some((None, _)) => Ok(target.to_owned()),
        Some((Some(authority), path)) => {
            if !target::is_host(authority) {
                return Err(Refusal::BadRequest(
                    "the target's authority is not a host name or address with an optional port",
                ));
            }
            // RFC 9112 3.2.2 lets the target win over Host; two readings are refused instead.
            if fields
                .get("host")
                .is_some_and(|h| !h.eq_ignore_ascii_case(authority))
            {
                return Err(Refusal::BadRequest(
                    "Host differs from the target's authority",
                ));
            }
            Ok(String::from_utf8_lossy(path).into_owned())
        }
    }
}

fn check_host(fields: &Fields, version: Version) -> Result<(), Refusal> {
    match fields.count("host") {
        0 if version == Version::Http10 => Ok(()),
        0 => Err(Refusal::BadRequest("no Host field")),
        1 if target::is_host(fields.get("host").unwrap_or_default()) => Ok(()),
        1 => Err(Refusal::BadRequest(
            "Host is not a host name or address with an optional port",
        )),
        _ => Err(Refusal::BadRequest("more than one Host field")),
    }
}

/// Looks at a growing buffer until it holds a whole head, reading every byte once.
#[derive(Debug, Default)]
pub struct Scanner {
    seen: usize,
    line_start: usize,
    lines: usize,
}

impl Scanner {
    /// Scans what is new in `received`, which begins with the head. `Some(len)` when the head is
    /// whole: its length with the final empty line.
    ///
    /// # Errors
    /// As soon as no continuation could be accepted: control bytes, a line ending other than
    /// CRLF, a first line that is none, or a limit.
    pub fn scan(&mut self, received: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
        // A line is looked at from where the last call stopped; a CR there may get its LF now.
        let mut from = self.seen.saturating_sub(1).max(self.line_start);
        while let Some(n) = line_feed(&received[from..]) {
            let i = from + n;
            let Some(line) = received[from..i].strip_suffix(b"\r") else {
                check_bytes(&received[from..i])?;
                return Err(Refusal::BadRequest("line ends with a bare LF"));
            };
            check_bytes(line)?;
            if i - 1 == self.line_start {
                if self.lines == 0 {
                    // One is overlooked, as RFC 9112 section 2.2 asks of servers.
                    if i > 1 || !limits.is_of_requests() {
                        return Err(Refusal::BadRequest("empty line before the head"));
                    }
                    self.line_start = i + 1;
                    from = i + 1;
                    continue;
                }
                if i + 1 > limits.scanned() {
                    return Err(Refusal::HeadTooLarge("head too large"));
                }
                return Ok(Some(i + 1));
            }
            if self.lines == 0 {
                check_first_line(&received[self.line_start..i - 1], limits)?;
            }
            self.lines += 1;
            self.line_start = i + 1;
            from = i + 1;
        }
        let rest = &received[from..];
        check_bytes(rest.strip_suffix(b"\r").unwrap_or(rest))?;
        self.seen = received.len();
        if self.lines == 0 {
            check_first_line_length(received, limits)?;
        }
        if received.len() >= limits.scanned() {
            return Err(Refusal::HeadTooLarge("head too large"));
        }
        Ok(None)
    }
}

/// Where the first LF is, found with the C library's `memchr`.
fn line_feed(bytes: &[u8]) -> Option<usize> {
    // Reading from a slice does not fail.
    let n = (&mut &*bytes).skip_until(b'\n').unwrap_or(0);
    (bytes[..n].last() == Some(&b'\n')).then(|| n - 1)
}

/// Refuses bytes that no line of a head may have, its CRLF left out.
fn check_bytes(line: &[u8]) -> Result<(), Refusal> {
    // Without an early way out the compiler looks at many bytes at once.
    let is_bad = |b: u8| (b < b' ' && b != b'\t') || b == 0x7f;
    if !line.iter().fold(false, |bad, b| bad | is_bad(*b)) {
        return Ok(());
    }
    Err(Refusal::BadRequest(
        match line.iter().find(|b| is_bad(**b)) {
            Some(b'\r') => "bare CR inside the head",
            _ => "control byte inside the head",
        },
    ))
}

fn check_first_line_length(line: &[u8], limits: &Limits) -> Result<(), Refusal> {
    if limits.target == 0 || line.len() <= limits.target + REQUEST_LINE_EXTRA {
        return Ok(());
    }
    Err(if line[..REQUEST_LINE_EXTRA].contains(&b' ') {
        Refusal::TargetTooLong("request target too long")
    } else {
        Refusal::NotImplemented("method not implemented")
    })
}

/// A first line needs three parts; HTTP/0.9 has two and would wait for fields that never come.
fn check_first_line(line: &[u8], limits: &Limits) -> Result<(), Refusal> {
    check_first_line_length(line, limits)?;
    let parts = line.split(|b| *b == b' ').filter(|p| !p.is_empty()).count();
    if parts < 2 || (parts == 2 && !line.starts_with(b"HTTP/")) {
        return Err(Refusal::BadRequest("malformed request line"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(head: &[u8]) -> Result<RequestHead, u16> {
        let len = Scanner::default()
            .scan(head, &Limits::REQUEST)
            .map_err(Refusal::status)?
            .ok_or(0_u16)?;
        RequestHead::parse(&head[..len], &Limits::REQUEST).map_err(Refusal::status)
    }

    #[test]
    fn a_plain_request_is_accepted_with_its_raw_target() {
        let head =
            judge(b"GET /a/../%2e%2e/x?y=1 HTTP/1.1\r\nHost: a:80\r\nX: caf\xc3\xa9\r\n\r\n")
                .unwrap();
        assert_eq!(head.target, "/a/../%2e%2e/x?y=1");
        assert_eq!((head.path(), head.query()), ("/a/../%2e%2e/x", Some("y=1")));
        assert_eq!(head.fields.get("x"), Some(&b"caf\xc3\xa9"[..]));
        assert!(head.keep_alive && !head.is_upgrade);
    }

    #[test]
    fn every_malformed_head_has_one_correct_refusal() {
        for (head, status) in [
            (&b"GET / HTTP/1.1\nHost: a\n\n"[..], 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n: a\r\nHost: a\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX\xc3: a\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
            (b"GET /public HTTP/1.1\r\nHost: x/session/1?\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: u:p@x\r\n\r\n", 400),
            (b"GET /\r\n", 400),
            (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
            (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            (b"GET / HTTP/1.01\r\nHost: a\r\n\r\n", 400),
            (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET http:/// HTTP/1.0\r\n\r\n", 400),
            (b"GET http://u@a/ HTTP/1.0\r\n\r\n", 400),
            (b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
            (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
            (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
            (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", 417),
            (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"\r\nGET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            (b"\r\nGET /\r\n", 400),
            (b"\x16\x03\x01\x02\x00\x01", 400),
        ] {
            assert_eq!(
                judge(head).map(|_| ()),
                Err(status),
                "{}",
                String::from_utf8_lossy(head)
            );
        }
    }

    #[test]
    fn limits_hold_to_the_byte() {
        let with_head = |n: usize| {
            let mut head = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
            head.resize(n - 4, b'x');
            head.extend_from_slice(b"\r\n\r\n");
            head
        };
        assert!(judge(&with_head(Limits::REQUEST.head)).is_ok());
        assert_eq!(
            judge(&with_head(Limits::REQUEST.head + 1)).map(|_| ()),
            Err(431)
        );
        let with_lines = |n: usize| {
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "X: y\r\n".repeat(n - 1)
            )
            .into_bytes()
        };
        assert!(judge(&with_lines(100)).is_ok());
        assert_eq!(judge(&with_lines(101)).map(|_| ()), Err(431));
        let target = |n: usize| {
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(n - 1)).into_bytes()
        };
        assert!(judge(&target(8_000)).is_ok());
        assert_eq!(judge(&target(8_001)).map(|_| ()), Err(414));
        assert_eq!(judge(&target(65_536)).map(|_| ()), Err(414));
        assert_eq!(judge(&vec![b'A'; 1 << 20]).map(|_| ()), Err(501));
    }

    #[test]
    fn a_head_from_a_neck_may_be_longer_by_what_it_added() {
        let head = |via: &str, lines: usize, bytes: usize| {
            let mut head = format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {via}\r\n");
            head.push_str(&"X: y\r\n".repeat(lines - 3));
            head.push_str("X: ");
            head.push_str(&"z".repeat(bytes - head.len() - 4));
            head.push_str("\r\n\r\n");
            judge(head.as_bytes()).map(|h| h.fields.len())
        };
        let most = Limits::REQUEST.head + RELAYED_BYTES;
        let via = "1.1 hydraneckwebrtc";
        assert_eq!(head(via, 108, most), Ok(108));
        assert_eq!(head(via, 109, most), Err(431));
        assert_eq!(head(via, 100, most + 1), Err(431));
        assert_eq!(head("1.1 other", 101, 1_000), Err(431));
        assert_eq!(head("1.1 other", 100, Limits::REQUEST.head + 1), Err(431));
    }

    #[test]
    fn one_empty_line_before_a_request_is_overlooked() {
        let head = b"\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..head.len() {
            let mut scanner = Scanner::default();
            assert_eq!(scanner.scan(&head[..cut], &Limits::REQUEST), Ok(None));
            assert_eq!(scanner.scan(head, &Limits::REQUEST), Ok(Some(head.len())));
        }
        assert_eq!(judge(head).unwrap().target, "/x");
        let mut answer = Scanner::default();
        assert!(
            answer
                .scan(b"\r\nHTTP/1.1 200 OK\r\n\r\n", &Limits::RESPONSE)
                .is_err()
        );
    }

    #[test]
    fn a_head_in_any_two_pieces_reads_the_same() {
        let head = b"GET /x HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\nrest";
        for cut in 0..head.len() - 4 {
            let mut scanner = Scanner::default();
            let first = scanner.scan(&head[..cut], &Limits::REQUEST).unwrap();
            assert_eq!(first, None);
            assert_eq!(
                scanner.scan(head, &Limits::REQUEST),
                Ok(Some(head.len() - 4))
            );
        }
    }

    #[test]
    fn only_a_well_formed_websocket_request_is_an_upgrade() {
        let up = |line: &str, extra: &str| {
            judge(
                format!("{line} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n{extra}\r\n")
                    .as_bytes(),
            )
            .unwrap()
            .is_upgrade
        };
        assert!(up("GET /", "Connection: keep-alive, Upgrade\r\n"));
        assert!(!up("GET /", ""));
        assert!(!up("POST /", "Connection: upgrade\r\n"));
        assert!(!up("GET /", "Connection: upgrade\r\nContent-Length: 3\r\n"));
    }

    #[test]
    fn a_response_of_any_status_is_read() {
        let parse = |text: &str| ResponseHead::parse(text.as_bytes(), &Limits::RESPONSE);
        assert_eq!(
            parse("HTTP/1.1 520 Odd\r\nA: b\r\n\r\n").unwrap().status,
            520
        );
        assert_eq!(parse("HTTP/1.0 299\r\n\r\n").unwrap().reason, "");
        assert!(parse("HTTP/1.1 099 x\r\n\r\n").is_err());
        assert!(parse("HTTP/2 200 x\r\n\r\n").is_err());
    }
}
