//! The offer: what a browser may ask of the microphone peer.
//!
//! The endpoint is open to anyone who knows the session, so an offer is taken apart before anything
//! acts on it. Nothing in it may make the worker send to an address that a stranger chose: every
//! line that carries one is removed, and the parsed result is checked again.

use std::io::Cursor;

use rtc::sdp::SessionDescription;
use rtc::sdp::description::media::MediaDescription;
use serde::Deserialize;

pub use super::error::OfferError;

/// Largest offer that is read, in bytes: ten times what browsers send for one audio track.
pub const OFFER_MAX: usize = 64 * 1024;

/// Attributes that are removed: they name addresses to send to, or a peer that checks nothing.
const STRIPPED: [&str; 5] = [
    "candidate",
    "end-of-candidates",
    "ice-lite",
    "remote-candidates",
    "rtcp",
];

/// The connection line of a description that names no address (RFC 8840, section 4.3.1).
const NO_ADDRESS: &str = "c=IN IP4 0.0.0.0";
/// The only transport that is answered: DTLS-SRTP over UDP (RFC 5764, section 8).
pub(super) const TRANSPORT: &str = "UDP/TLS/RTP/SAVPF";
/// Opus is always written so (RFC 7587, section 7).
const OPUS: (&str, u32, &str) = ("opus", 48_000, "2");
/// Payload types that would be taken for RTCP on the same port (RFC 5761, section 4).
const RTCP_TYPES: std::ops::Range<u8> = 64..96;
/// Lengths of ICE user name fragments and passwords (RFC 8839, section 5.4).
const UFRAG_LENGTHS: std::ops::RangeInclusive<usize> = 4..=256;
const PWD_LENGTHS: std::ops::RangeInclusive<usize> = 22..=256;
/// Longest identification tag that is repeated in the answer; browsers use a digit.
const MID_MAX: usize = 64;
/// Fingerprints that are compared; browsers send one.
const FINGERPRINTS_MAX: usize = 8;

/// A checked offer of one Opus track, without addresses.
#[derive(Clone, Debug)]
pub struct SdpOffer {
    sdp: String,
    /// The section's identification tag.
    pub(super) mid: String,
    /// Whether the section is offered in a bundle.
    pub(super) bundled: bool,
    /// Payload types of Opus, at least one, as the browser prefers them.
    pub(super) opus: Vec<u8>,
    pub(super) ufrag: String,
    pub(super) pwd: String,
    /// SHA-256 of the certificates that may come, at least one.
    pub(super) fingerprints: Vec<Fingerprint>,
}

/// SHA-256 of a certificate (RFC 8122).
pub(super) type Fingerprint = [u8; 32];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfferJson {
    #[serde(rename = "type")]
    kind: String,
    sdp: String,
}

impl SdpOffer {
    /// Reads `{"type": "offer", "sdp": "..."}`.
    ///
    /// # Errors
    /// [`OfferError`] names what is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, OfferError> {
        if body.len() > OFFER_MAX {
            return Err(OfferError::TooLarge(body.len()));
        }
        let body: OfferJson =
            serde_json::from_slice(body).map_err(|e| OfferError::NotJson(e.to_string()))?;
        if body.kind != "offer" {
            return Err(OfferError::NotAnOffer(body.kind.chars().take(16).collect()));
        }
        let sdp = without_addresses(&body.sdp)?;
        let parsed = SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes()))
            .map_err(|e| OfferError::BadSdp(e.to_string()))?;
        let audio = only_audio(&parsed)?;
        let carries = |key: &str| STRIPPED.contains(&key);
        if parsed.attributes.iter().any(|a| carries(&a.key))
            || audio.attributes.iter().any(|a| carries(&a.key))
        {
            return Err(OfferError::BadSdp("an address is left in it".into()));
        }
        let ufrag = credential(&parsed, audio, "ice-ufrag", UFRAG_LENGTHS)?;
        let pwd = credential(&parsed, audio, "ice-pwd", PWD_LENGTHS)?;
        let fingerprints = fingerprints(&parsed, audio)?;
        let opus = opus(audio);
        if opus.is_empty() {
            return Err(OfferError::NoOpus);
        }
        transport(&parsed, audio)?;
        let mid = mid(audio)?;
        let bundles = values(&parsed, None, "group");
        let bundled = bundles
            .filter_map(|group| group.strip_prefix("BUNDLE "))
            .any(|tags| tags.split(' ').any(|tag| tag == mid));
        Ok(Self {
            mid,
            bundled,
            opus,
            ufrag,
            pwd,
            fingerprints,
            sdp,
        })
    }

    /// The description as it was read, without addresses.
    #[must_use]
    pub fn sdp(&self) -> &str {
        &self.sdp
    }
}

/// The one section in use, which sends audio.
fn only_audio(parsed: &SessionDescription) -> Result<&MediaDescription, OfferError> {
    let sections = &parsed.media_descriptions;
    let in_use = |m: &&MediaDescription| {
        m.media_name.media == "audio"
            && (m.media_name.port.value != 0 || m.has_attribute("bundle-only"))
    };
    let Some(audio) = sections.iter().find(in_use) else {
        return Err(OfferError::NoAudio);
    };
    if sections.len() != 1 {
        return Err(OfferError::NotOnlyAudio(sections.len()));
    }
    if audio.has_attribute("recvonly") || audio.has_attribute("inactive") {
        return Err(OfferError::NotSending);
    }
    Ok(audio)
}

/// An attribute's values in the section, or in the session where the section has none: what is
/// said of a section goes before what is said of all (RFC 8866, section 5.13).
fn values<'a>(
    parsed: &'a SessionDescription,
    audio: Option<&'a MediaDescription>,
    key: &'static str,
) -> impl Iterator<Item = &'a str> {
    let own = audio.filter(|section| section.has_attribute(key));
    let attributes = own.map_or(&parsed.attributes, |section| &section.attributes);
    let of_key = attributes.iter().filter(move |a| a.key == key);
    of_key.filter_map(|a| a.value.as_deref())
}

/// A credential of ICE: characters and length as RFC 8839 has them.
fn credential(
    parsed: &SessionDescription,
    audio: &MediaDescription,
    name: &'static str,
    lengths: std::ops::RangeInclusive<usize>,
) -> Result<String, OfferError> {
    let value = values(parsed, Some(audio), name).next();
    let value = value.ok_or(OfferError::NoCredential(name))?;
    let is_ice = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    // Some stacks write the fragment in base64url.
    if !lengths.contains(&value.len()) || !value.chars().all(|c| is_ice(c) || c == '-' || c == '_')
    {
        let (from, to) = (lengths.start(), lengths.end());
        return Err(OfferError::BadSdp(format!(
            "{name} has {} bytes or is no word, send {from} to {to} letters and digits",
            value.len()
        )));
    }
    Ok(value.to_owned())
}

/// The SHA-256 fingerprints; others are left out (RFC 8122, section 5).
fn fingerprints(
    parsed: &SessionDescription,
    audio: &MediaDescription,
) -> Result<Vec<Fingerprint>, OfferError> {
    let mut offered = values(parsed, Some(audio), "fingerprint").peekable();
    if offered.peek().is_none() {
        return Err(OfferError::NoCredential("fingerprint"));
    }
    let found: Vec<Fingerprint> = offered.filter_map(sha256).take(FINGERPRINTS_MAX).collect();
    if found.is_empty() {
        let why = "no fingerprint is sha-256 with 32 bytes in hex, send one".into();
        return Err(OfferError::BadSdp(why));
    }
    Ok(found)
}

/// `sha-256 00:11:...`
fn sha256(value: &str) -> Option<Fingerprint> {
    let (hash, digits) = value.split_once(' ')?;
    let mut bytes = digits.trim().split(':');
    let mut found = [0; 32];
    for byte in &mut found {
        let two = bytes.next().filter(|two| two.len() == 2)?;
        *byte = u8::from_str_radix(two, 16).ok()?;
    }
    (hash.eq_ignore_ascii_case("sha-256") && bytes.next().is_none()).then_some(found)
}

/// The payload types of Opus in the section's own order.
fn opus(audio: &MediaDescription) -> Vec<u8> {
    let codecs = audio.codecs();
    let formats = audio.media_name.formats.iter();
    let types = formats.filter_map(|format| format.parse::<u8>().ok());
    let is_opus = |payload_type: &u8| {
        codecs.get(payload_type).is_some_and(|codec| {
            codec.name.eq_ignore_ascii_case(OPUS.0)
                && (codec.clock_rate, codec.encoding_parameters.as_str()) == (OPUS.1, OPUS.2)
        })
    };
    let fits = |payload_type: &u8| *payload_type < 128 && !RTCP_TYPES.contains(payload_type);
    let mut found: Vec<u8> = types.filter(fits).filter(is_opus).collect();
    found.dedup();
    found
}

/// Refuses what is not DTLS-SRTP with RTCP on the same port and a browser that opens the handshake.
fn transport(parsed: &SessionDescription, audio: &MediaDescription) -> Result<(), OfferError> {
    let protos = audio.media_name.protos.join("/");
    if protos != TRANSPORT {
        let protos: String = protos.chars().take(32).collect();
        let why = format!("its transport is {protos:?}, offer {TRANSPORT}");
        return Err(OfferError::BadSdp(why));
    }
    if !audio.has_attribute("rtcp-mux") {
        return Err(OfferError::BadSdp("it has no rtcp-mux, offer it".into()));
    }
    match values(parsed, Some(audio), "setup").next() {
        None | Some("active" | "actpass") => Ok(()),
        Some(_) => Err(OfferError::BadSdp(
            "its setup lets nobody open the handshake, offer actpass".into(),
        )),
    }
}

/// The section's identification tag: a token (RFC 5888), as it is repeated in the answer.
fn mid(audio: &MediaDescription) -> Result<String, OfferError> {
    let mid = audio.attribute("mid").flatten().unwrap_or_default();
    let is_token = |c: char| c.is_ascii_graphic() && !"\"(),/:;<=>?@[\\]".contains(c);
    if mid.is_empty() || mid.len() > MID_MAX || !mid.chars().all(is_token) {
        let why = format!("its mid is missing, no token or longer than {MID_MAX} bytes");
        return Err(OfferError::BadSdp(why));
    }
    Ok(mid.to_owned())
}

/// The description line by line, without the attributes that name addresses, and with a connection
/// line that names none, as trickling browsers write it (RFC 8840, section 4.3.1).
fn without_addresses(sdp: &str) -> Result<String, OfferError> {
    let mut kept = String::with_capacity(sdp.len());
    for line in sdp.lines() {
        // A lone CR would hide a second line from this filter but not from every parser.
        if line.chars().any(char::is_control) {
            return Err(OfferError::BadSdp("control character in a line".into()));
        }
        let attribute = line
            .strip_prefix("a=")
            .map(|a| a.split(':').next().unwrap_or(a).trim());
        if attribute.is_some_and(|name| STRIPPED.contains(&name)) {
            continue;
        }
        kept.push_str(if line.starts_with("c=") {
            NO_ADDRESS
        } else {
            line
        });
        kept.push_str("\r\n");
    }
    Ok(kept)
}

#[cfg(test)]
#[path = "sdp_offer_tests.rs"]
pub(super) mod tests;
