//! A pairing that is kept: what the stream program needs so that it need not pair again.
//!
//! Each belongs to the kind of stream program that paired: the test card's keys are marks, with
//! which no other program starts.
//!
//! The program keeps its client key and certificates in `data.json`. After the first pairing with
//! a body they are harvested from there; later sessions start with a `data.json` that has them.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::body_files::BodyFiles;

/// Longest text that is taken out of a `data.json`; a 4096-bit key has 3.3 kB.
const PEM_MAX: usize = 16 * 1024;

/// How the test card's keys begin.
const MARK: &str = "-----BEGIN TEST CARD-----";

/// The kinds of stream program that cannot use each other's identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProgramKind {
    /// moonlight-web-stream, of whatever version.
    Moonlight,
    /// The program built into this binary.
    TestCard,
}

/// One client of one body's Sunshine: whoever has it may stream. Prints without its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientIdentity {
    /// Its name in Sunshine's list.
    pub client: String,
    /// Which kind paired; files of 0.1.0 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<ProgramKind>,
    unique_id: String,
    address: String,
    http_port: u16,
    pair_info: PairInfo,
    cache: Value,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PairInfo {
    client_private_key: String,
    client_certificate: String,
    server_certificate: String,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("client", &self.client)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// The identity that a stream program got when it paired its host `host_id` with `ip` as `client`;
/// `None` while its `data.json` is half written, or holds none. A program that was started with a
/// kept identity and paired anew has two hosts of one address. Reads versions 2, 3 and 4, which has
/// one client for all users.
#[must_use]
pub(crate) fn harvest(
    data_json: &str,
    host_id: u32,
    ip: IpAddr,
    client: &str,
) -> Option<ClientIdentity> {
    let data: Value = serde_json::from_str(data_json).ok()?;
    let is_ours = |host: &&Value| {
        let address = host.get("address").and_then(Value::as_str);
        address.and_then(|a| a.parse().ok()) == Some(ip) && host["pair_info"].is_object()
    };
    let host = data.get("hosts")?.get(host_id.to_string());
    let host = host.filter(is_ours)?;
    let pair_info: PairInfo = PairInfo::deserialize(&host["pair_info"]).ok()?;
    let whole = |pem: &str| !pem.is_empty() && pem.len() <= PEM_MAX;
    if ![
        &pair_info.client_private_key,
        &pair_info.client_certificate,
        &pair_info.server_certificate,
    ]
    .iter()
    .all(|pem| whole(pem))
    {
        return None;
    }
    let users = data.get("users").and_then(Value::as_object);
    let owner = host.get("owner").map(Value::to_string).unwrap_or_default();
    let user = users.and_then(|u| u.get(&owner).or_else(|| u.values().next()));
    let unique_id = user
        .or(Some(&data))
        .and_then(|u| u.get("client_unique_id")?.as_str());
    Some(ClientIdentity {
        client: client.to_owned(),
        kind: None,
        unique_id: unique_id.unwrap_or(client).to_owned(),
        address: ip.to_string(),
        http_port: u16::try_from(host.get("http_port")?.as_u64()?).ok()?,
        pair_info,
        cache: host.get("cache").cloned().unwrap_or(Value::Null),
    })
}

impl ClientIdentity {
    /// The kind of stream program that can use it.
    fn kind(&self) -> ProgramKind {
        if self.pair_info.client_private_key.starts_with(MARK) {
            return ProgramKind::TestCard;
        }
        self.kind.unwrap_or(ProgramKind::Moonlight)
    }

    /// The `client_unique_id` that was paired.
    #[must_use]
    pub(crate) fn unique_id(&self) -> &str {
        &self.unique_id
    }

    /// The paired body as `data.json` holds it, the client's private key with it; without the
    /// `owner` that some versions want.
    #[must_use]
    pub(crate) fn host(&self) -> Map<String, Value> {
        let fields = [
            ("address", json!(self.address)),
            ("http_port", json!(self.http_port)),
            ("pair_info", json!(self.pair_info)),
            ("cache", self.cache.clone()),
        ];
        fields
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect()
    }
}

/// A kept identity cannot be read or written.
#[derive(Debug)]
pub(crate) struct IdentityError(PathBuf, io::Error);

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot use {}: {}", self.0.display(), self.1)
    }
}

impl std::error::Error for IdentityError {}

/// Kept identities, one file for each body, readable by us alone. Those of another kind of stream
/// program count as none.
#[derive(Clone, Debug)]
pub(crate) struct IdentityStore(BodyFiles, ProgramKind);

impl IdentityStore {
    /// Identities in that directory, which is made when the first one is written.
    #[must_use]
    pub(crate) fn new(dir: impl Into<PathBuf>, kind: ProgramKind) -> Self {
        Self(BodyFiles::new(dir, "identity"), kind)
    }

    /// The identity for that body. A file that makes no sense is as good as none: pairing anew
    /// replaces it.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub(crate) async fn load(&self, ip: IpAddr) -> Result<Option<ClientIdentity>, IdentityError> {
        let (shelf, kind) = (self.0.clone(), self.1);
        smol::unblock(move || {
            let text = shelf
                .read(ip)
                .map_err(|e| IdentityError(shelf.path(ip), e))?;
            let identity = text.and_then(|text| serde_json::from_str::<ClientIdentity>(&text).ok());
            Ok(identity.filter(|identity| identity.kind() == kind))
        })
        .await
    }

    /// Keeps an identity in place of the one before.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub(crate) async fn keep(
        &self,
        ip: IpAddr,
        identity: &ClientIdentity,
    ) -> Result<(), IdentityError> {
        let shelf = self.0.clone();
        let marked = ClientIdentity {
            kind: Some(self.1),
            ..identity.clone()
        };
        let text =
            serde_json::to_string(&marked).map_err(|e| IdentityError(self.0.path(ip), e.into()))?;
        smol::unblock(move || {
            shelf
                .write(ip, &text)
                .map_err(|e| IdentityError(shelf.path(ip), e))
        })
        .await
    }

    /// Forgets the identity for that body.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub(crate) async fn forget(&self, ip: IpAddr) -> Result<(), IdentityError> {
        let shelf = self.0.clone();
        smol::unblock(move || {
            shelf
                .remove(ip)
                .map_err(|e| IdentityError(shelf.path(ip), e))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: &str = "10.0.1.50";

    fn data(version: &str, pair_info: Value) -> String {
        json!({
            "version": version,
            "users": {"77": {"role": "User", "name": "u", "password": null, "client_unique_id": "uid"}},
            "hosts": {
                "1": {"owner": 77, "address": "10.0.1.51", "http_port": 47989, "pair_info": pair_info.clone(), "cache": {"name": "other", "mac": null}},
                "2": {"owner": 77, "address": IP, "http_port": 48000, "pair_info": pair_info, "cache": {"name": "b", "mac": null}},
            }
        })
        .to_string()
    }

    fn pems() -> Value {
        let pem = "-----BEGIN X-----\nYQ==\n-----END X-----\n";
        json!({"client_private_key": pem, "client_certificate": pem, "server_certificate": pem})
    }

    #[test]
    fn what_a_program_got_is_kept_whatever_its_version_writes() {
        let ip = IP.parse().unwrap();
        for version in ["2", "3"] {
            let identity = harvest(&data(version, pems()), 2, ip, "neck").unwrap();
            assert_eq!(identity.unique_id(), "uid");
            let host = identity.host();
            assert_eq!(host["http_port"], 48_000);
            assert_eq!(host["pair_info"], pems());
            assert_eq!(host["cache"]["name"], "b");
        }
        let host = json!({"address": IP, "http_port": 1, "pair_info": pems(), "cache": {"name": "b", "mac": null}});
        let four = json!({"version": "4", "client_unique_id": "one", "hosts": {"7": host}});
        let identity = harvest(&four.to_string(), 7, ip, "neck").unwrap();
        assert_eq!(identity.unique_id(), "one");
    }

    /// In genuine files either may stand first.
    #[test]
    fn of_two_hosts_of_one_address_the_one_that_paired_is_kept() {
        let ip = IP.parse().unwrap();
        let mut data: Value = serde_json::from_str(&data("2", pems())).unwrap();
        let mut paired = data["hosts"]["2"].clone();
        paired["pair_info"]["client_private_key"] = json!("new");
        for id in [1, 3_000_000_000_u32] {
            data["hosts"][id.to_string()] = paired.clone();
            let identity = harvest(&data.to_string(), id, ip, "neck").unwrap();
            assert_eq!(identity.host()["pair_info"], paired["pair_info"], "{id}");
            // Not written yet: the other host is no substitute.
            data["hosts"][id.to_string()]["pair_info"] = Value::Null;
            assert_eq!(harvest(&data.to_string(), id, ip, "neck"), None);
        }
    }

    #[test]
    fn half_a_file_or_an_unpaired_host_yields_nothing() {
        let ip = IP.parse().unwrap();
        let whole = data("2", pems());
        for end in (0..whole.len()).step_by(7) {
            assert_eq!(harvest(&whole[..end], 2, ip, "neck"), None);
        }
        assert_eq!(harvest(&data("2", Value::Null), 2, ip, "neck"), None);
        let torn =
            json!({"client_private_key": "x", "client_certificate": "", "server_certificate": ""});
        assert_eq!(harvest(&data("2", torn), 2, ip, "neck"), None);
        assert_eq!(
            harvest(&whole, 2, "10.9.9.9".parse().unwrap(), "neck"),
            None
        );
    }

    #[test]
    fn an_identity_prints_without_its_key() {
        let identity = harvest(&data("2", pems()), 2, IP.parse().unwrap(), "neck").unwrap();
        assert!(!format!("{identity:?}").contains("BEGIN"));
    }

    #[test]
    fn a_kept_identity_comes_back_and_rubbish_counts_as_none() {
        let dir = std::env::temp_dir().join(format!("neck-identity-{}", crate::ids::label()));
        let (store, ip) = (
            IdentityStore::new(&dir, ProgramKind::Moonlight),
            IP.parse().unwrap(),
        );
        let identity = harvest(&data("2", pems()), 2, ip, "neck").unwrap();
        smol::block_on(async {
            assert_eq!(store.load(ip).await.unwrap(), None);
            store.keep(ip, &identity).await.unwrap();
            let kept = store.load(ip).await.unwrap().unwrap();
            assert_eq!(kept.host(), identity.host());
            std::fs::write(dir.join("10.0.1.50.identity"), "{").unwrap();
            assert_eq!(store.load(ip).await.unwrap(), None);
            store.forget(ip).await.unwrap();
            assert_eq!(store.load(ip).await.unwrap(), None);
        });
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn an_identity_never_reaches_another_kind_of_stream_program() {
        let dir = std::env::temp_dir().join(format!("neck-kinds-{}", crate::ids::label()));
        let ip = IP.parse().unwrap();
        let kinds = [ProgramKind::Moonlight, ProgramKind::TestCard];
        let stores = kinds.map(|kind| IdentityStore::new(&dir, kind));
        let pem = "-----BEGIN TEST CARD-----\nno key\n-----END TEST CARD-----\n";
        let mark = json!({"client_private_key": pem, "client_certificate": pem, "server_certificate": pem});
        smol::block_on(async {
            for (pair_info, owner) in [(pems(), 0), (mark, 1)] {
                let identity = harvest(&data("2", pair_info), 2, ip, "neck").unwrap();
                // As 0.1.0 wrote it, and as it is written now.
                let old = serde_json::to_string(&identity).unwrap();
                assert!(!old.contains("kind"), "{old}");
                std::fs::create_dir_all(&dir).unwrap();
                std::fs::write(dir.join("10.0.1.50.identity"), old).unwrap();
                for _ in 0..2 {
                    let found = [&stores[0], &stores[1]].map(|s| s.load(ip));
                    let [a, b] = found;
                    let found = [a.await.unwrap(), b.await.unwrap()];
                    assert!(
                        found[owner].is_some() && found[1 - owner].is_none(),
                        "{found:?}"
                    );
                    stores[owner].keep(ip, &identity).await.unwrap();
                }
            }
        });
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
