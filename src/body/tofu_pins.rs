//! Certificates of bodies: trusted on first use, then held to.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use super::body_files::BodyFiles;
use crate::tls::Fingerprint;

/// Why a body's certificate could not be judged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinError {
    /// It is another one than the first time.
    #[error("the certificate of {} has changed; if Sunshine was installed anew there, delete {}", .0, .1.display())]
    Changed(IpAddr, PathBuf),
    /// The file holds no fingerprint.
    #[error("{} holds no fingerprint, delete it", .0.display())]
    Garbled(PathBuf),
    /// The file cannot be read or written.
    #[error("cannot use {}: {}", .0.display(), .1)]
    File(PathBuf, #[source] io::Error),
}

/// One pinned fingerprint for each body address, as body_files in the state directory.
#[derive(Clone, Debug)]
pub(crate) struct PinStore(BodyFiles);

impl PinStore {
    /// Pins in that directory, which is made when the first one is written.
    #[must_use]
    pub(crate) fn new(dir: impl Into<PathBuf>) -> Self {
        Self(BodyFiles::new(dir, "pin"))
    }

    /// The fingerprint that this body must show; `None` before the first meeting.
    ///
    /// # Errors
    /// [`PinError::Garbled`] or [`PinError::File`]: a pin that cannot be read does not count as
    /// none.
    pub(crate) async fn expected(&self, ip: IpAddr) -> Result<Option<Fingerprint>, PinError> {
        let shelf = self.0.clone();
        smol::unblock(move || {
            let Some(text) = shelf
                .read(ip)
                .map_err(|e| PinError::File(shelf.path(ip), e))?
            else {
                return Ok(None);
            };
            let fingerprint = text.trim_end().parse();
            fingerprint
                .map(Some)
                .map_err(|()| PinError::Garbled(shelf.path(ip)))
        })
        .await
    }

    /// Keeps the fingerprint of the first meeting.
    ///
    /// # Errors
    /// [`PinError::Changed`] when another meeting was first and saw another certificate.
    pub(crate) async fn keep(&self, ip: IpAddr, seen: Fingerprint) -> Result<(), PinError> {
        match self.expected(ip).await? {
            Some(expected) if expected == seen => return Ok(()),
            Some(_) => return Err(self.changed(ip)),
            None => {}
        }
        let shelf = self.0.clone();
        smol::unblock(move || {
            shelf
                .write(ip, &format!("{seen}\n"))
                .map_err(|e| PinError::File(shelf.path(ip), e))
        })
        .await
    }

    /// Bodies with a pinned certificate.
    pub(crate) async fn bodies(&self) -> Vec<IpAddr> {
        let shelf = self.0.clone();
        smol::unblock(move || shelf.bodies()).await
    }

    /// The error that says what to do about a changed certificate.
    #[must_use]
    pub(crate) fn changed(&self, ip: IpAddr) -> PinError {
        PinError::Changed(ip, self.0.path(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fingerprint_is_kept_and_another_is_refused_with_the_remedy() {
        let dir = std::env::temp_dir().join(format!("neck-pins-{}", crate::ids::label()));
        let (pins, ip) = (PinStore::new(&dir), "10.0.1.50".parse().unwrap());
        let [a, b] = ["ab", "cd"].map(|x| x.repeat(32).parse::<Fingerprint>().unwrap());
        smol::block_on(async {
            assert_eq!(pins.expected(ip).await.unwrap(), None);
            pins.keep(ip, a).await.unwrap();
            pins.keep(ip, a).await.unwrap();
            assert_eq!(pins.expected(ip).await.unwrap(), Some(a));
            let error = pins.keep(ip, b).await.unwrap_err().to_string();
            assert!(
                error.contains("delete") && error.contains("10.0.1.50.pin"),
                "{error}"
            );
            std::fs::write(dir.join("10.0.1.50.pin"), "rubbish").unwrap();
            assert!(matches!(pins.expected(ip).await, Err(PinError::Garbled(_))));
        });
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
