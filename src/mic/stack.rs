//! How the WebRTC stack is set up, and which socket it gets.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::Instant;

use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::{ReceiverReportBuilder, Registry, Slot};
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MediaEngine};
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};

use super::answer::OPUS_WISHES;
use super::error::PeerError;

/// Payload type under which Opus is registered; the answer follows the offer's.
const OPUS_TYPE: u8 = 111;

/// The WebRTC core of one microphone: Opus only, ICE-lite, no mDNS.
pub(super) fn core(bind: IpAddr, now: Instant) -> rtc::shared::error::Result<RTCPeerConnection> {
    let mut media = MediaEngine::default();
    media.register_codec(
        RTCRtpCodecParameters {
            rtp_codec: RTCRtpCodec {
                mime_type: MIME_TYPE_OPUS.to_owned(),
                clock_rate: 48_000,
                channels: 2,
                sdp_fmtp_line: OPUS_WISHES.to_owned(),
                rtcp_feedback: vec![],
            },
            payload_type: OPUS_TYPE,
        },
        RtpCodecKind::Audio,
    )?;
    let settings = SettingEngineBuilder::new()
        .with_lite(true)
        // The browser opens the handshake, as its checks are what opens the path.
        .with_answering_dtls_role(RTCDtlsRole::Server)
        .with_include_loopback_candidate(bind.is_loopback())
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .build();
    let reports = Registry::new().with(Slot::ReceiverReport, ReceiverReportBuilder::new().build());
    RTCPeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().build())
        .with_media_engine(media)
        .with_setting_engine(settings)
        // They tell the page how much was lost; nothing else is asked of it.
        .with_interceptor_registry(reports)
        .build(now)
}

/// A socket on `bind` that does not block, on a port of the range when there is one. The socket is
/// the claim: the kernel knows which ports are free.
pub(super) fn bound(
    bind: IpAddr,
    ports: Option<&RangeInclusive<u16>>,
) -> Result<UdpSocket, PeerError> {
    let failed = |e| PeerError::Bind(bind, e);
    let socket = match ports {
        None => UdpSocket::bind((bind, 0)).map_err(failed)?,
        Some(range) => first_free(bind, range)?,
    };
    socket.set_nonblocking(true).map_err(failed)?;
    Ok(socket)
}

fn first_free(bind: IpAddr, range: &RangeInclusive<u16>) -> Result<UdpSocket, PeerError> {
    for port in range.clone() {
        match UdpSocket::bind((bind, port)) {
            Ok(socket) => return Ok(socket),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
            Err(e) => return Err(PeerError::Bind(bind, e)),
        }
    }
    Err(PeerError::NoPort(range.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn ports_come_from_the_range_and_return_to_it() {
        // A range that is free now: the kernel names its first port.
        let socket = bound(LOOPBACK, None).unwrap();
        let first = socket.local_addr().unwrap().port();
        let range = first..=first;
        let full = bound(LOOPBACK, Some(&range)).err();
        assert!(matches!(full, Some(PeerError::NoPort(_))), "{full:?}");
        drop(socket);
        let again = bound(LOOPBACK, Some(&range)).unwrap();
        assert_eq!(again.local_addr().unwrap().port(), first);
    }

    #[test]
    fn an_address_that_is_not_ours_is_named() {
        let error = bound("192.0.2.1".parse().unwrap(), None).err();
        assert!(error.unwrap().to_string().contains("192.0.2.1"));
    }
}
