//! DTLS of one peer, sans-IO: the handshake that yields the SRTP keys.
//!
//! The browser is the client. Its certificate must have a fingerprint of its offer (RFC 8827, section
//! 6.5). Application data is ignored.

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

/// SRTP profiles in the order of preference: AEAD ciphers first.
const PROFILES: [SrtpProtectionProfile; 4] = [
    SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
    SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_32,
];
/// The browser's address for the DTLS library: always the same, since a DTLS association survives a
/// change of the ICE path (RFC 8842, section 6).
const BROWSER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9);

/// The worker's certificate, shared by all peers. Generated at the start, never stored.
pub(super) struct DtlsIdentity {
    certificate: Certificate,
    provider: Arc<dyn RTCCryptoProvider>,
}

impl DtlsIdentity {
    /// Generates a certificate.
    pub(super) fn new() -> Result<Self, Error> {
        let provider = default_provider().map_err(|e| Error::Crypto(e.to_string()))?;
        let names = vec!["hydraneckwebrtc".to_owned()];
        let certificate = Certificate::generate_self_signed(names, provider.crypto())?;
        Ok(Self {
            certificate,
            provider,
        })
    }

    /// The crypto library that made it.
    pub(super) fn provider(&self) -> Arc<dyn RTCCryptoProvider> {
        self.provider.clone()
    }

    /// SHA-256 of the certificate in the form of RFC 8122, section 5.
    pub(super) fn fingerprint(&self) -> String {
        let certificate = self.certificate.certificate.first();
        let hash = digest(&SHA256, certificate.map_or(&[], |c| c.as_ref()));
        let bytes: Vec<String> = hash.as_ref().iter().map(|b| format!("{b:02X}")).collect();
        bytes.join(":")
    }
}

/// Most bytes of a handshake that are accepted, retransmissions included: three times what browsers
/// need. The DTLS library stores fragments without a limit, so its input is limited.
const HANDSHAKE_MAX: usize = 32 * 1024;
/// Lengths of the headers of a record and of a handshake message (RFC 6347, sections 4.1, 4.2.2).
const RECORD_HEADER: usize = 13;
const MESSAGE_HEADER: usize = 12;

/// The result of a received datagram.
pub(super) enum DtlsEvent {
    /// The browser sent a close alert.
    Closed,
    /// The handshake is complete.
    Keys(Box<Srtp>),
    Nothing,
}

/// The server side of one DTLS association.
pub(super) struct DtlsServer {
    endpoint: Endpoint,
    /// Bytes that are still accepted, see [`HANDSHAKE_MAX`].
    budget: usize,
    /// The message number of the last `ClientHello`.
    last_hello: Option<u16>,
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
            let is_known = fingerprints.iter().any(|known| known == hash.as_ref());
            is_known
                .then_some(())
                .ok_or(Error::ErrNoMatchingCertificateFingerprint)
        };
        let config = ConfigBuilder::default()
            .with_crypto_provider(identity.provider())
            .with_certificates(vec![identity.certificate.clone()])
            .with_srtp_protection_profiles(PROFILES.to_vec())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            // Browsers' certificates are self-signed: `verify` compares the fingerprint.
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(verify)))
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .build(false, None)?;
        let endpoint = Endpoint::new(BROWSER, TransportProtocol::UDP, Some(Arc::new(config)));
        Ok(Self {
            endpoint,
            budget: HANDSHAKE_MAX,
            last_hello: None,
        })
    }

    /// Handles a received datagram. Invalid records are ignored: anyone can forge them.
    pub(super) fn receive(
        &mut self,
        identity: &DtlsIdentity,
        datagram: &[u8],
        now: Instant,
    ) -> DtlsEvent {
        if !self.accepts(datagram) {
            return DtlsEvent::Nothing;
        }
        let record = BytesMut::from(datagram);
        let events = match self.endpoint.read(now, BROWSER, None, record) {
            Ok(events) => events,
            Err(error) => {
                log::debug!(target: "mic", "a DTLS record is ignored: {error}");
                return DtlsEvent::Nothing;
            }
        };
        for event in events {
            match event {
                EndpointEvent::PeerClosed => return DtlsEvent::Closed,
                EndpointEvent::HandshakeComplete => {
                    let state = self.endpoint.get_connection_state(BROWSER);
                    match state.map(|state| Srtp::new(state, identity.provider.crypto())) {
                        Some(Ok(srtp)) => return DtlsEvent::Keys(Box::new(srtp)),
                        Some(Err(error)) => {
                            log::warn!(target: "mic", "cannot derive SRTP keys: {error}")
                        }
                        None => {}
                    }
                }
                _ => {}
            }
        }
        DtlsEvent::Nothing
    }

    /// Whether a datagram is passed to the DTLS library.
    fn accepts(&mut self, datagram: &[u8]) -> bool {
        // A repeated ClientHello means that our flight was lost. The library would not answer it,
        // and would stop the timer that retransmits the flight.
        let hello = client_hello_number(datagram);
        if hello.is_some_and(|number| number > 0) && hello == self.last_hello {
            return false;
        }
        self.last_hello = hello.or(self.last_hello);
        if let Some(budget) = self.budget.checked_sub(datagram.len()) {
            self.budget = budget;
            return true;
        }
        // A close alert is always accepted; the library stores nothing of it.
        is_lone_alert(datagram)
    }

    /// Retransmits a flight if its timer has expired.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        match self.next_timeout() {
            Some(at) if at <= now => self.endpoint.handle_timeout(BROWSER, now),
            _ => Ok(()),
        }
    }

    /// When [`Self::handle_timeout`] must be called next.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&BROWSER)
    }

    /// The next record to send.
    pub(super) fn poll_transmit(&mut self) -> Option<BytesMut> {
        Some(self.endpoint.poll_transmit()?.message)
    }

    /// Queues a close alert.
    pub(super) fn close(&mut self, now: Instant) {
        let _ = self.endpoint.close(now);
    }
}

/// The message number of the unencrypted `ClientHello` at the start of a datagram.
fn client_hello_number(datagram: &[u8]) -> Option<u16> {
    let message = datagram.get(RECORD_HEADER..RECORD_HEADER + MESSAGE_HEADER)?;
    let in_clear = datagram[0] == 22 && datagram[3..5] == [0, 0];
    let begins = message[0] == 1 && message[6..9] == [0, 0, 0];
    (in_clear && begins).then(|| u16::from_be_bytes([message[4], message[5]]))
}

/// Whether a datagram is exactly one encrypted alert.
fn is_lone_alert(datagram: &[u8]) -> bool {
    let Some(header) = datagram.get(..RECORD_HEADER) else {
        return false;
    };
    let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
    header[0] == 21 && header[3..5] != [0, 0] && datagram.len() == RECORD_HEADER + length
}
