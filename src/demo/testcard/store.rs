//! Users and hosts, kept in `server/data.json` in the original's shape.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::MutexGuard;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::say;
use super::settings::FILE_MAX;

use crate::sync::Mutex;

/// Most users; one session has one.
const USERS_MAX: usize = 256;
/// Most hosts; one session has one.
const HOSTS_MAX: usize = 256;
/// The shape that is written; 1 and 2 are read.
const VERSION: &str = "2";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Records {
    version: String,
    #[serde(default)]
    users: BTreeMap<u32, User>,
    #[serde(default)]
    hosts: BTreeMap<u32, Host>,
}

/// Somebody who may use the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct User {
    /// What the user may do.
    pub(super) role: UserRole,
    /// Name, compared exactly.
    pub(super) name: String,
    /// Never set here: the forwarded header is the only way in.
    #[serde(default)]
    password: Option<Value>,
    /// Name under which bodies know the user's pairings.
    pub(super) client_unique_id: String,
}

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum UserRole {
    /// Everything.
    Admin,
    /// Everything with the user's own hosts.
    User,
}

/// A body that was added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Host {
    /// The user that added it; `None` means everybody's.
    pub(super) owner: Option<u32>,
    /// Address or name.
    pub(super) address: String,
    /// GameStream's HTTP port.
    pub(super) http_port: u16,
    /// Set once paired.
    #[serde(default)]
    pub(super) pair_info: Option<PairInfo>,
    /// What the body last said of itself.
    pub(super) cache: HostCache,
}

/// What a pairing leaves behind; the test card's is only a mark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PairInfo {
    client_private_key: String,
    client_certificate: String,
    server_certificate: String,
}

impl PairInfo {
    /// The mark of a pairing without keys.
    pub(super) fn mark() -> Self {
        let mark = || "-----BEGIN TEST CARD-----\nno key\n-----END TEST CARD-----\n".to_owned();
        Self {
            client_private_key: mark(),
            client_certificate: mark(),
            server_certificate: mark(),
        }
    }
}

/// What the body last said of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct HostCache {
    /// Name.
    pub(super) name: String,
    /// Hardware address.
    #[serde(default)]
    pub(super) mac: Option<String>,
}

/// Users or hosts cannot be read or kept.
#[derive(Debug)]
pub(super) enum StoreError {
    /// The data file is there and cannot be used.
    Unusable(PathBuf, String),
    /// A bound is reached.
    Full(&'static str, usize),
    /// No random bytes for an id.
    Random(getrandom::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(path, why) => {
                write!(
                    f,
                    "cannot use {}: {why}; repair or remove it",
                    path.display()
                )
            }
            Self::Full(what, max) => write!(f, "there are {max} {what} already"),
            Self::Random(error) => write!(f, "the kernel has no random bytes: {error}"),
        }
    }
}

/// All users and hosts.
pub(super) struct CardStore {
    path: PathBuf,
    records: Mutex<Records>,
    /// One writer at a time, so that the last state is the one that stays.
    writing: smol::lock::Mutex<()>,
}

impl CardStore {
    /// Reads the file; an absent one is an empty store.
    ///
    /// # Errors
    /// When it cannot be read or is of another shape.
    pub(super) fn open(path: PathBuf) -> Result<Self, StoreError> {
        let records = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Records {
                version: VERSION.to_owned(),
                users: BTreeMap::new(),
                hosts: BTreeMap::new(),
            }),
            Err(error) => Err(error.to_string()),
            Ok(meta) if meta.len() > FILE_MAX => Err("it is over 1 MiB long".to_owned()),
            Ok(_) => std::fs::read_to_string(&path)
                .map_err(|error| error.to_string())
                .and_then(|text| parse(&text)),
        };
        let records = records.map_err(|why| StoreError::Unusable(path.clone(), why))?;
        Ok(Self {
            path,
            records: Mutex::new(records),
            writing: smol::lock::Mutex::new(()),
        })
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock()
    }

    /// The user with this id.
    pub(super) fn user(&self, id: u32) -> Option<User> {
        self.records().users.get(&id).cloned()
    }

    /// The id of the user with this name.
    pub(super) fn user_named(&self, name: &str) -> Option<u32> {
        let records = self.records();
        let found = records.users.iter().find(|(_, user)| user.name == name);
        found.map(|(id, _)| *id)
    }

    /// Makes a user of role User.
    pub(super) async fn add_user(&self, name: &str) -> Result<u32, StoreError> {
        let user = User {
            role: UserRole::User,
            name: name.to_owned(),
            password: None,
            client_unique_id: name.to_owned(),
        };
        let id = {
            let mut records = self.records();
            let same = records.users.iter().find(|(_, user)| user.name == name);
            if let Some((id, _)) = same {
                return Ok(*id); // a request beside this one was faster
            }
            insert(&mut records.users, user, "users", USERS_MAX)?
        };
        self.save().await;
        Ok(id)
    }

    /// The host with this id.
    pub(super) fn host(&self, id: u32) -> Option<Host> {
        self.records().hosts.get(&id).cloned()
    }

    /// The hosts that `user` may see.
    pub(super) fn hosts_of(&self, user: u32) -> Vec<(u32, Host)> {
        let records = self.records();
        let visible = records.hosts.iter().filter(|(_, host)| host.is_for(user));
        visible.map(|(id, host)| (*id, host.clone())).collect()
    }

    /// Keeps a new host.
    pub(super) async fn add_host(&self, host: Host) -> Result<u32, StoreError> {
        let id = insert(&mut self.records().hosts, host, "hosts", HOSTS_MAX)?;
        self.save().await;
        Ok(id)
    }

    /// Marks a host as paired.
    pub(super) async fn mark_paired(&self, id: u32) {
        if let Some(host) = self.records().hosts.get_mut(&id) {
            host.pair_info = Some(PairInfo::mark());
        }
        self.save().await;
    }

    /// Forgets a host.
    pub(super) async fn remove_host(&self, id: u32) {
        self.records().hosts.remove(&id);
        self.save().await;
    }

    /// Writes everything. As in the original a failure is a line in the log, not an answer.
    async fn save(&self) {
        let _one = self.writing.lock().await;
        let text = match serde_json::to_vec_pretty(&*self.records()) {
            Ok(text) => text,
            Err(error) => {
                say::line("ERROR", "storage", format_args!("cannot encode: {error}"));
                return;
            }
        };
        let path = self.path.clone();
        let written = smol::unblock(move || {
            let fresh = path.with_extension("json.new");
            std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, &path))
        });
        if let Err(error) = written.await {
            let path = self.path.display();
            say::line(
                "ERROR",
                "storage",
                format_args!("cannot write {path}: {error}"),
            );
        }
    }
}

impl Host {
    /// Whether `user` may see and use it.
    pub(super) fn is_for(&self, user: u32) -> bool {
        self.owner.is_none_or(|owner| owner == user)
    }
}

fn parse(text: &str) -> Result<Records, String> {
    let records: Records = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if records.version == "1" || records.version == VERSION {
        Ok(records)
    } else {
        Err(format!("version {} is not read here", records.version))
    }
}

/// Inserts under a fresh random id.
fn insert<T>(
    into: &mut BTreeMap<u32, T>,
    what: T,
    name: &'static str,
    max: usize,
) -> Result<u32, StoreError> {
    if into.len() >= max {
        return Err(StoreError::Full(name, max));
    }
    loop {
        // Ends: at most `max` of four thousand million ids are taken.
        let id = getrandom::u32().map_err(StoreError::Random)?;
        if let std::collections::btree_map::Entry::Vacant(free) = into.entry(id) {
            free.insert(what);
            return Ok(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Self {
            let dir = std::env::temp_dir().join(format!("testcard-{}", crate::ids::label()));
            std::fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn file(&self) -> PathBuf {
            self.0.join("data.json")
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn host(owner: Option<u32>) -> Host {
        Host {
            owner,
            address: "10.0.1.50".to_owned(),
            http_port: 47989,
            pair_info: None,
            cache: HostCache {
                name: "body".to_owned(),
                mac: None,
            },
        }
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart() {
        let dir = Dir::new();
        smol::block_on(async {
            let store = CardStore::open(dir.file()).unwrap();
            let user = store.add_user("neck-1").await.unwrap();
            assert_eq!(store.add_user("neck-1").await.unwrap(), user);
            let id = store.add_host(host(Some(user))).await.unwrap();
            store.mark_paired(id).await;
            let again = CardStore::open(dir.file()).unwrap();
            assert_eq!(again.user_named("neck-1"), Some(user));
            assert_eq!(again.user_named("Neck-1"), None);
            assert_eq!(again.user(user).unwrap().role, UserRole::User);
            assert!(again.host(id).unwrap().pair_info.is_some());
            again.remove_host(id).await;
            assert_eq!(CardStore::open(dir.file()).unwrap().host(id), None);
        });
    }

    #[test]
    fn a_user_sees_own_hosts_and_everybodys() {
        let dir = Dir::new();
        smol::block_on(async {
            let store = CardStore::open(dir.file()).unwrap();
            for owner in [Some(1), Some(2), None] {
                store.add_host(host(owner)).await.unwrap();
            }
            let seen = store.hosts_of(1);
            assert!(seen.len() == 2 && seen.iter().all(|(_, host)| host.owner != Some(2)));
        });
    }

    #[test]
    fn a_file_written_by_the_original_is_read_and_a_corrupt_one_refused() {
        let dir = Dir::new();
        let text = r#"{"version":"2","users":{"7":{"role":"User","name":"u","password":null,"client_unique_id":"u"}},
            "hosts":{"9":{"owner":7,"address":"10.0.1.50","http_port":47989,"pair_info":{"client_private_key":"k",
            "client_certificate":"c","server_certificate":"s"},"cache":{"name":"n","mac":null}}}}"#;
        std::fs::write(dir.file(), text).unwrap();
        let store = CardStore::open(dir.file()).unwrap();
        assert!(store.host(9).unwrap().pair_info.is_some());
        for corrupt in ["{", "[]", &text.replace("\"2\"", "\"3\"")] {
            std::fs::write(dir.file(), corrupt).unwrap();
            assert!(CardStore::open(dir.file()).is_err());
        }
    }

    #[test]
    fn the_number_of_users_is_bounded() {
        let mut users = BTreeMap::new();
        for n in 0..3 {
            insert(&mut users, n, "users", 3).unwrap();
        }
        let full = insert(&mut users, 3, "users", 3);
        assert!(matches!(full, Err(StoreError::Full("users", 3))));
    }
}
