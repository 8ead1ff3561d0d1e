//! Certificates for `server.domain` from an ACME authority (RFC 8555), by TLS-ALPN-01 (RFC 8737).
//!
//! The authority proves the name on the very port that serves it, so nothing else has to be open.
//! A cached certificate is served at once; orders that fail are repeated with growing pauses, and
//! what hinders them can be asked for.

use std::fmt;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use rustls_acme::{AccountCache, AcmeConfig, CertCache, EventError, EventOk};
use smol::stream::StreamExt as _;

use crate::config;
use crate::exec::{self, Stop};
use crate::tls::{self, TlsError, Trust};

/// Keys of account and certificates: for this user alone.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// Why certificates cannot be had.
#[derive(Debug)]
pub enum AcmeError {
    /// The cache cannot be used.
    Cache(PathBuf, io::Error),
    /// TLS cannot be set up.
    Tls(TlsError),
}

impl fmt::Display for AcmeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cache(dir, error) => write!(
                f,
                "cannot use server.acme.cache_dir {}: {error}; make it writable for this user",
                dir.display()
            ),
            Self::Tls(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for AcmeError {}

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
pub fn start(domain: &str, settings: &config::Acme, stop: Stop) -> Result<Acme, AcmeError> {
    let cache = Cache::open(&settings.cache_dir)?;
    let trust = settings
        .ca_file
        .clone()
        .map_or(Trust::WebPki, Trust::CaFile);
    let client = tls::client(&trust).map_err(AcmeError::Tls)?;
    let mut order = AcmeConfig::new_with_client_config([domain], client)
        .directory(&settings.directory)
        .cache(cache);
    if let Some(contact) = &settings.contact {
        order = order.contact_push(format!("mailto:{contact}"));
    }
    let mut state = order.state();
    let challenge = state.challenge_rustls_config_with_provider(tls::provider());
    let server = tls::server_by(state.resolver()).map_err(AcmeError::Tls)?;
    let problem = Arc::new(Mutex::new(None));
    let (told, domain) = (Arc::clone(&problem), domain.to_owned());
    exec::spawn(async move {
        while let Some(Some(event)) = stop.or(state.next()).await {
            let now = match event {
                Ok(EventOk::DeployedNewCert | EventOk::DeployedCachedCert) => {
                    log::info!(target: "tls", "serving a certificate for {domain}");
                    None
                }
                Ok(event) => {
                    log::debug!(target: "tls", "{event:?}");
                    continue;
                }
                Err(error) => {
                    let problem = match &error {
                        EventError::AccountCacheStore(_) | EventError::CertCacheStore(_) => {
                            format!("what the authority gave for {domain} cannot be kept: {error}")
                        }
                        _ => format!("no new certificate for {domain} yet: {error}"),
                    };
                    log::error!(target: "tls", "{problem}");
                    Some(problem)
                }
            };
            *told.lock().unwrap_or_else(PoisonError::into_inner) = now;
        }
    })
    .detach();
    Ok(Acme {
        server,
        challenge,
        problem,
    })
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

/// In one step: a crash leaves the old file or the new one.
async fn store(path: PathBuf, bytes: Vec<u8>) -> io::Result<()> {
    smol::unblock(move || {
        let fresh = path.with_extension("new");
        let _ = std::fs::remove_file(&fresh);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(FILE_MODE);
        let mut file = options.open(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)
    })
    .await
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
        assert_eq!(mode(&cache.file("cert", &names, "a")), FILE_MODE);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
