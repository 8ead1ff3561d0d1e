//! The SDP answer, with the parameters requested for the browser's Opus stream.

use std::net::SocketAddr;

use serde::Serialize;

use super::sdp_offer::{SdpOffer, TRANSPORT};

/// Opus parameters requested from the browser (RFC 7587): mono, in-band error correction, and no
/// packets during silence.
pub(super) const OPUS_FMTP: &str = "minptime=10;useinbandfec=1;usedtx=1;stereo=0";

/// The answer as the page receives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SdpAnswer {
    /// Always `answer`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The session description, with the worker's one candidate.
    pub sdp: String,
}

/// The peer's side of the answer.
pub(super) struct LocalParameters<'a> {
    /// The user name fragment and password for connectivity checks (RFC 8445).
    pub(super) ufrag: &'a str,
    pub(super) pwd: &'a str,
    /// SHA-256 of its certificate, in the form of RFC 8122.
    pub(super) fingerprint: &'a str,
    /// Its only candidate, in the form of RFC 8839.
    pub(super) candidate: &'a str,
}

impl SdpAnswer {
    /// Accepts the offered section (RFC 9429, section 5.3.1): Opus only, receive-only, one ICE-lite
    /// candidate. The browser starts the DTLS handshake, since its checks establish the path.
    pub(super) fn new(
        offer: &SdpOffer,
        own: &LocalParameters<'_>,
        local: SocketAddr,
        number: u32,
    ) -> Self {
        let address = match local {
            SocketAddr::V4(v4) => format!("IP4 {}", v4.ip()),
            SocketAddr::V6(v6) => format!("IP6 {}", v6.ip()),
        };
        let mut lines = vec![
            "v=0".to_owned(),
            format!("o=- {number} 1 IN {address}"),
            "s=-".to_owned(),
            "t=0 0".to_owned(),
        ];
        if offer.bundled {
            lines.push(format!("a=group:BUNDLE {}", offer.mid));
        }
        lines.push("a=ice-lite".to_owned());
        let types: Vec<String> = offer.opus.iter().map(u8::to_string).collect();
        let types = types.join(" ");
        lines.push(format!("m=audio {} {TRANSPORT} {types}", local.port()));
        lines.push(format!("c=IN {address}"));
        lines.push(format!("a=mid:{}", offer.mid));
        lines.push(format!("a=ice-ufrag:{}", own.ufrag));
        lines.push(format!("a=ice-pwd:{}", own.pwd));
        lines.push(format!("a=fingerprint:sha-256 {}", own.fingerprint));
        lines.push("a=setup:passive".to_owned());
        lines.push("a=recvonly".to_owned());
        lines.push("a=rtcp-mux".to_owned());
        for opus in &offer.opus {
            lines.push(format!("a=rtpmap:{opus} opus/48000/2"));
            lines.push(format!("a=fmtp:{opus} {OPUS_FMTP}"));
        }
        lines.push(format!("a=candidate:{}", own.candidate));
        lines.push("a=end-of-candidates".to_owned());
        Self {
            kind: "answer",
            sdp: lines.join("\r\n") + "\r\n",
        }
    }
}
