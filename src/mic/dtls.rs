//! The handshake: DTLS of one peer, sans IO, and the keys that come of it.
//!
//! The browser opens it, with the certificate whose fingerprint its offer named and no other
//! (RFC 8827, section 6.5). No application data is taken: the keys are all it is for.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use ring::digest::{SHA256, digest};
use rtc::crypto::{RTCCryptoProvider, default_provider};
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::shared::TransportProtocol;
use rtc::shared::error::Error;
use rustls::pki_types::CertificateDer;

use super::sdp_offer::Fingerprint;
use super::srtp::Srtp;

/// What is offered for SRTP, as it is preferred: authenticated ciphers first.
const PROFILES: [SrtpProtectionProfile; 4] = [
    SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
    SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_32,
];
/// The browser in the eyes of DTLS: one, whatever path it is on (RFC 8842, section 6).
const BROWSER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9);

/// The worker's certificate, which all its peers show. It is made at the start and never stored.
pub(super) struct DtlsIdentity {
    certificate: Certificate,
    provider: Arc<dyn RTCCryptoProvider>,
}

impl DtlsIdentity {
    /// A new one.
    pub(super) fn new() -> Result<Self, Error> {
        let provider = default_provider().map_err(|e| Error::Crypto(e.to_string()))?;
        let names = vec!["hydraneckwebrtc".to_owned()];
        let certificate = Certificate::generate_self_signed(names, provider.crypto())?;
        Ok(Self {
            certificate,
            provider,
        })
    }

    /// The cryptography it is for.
    pub(super) fn provider(&self) -> Arc<dyn RTCCryptoProvider> {
        self.provider.clone()
    }

    /// SHA-256 of the certificate, as an answer names it (RFC 8122, section 5).
    pub(super) fn fingerprint(&self) -> String {
        let certificate = self.certificate.certificate.first();
        let hash = digest(&SHA256, certificate.map_or(&[], |c| c.as_ref()));
        let bytes: Vec<String> = hash.as_ref().iter().map(|b| format!("{b:02X}")).collect();
        bytes.join(":")
    }
}

/// Bytes that a handshake may take, repeats included: three times what browsers need. The crate
/// below queues, keeps and joins fragments without a limit of its own, so what it gets is limited.
const HANDSHAKE_MAX: usize = 32 * 1024;
/// Lengths of the headers of a record and of a handshake message (RFC 6347, sections 4.1, 4.2.2).
const RECORD_HEADER: usize = 13;
const MESSAGE_HEADER: usize = 12;

/// What a datagram brought.
pub(super) enum DtlsEvent {
    /// The browser has said goodbye.
    Closed,
    /// Nothing that counts.
    Nothing,
    /// The handshake is complete.
    Secured(Box<Srtp>),
}

/// The passive side of one handshake.
pub(super) struct DtlsServer {
    endpoint: Endpoint,
    /// Bytes that are still taken.
    room: usize,
    /// The last `ClientHello` that came.
    hello: Option<u16>,
}

impl DtlsServer {
    /// Waits for a browser whose certificate has one of the fingerprints.
    pub(super) fn new(
        identity: &DtlsIdentity,
        fingerprints: Vec<Fingerprint>,
    ) -> Result<Self, Error> {
        let verify = move |chain: &[Vec<u8>], _: &[CertificateDer<'static>]| {
            let leaf = chain.first().ok_or(Error::ErrNonCertificate)?;
            let hash = digest(&SHA256, leaf);
            let is_announced = fingerprints.iter().any(|known| known == hash.as_ref());
            is_announced
                .then_some(())
                .ok_or(Error::ErrNoMatchingCertificateFingerprint)
        };
        let config = ConfigBuilder::default()
            .with_crypto_provider(identity.provider())
            .with_certificates(vec![identity.certificate.clone()])
            .with_srtp_protection_profiles(PROFILES.to_vec())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            // Browsers' certificates are self-signed: the fingerprint is what counts.
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(verify)))
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .build(false, None)?;
        let endpoint = Endpoint::new(BROWSER, TransportProtocol::UDP, Some(Arc::new(config)));
        Ok(Self {
            endpoint,
            room: HANDSHAKE_MAX,
            hello: None,
        })
    }

    /// Takes a record. Garbage of a stranger is no reason to end.
    pub(super) fn take(
        &mut self,
        identity: &DtlsIdentity,
        datagram: &[u8],
        now: Instant,
    ) -> DtlsEvent {
        if !self.admits(datagram) {
            return DtlsEvent::Nothing;
        }
        let record = BytesMut::from(datagram);
        let events = match self.endpoint.read(now, BROWSER, None, record) {
            Ok(events) => events,
            Err(error) => {
                log::debug!(target: "mic", "a DTLS record came to nothing: {error}");
                return DtlsEvent::Nothing;
            }
        };
        for event in events {
            match event {
                EndpointEvent::PeerClosed => return DtlsEvent::Closed,
                EndpointEvent::HandshakeComplete => {
                    let state = self.endpoint.get_connection_state(BROWSER);
                    match state.map(|state| Srtp::new(state, identity.provider.crypto())) {
                        Some(Ok(srtp)) => return DtlsEvent::Secured(Box::new(srtp)),
                        Some(Err(error)) => log::warn!(target: "mic", "no SRTP keys: {error}"),
                        None => {}
                    }
                }
                _ => {}
            }
        }
        DtlsEvent::Nothing
    }

    /// Whether the crate below may see a datagram.
    fn admits(&mut self, datagram: &[u8]) -> bool {
        // A repeated hello says that our flight was lost. The crate would answer with nothing and
        // stop its timer, which is what repeats the flight.
        let hello = hello(datagram);
        if hello.is_some_and(|number| number > 0) && hello == self.hello {
            return false;
        }
        self.hello = hello.or(self.hello);
        if let Some(room) = self.room.checked_sub(datagram.len()) {
            self.room = room;
            return true;
        }
        // A goodbye is heard at any time; nothing is kept of it.
        is_lone_alert(datagram)
    }

    /// Repeats a flight when it is time.
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), Error> {
        match self.due() {
            Some(due) if due <= now => self.endpoint.handle_timeout(BROWSER, now),
            _ => Ok(()),
        }
    }

    /// When it must be ticked next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&BROWSER)
    }

    /// The next record to send.
    pub(super) fn said(&mut self) -> Option<BytesMut> {
        Some(self.endpoint.poll_transmit()?.message)
    }

    /// Says goodbye.
    pub(super) fn leave(&mut self, now: Instant) {
        let _ = self.endpoint.close(now);
    }
}

/// The number of the `ClientHello` that a datagram begins with, in clear.
fn hello(datagram: &[u8]) -> Option<u16> {
    let message = datagram.get(RECORD_HEADER..RECORD_HEADER + MESSAGE_HEADER)?;
    let in_clear = datagram[0] == 22 && datagram[3..5] == [0, 0];
    let begins = message[0] == 1 && message[6..9] == [0, 0, 0];
    (in_clear && begins).then(|| u16::from_be_bytes([message[4], message[5]]))
}

/// Whether a datagram is one encrypted alert and nothing else.
fn is_lone_alert(datagram: &[u8]) -> bool {
    let Some(header) = datagram.get(..RECORD_HEADER) else {
        return false;
    };
    let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
    header[0] == 21 && header[3..5] != [0, 0] && datagram.len() == RECORD_HEADER + length
}
