//! The SDP offer: parsing and validation, sans-IO.
//!
//! Anyone who knows the session id can send an offer. It must not make the worker send to an address
//! of the sender's choice: every line with an address is removed before the offer is parsed, and
//! the parsed result is checked again.

use std::io::Cursor;

use rtc::sdp::SessionDescription;
use rtc::sdp::description::media::MediaDescription;
use serde::Deserialize;

use super::error::OfferError;

/// Largest offer in bytes: ten times what browsers send for one audio track.
pub(crate) const OFFER_MAX: usize = 64 * 1024;

/// Attributes that are removed: they contain addresses, or announce a peer that sends no checks.
const STRIPPED: [&str; 5] = [
    "candidate",
    "end-of-candidates",
    "ice-lite",
    "remote-candidates",
    "rtcp",
];

/// The connection line without an address (RFC 8840, section 4.3.1).
const NO_ADDRESS: &str = "c=IN IP4 0.0.0.0";
/// The only supported transport: DTLS-SRTP over UDP (RFC 5764, section 8).
pub(super) const TRANSPORT: &str = "UDP/TLS/RTP/SAVPF";
/// Name, clock rate and channels of Opus, always the same (RFC 7587, section 7).
const OPUS: (&str, u32, &str) = ("opus", 48_000, "2");
/// Payload types that look like RTCP on the same port (RFC 5761, section 4).
const RTCP_TYPES: std::ops::Range<u8> = 64..96;
/// Lengths of ICE user name fragments and passwords (RFC 8839, section 5.4).
const UFRAG_LENGTHS: std::ops::RangeInclusive<usize> = 4..=256;
const PWD_LENGTHS: std::ops::RangeInclusive<usize> = 22..=256;
/// Longest `mid` in bytes; browsers use one digit. The answer repeats it.
const MID_MAX: usize = 64;
/// Most fingerprints that are compared; browsers send one.
const FINGERPRINTS_MAX: usize = 8;

/// A valid offer of one Opus track, without addresses.
#[derive(Clone, Debug)]
pub struct SdpOffer {
    /// The identification tag of the audio section.
    pub(super) mid: String,
    /// Whether the section is in a BUNDLE group.
    pub(super) bundled: bool,
    /// Payload types of Opus in the browser's order of preference, at least one.
    pub(super) opus: Vec<u8>,
    pub(super) ufrag: String,
    pub(super) pwd: String,
    /// SHA-256 of the certificates that are accepted, at least one.
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
    /// Parses and validates `{"type": "offer", "sdp": "..."}`.
    ///
    /// # Errors
    /// [`OfferError`] says why it is refused.
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
        let mut attributes = parsed.attributes.iter().chain(&audio.attributes);
        if attributes.any(|a| STRIPPED.contains(&a.key.as_str())) {
            return Err(OfferError::BadSdp("an address is left in it".into()));
        }
        let ufrag = credential(&parsed, audio, "ice-ufrag", UFRAG_LENGTHS)?;
        let pwd = credential(&parsed, audio, "ice-pwd", PWD_LENGTHS)?;
        let fingerprints = fingerprints(&parsed, audio)?;
        let opus = opus(audio);
        if opus.is_empty() {
            return Err(OfferError::NoOpus);
        }
        check_transport(&parsed, audio)?;
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
        })
    }
}

/// The only section, which must send audio.
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

/// The values of an attribute: those of the section, or of the session if the section has none
/// (RFC 8866, section 5.13).
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

/// An ICE credential; characters and length are checked by RFC 8839.
fn credential(
    parsed: &SessionDescription,
    audio: &MediaDescription,
    name: &'static str,
    lengths: std::ops::RangeInclusive<usize>,
) -> Result<String, OfferError> {
    let value = values(parsed, Some(audio), name).next();
    let value = value.ok_or(OfferError::NoCredential(name))?;
    let is_ice = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    // Some stacks use base64url for the fragment.
    if !lengths.contains(&value.len()) || !value.chars().all(|c| is_ice(c) || c == '-' || c == '_')
    {
        let (from, to) = (lengths.start(), lengths.end());
        return Err(OfferError::BadSdp(format!(
            "{name} has {} bytes or a forbidden character, send {from} to {to} letters and digits",
            value.len()
        )));
    }
    Ok(value.to_owned())
}

/// The SHA-256 fingerprints; those of other hashes are ignored (RFC 8122, section 5).
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

/// Parses `sha-256 00:11:...`.
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

/// The payload types of Opus in the order of the section.
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

/// Requires DTLS-SRTP, RTCP on the same port, and a browser that can start the handshake.
fn check_transport(
    parsed: &SessionDescription,
    audio: &MediaDescription,
) -> Result<(), OfferError> {
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
            "its setup leaves nobody to start the DTLS handshake, offer actpass".into(),
        )),
    }
}

/// The section's identification tag, a token (RFC 5888); the answer repeats it.
fn mid(audio: &MediaDescription) -> Result<String, OfferError> {
    let mid = audio.attribute("mid").flatten().unwrap_or_default();
    let is_token = |c: char| c.is_ascii_graphic() && !"\"(),/:;<=>?@[\\]".contains(c);
    if mid.is_empty() || mid.len() > MID_MAX || !mid.chars().all(is_token) {
        let why = format!("its mid is missing, not a token or longer than {MID_MAX} bytes");
        return Err(OfferError::BadSdp(why));
    }
    Ok(mid.to_owned())
}

/// The description without the attributes in [`STRIPPED`], and with a connection line without an
/// address, as browsers with trickle ICE write it (RFC 8840, section 4.3.1).
///
/// # Errors
/// When a line has a control character.
pub fn without_addresses(sdp: &str) -> Result<String, OfferError> {
    let mut kept = String::with_capacity(sdp.len());
    for line in sdp.lines() {
        // A parser may end a line at a lone CR: this filter would not see the second line.
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
