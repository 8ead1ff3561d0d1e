//! The offer: what a browser may ask of the microphone peer.
//!
//! The endpoint is open to anyone who knows the session, so an offer is taken apart before the
//! WebRTC stack sees it. Nothing in it may make the worker send to an address that a stranger
//! chose: every line that carries one is removed, and the parsed result is checked again.

use std::fmt;

use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::sdp::description::media::MediaDescription;
use serde::Deserialize;

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

/// A checked offer of one Opus track, without addresses.
#[derive(Clone, Debug)]
pub struct Offer {
    pub(super) description: RTCSessionDescription,
    pub(super) opus: Vec<u8>,
}

/// Why an offer is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfferError {
    /// The description does not parse, or the WebRTC stack refuses it.
    BadSdp(String),
    /// No audio section that is in use.
    NoAudio,
    /// The description lacks this credential.
    NoCredential(&'static str),
    /// Audio without Opus.
    NoOpus,
    /// The type is another than `offer`.
    NotAnOffer(String),
    /// The body is not `{"type", "sdp"}`.
    NotJson(String),
    /// More sections than the one for audio.
    NotOnlyAudio(usize),
    /// The audio section sends nothing.
    NotSending,
    /// The body has this many bytes.
    TooLarge(usize),
}

impl OfferError {
    /// A stable slug that clients may switch on.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadSdp(_) => "bad_sdp",
            Self::NoAudio => "no_audio",
            Self::NoCredential(_) => "no_credentials",
            Self::NoOpus => "no_opus",
            Self::NotAnOffer(_) => "not_an_offer",
            Self::NotJson(_) => "bad_request",
            Self::NotOnlyAudio(_) => "not_only_audio",
            Self::NotSending => "not_sending",
            Self::TooLarge(_) => "too_large",
        }
    }

    /// The HTTP status that says it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLarge(_) => 413,
            _ => 400,
        }
    }
}

impl fmt::Display for OfferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadSdp(why) => write!(f, "the sdp is not usable: {why}"),
            Self::NoAudio => f.write_str("the sdp has no audio section, offer one audio track"),
            Self::NoCredential(name) => write!(
                f,
                "the sdp has no {name}, send the local description as the browser made it"
            ),
            Self::NoOpus => f.write_str("the audio section has no opus, offer opus/48000"),
            Self::NotAnOffer(kind) => write!(f, "type is {kind:?}, send an offer"),
            Self::NotJson(why) => write!(f, "the body is not {{\"type\",\"sdp\"}}: {why}"),
            Self::NotOnlyAudio(n) => {
                write!(f, "the sdp has {n} sections, offer one audio track only")
            }
            Self::NotSending => {
                f.write_str("the audio section sends nothing, offer a send-only track")
            }
            Self::TooLarge(bytes) => {
                write!(
                    f,
                    "the offer has {bytes} bytes, at most {OFFER_MAX} are read"
                )
            }
        }
    }
}

impl std::error::Error for OfferError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(rename = "type")]
    kind: String,
    sdp: String,
}

impl Offer {
    /// Reads `{"type": "offer", "sdp": "..."}`.
    ///
    /// # Errors
    /// [`OfferError`] names what is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, OfferError> {
        if body.len() > OFFER_MAX {
            return Err(OfferError::TooLarge(body.len()));
        }
        let body: Body =
            serde_json::from_slice(body).map_err(|e| OfferError::NotJson(e.to_string()))?;
        if body.kind != "offer" {
            return Err(OfferError::NotAnOffer(body.kind.chars().take(16).collect()));
        }
        let bad = |e: rtc::shared::error::Error| OfferError::BadSdp(e.to_string());
        let description =
            RTCSessionDescription::offer(without_addresses(&body.sdp)?).map_err(bad)?;
        let parsed = description.unmarshal().map_err(bad)?;

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
        for name in ["ice-ufrag", "ice-pwd", "fingerprint"] {
            if parsed.attribute(name).is_none() && !audio.has_attribute(name) {
                return Err(OfferError::NoCredential(name));
            }
        }
        let carries = |key: &str| STRIPPED.contains(&key);
        if parsed.attributes.iter().any(|a| carries(&a.key))
            || audio.attributes.iter().any(|a| carries(&a.key))
        {
            return Err(OfferError::BadSdp("an address is left in it".into()));
        }
        let opus: Vec<u8> = audio
            .codecs()
            .into_iter()
            .filter(|(_, codec)| codec.name.eq_ignore_ascii_case("opus"))
            .map(|(payload_type, _)| payload_type)
            .collect();
        if opus.is_empty() {
            return Err(OfferError::NoOpus);
        }
        Ok(Self { description, opus })
    }

    /// The description as the WebRTC stack will see it.
    #[must_use]
    pub fn sdp(&self) -> &str {
        &self.description.sdp
    }
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
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) const BROWSER: &str = "v=0\r\no=- 4611 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
        a=group:BUNDLE 0\r\na=msid-semantic: WMS\r\n\
        m=audio 50001 UDP/TLS/RTP/SAVPF 111 63 0\r\nc=IN IP4 203.0.113.9\r\n\
        a=rtcp:50002 IN IP4 203.0.113.9\r\n\
        a=candidate:1 1 udp 2122260223 203.0.113.9 50001 typ host\r\n\
        a=candidate:2 1 udp 2122260222 abc.local 50003 typ host\r\na=end-of-candidates\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=ice-options:trickle\r\n\
        a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:\
        66:77:88:99:AA:BB:CC:DD:EE:FF\r\na=setup:actpass\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n\
        a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
        a=rtpmap:63 red/48000/2\r\na=rtpmap:0 PCMU/8000\r\na=ssrc:1234 cname:x\r\n";

    pub(crate) fn body(kind: &str, sdp: &str) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({"type": kind, "sdp": sdp})).unwrap()
    }

    #[test]
    fn a_browsers_offer_passes_without_its_addresses() {
        for sdp in [BROWSER.to_owned(), BROWSER.replace("\r\n", "\n")] {
            let offer = Offer::parse(&body("offer", &sdp)).unwrap();
            assert_eq!(offer.opus, [111]);
            for gone in ["candidate", "a=rtcp:", "abc.local", "203.0.113.9"] {
                assert!(!offer.sdp().contains(gone), "{gone} is left");
            }
            assert!(offer.sdp().contains("a=rtcp-mux\r\n"));
        }
    }

    #[test]
    fn offers_as_chromium_and_firefox_make_them_pass_under_their_own_payload_types() {
        for (recorded, opus) in [
            (include_str!("../../tests/fuzz/offers/chromium.json"), 111),
            (include_str!("../../tests/fuzz/offers/firefox.json"), 109),
        ] {
            let offer = Offer::parse(recorded.as_bytes()).unwrap();
            assert_eq!(offer.opus, [opus]);
            assert!(!offer.sdp().contains("candidate"));
        }
    }

    #[test]
    fn what_is_no_offer_of_one_opus_track_is_refused_with_its_reason() {
        let without = |part: &str| {
            let lines: Vec<&str> = BROWSER.lines().filter(|l| !l.contains(part)).collect();
            body("offer", &(lines.join("\r\n") + "\r\n"))
        };
        let swap = |from: &str, to: &str| body("offer", &BROWSER.replace(from, to));
        let cases: Vec<(&str, Vec<u8>, &str)> = vec![
            ("empty", vec![], "bad_request"),
            ("binary", vec![0xff; 40], "bad_request"),
            ("array", b"[]".to_vec(), "bad_request"),
            ("no sdp", br#"{"type":"offer"}"#.to_vec(), "bad_request"),
            (
                "null sdp",
                br#"{"type":"offer","sdp":null}"#.to_vec(),
                "bad_request",
            ),
            (
                "more fields",
                br#"{"type":"offer","sdp":"","x":1}"#.to_vec(),
                "bad_request",
            ),
            ("answer", body("answer", BROWSER), "not_an_offer"),
            ("rollback", body("rollback", ""), "not_an_offer"),
            ("empty sdp", body("offer", ""), "bad_sdp"),
            (
                "garbage sdp",
                body("offer", "hello\r\nworld\r\n"),
                "bad_sdp",
            ),
            (
                "hidden line",
                swap("a=mid:0\r\n", "a=mid:0\ra=candidate:1\r\n"),
                "bad_sdp",
            ),
            ("nul", swap("s=-", "s=\0"), "bad_sdp"),
            (
                "no section",
                body("offer", "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"),
                "no_audio",
            ),
            ("video only", swap("m=audio", "m=video"), "no_audio"),
            (
                "refused section",
                swap("m=audio 50001", "m=audio 0"),
                "no_audio",
            ),
            (
                "data beside",
                body(
                    "offer",
                    &format!(
                        "{BROWSER}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n"
                    ),
                ),
                "not_only_audio",
            ),
            (
                "a hundred tracks",
                {
                    let section = &BROWSER[BROWSER.find("m=audio").unwrap()..];
                    body("offer", &format!("{BROWSER}{}", section.repeat(99)))
                },
                "not_only_audio",
            ),
            ("no opus", swap("opus/48000/2", "speex/48000/2"), "no_opus"),
            ("receives", swap("a=sendonly", "a=recvonly"), "not_sending"),
            ("inactive", swap("a=sendonly", "a=inactive"), "not_sending"),
            ("no ufrag", without("ice-ufrag"), "no_credentials"),
            ("no password", without("ice-pwd"), "no_credentials"),
            ("no fingerprint", without("fingerprint"), "no_credentials"),
            ("64 KiB and one", vec![b' '; OFFER_MAX + 1], "too_large"),
            ("5 MB", body("offer", &BROWSER.repeat(6_000)), "too_large"),
        ];
        for (name, body, reason) in cases {
            let error = Offer::parse(&body).err();
            assert_eq!(
                error.as_ref().map(OfferError::reason),
                Some(reason),
                "{name}: {error:?}"
            );
            let status = error.map(|e| e.status());
            assert_eq!(
                status,
                Some(if reason == "too_large" { 413 } else { 400 }),
                "{name}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn any_body_is_answered_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = Offer::parse(&bytes);
        }

        #[test]
        fn a_torn_offer_is_answered_without_a_panic_and_never_keeps_an_address(
            cuts in proptest::collection::vec((0_usize..2000, 0_usize..40, "[ -~\r\n]{0,24}"), 0..6),
        ) {
            let mut sdp = BROWSER.to_owned();
            for (at, length, with) in cuts {
                let at = at.min(sdp.len());
                let to = (at + length).min(sdp.len());
                sdp.replace_range(at..to, &with);
            }
            if let Ok(offer) = Offer::parse(&body("offer", &sdp)) {
                let key = |line: &str| line.strip_prefix("a=").map(|a| a.split(':').next().unwrap_or(a).to_owned());
                let left: Vec<_> = offer.sdp().lines().filter_map(key).collect();
                prop_assert!(!left.iter().any(|key| STRIPPED.contains(&key.as_str())), "{left:?}");
            }
        }
    }
}
