//! The streamer's end of the WebRTC connection.
//!
//! The browser offers data channels; the streamer answers, opens the channel `general`, and
//! when the page asks for the stream it adds the video track by an offer of its own. Candidates
//! are trickled both ways.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::{Registry, Slot};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_VP8;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RtpCodecKind,
};
use smol::channel::{Receiver, Sender, bounded};
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::error::Error as StackError;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_sample::TrackLocalStaticSample;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCConfigurationBuilder, RTCIceCandidateInit, RTCIceServer, RTCIceTransportPolicy,
    RTCPeerConnectionIceEvent, RTCPeerConnectionState, RTCSessionDescription, SettingEngineBuilder,
    register_default_interceptors,
};
use webrtc::rtp_transceiver::RtpSender;
use webrtc::runtime::SmolRuntime;

use super::clip::{Clip, ClipError};
use super::ice;
use super::keyframes::{KeyframeRequests, SLOT};
use super::life::PeerChange;
use super::messages::Signal;
use super::player::Player;
use super::settings::{PortRange, WebRtc};
use crate::{clock, exec};

/// Label of the channel for control messages.
const GENERAL: &str = "general";
/// Payload type we offer VP8 as; any dynamic one (RFC 3551) would do.
const PAYLOAD_TYPE: u8 = 96;
/// Events that wait for the streamer: a connection has some tens of candidates.
const EVENTS_MAX: usize = 256;
/// Largest message taken from the channel `general`, in bytes; the real ones are tens of bytes.
const GENERAL_MAX: usize = 16 * 1024;
/// Silence after which ICE gives the peer up, as in the original.
const FAILED_AFTER: Duration = Duration::from_secs(60);
/// Interval of ICE keep-alives, as in the original.
const KEEPALIVE: Duration = Duration::from_secs(4);
/// Time for the channel's close to reach the page before the connection goes.
const CLOSE_PAUSE: Duration = Duration::from_millis(100);

/// What the peer has to say.
#[derive(Debug)]
pub(super) enum PeerEvent {
    /// A candidate of ours.
    Candidate(String),
    /// The connection's state changed.
    Change(PeerChange),
    /// A message of the page on the channel `general`, without its length.
    General(Vec<u8>),
}

/// The connection cannot be made or continued.
#[derive(Debug)]
pub(super) enum CardPeerError {
    /// The built-in clip cannot be played.
    Clip(ClipError),
    /// No random bytes.
    Random(getrandom::Error),
    /// `relay_only` with `nat_1to1`.
    Contradiction,
    /// Every port of the range is taken.
    Ports(PortRange),
    /// The browser wants no VP8.
    NoCodec,
    /// The stack refuses.
    Stack(StackError),
}

impl fmt::Display for CardPeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clip(error) => error.fmt(f),
            Self::Random(error) => write!(f, "the kernel has no random bytes: {error}"),
            Self::Contradiction => f.write_str(
                "failed to create answer: webrtc.relay_only excludes webrtc.nat_1to1, remove one",
            ),
            Self::Ports(PortRange { min, max }) => write!(
                f,
                "no free UDP port in webrtc.port_range {min}-{max}, widen it"
            ),
            Self::NoCodec => f.write_str("the browser takes no VP8"),
            Self::Stack(error) => write!(f, "webrtc: {error}"),
        }
    }
}

impl From<StackError> for CardPeerError {
    fn from(error: StackError) -> Self {
        Self::Stack(error)
    }
}

/// One connection to one browser.
pub(super) struct CardPeer {
    connection: Arc<dyn PeerConnection>,
    events: Sender<PeerEvent>,
    general: Option<Arc<dyn DataChannel>>,
    video: Option<Video>,
    player: Option<Player>,
}

struct Video {
    track: Arc<TrackLocalStaticSample>,
    sender: Arc<dyn RtpSender>,
    ssrc: u32,
}

impl CardPeer {
    /// A connection that waits for the browser's offer, and where its events come out.
    ///
    /// # Errors
    /// When the configuration cannot work, no port is free, or the stack refuses.
    pub(super) async fn open(
        webrtc: &WebRtc,
    ) -> Result<(Self, Receiver<PeerEvent>), CardPeerError> {
        if ice::is_contradiction(webrtc) {
            return Err(CardPeerError::Contradiction);
        }
        let start = random()?;
        let port = match (
            ice::free_port(webrtc.port_range, start as u16),
            webrtc.port_range,
        ) {
            (Some(port), _) => port,
            (None, Some(range)) => return Err(CardPeerError::Ports(range)),
            (None, None) => 0,
        };
        let mut media = MediaEngine::default();
        media.register_codec(
            RTCRtpCodecParameters {
                rtp_codec: vp8(),
                payload_type: PAYLOAD_TYPE,
            },
            RtpCodecKind::Video,
        )?;
        let registry = register_default_interceptors(Registry::new(), &mut media)?
            .with(Slot::from(SLOT), KeyframeRequests::default());
        let settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(webrtc.include_loopback_candidates)
            // Needs a default route, and a browser's checks show what its mDNS name hides.
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_ice_timeouts(
                Some(webrtc.disconnected_after()),
                Some(FAILED_AFTER),
                Some(KEEPALIVE),
            )
            .build();
        let (events, received) = bounded(EVENTS_MAX);
        let connection = PeerConnectionBuilder::new()
            .with_configuration(configuration(webrtc))
            .with_media_engine(media)
            .with_interceptor_registry(registry)
            .with_setting_engine(settings)
            .with_handler(Arc::new(Reporter(events.clone())))
            .with_runtime(Arc::new(SmolRuntime))
            .with_udp_addrs(ice::addresses(webrtc, port))
            .build()
            .await?;
        let peer = Self {
            connection: Arc::new(connection),
            events,
            general: None,
            video: None,
            player: None,
        };
        Ok((peer, received))
    }

    /// Answers the browser's offer.
    ///
    /// # Errors
    /// When the offer makes no sense.
    pub(super) async fn answer(&mut self, offer: String) -> Result<Signal, CardPeerError> {
        let offer = RTCSessionDescription::offer(offer)?;
        self.connection.set_remote_description(offer).await?;
        if self.general.is_none() {
            let general = self.connection.create_data_channel(GENERAL, None).await?;
            exec::spawn(relay(general.clone(), self.events.clone())).detach();
            self.general = Some(general);
        }
        let answer = self.connection.create_answer(None).await?;
        let sdp = ice::without_candidates(&answer.sdp);
        self.connection.set_local_description(answer).await?;
        let ty = "answer".to_owned();
        Ok(Signal::Description { ty, sdp })
    }

    /// Whether the video track was added.
    pub(super) fn has_video(&self) -> bool {
        self.video.is_some()
    }

    /// Adds the video track; the offer that tells the browser of it.
    ///
    /// # Errors
    /// When the stack refuses.
    pub(super) async fn offer_video(&mut self) -> Result<Signal, CardPeerError> {
        let ssrc = random()?;
        let coding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(ssrc),
                ..Default::default()
            },
            codec: vp8(),
            ..Default::default()
        };
        let (stream, id, label) = ("testcard", "testcard-video", "test card");
        let track = Arc::new(TrackLocalStaticSample::new(
            clock::now(),
            MediaStreamTrack::new(
                stream.into(),
                id.into(),
                label.into(),
                RtpCodecKind::Video,
                vec![coding],
            ),
        )?);
        let local: Arc<dyn TrackLocal> = track.clone();
        let sender = self.connection.add_track(local).await?;
        self.video = Some(Video {
            track,
            sender,
            ssrc,
        });
        let offer = self.connection.create_offer(None).await?;
        let sdp = ice::without_candidates(&offer.sdp);
        self.connection.set_local_description(offer).await?;
        let ty = "offer".to_owned();
        Ok(Signal::Description { ty, sdp })
    }

    /// Takes the browser's answer and starts the picture.
    ///
    /// # Errors
    /// When the answer makes no sense, takes no VP8, or the clip cannot be played.
    pub(super) async fn play(&mut self, answer: String) -> Result<(), CardPeerError> {
        let answer = RTCSessionDescription::answer(answer)?;
        self.connection.set_remote_description(answer).await?;
        let Some(video) = &self.video else {
            return Ok(());
        };
        let parameters = video.sender.get_parameters().await?;
        let codec = parameters.rtp_parameters.codecs.first();
        let payload_type = codec.ok_or(CardPeerError::NoCodec)?.payload_type;
        let clip = Clip::built_in().map_err(CardPeerError::Clip)?;
        let track = video.track.clone();
        self.player = Some(Player::start(clip, track, video.ssrc, payload_type));
        Ok(())
    }

    /// Takes a candidate of the browser's.
    ///
    /// # Errors
    /// When it cannot be used, as a name that only the browser's own network knows.
    pub(super) async fn add_candidate(&self, signal: Signal) -> Result<(), CardPeerError> {
        let Signal::AddIceCandidate {
            candidate,
            sdp_mid,
            sdp_mline_index,
            username_fragment,
        } = signal
        else {
            return Ok(());
        };
        if candidate.is_empty() {
            return Ok(()); // the end of the candidates
        }
        let candidate = RTCIceCandidateInit {
            candidate,
            sdp_mid,
            sdp_mline_index,
            username_fragment,
            url: None,
        };
        Ok(self.connection.add_ice_candidate(candidate).await?)
    }

    /// Stops the picture and closes the channel, then the connection: the page sees the
    /// channel's end at once, that of the connection only by its own timeouts.
    pub(super) async fn close(mut self) {
        self.player = None;
        if let Some(general) = self.general.take() {
            let _ = general.close().await;
            clock::sleep(CLOSE_PAUSE).await;
        }
        let _ = self.connection.close().await;
    }
}

/// Four random bytes.
fn random() -> Result<u32, CardPeerError> {
    getrandom::u32().map_err(CardPeerError::Random)
}

fn vp8() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_VP8.to_owned(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: String::new(),
        rtcp_feedback: Vec::new(),
    }
}

fn configuration(webrtc: &WebRtc) -> webrtc::peer_connection::RTCConfiguration {
    let servers = webrtc.ice_servers.iter().map(|server| RTCIceServer {
        urls: server.urls.clone(),
        username: server.username.clone(),
        credential: server.credential.clone(),
    });
    let policy = if webrtc.relay_only {
        RTCIceTransportPolicy::Relay
    } else {
        RTCIceTransportPolicy::All
    };
    RTCConfigurationBuilder::new()
        .with_ice_servers(servers.collect())
        .with_ice_transport_policy(policy)
        .build()
}

/// Passes the stack's events on. A full queue drops them: the streamer is then stuck, and its
/// own deadlines end it.
struct Reporter(Sender<PeerEvent>);

#[async_trait]
impl PeerConnectionEventHandler for Reporter {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if let Ok(candidate) = event.candidate.to_json() {
            let _ = self.0.try_send(PeerEvent::Candidate(candidate.candidate));
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let change = match state {
            RTCPeerConnectionState::Connected => PeerChange::Connected,
            RTCPeerConnectionState::Disconnected => PeerChange::Disconnected,
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed => PeerChange::Gone,
            _ => return,
        };
        let _ = self.0.try_send(PeerEvent::Change(change));
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        // Input has nowhere to go: only a page's own `general` is listened to, the handles of
        // the others are dropped, and what arrives on them with it.
        if channel.label().await.is_ok_and(|label| label == GENERAL) {
            exec::spawn(relay(channel, self.0.clone())).detach();
        }
    }
}

/// Passes the messages of a `general` channel on until it ends, which is the page's farewell.
async fn relay(channel: Arc<dyn DataChannel>, events: Sender<PeerEvent>) {
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnMessage(message) if message.data.len() <= GENERAL_MAX => {
                if let Some(body) = unframed(&message.data) {
                    let _ = events.try_send(PeerEvent::General(body.to_vec()));
                }
            }
            DataChannelEvent::OnClose => break,
            _ => {}
        }
    }
    let _ = events.try_send(PeerEvent::Change(PeerChange::Gone));
}

/// The JSON of a control message: two bytes of big-endian length, then that many bytes.
fn unframed(message: &[u8]) -> Option<&[u8]> {
    let (length, body) = message.split_first_chunk::<2>()?;
    body.get(..usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_message_is_as_long_as_it_says() {
        assert_eq!(unframed(b"\x00\x06\"Stop\""), Some(&b"\"Stop\""[..]));
        assert_eq!(unframed(b"\x00\x02\"Stop\""), Some(&b"\"S"[..]));
        for torn in [&b""[..], b"\x00", b"\x00\x07\"Stop\"", b"\xff\xff{}"] {
            assert_eq!(unframed(torn), None);
        }
    }
}
