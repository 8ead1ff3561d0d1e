//! TLS, outgoing and incoming, with one provider everywhere: ring.
//!
//! Outgoing certificates are verified against public trust anchors or a configured CA file. Only
//! Sunshine, which signs its own certificate, is held to a pinned fingerprint instead; the
//! handshake's signatures are verified there too.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key file could not be used.
    #[error("cannot use {}: {why}; it must be a readable PEM file", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// rustls refuses the combination.
    #[error("cannot set up TLS: {0}")]
    Setup(#[source] rustls::Error),
}

/// SHA-256 of a certificate's DER form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Fingerprint of a certificate; `None` when the provider has no SHA-256, which ring has.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let hash = provider().cipher_suites.iter().find_map(|suite| {
            let hash = suite.tls13()?.common.hash_provider;
            (hash.output_len() == 32).then(|| hash.hash(certificate))
        })?;
        hash.as_ref().try_into().ok().map(Self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(());
        }
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}

/// Whom an outgoing connection trusts.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The CA certificates in a PEM file, and nobody else.
    CaFile(PathBuf),
    /// The certificate with this fingerprint; any when it is `None` (trust on first use: the
    /// caller stores what the connection then reports).
    Pinned(Option<Fingerprint>),
    /// The public trust anchors.
    WebPki,
}

/// The cryptography provider of every connection.
#[must_use]
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

/// Client configuration for that trust, TLS 1.2 and 1.3.
///
/// # Errors
/// When the CA file cannot be used.
pub fn client(trust: &Trust) -> Result<Arc<ClientConfig>, TlsError> {
    client_as(trust, None)
}

/// As [`client`]; servers that ask who calls are shown the certificate in the first PEM file,
/// whose key is in the second.
///
/// # Errors
/// When a file cannot be used or certificate and key do not belong together.
pub(crate) fn client_as(
    trust: &Trust,
    identity: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?;
    let builder = match trust {
        Trust::CaFile(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(TlsError::Setup)?;
            }
            builder.with_root_certificates(roots)
        }
        Trust::Pinned(expected) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned {
                expected: *expected,
                provider: provider(),
            })),
        Trust::WebPki => {
            let roots = RootCertStore {
                roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            };
            builder.with_root_certificates(roots)
        }
    };
    let config = match identity {
        Some((certificate, private_key)) => builder
            .with_client_auth_cert(certificates(certificate)?, key(private_key)?)
            .map_err(TlsError::Setup)?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// Server configuration from PEM files, TLS 1.2 and 1.3, HTTP/1.1 only.
///
/// # Errors
/// When a file cannot be used or certificate and key do not belong together.
pub fn server(certificate: &Path, private_key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    server_from(certificates(certificate)?, key(private_key)?)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| TlsError::File {
        path: path.to_owned(),
        why: e.to_string(),
    })
}

/// Server configuration from a chain and key in memory.
///
/// # Errors
/// When certificate and key do not belong together.
pub(crate) fn server_from(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Setup)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Server configuration whose certificates a resolver chooses.
///
/// # Errors
/// When rustls refuses the combination.
pub(crate) fn server_by(
    resolver: Arc<dyn rustls::server::ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let broken = |why: String| TlsError::File {
        path: path.to_owned(),
        why,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e: rustls::pki_types::pem::Error| broken(e.to_string()))?;
    if chain.is_empty() {
        return Err(broken("it has no certificate".into()));
    }
    Ok(chain)
}

/// Compares the end-entity certificate with a fingerprint; rustls verifies the signatures.
#[derive(Debug)]
struct Pinned {
    expected: Option<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = Fingerprint::of(end_entity);
        match self.expected {
            Some(expected) if seen != Some(expected) => Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::ApplicationVerificationFailure,
            )),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_reads_back_as_it_prints() {
        let fingerprint = Fingerprint::of(&CertificateDer::from(b"any bytes".to_vec())).unwrap();
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        assert_eq!("xyz".parse::<Fingerprint>(), Err(()));
    }

    #[test]
    fn an_unusable_file_is_named() {
        let error = client(&Trust::CaFile("/nonexistent/ca.pem".into())).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
    }
}
