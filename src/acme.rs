//! Certificates for `server.domain` from an ACME authority (RFC 8555), by TLS-ALPN-01 (RFC 8737).
//!
//! The authority proves the name on the very port that serves it, so nothing else has to be open.
//! A cached certificate is served at once; orders that fail are repeated with growing pauses, and
//! what hinders them can be asked for.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_acme::acme::ACME_TLS_ALPN_NAME;
use rustls_acme::{
    AccountCache, AcmeConfig, CertCache, Event, EventError, EventOk, ResolvesServerCertAcme,
};
use smol::stream::StreamExt as _;

use crate::atomic_file;
use crate::exec::{self, Stop};
use crate::tls::{self, TlsError, Trust};
use crate::{clock, config};

/// Keys of account and certificates are for this user alone.
const DIR_MODE: u32 = 0o700;

/// rustls-acme waits for ever for an authority that takes a connection and says nothing. Its own
/// longest pause between two tries is 2^16 s; silence for longer than that starts it anew, which
/// does no harm where it only waited for a renewal's day.
const SILENCE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Why certificates cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcmeError {
    /// The cache cannot be used.
    #[error("cannot use server.acme.cache_dir {}: {}; make it writable for this user", .0.display(), .1)]
    Cache(PathBuf, #[source] io::Error),
    /// TLS cannot be set up.
    #[error("{0}")]
    Tls(#[source] TlsError),
}

/// A domain's certificates, kept fresh until the stop that [`start`] was given.
#[derive(Clone, Debug)]
pub struct Acme {
    /// For visitors.
    pub server: Arc<ServerConfig>,
    /// For the authority's proof.
    pub challenge: Arc<ServerConfig>,
    problem: Arc<Mutex<Option<String>>>,
}

impl Acme {
    /// What hinders the next certificate, if anything does.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        problem.clone()
    }
}

/// Starts to keep certificates for `domain`.
///
/// # Errors
/// See [`AcmeError`]. An authority that is away is none.
pub(crate) fn start(domain: &str, settings: &config::Acme, stop: Stop) -> Result<Acme, AcmeError> {
    start_with(domain, settings, stop, SILENCE_MAX)
}

/// The same with another bound of silence.
pub(crate) fn start_with(
    domain: &str,
    settings: &config::Acme,
    stop: Stop,
    silence: Duration,
) -> Result<Acme, AcmeError> {
    let cache = Cache::open(&settings.cache_dir)?;
    let trust = settings
        .ca_file
        .clone()
        .map_or(Trust::WebPki, Trust::CaFile);
    let client = tls::client(&trust).map_err(AcmeError::Tls)?;
    let (directory, contact) = (settings.directory.clone(), settings.contact.clone());
    let name = domain.to_owned();
    let orders = move || {
        let mut order = AcmeConfig::new_with_client_config([&name], Arc::clone(&client))
            .directory(&directory)
            .cache(cache.clone());
        if let Some(contact) = &contact {
            order = order.contact_push(format!("mailto:{contact}"));
        }
        order.state()
    };
    let mut state = orders();
    let resolver = Arc::new(Newest(RwLock::new(state.resolver())));
    let server = tls::server_by(resolver.clone()).map_err(AcmeError::Tls)?;
    let mut challenge = ServerConfig::clone(&server);
    challenge.alpn_protocols = vec![ACME_TLS_ALPN_NAME.to_vec()];
    let problem = Arc::new(Mutex::new(None));
    let (told, domain) = (Arc::clone(&problem), domain.to_owned());
    exec::spawn(async move {
        while let Some(heard) = stop
            .or(clock::by(clock::now() + silence, state.next()))
            .await
        {
            let event = match heard {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(clock::Elapsed) => {
                    log::debug!(target: "tls", "asking anew for {domain}");
                    state = orders();
                    resolver.replace(state.resolver());
                    continue;
                }
            };
            let Some(now) = judged(event, &domain) else {
                continue;
            };
            *told.lock().unwrap_or_else(PoisonError::into_inner) = now;
        }
    })
    .detach();
    Ok(Acme {
        server,
        challenge: Arc::new(challenge),
        problem,
    })
}

/// What an event makes of the problem; nothing when it does not touch it.
fn judged(event: Event<io::Error, io::Error>, domain: &str) -> Option<Option<String>> {
    let problem = match event {
        Ok(EventOk::DeployedNewCert | EventOk::DeployedCachedCert) => {
            log::info!(target: "tls", "serving a certificate for {domain}");
            return Some(None);
        }
        Ok(event) => {
            log::debug!(target: "tls", "{event:?}");
            return None;
        }
        Err(error @ (EventError::AccountCacheStore(_) | EventError::CertCacheStore(_))) => {
            format!("what the authority gave for {domain} cannot be kept: {error}")
        }
        Err(error) => format!("no new certificate for {domain} yet: {error}"),
    };
    log::error!(target: "tls", "{problem}");
    Some(Some(problem))
}

/// The certificates of the orders that are under way now.
#[derive(Debug)]
struct Newest(RwLock<Arc<ResolvesServerCertAcme>>);

impl Newest {
    fn replace(&self, with: Arc<ResolvesServerCertAcme>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = with;
    }
}

impl ResolvesServerCert for Newest {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let newest = self.0.read().unwrap_or_else(PoisonError::into_inner);
        newest.resolve(hello)
    }
}

/// Files that only this user reads.
#[derive(Clone, Debug)]
struct Cache {
    dir: PathBuf,
}

impl Cache {
    fn open(dir: &Path) -> Result<Self, AcmeError> {
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(DIR_MODE)
            .create(dir);
        made.map_err(|e| AcmeError::Cache(dir.to_owned(), e))?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// A file for these names at that authority: changing either asks for another.
    fn file(&self, kind: &str, names: &[String], directory: &str) -> PathBuf {
        let text = format!("{}\n{directory}", names.join("\n"));
        let sum = digest(&SHA256, text.as_bytes());
        let hex: String = sum.as_ref()[..8]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        self.dir.join(format!("cached_{kind}_{hex}.pem"))
    }
}

async fn load(path: PathBuf) -> io::Result<Option<Vec<u8>>> {
    match smol::unblock(move || std::fs::read(path)).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn store(path: PathBuf, bytes: Vec<u8>) -> io::Result<()> {
    let draft = path.with_extension("new");
    smol::unblock(move || atomic_file::replace(&path, &draft, &bytes)).await
}

#[async_trait]
impl CertCache for Cache {
    type EC = io::Error;

    async fn load_cert(&self, names: &[String], directory: &str) -> io::Result<Option<Vec<u8>>> {
        load(self.file("cert", names, directory)).await
    }

    async fn store_cert(&self, names: &[String], directory: &str, cert: &[u8]) -> io::Result<()> {
        store(self.file("cert", names, directory), cert.to_vec()).await
    }
}

#[async_trait]
impl AccountCache for Cache {
    type EA = io::Error;

    async fn load_account(
        &self,
        contact: &[String],
        directory: &str,
    ) -> io::Result<Option<Vec<u8>>> {
        load(self.file("account", contact, directory)).await
    }

    async fn store_account(
        &self,
        contact: &[String],
        directory: &str,
        account: &[u8],
    ) -> io::Result<()> {
        store(self.file("account", contact, directory), account.to_vec()).await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_kept_for_this_user_alone_and_by_name_and_authority() {
        let dir = std::env::temp_dir().join(format!("neck-acme-{}", crate::ids::label()));
        let cache = Cache::open(&dir).unwrap();
        let names = ["neck.test".to_owned()];
        smol::block_on(async {
            assert_eq!(cache.load_cert(&names, "a").await.unwrap(), None);
            cache.store_cert(&names, "a", b"key").await.unwrap();
            cache.store_cert(&names, "a", b"newer").await.unwrap();
            assert_eq!(
                cache.load_cert(&names, "a").await.unwrap().unwrap(),
                b"newer"
            );
            assert_eq!(cache.load_cert(&names, "b").await.unwrap(), None);
            assert_eq!(cache.load_account(&names, "a").await.unwrap(), None);
        });
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), DIR_MODE);
        assert_eq!(mode(&cache.file("cert", &names, "a")), 0o600);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
