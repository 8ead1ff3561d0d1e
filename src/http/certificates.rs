//! Certificates of a listener, and the TLS handshake with a client.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use futures_rustls::{LazyConfigAcceptor, TlsStream};
use rustls::ServerConfig;

use crate::wire::Socket;
use crate::wire::tcp::Tcp;

/// What an ACME authority asks for when it proves a name (RFC 8737).
const ACME_ALPN: &[u8] = b"acme-tls/1";

/// A TLS configuration that can be replaced while connections are open.
#[derive(Clone, Debug)]
pub struct Certificates {
    current: Arc<RwLock<Arc<ServerConfig>>>,
    challenge: Option<Arc<ServerConfig>>,
}

impl Certificates {
    /// Starts with `config`.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self {
            current: Arc::new(RwLock::new(config)),
            challenge: None,
        }
    }

    /// Answers an ACME authority's proofs with that configuration.
    #[must_use]
    pub fn with_challenge(mut self, challenge: Arc<ServerConfig>) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// The handshake; `None` when it was a proof and nothing follows.
    pub(super) async fn accept(&self, tcp: Tcp) -> io::Result<Option<Socket>> {
        let hello = LazyConfigAcceptor::new(Default::default(), tcp).await?;
        let is_proof = {
            let head = hello.client_hello();
            let mut wanted = head.alpn().into_iter().flatten();
            wanted.any(|protocol| protocol == ACME_ALPN)
        };
        if let Some(challenge) = self.challenge.as_ref().filter(|_| is_proof) {
            let mut stream = hello.into_stream(Arc::clone(challenge)).await?;
            smol::io::AsyncWriteExt::close(&mut stream).await?;
            return Ok(None);
        }
        let stream = hello.into_stream(self.current()).await?;
        Ok(Some(Socket::Tls(Box::new(TlsStream::Server(stream)))))
    }

    /// New connections use `config` from now on.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}
