//! The answer: what goes back to the browser, with our wishes for what it sends.

use serde::Serialize;

/// What the browser shall send, as RFC 7587 writes it: mono, with in-band error correction, and
/// nothing while the visitor is silent.
pub(super) const OPUS_WISHES: &str = "minptime=10;useinbandfec=1;usedtx=1;stereo=0";

/// What goes back to the browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Always `answer`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The session description, with the worker's one candidate.
    pub sdp: String,
}

impl Answer {
    /// The WebRTC stack's answer with our wishes for Opus, which it replaces by the browser's
    /// own, and without the candidate for an RTCP port that is not used.
    pub(super) fn of(sdp: &str, opus: &[u8]) -> Self {
        let mut kept = String::with_capacity(sdp.len() + OPUS_WISHES.len());
        for line in sdp.lines() {
            if let Some(candidate) = line.strip_prefix("a=candidate:")
                && candidate.split(' ').nth(1) != Some("1")
            {
                continue;
            }
            let wished = line
                .strip_prefix("a=fmtp:")
                .and_then(|rest| rest.split(' ').next()?.parse::<u8>().ok())
                .filter(|payload_type| opus.contains(payload_type));
            match wished {
                Some(payload_type) => {
                    kept.push_str(&format!("a=fmtp:{payload_type} {OPUS_WISHES}"));
                }
                None => kept.push_str(line),
            }
            kept.push_str("\r\n");
        }
        Self {
            kind: "answer",
            sdp: kept,
        }
    }

    /// How many addresses it names: none where the only section was refused.
    pub(super) fn candidates(&self) -> usize {
        let is_one = |line: &&str| line.starts_with("a=candidate:");
        self.sdp.lines().filter(is_one).count()
    }
}
