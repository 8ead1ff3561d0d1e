//! Why there is no microphone: what the browser may know, with a status and a stable slug.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::sdp_offer::OFFER_MAX;

/// Why there is no microphone.
#[derive(Debug)]
pub enum MicError {
    /// The session has ended.
    Ended,
    /// The worker has as many microphones as it may.
    NoCapacity(usize),
    /// The offer is refused.
    Offer(OfferError),
    /// No peer could be made.
    Peer(PeerError),
    /// Too many offers of this session; the next is heard after this time.
    TooMany(Duration),
    /// The body's address cannot be sent to.
    Unreachable(SocketAddr, io::Error),
}

impl MicError {
    /// A stable slug that clients may switch on.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Ended => "session_ended",
            Self::NoCapacity(_) | Self::Peer(PeerError::NoPort(_)) => "no_capacity",
            Self::Offer(e) => e.reason(),
            Self::Peer(_) => "mic_failed",
            Self::TooMany(_) => "too_many_requests",
            Self::Unreachable(..) => "body_unreachable",
        }
    }

    /// The HTTP status that says it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Ended => 410,
            Self::NoCapacity(_) | Self::Peer(PeerError::NoPort(_)) => 503,
            Self::Offer(e) => e.status(),
            Self::Peer(_) => 500,
            Self::TooMany(_) => 429,
            Self::Unreachable(..) => 502,
        }
    }

    /// When to ask again, for `Retry-After`.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooMany(after) => Some(*after),
            _ => None,
        }
    }
}

impl fmt::Display for MicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the session has ended, start a new one"),
            Self::NoCapacity(max) => write!(f, "all {max} microphones are in use, try again later"),
            Self::Offer(e) => e.fmt(f),
            Self::Peer(e) => e.fmt(f),
            Self::TooMany(after) => write!(
                f,
                "too many offers of this session, try again in {} ms",
                after.as_millis()
            ),
            Self::Unreachable(target, e) => write!(
                f,
                "cannot send to the body at {target}: {e}, check the route and the source address"
            ),
        }
    }
}

impl std::error::Error for MicError {}

/// Why no peer could be made.
#[derive(Debug)]
pub enum PeerError {
    /// The local address cannot be bound.
    Bind(IpAddr, io::Error),
    /// Every port of the range is taken.
    NoPort(RangeInclusive<u16>),
    /// The WebRTC stack failed on our own side.
    Stack(String),
    /// The thread that serves microphones cannot be started.
    EventLoop(io::Error),
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(ip, e) => write!(
                f,
                "cannot bind the microphone address {ip}: {e}, give an address of this machine"
            ),
            Self::NoPort(range) => write!(
                f,
                "no free microphone port in {}-{}, widen the range",
                range.start(),
                range.end()
            ),
            Self::Stack(why) => write!(f, "the webrtc stack failed: {why}"),
            Self::EventLoop(e) => write!(
                f,
                "cannot start the microphones' thread: {e}, raise the limit of processes or descriptors"
            ),
        }
    }
}

impl std::error::Error for PeerError {}

/// Why an offer is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfferError {
    /// The description does not parse, or asks for another transport than the one that is answered.
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
