//! Microphones: SDP offers in, RTP out.
//!
//! A browser offers one send-only Opus track. The worker answers as an ICE-lite peer and forwards
//! the packets to the body. A session has one microphone: a new offer replaces the old peer, and the
//! RTP stream to the body continues.
//!
//! - `sdp_offer` validates the offer, `sdp_answer` writes the answer;
//! - `webrtc_peer` is the WebRTC side, made of `ice`, `dtls`, `srtp` and `rtcp`;
//! - `rtp_rewriter` and `rtp_sender` are the side of the body;
//! - `event_loop` is the thread that serves every `peer_connection` (peer, socket, handler);
//! - `registry` knows which session has which peer, in a `session_table`.

pub(crate) mod rtp_rewriter;
pub(crate) mod sdp_offer;

mod datagram;
mod dtls;
mod error;
mod event_loop;
mod ice;
mod mic_settings;
mod peer_connection;
mod port_range;
mod registry;
mod rtcp;
mod rtp_forwarder;
mod rtp_sender;
mod sdp_answer;
mod session_table;
mod srtp;
#[cfg(test)]
mod tests;
mod webrtc_peer;

pub use self::mic_settings::MicSettings;
pub use self::registry::Microphones;
pub(crate) use self::rtp_sender::source_towards;
