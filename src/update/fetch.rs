//! Fetching a release: redirects followed, sizes bounded, sums and signatures checked.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use http_types::{Method, Url};
use ring::digest::{Context, SHA256};
use serde::Deserialize;

use super::sums::{self, Sum};
use super::{ReleaseVersion, UpdateError};
use crate::config;
use crate::http::client::{Client, ClientError, Incoming, Outgoing};

/// Wait for small files, and for a piece of a large one.
const WITHIN: Duration = Duration::from_secs(30);
/// Wait for the whole binary.
const BINARY_WITHIN: Duration = Duration::from_secs(300);
/// Redirects that are followed: the release server sends one, to its mirror.
const REDIRECTS_MAX: usize = 5;
/// Largest binary: ours has about 15 MiB.
const BINARY_MAX: u64 = 256 << 20;
/// This project's name in file names.
const PROJECT: &str = "hydraneckwebrtc";

/// A release server's channel.
#[derive(Debug)]
pub(super) struct ReleaseSource<'a> {
    client: &'a Client,
    base: String,
    key: Option<&'a str>,
}

#[derive(Deserialize)]
struct Latest {
    version: String,
}

/// Name of this machine's binary in a release: architectures as Go calls them.
pub(super) fn binary_name() -> Result<String, UpdateError> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => {
            return Err(UpdateError::Refused(format!(
                "there are no releases for {other}: build from source"
            )));
        }
    };
    Ok(format!("{PROJECT}-{}-{arch}", std::env::consts::OS))
}

impl<'a> ReleaseSource<'a> {
    pub(super) fn new(
        settings: &'a config::Update,
        client: &'a Client,
    ) -> Result<Self, UpdateError> {
        Ok(Self {
            client,
            base: format!("{}/{}", settings.base_url, settings.channel),
            key: settings.public_key.as_deref(),
        })
    }

    pub(super) async fn latest(&self) -> Result<ReleaseVersion, UpdateError> {
        let url = format!("{}/latest.json", self.base);
        let body = self.small(&url).await?;
        let latest: Option<Latest> = serde_json::from_slice(&body).ok();
        latest
            .and_then(|l| ReleaseVersion::parse(&l.version))
            .ok_or_else(|| UpdateError::Refused(format!("{url} names no version")))
    }

    /// The proven sum of this machine's binary.
    pub(super) async fn sum(&self, version: &ReleaseVersion) -> Result<Sum, UpdateError> {
        let name = binary_name()?;
        let url = format!("{}/v{version}/SHA256SUMS", self.base);
        let text = self.small(&url).await?;
        if let Some(key) = self.key {
            let signature = self.small(&format!("{url}.sig")).await?;
            if !sums::is_signed(key, &text, &signature) {
                return Err(UpdateError::Refused(format!(
                    "{url} is not signed by update.public_key: nothing was installed"
                )));
            }
        }
        sums::of(&String::from_utf8_lossy(&text), &name)
            .ok_or_else(|| UpdateError::Refused(format!("{url} has no sum of {name}")))
    }

    /// The binary, into a new file at `path`.
    pub(super) async fn binary(
        &self,
        version: &ReleaseVersion,
        sum: Sum,
        path: &Path,
    ) -> Result<(), UpdateError> {
        let url = format!("{}/v{version}/{}", self.base, binary_name()?);
        let broken = |error| UpdateError::File(path.to_owned(), error);
        let mut incoming = self.get(&url).await?;
        let file = File::create_new(path).map_err(broken)?;
        let work = pour(&url, &mut incoming, file, path);
        let deadline = crate::clock::now() + BINARY_WITHIN;
        let got = crate::clock::by(deadline, work)
            .await
            .map_err(|_| UpdateError::Call(url.clone(), ClientError::Timeout(BINARY_WITHIN)))??;
        if got != sum {
            return Err(UpdateError::Refused(format!(
                "{url} does not have the sum that SHA256SUMS names: nothing was installed"
            )));
        }
        Ok(())
    }

    async fn small(&self, url: &str) -> Result<Vec<u8>, UpdateError> {
        let incoming = self.get(url).await?;
        let answer = incoming.whole(WITHIN).await;
        Ok(answer
            .map_err(|e| UpdateError::Call(url.to_owned(), e))?
            .body)
    }

    /// A 200, after any redirects.
    async fn get(&self, url: &str) -> Result<Incoming, UpdateError> {
        let mut at = url.to_owned();
        for _ in 0..=REDIRECTS_MAX {
            let call = Outgoing::new(Method::Get, at.as_str()).within(WITHIN);
            let incoming = self.client.open(call).await;
            let incoming = incoming.map_err(|e| UpdateError::Call(at.clone(), e))?;
            match incoming.status {
                200 => return Ok(incoming),
                301 | 302 | 303 | 307 | 308 => {
                    at = redirected(&at, incoming.fields.text("location"))?;
                }
                status => return Err(UpdateError::NotThere(at, status)),
            }
        }
        Err(UpdateError::Refused(format!(
            "{url} redirects more than {REDIRECTS_MAX} times"
        )))
    }
}

fn redirected(from: &str, location: Option<&str>) -> Result<String, UpdateError> {
    let refused = |why: &str| UpdateError::Refused(format!("{from} redirects {why}"));
    let base = Url::parse(from).map_err(|_| refused("from nowhere"))?;
    let to = location.and_then(|l| base.join(l).ok());
    let to = to.ok_or_else(|| refused("to nowhere"))?;
    if base.scheme() == "https" && to.scheme() != "https" {
        return Err(refused("away from HTTPS"));
    }
    Ok(to.into())
}

/// Writes what comes and answers its sum. Each piece is written on a thread that may wait, and its
/// error is the disk's own.
pub(super) async fn pour(
    url: &str,
    incoming: &mut Incoming,
    mut out: File,
    path: &Path,
) -> Result<Sum, UpdateError> {
    let broken = |error| UpdateError::File(path.to_owned(), error);
    let mut context = Context::new(&SHA256);
    let mut total = 0_u64;
    loop {
        let piece = incoming.piece(WITHIN).await;
        let piece = piece.map_err(|e| UpdateError::Call(url.to_owned(), e))?;
        let Some(piece) = piece else { break };
        total += piece.len() as u64;
        if total > BINARY_MAX {
            return Err(UpdateError::Refused(format!(
                "{url} is larger than {BINARY_MAX} bytes"
            )));
        }
        context.update(&piece);
        let written = smol::unblock(move || out.write_all(&piece).map(|()| out)).await;
        out = written.map_err(broken)?;
    }
    let synced = smol::unblock(move || out.sync_all()).await;
    synced.map_err(broken)?;
    let mut sum = [0; 32];
    sum.copy_from_slice(context.finish().as_ref());
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_resolve_and_never_leave_https() {
        let to = redirected("https://a.test/x/y", Some("../z")).unwrap();
        assert_eq!(to, "https://a.test/z");
        let to = redirected("http://a.test/x", Some("https://b.test/")).unwrap();
        assert_eq!(to, "https://b.test/");
        assert!(redirected("https://a.test/x", Some("http://a.test/x")).is_err());
        assert!(redirected("https://a.test/x", None).is_err());
    }
}
