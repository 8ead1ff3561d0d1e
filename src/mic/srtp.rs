//! SRTP of one peer: the contexts of both directions, with keys of its DTLS handshake (RFC 5764).

use bytes::BytesMut;
use rtc::crypto::RTCCrypto;
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::dtls::state::State;
use rtc::rtcp;
use rtc::rtp::Packet;
use rtc::shared::error::Error;
use rtc::shared::marshal::Unmarshal as _;
use rtc::srtp::config::{Config, LABEL_EXTRACTOR_DTLS_SRTP};
use rtc::srtp::context::Context;
use rtc::srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc::srtp::protection_profile::ProtectionProfile;

/// Replay window in packets: the minimum of RFC 3711, more than a second of audio.
const WINDOW: usize = 64;

/// The contexts that decrypt received and encrypt sent packets.
pub(super) struct Srtp {
    inbound: Context,
    outbound: Context,
}

impl Srtp {
    /// Derives the keys from a completed handshake.
    pub(super) fn new(state: &State, crypto: &dyn RTCCrypto) -> Result<Self, Error> {
        let mut config = Config {
            profile: profile(state.srtp_protection_profile())?,
            ..Default::default()
        };
        let length = config.keying_material_len();
        let material = state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], length)?;
        config.set_session_keys_from_keying_material(material.as_ref(), state.is_client())?;
        let keys = &config.keys;
        Ok(Self {
            inbound: Context::new(
                &keys.remote_master_key,
                &keys.remote_master_salt,
                config.profile,
                Some(srtp_replay_protection(WINDOW)),
                Some(srtcp_replay_protection(WINDOW)),
                crypto,
            )?,
            outbound: Context::new(
                &keys.local_master_key,
                &keys.local_master_salt,
                config.profile,
                None,
                None,
                crypto,
            )?,
        })
    }

    /// Decrypts an RTP packet; `None` if it is not authentic or a replay.
    pub(super) fn decrypt_rtp(&mut self, datagram: &[u8]) -> Option<Packet> {
        let mut opened = self.inbound.decrypt_rtp(datagram).ok()?;
        Packet::unmarshal(&mut opened).ok()
    }

    /// Decrypts RTCP packets; none if they are not authentic or a replay.
    pub(super) fn decrypt_rtcp(&mut self, datagram: &[u8]) -> Vec<Box<dyn rtcp::Packet>> {
        let opened = self.inbound.decrypt_rtcp(datagram).ok();
        opened
            .and_then(|mut opened| rtcp::packet::unmarshal(&mut opened).ok())
            .unwrap_or_default()
    }

    /// Encrypts RTCP packets.
    pub(super) fn encrypt_rtcp(
        &mut self,
        reports: &[Box<dyn rtcp::Packet>],
    ) -> Result<BytesMut, Error> {
        self.outbound.encrypt_rtcp(&rtcp::packet::marshal(reports)?)
    }
}

fn profile(negotiated: SrtpProtectionProfile) -> Result<ProtectionProfile, Error> {
    match negotiated {
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Ok(ProtectionProfile::AeadAes128Gcm),
        SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm => Ok(ProtectionProfile::AeadAes256Gcm),
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => {
            Ok(ProtectionProfile::Aes128CmHmacSha1_80)
        }
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_32 => {
            Ok(ProtectionProfile::Aes128CmHmacSha1_32)
        }
        _ => Err(Error::ErrNoSuchSrtpProfile),
    }
}
