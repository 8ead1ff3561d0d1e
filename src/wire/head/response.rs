//! Response heads of upstreams and peers.

use std::mem::MaybeUninit;

use super::super::fields::Fields;
use super::connection_options::ConnectionOptions;
use super::limits::LINES_MAX;
use super::{HeadLimits, HeadRefusal, Version, collect, refusal_of};

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
    /// Whether the upstream keeps the connection open.
    pub keep_alive: bool,
}

impl ResponseHead {
    /// Parses a complete head, including the final empty line.
    ///
    /// # Errors
    /// Why it is invalid; the caller answers 502.
    pub fn parse(head: &[u8], limits: &HeadLimits) -> Result<Self, HeadRefusal> {
        let mut lines = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; LINES_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let slots = &mut lines[..limits.lines.min(LINES_MAX)];
        match config.parse_response_with_uninit_headers(&mut parsed, head, slots) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => {
                return Err(HeadRefusal::BadRequest("incomplete head"));
            }
            Err(error) => return Err(refusal_of(error, head)),
        }
        let (Some(status @ 100..), Some(minor)) = (parsed.code, parsed.version) else {
            return Err(HeadRefusal::BadRequest("no valid status code"));
        };
        let version = if minor == 0 {
            Version::Http10
        } else {
            Version::Http11
        };
        let fields = collect(parsed.headers, head.len());
        let options = ConnectionOptions::of(&fields)?;
        let reason = parsed
            .reason
            .filter(|r| r.bytes().all(|b| (b' '..=b'~').contains(&b)));
        Ok(Self {
            status,
            reason: reason.unwrap_or_default().to_owned(),
            version,
            fields,
            keep_alive: options.keeps_alive(version),
        })
    }
}
