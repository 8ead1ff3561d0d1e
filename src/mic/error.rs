//! Why there is no microphone: for the browser a message, a status and a stable reason.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use thiserror::Error;

use super::sdp_offer::OFFER_MAX;

/// Why there is no microphone.
#[derive(Debug, Error)]
pub enum MicError {
    /// The session has ended.
    #[error("the session has ended, start a new one")]
    Ended,
    /// The worker has its maximum of microphones.
    #[error("all {0} microphones are in use, try again later")]
    NoCapacity(usize),
    /// The offer is refused.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// The peer could not be created.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// Too many offers of this session; the next is accepted after this time.
    #[error("too many offers of this session, try again in {} ms", .0.as_millis())]
    TooMany(Duration),
    /// The body's address cannot be sent to.
    #[error("cannot send to the body at {0}: {1}, check the route and the source address")]
    Unreachable(SocketAddr, #[source] io::Error),
}

impl MicError {
    /// The stable `reason` for clients.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Ended => "session_ended",
            Self::NoCapacity(_) | Self::Peer(PeerError::NoPort(..)) => "no_capacity",
            Self::Offer(e) => e.reason(),
            Self::Peer(_) => "mic_failed",
            Self::TooMany(_) => "too_many_requests",
            Self::Unreachable(..) => "body_unreachable",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Ended => 410,
            Self::NoCapacity(_) | Self::Peer(PeerError::NoPort(..)) => 503,
            Self::Offer(OfferError::TooLarge(_)) => 413,
            Self::Offer(_) => 400,
            Self::Peer(_) => 500,
            Self::TooMany(_) => 429,
            Self::Unreachable(..) => 502,
        }
    }

    /// When to retry, for `Retry-After`.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooMany(after) => Some(*after),
            _ => None,
        }
    }
}

/// Why a peer could not be created.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The local address cannot be bound.
    #[error("cannot bind the microphone address {0}: {1}, give an address of this machine")]
    Bind(IpAddr, #[source] io::Error),
    /// Every port of the range is in use.
    #[error("no free microphone port in {}-{}, widen the range", .0.start(), .0.end())]
    NoPort(RangeInclusive<u16>),
    /// The WebRTC stack failed on our side.
    #[error("the webrtc stack failed: {0}")]
    Stack(#[from] rtc::shared::error::Error),
    /// The thread of microphones cannot be started.
    #[error(
        "cannot start the microphones' thread: {0}, raise the limit of processes or descriptors"
    )]
    EventLoop(#[source] io::Error),
}

/// Why an offer is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OfferError {
    /// The description does not parse, or uses an unsupported transport.
    #[error("the sdp is not usable: {0}")]
    BadSdp(String),
    /// There is no audio section in use.
    #[error("the sdp has no audio section, offer one audio track")]
    NoAudio,
    /// The description lacks this credential.
    #[error("the sdp has no {0}, send the local description as the browser made it")]
    NoCredential(&'static str),
    /// Audio without Opus.
    #[error("the audio section has no opus, offer opus/48000")]
    NoOpus,
    /// The type is not `offer`.
    #[error("type is {0:?}, send an offer")]
    NotAnOffer(String),
    /// The body is not `{"type", "sdp"}`.
    #[error("the body is not {{\"type\",\"sdp\"}}: {0}")]
    NotJson(String),
    /// More sections than the one for audio.
    #[error("the sdp has {0} sections, offer one audio track only")]
    NotOnlyAudio(usize),
    /// The audio section does not send.
    #[error("the audio section sends nothing, offer a send-only track")]
    NotSending,
    /// The body has this many bytes.
    #[error("the offer has {0} bytes, at most {OFFER_MAX} are read")]
    TooLarge(usize),
}

impl OfferError {
    pub(super) fn reason(&self) -> &'static str {
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
}
