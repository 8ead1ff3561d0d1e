//! A visitor's voice: one send-only connection on the sans-IO core, with its socket.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use hydraneckwebrtc::clock;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MediaEngine};
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp::{Packet, header::Header};
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use rtc::rtp_transceiver::{RTCRtpSenderId, RTCRtpTransceiverDirection};
use rtc::sansio::Protocol as _;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

use super::{LOOPBACK, Outcome};

/// Largest datagram that comes back: STUN, DTLS and reports.
const DATAGRAM_MAX: usize = 2048;
/// Samples of one frame of 20 ms at 48 kHz.
const SAMPLES: u32 = 960;
/// Payload type that the default codecs give to Opus.
const OPUS: u8 = 111;

pub(super) struct Voice {
    core: RTCPeerConnection,
    socket: UdpSocket,
    local: SocketAddr,
    sender: RTCRtpSenderId,
    ssrc: u32,
    pub(super) is_connected: bool,
}

impl Voice {
    /// A voice on loopback, and its offer as the page would post it.
    pub(super) fn offering(ssrc: u32) -> Outcome<(Self, String)> {
        let socket = UdpSocket::bind((LOOPBACK, 0))?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let mut media = MediaEngine::default();
        media.register_default_codecs()?;
        let settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(true)
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .build();
        let mut core = RTCPeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(media)
            .with_setting_engine(settings)
            .build(clock::now())?;
        let sender = core.add_track(track(ssrc))?;
        let transceivers: Vec<_> = core.get_transceivers().collect();
        for id in transceivers {
            if let Some(mut transceiver) = core.rtp_transceiver(id) {
                transceiver.set_direction(RTCRtpTransceiverDirection::Sendonly);
            }
        }
        let offer = core.create_offer(None)?;
        core.set_local_description(clock::now(), offer)?;
        core.add_local_candidate(candidate(local)?)?;
        core.add_local_candidate(Default::default())?;
        let offer = core.local_description().ok_or("no description")?;
        let offer = serde_json::json!({"type": "offer", "sdp": offer.sdp}).to_string();
        let voice = Self {
            core,
            socket,
            local,
            sender,
            ssrc,
            is_connected: false,
        };
        Ok((voice, offer))
    }

    /// Takes the worker's answer.
    pub(super) fn take(&mut self, answer_sdp: &str) -> Outcome<()> {
        let answer = RTCSessionDescription::answer(answer_sdp.to_owned())?;
        Ok(self.core.set_remote_description(clock::now(), answer)?)
    }

    /// Does what is due: answers, checks and reports.
    pub(super) fn serve(&mut self) -> Outcome<()> {
        let mut datagram = [0; DATAGRAM_MAX];
        while let Ok((n, from)) = self.socket.recv_from(&mut datagram) {
            let transport = TransportContext {
                local_addr: self.local,
                peer_addr: from,
                transport_protocol: TransportProtocol::UDP,
                ecn: None,
            };
            self.core.handle_read(TaggedBytesMut {
                now: clock::now(),
                transport,
                message: BytesMut::from(&datagram[..n]),
            })?;
        }
        let now = clock::now();
        if self.core.poll_timeout().is_some_and(|due| due <= now) {
            self.core.handle_timeout(now)?;
        }
        while self.core.poll_read().is_some() {}
        while let Some(event) = self.core.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event {
                self.is_connected = state == RTCPeerConnectionState::Connected;
            }
        }
        self.flush(|| {});
        Ok(())
    }

    /// Says one frame; `sent` is called right before it leaves.
    pub(super) fn say(&mut self, sequence: u16, frame: &[u8], sent: impl FnMut()) -> Outcome<()> {
        let packet = Packet {
            header: Header {
                version: 2,
                payload_type: OPUS,
                sequence_number: sequence,
                timestamp: u32::from(sequence) * SAMPLES,
                ssrc: self.ssrc,
                ..Default::default()
            },
            payload: frame.to_vec().into(),
        };
        let mut sender = self.core.rtp_sender(self.sender).ok_or("no sender")?;
        sender.write_rtp(clock::now(), packet)?;
        self.flush(sent);
        Ok(())
    }

    fn flush(&mut self, mut before: impl FnMut()) {
        while let Some(message) = self.core.poll_write() {
            before();
            let _ = self
                .socket
                .send_to(&message.message, message.transport.peer_addr);
        }
    }

    /// Hangs up.
    pub(super) fn close(mut self) {
        let _ = self.core.close();
        self.flush(|| {});
    }
}

/// Serves all until every one is connected.
pub(super) fn connect(voices: &mut [Voice], within: Duration) -> Outcome<()> {
    let deadline: Instant = clock::now() + within;
    while !voices.iter().all(|voice| voice.is_connected) {
        if clock::now() > deadline {
            return Err("not all microphones came up".into());
        }
        for voice in &mut *voices {
            voice.serve()?;
        }
        super::pause(Duration::from_millis(2));
    }
    Ok(())
}

fn track(ssrc: u32) -> MediaStreamTrack {
    MediaStreamTrack::new(
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
    )
}

fn candidate(local: SocketAddr) -> Outcome<rtc::peer_connection::transport::RTCIceCandidateInit> {
    let config = CandidateHostConfig {
        base_config: CandidateConfig {
            network: "udp".to_owned(),
            address: local.ip().to_string(),
            port: local.port(),
            component: 1,
            ..Default::default()
        },
        ..Default::default()
    };
    Ok(RTCIceCandidate::from(&config.new_candidate_host()?).to_json()?)
}
