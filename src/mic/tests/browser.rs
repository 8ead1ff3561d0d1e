//! A browser's side for tests and benchmarks: a sans-IO peer connection that offers one Opus track.
//!
//! Shared with `tests/bench/programs/mic_bench`, so it uses nothing of this crate.
#![allow(unreachable_pub)] // a module of two crates

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use bytes::BytesMut;
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

/// The result of library calls.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Largest datagram received, in bytes: STUN, DTLS and RTCP.
const DATAGRAM_MAX: usize = 2048;
/// The payload type of Opus in the default codecs.
const OPUS: u8 = 111;

/// One sending connection with its socket. It runs only during calls.
pub struct TestBrowser {
    core: RTCPeerConnection,
    socket: UdpSocket,
    local: SocketAddr,
    sender: RTCRtpSenderId,
    ssrc: u32,
    is_connected: bool,
}

impl TestBrowser {
    /// A browser at a local address, and its offer as the page would post it.
    pub fn offering(bind: IpAddr, ssrc: u32, now: Instant) -> Outcome<(Self, Vec<u8>)> {
        let socket = UdpSocket::bind((bind, 0))?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let mut media = MediaEngine::default();
        media.register_default_codecs()?;
        let settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(bind.is_loopback())
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .build();
        let mut core = RTCPeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(media)
            .with_setting_engine(settings)
            .build(now)?;
        let sender = core.add_track(track(ssrc))?;
        let transceivers: Vec<_> = core.get_transceivers().collect();
        for id in transceivers {
            if let Some(mut transceiver) = core.rtp_transceiver(id) {
                transceiver.set_direction(RTCRtpTransceiverDirection::Sendonly);
            }
        }
        let offer = core.create_offer(None)?;
        core.set_local_description(now, offer)?;
        let candidate = CandidateHostConfig {
            base_config: CandidateConfig {
                network: "udp".to_owned(),
                address: local.ip().to_string(),
                port: local.port(),
                component: 1,
                ..Default::default()
            },
            ..Default::default()
        };
        let candidate = RTCIceCandidate::from(&candidate.new_candidate_host()?).to_json()?;
        core.add_local_candidate(candidate)?;
        // The empty candidate ends the list.
        core.add_local_candidate(Default::default())?;
        let offer = core.local_description().ok_or("no description")?;
        let offer = serde_json::json!({"type": "offer", "sdp": offer.sdp});
        let browser = Self {
            core,
            socket,
            local,
            sender,
            ssrc,
            is_connected: false,
        };
        Ok((browser, serde_json::to_vec(&offer)?))
    }

    /// Its local address.
    #[allow(dead_code)] // for tests without sockets
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether ICE and DTLS are established.
    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Applies the answer.
    pub fn accept_answer(&mut self, answer_sdp: &str, now: Instant) -> Outcome<()> {
        let answer = RTCSessionDescription::answer(answer_sdp.to_owned())?;
        Ok(self.core.set_remote_description(now, answer)?)
    }

    /// Handles a received datagram.
    pub fn receive(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        let transport = TransportContext {
            local_addr: self.local,
            peer_addr: from,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        let _ = self.core.handle_read(TaggedBytesMut {
            now,
            transport,
            message: BytesMut::from(datagram),
        });
    }

    /// Handles expired timers: checks, handshake, reports.
    pub fn handle_timeout(&mut self, now: Instant) -> Outcome<()> {
        if self.core.poll_timeout().is_some_and(|due| due <= now) {
            self.core.handle_timeout(now)?;
        }
        while self.core.poll_read().is_some() {}
        while let Some(event) = self.core.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event {
                self.is_connected = state == RTCPeerConnectionState::Connected;
            }
        }
        Ok(())
    }

    /// The next datagram to send, and its destination.
    pub fn poll_transmit(&mut self) -> Option<(BytesMut, SocketAddr)> {
        let message = self.core.poll_write()?;
        Some((message.message, message.transport.peer_addr))
    }

    /// Queues one frame; [`TestBrowser::poll_transmit`] returns the datagram.
    pub fn send_frame(
        &mut self,
        sequence_number: u16,
        timestamp: u32,
        frame: Vec<u8>,
        now: Instant,
    ) -> Outcome<()> {
        let packet = Packet {
            header: Header {
                version: 2,
                payload_type: OPUS,
                sequence_number,
                timestamp,
                ssrc: self.ssrc,
                ..Default::default()
            },
            payload: frame.into(),
        };
        let mut sender = self.core.rtp_sender(self.sender).ok_or("no sender")?;
        Ok(sender.write_rtp(now, packet)?)
    }

    /// Queues a close alert.
    pub fn close(&mut self) -> Outcome<()> {
        Ok(self.core.close()?)
    }

    /// Receives from its socket, handles expired timers, and sends.
    pub fn serve(&mut self, now: Instant) -> Outcome<()> {
        let mut datagram = [0; DATAGRAM_MAX];
        while let Ok((n, from)) = self.socket.recv_from(&mut datagram) {
            self.receive(&datagram[..n], from, now);
        }
        self.handle_timeout(now)?;
        self.flush();
        Ok(())
    }

    /// Sends all queued datagrams.
    pub fn flush(&mut self) {
        while let Some((datagram, to)) = self.poll_transmit() {
            let _ = self.socket.send_to(&datagram, to);
        }
    }
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
