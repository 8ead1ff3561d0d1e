//! A browser's part for tests: a peer that offers one Opus track and sends.

#![allow(unreachable_pub)] // reads as a crate's API does

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MediaEngine};
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::rtp::{Packet, header::Header};
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use smol::channel::{Receiver, Sender};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceGatheringState, RTCPeerConnectionState,
};
use webrtc::runtime::SmolRuntime;

/// What a speaker's library calls return.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// One sending peer.
pub struct Speaker {
    peer: Box<dyn PeerConnection>,
    track: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
    states: Receiver<RTCPeerConnectionState>,
}

struct Events {
    gathered: Sender<()>,
    states: Sender<RTCPeerConnectionState>,
}

#[async_trait]
impl PeerConnectionEventHandler for Events {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.gathered.try_send(());
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let _ = self.states.try_send(state);
    }
}

impl Speaker {
    /// A speaker on a local address, and its offer as the page would post it.
    pub async fn offering(bind: IpAddr, ssrc: u32) -> Outcome<(Self, Vec<u8>)> {
        let mut media = MediaEngine::default();
        media.register_default_codecs()?;
        let (gathered_tx, gathered) = smol::channel::bounded(1);
        let (states_tx, states) = smol::channel::bounded(16);
        let track = Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
            "stream".into(),
            format!("track-{ssrc}"),
            "microphone".into(),
            RtpCodecKind::Audio,
            vec![RTCRtpEncodingParameters {
                rtp_coding_parameters: RTCRtpCodingParameters {
                    ssrc: Some(ssrc),
                    ..Default::default()
                },
                codec: RTCRtpCodec {
                    mime_type: MIME_TYPE_OPUS.to_owned(),
                    clock_rate: 48_000,
                    channels: 2,
                    sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
                    rtcp_feedback: vec![],
                },
                ..Default::default()
            }],
        )));
        let settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(bind.is_loopback())
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .build();
        let peer = PeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(media)
            .with_setting_engine(settings)
            .with_handler(Arc::new(Events {
                gathered: gathered_tx,
                states: states_tx,
            }))
            .with_runtime(Arc::new(SmolRuntime))
            .with_udp_addrs(vec![format!("{bind}:0")])
            .build()
            .await?;
        peer.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>)
            .await?;
        for transceiver in peer.get_transceivers().await {
            transceiver
                .set_direction(rtc::rtp_transceiver::RTCRtpTransceiverDirection::Sendonly)
                .await?;
        }
        let offer = peer.create_offer(None).await?;
        peer.set_local_description(offer).await?;
        gathered.recv().await?;
        let offer = peer.local_description().await.ok_or("no description")?;
        let offer = serde_json::json!({"type": "offer", "sdp": offer.sdp});
        let speaker = Self {
            peer: Box::new(peer),
            track,
            ssrc,
            states,
        };
        Ok((speaker, serde_json::to_vec(&offer)?))
    }

    /// Takes the answer.
    pub async fn take(&self, answer_sdp: String) -> Outcome<()> {
        let answer = RTCSessionDescription::answer(answer_sdp)?;
        Ok(self.peer.set_remote_description(answer).await?)
    }

    /// Waits until it is connected.
    pub async fn connected(&self) -> Outcome<()> {
        while self.states.recv().await? != RTCPeerConnectionState::Connected {}
        Ok(())
    }

    /// Sends one frame.
    pub async fn say(&self, sequence: u16, timestamp: u32, frame: Vec<u8>) -> Outcome<()> {
        let header = Header {
            version: 2,
            payload_type: 111,
            sequence_number: sequence,
            timestamp,
            ssrc: self.ssrc,
            ..Default::default()
        };
        let payload = frame.into();
        self.track.write_rtp(Packet { header, payload }).await?;
        Ok(())
    }

    /// Closes it.
    pub async fn close(&self) -> Outcome<()> {
        Ok(self.peer.close().await?)
    }
}
