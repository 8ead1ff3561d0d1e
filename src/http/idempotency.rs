//! `Idempotency-Key`: one request does the work, the others with its key wait for its answer.
//!
//! A handler calls [`claim`] and reports on the [`ClaimGuard`] what became of the work. Where the
//! keys are kept is a [`KeyStore`]: the memory of this process ([`MemoryKeys`]), or the store that
//! the controllers of a fleet share.

mod table;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::call::Call;
use super::reply::Failure;
use crate::sync::Mutex;
use crate::{clock, ids};
use table::KeyTable;

/// How often a waiting request looks whether the first one is done.
const POLL: Duration = Duration::from_millis(100);
/// How long it waits: longer than a session takes to start.
const WAIT: Duration = Duration::from_secs(90);
/// Advice to a client whose first request still runs.
const BUSY_RETRY: Duration = Duration::from_secs(1);
/// Longest key in bytes: several times what a UUID or a hash needs.
const KEY_LENGTH_MAX: usize = 255;
/// What the metric `idempotency_keys` counts.
pub(crate) const GAUGE_HELP: &str = "Idempotency-Keys that are kept in memory";
/// Begins the keys that a controller makes for requests without one; they need not outlive a process.
const OWN_PREFIX: &str = "controller-";

/// A key and the body of its request, as SHA-256 in hexadecimal: so both can be kept and told without
/// what the client sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RequestKey {
    /// Of the key.
    pub key: String,
    /// Of the body.
    pub digest: String,
    /// Whether a controller made the key, and no client repeats it.
    #[serde(skip)]
    pub is_own: bool,
}

impl RequestKey {
    fn of(key: &str, body: &[u8]) -> Self {
        Self {
            key: hex(key.as_bytes()),
            digest: hex(body),
            is_own: key.starts_with(OWN_PREFIX),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let hash = digest(&SHA256, bytes);
    hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// A key for a request that came without one, so that its work is not done twice when the answer is
/// lost on the way.
pub(crate) fn own_key() -> String {
    format!("{OWN_PREFIX}{}", ids::label())
}

/// What to do with a request that carries a key; `C` stands for the claim on it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup<A, C> {
    /// Give this answer again.
    Answered(A),
    /// The first request still runs.
    Busy,
    /// The key is this request's, which does the work.
    Claimed(C),
    /// There are too many keys.
    Full,
    /// The key was used for another body.
    Mismatch,
}

/// What became of the work.
#[derive(Debug)]
pub(crate) enum Outcome<A> {
    /// It is done, with this answer.
    Answered(A),
    /// Nothing was done: the key is free again.
    NotDone,
    /// The last attempt may have done it or not: a retry repeats that attempt.
    Unknown,
}

/// Where keys and their answers are kept.
#[async_trait]
pub(crate) trait KeyStore<A>: Send + Sync {
    /// Claims the key for a request with this body if it is free. Does not wait for another
    /// request.
    ///
    /// # Errors
    /// A 5xx when the store does not work, a 4xx when it cannot read what it has.
    async fn look_up(
        &self,
        request: &RequestKey,
    ) -> Result<Lookup<A, Box<dyn KeyEntry<A>>>, Failure>;
}

/// A claimed key in its store.
#[async_trait]
pub(crate) trait KeyEntry<A>: Debug + Send {
    /// The worker that may have done the work for an earlier request with this key.
    fn attempted(&self) -> Option<&str>;

    /// Records that this worker is asked next; must return before it is asked.
    ///
    /// # Errors
    /// 503 when it cannot be recorded, or the key is no longer this request's.
    async fn record_attempt(&mut self, worker_id: &str) -> Result<(), Failure>;

    /// Releases the claim.
    fn finish(self: Box<Self>, outcome: Outcome<A>);
}

/// What a request with or without a key is to do.
#[derive(Debug)]
pub(crate) enum Claim<A> {
    /// Give this answer again.
    Answered(A),
    /// Do the work and report its outcome.
    Granted(ClaimGuard<A>),
}

/// The duty to report the outcome of the work. Dropped without a report, the key is free again.
#[derive(Debug)]
pub(crate) struct ClaimGuard<A>(Option<Claimed<A>>);

#[derive(Debug)]
struct Claimed<A> {
    key: String,
    request: RequestKey,
    entry: Box<dyn KeyEntry<A>>,
}

/// Claims a request's key; waits while another request has it. Without a key it is granted at once.
///
/// # Errors
/// 400 for an unusable key, 422 when the key came with another body, 409 when the first request
/// does not finish, 503 when there are too many keys or the store does not work.
pub(crate) async fn claim<A>(store: &dyn KeyStore<A>, call: &Call) -> Result<Claim<A>, Failure> {
    let Some(key) = call.header("idempotency-key") else {
        return Ok(Claim::Granted(ClaimGuard(None)));
    };
    if key.is_empty() || key.len() > KEY_LENGTH_MAX {
        let what = format!("Idempotency-Key must have 1 to {KEY_LENGTH_MAX} characters");
        return Err(Failure::new(400, "bad_request", what));
    }
    let request = RequestKey::of(key, &call.body);
    let deadline = clock::now() + WAIT;
    loop {
        let (status, reason, what, retry) = match store.look_up(&request).await? {
            Lookup::Answered(answer) => return Ok(Claim::Answered(answer)),
            Lookup::Claimed(entry) => {
                return Ok(Claim::Granted(ClaimGuard(Some(Claimed {
                    key: key.to_owned(),
                    request,
                    entry,
                }))));
            }
            Lookup::Busy if clock::now() < deadline => {
                clock::sleep(POLL).await;
                continue;
            }
            Lookup::Busy => {
                let what = "the first request with this Idempotency-Key still runs";
                (409, "idempotency_busy", what, Some(BUSY_RETRY))
            }
            Lookup::Full => {
                let what = "too many Idempotency-Keys";
                (503, "idempotency_full", what, Some(WAIT))
            }
            Lookup::Mismatch => {
                let what = "this Idempotency-Key was used with another body";
                (422, "idempotency_mismatch", what, None)
            }
        };
        let failure = Failure::new(status, reason, what);
        return Err(match retry {
            Some(wait) => failure.retry_after(wait),
            None => failure,
        });
    }
}

impl<A> ClaimGuard<A> {
    /// The client's key, if it sent one.
    #[must_use]
    pub(crate) fn key(&self) -> Option<&str> {
        self.0.as_ref().map(|claimed| claimed.key.as_str())
    }

    /// The key and the body as hashes.
    #[must_use]
    pub(crate) fn request(&self) -> Option<&RequestKey> {
        self.0.as_ref().map(|claimed| &claimed.request)
    }

    /// See [`KeyEntry::attempted`].
    #[must_use]
    pub(crate) fn attempted(&self) -> Option<&str> {
        self.0
            .as_ref()
            .and_then(|claimed| claimed.entry.attempted())
    }

    /// See [`KeyEntry::record_attempt`].
    ///
    /// # Errors
    /// See [`KeyEntry::record_attempt`].
    pub(crate) async fn record_attempt(&mut self, worker_id: &str) -> Result<(), Failure> {
        match &mut self.0 {
            Some(claimed) => claimed.entry.record_attempt(worker_id).await,
            None => Ok(()),
        }
    }

    /// The work is done and this is the answer, now and for requests to come.
    pub(crate) fn answered(mut self, answer: A) {
        self.finish(Outcome::Answered(answer));
    }

    /// Whether the worker of the last attempt did the work is unknown.
    pub(crate) fn outcome_unknown(mut self) {
        self.finish(Outcome::Unknown);
    }

    fn finish(&mut self, outcome: Outcome<A>) {
        if let Some(claimed) = self.0.take() {
            claimed.entry.finish(outcome);
        }
    }
}

impl<A> Drop for ClaimGuard<A> {
    fn drop(&mut self) {
        self.finish(Outcome::NotDone);
    }
}

/// Keys in the memory of this process: those of clients, and those that controllers made.
#[derive(Debug)]
pub(crate) struct MemoryKeys<A> {
    clients: Arc<Mutex<KeyTable<A>>>,
    own: Arc<Mutex<KeyTable<A>>>,
}

impl<A: Clone> Default for MemoryKeys<A> {
    fn default() -> Self {
        let table = |table| Arc::new(Mutex::new(table));
        Self {
            clients: table(KeyTable::of_clients()),
            own: table(KeyTable::of_controllers()),
        }
    }
}

impl<A: Clone> MemoryKeys<A> {
    fn table(&self, request: &RequestKey) -> &Arc<Mutex<KeyTable<A>>> {
        if request.is_own {
            return &self.own;
        }
        &self.clients
    }

    /// Keys of clients that are kept.
    pub(crate) fn len(&self) -> usize {
        self.clients.lock().kept().0
    }

    /// What is wrong, for health.
    pub(crate) fn problem(&self) -> Option<String> {
        let (kept, max) = self.clients.lock().kept();
        (kept * 10 >= max * 9).then(|| {
            format!(
                "{kept} of {max} Idempotency-Keys are kept: the oldest are forgotten before their \
                 24 h; use a key only for one create"
            )
        })
    }

    /// A request with this key was answered before this process began.
    pub(crate) fn restore(&self, request: &RequestKey, answer: A) {
        let mut table = self.table(request).lock();
        table.restore(clock::now(), request, answer);
    }
}

#[derive(Debug)]
struct MemoryEntry<A> {
    table: Arc<Mutex<KeyTable<A>>>,
    key: String,
    attempted: Option<String>,
}

#[async_trait]
impl<A: Clone + Debug + Send + 'static> KeyStore<A> for MemoryKeys<A> {
    async fn look_up(
        &self,
        request: &RequestKey,
    ) -> Result<Lookup<A, Box<dyn KeyEntry<A>>>, Failure> {
        let table = self.table(request);
        let found = table.lock().look_up(clock::now(), request);
        Ok(match found {
            Lookup::Answered(answer) => Lookup::Answered(answer),
            Lookup::Busy => Lookup::Busy,
            Lookup::Claimed(attempted) => Lookup::Claimed(Box::new(MemoryEntry {
                table: Arc::clone(table),
                key: request.key.clone(),
                attempted,
            })),
            Lookup::Full => Lookup::Full,
            Lookup::Mismatch => Lookup::Mismatch,
        })
    }
}

#[async_trait]
impl<A: Clone + Debug + Send> KeyEntry<A> for MemoryEntry<A> {
    fn attempted(&self) -> Option<&str> {
        self.attempted.as_deref()
    }

    async fn record_attempt(&mut self, worker_id: &str) -> Result<(), Failure> {
        self.attempted = Some(worker_id.to_owned());
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Outcome<A>) {
        self.table.lock().finish(&self.key, outcome, self.attempted);
    }
}
