//! Request heads: validation and meaning.

use std::mem::MaybeUninit;

use super::super::fields::Fields;
use super::super::framing::{self, Framing};
use super::super::target;
use super::connection_options::ConnectionOptions;
use super::limits::{LINES_MAX, RELAYED_LINES, VIA};
use super::{HeadLimits, HeadRefusal, Version, collect, refusal_of};

/// The methods that are served or forwarded; others are answered with 501.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// DELETE
    Delete,
    /// GET
    Get,
    /// HEAD
    Head,
    /// OPTIONS
    ConnectionOptions,
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
            "OPTIONS" => Self::ConnectionOptions,
            "PATCH" => Self::Patch,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            _ => return None,
        })
    }

    /// The method as written in a request line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::ConnectionOptions => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }

    /// Whether a request may be sent again (RFC 9110 section 9.2.2).
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Self::Patch | Self::Post)
    }
}

/// A valid request head.
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
    /// How the end of the body is found.
    pub framing: Framing,
    /// Whether the client wants to keep the connection open.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
    /// Whether this is a valid WebSocket upgrade (RFC 6455 section 4.1), the only protocol switch
    /// that is supported.
    pub is_upgrade: bool,
}

impl RequestHead {
    /// Parses a complete head, including the final empty line.
    ///
    /// # Errors
    /// The status and reason to answer with.
    pub fn parse(head: &[u8], limits: &HeadLimits) -> Result<Self, HeadRefusal> {
        let mut lines = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; LINES_MAX];
        let mut parsed = httparse::Request::new(&mut []);
        let slots = (limits.lines + RELAYED_LINES).min(LINES_MAX);
        match parsed.parse_with_uninit_headers(head, &mut lines[..slots]) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => {
                return Err(HeadRefusal::BadRequest("incomplete head"));
            }
            Err(error) => return Err(refusal_of(error, head)),
        }
        let (Some(method), Some(target), Some(minor)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(HeadRefusal::BadRequest("incomplete request line"));
        };
        let version = if minor == 0 {
            Version::Http10
        } else {
            Version::Http11
        };
        if target.len() > limits.target {
            return Err(HeadRefusal::TargetTooLong("request target too long"));
        }
        let method =
            Method::parse(method).ok_or(HeadRefusal::NotImplemented("method not implemented"))?;
        let fields = collect(parsed.headers, head.len());
        check_size(head, &fields, limits)?;
        let target = checked_target(method, target, &fields)?;
        check_host(&fields, version)?;
        let framing = framing::of_request(&fields, version)?;
        let expects_continue = match fields.get("expect") {
            None => false,
            Some(v) if v.eq_ignore_ascii_case(b"100-continue") => version == Version::Http11,
            Some(_) => return Err(HeadRefusal::ExpectationFailed("unknown expectation")),
        };
        let options = ConnectionOptions::of(&fields)?;
        let is_upgrade = version == Version::Http11
            && method == Method::Get
            && framing == Framing::Empty
            && options.upgrade
            && fields
                .get("upgrade")
                .is_some_and(|p| p.eq_ignore_ascii_case(b"websocket"));
        Ok(Self {
            method,
            target,
            version,
            fields,
            framing,
            keep_alive: options.keeps_alive(version),
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

/// A head over the limits is accepted if another neck relayed it: see [`RELAYED_LINES`].
fn check_size(head: &[u8], fields: &Fields, limits: &HeadLimits) -> Result<(), HeadRefusal> {
    if head.len() <= limits.head && fields.len() <= limits.lines {
        return Ok(());
    }
    if fields.all("via").any(|v| v == VIA) {
        return Ok(());
    }
    Err(if head.len() > limits.head {
        HeadRefusal::HeadTooLarge("head too large")
    } else {
        HeadRefusal::HeadTooLarge("too many header fields")
    })
}

fn checked_target(method: Method, target: &str, fields: &Fields) -> Result<String, HeadRefusal> {
    if target == "*" && method == Method::ConnectionOptions {
        return Ok(target.to_owned());
    }
    if !target::is_clean(target.as_bytes()) {
        return Err(HeadRefusal::BadRequest(
            "request target has a byte that must be percent-encoded",
        ));
    }
    match target::split(target.as_bytes()) {
        None => Err(HeadRefusal::BadRequest(
            "request target is neither origin-form nor http absolute-form",
        )),
        Some((None, _)) => Ok(target.to_owned()),
        Some((Some(authority), path)) => {
            if !target::is_host(authority) {
                return Err(HeadRefusal::BadRequest(
                    "the target's authority is not a host name or address with an optional port",
                ));
            }
            // RFC 9112 3.2.2 lets the target override Host; here the ambiguity is refused.
            if fields
                .get("host")
                .is_some_and(|h| !h.eq_ignore_ascii_case(authority))
            {
                return Err(HeadRefusal::BadRequest(
                    "Host differs from the target's authority",
                ));
            }
            Ok(String::from_utf8_lossy(path).into_owned())
        }
    }
}

fn check_host(fields: &Fields, version: Version) -> Result<(), HeadRefusal> {
    match fields.count("host") {
        0 if version == Version::Http10 => Ok(()),
        0 => Err(HeadRefusal::BadRequest("no Host field")),
        1 if target::is_host(fields.get("host").unwrap_or_default()) => Ok(()),
        1 => Err(HeadRefusal::BadRequest(
            "Host is not a host name or address with an optional port",
        )),
        _ => Err(HeadRefusal::BadRequest("more than one Host field")),
    }
}
