//! Calls: tries the members until one answers, and keeps a valid token.

use std::sync::atomic::{AtomicUsize, Ordering};

use std::time::Duration;

use http_types::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{AttemptError, EtcdError, most_telling, timed_out};
use super::fields::{Header, Kv, Revision, encode, end_of, number};
use super::txn::{Txn, TxnAnswer, TxnOutcome};
use super::watch::Watch;
use crate::clock;
use crate::config;
use crate::http::client::{Answer, Client, ClientError, Outgoing};
use crate::secret::Secret;
use crate::sync::Mutex;
use crate::tls::{self, Trust};

/// Time for one member to answer. An election takes about a second; after longer, another member
/// is likelier to answer.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Time for a whole call with every repetition.
const WITHIN: Duration = Duration::from_secs(5);
/// The oldest version whose gateway is at `/v3` and knows nested transactions.
const OLDEST: (u32, u32) = (3, 4);

/// A lease: keys written under it are deleted when it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease(pub u64);

/// A page of the keys of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangePage {
    /// The revision of the store that it shows.
    pub revision: Revision,
    /// Identifies the cluster: one that was restored from a backup is another one.
    pub cluster: u64,
    /// The keys.
    pub kvs: Vec<Kv>,
    /// Whether there are more after the last.
    pub has_more: bool,
}

/// A client of one etcd cluster.
#[derive(Debug)]
pub struct EtcdClient {
    client: Client,
    endpoints: Vec<String>,
    /// The member that answered last.
    current: AtomicUsize,
    account: Option<(String, Secret)>,
    token: Mutex<Option<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorAnswer {
    error: String,
    code: i64,
}

#[derive(Debug, Deserialize)]
struct StatusAnswer {
    version: String,
}

#[derive(Debug, Deserialize)]
struct TokenAnswer {
    token: String,
}

#[derive(Debug, Deserialize)]
struct LeaseAnswer {
    #[serde(rename = "ID", deserialize_with = "number")]
    id: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KeepAnswer {
    result: KeepResult,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KeepResult {
    #[serde(rename = "TTL", deserialize_with = "number")]
    ttl: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RangeAnswer {
    header: Header,
    kvs: Vec<Kv>,
    more: bool,
}

impl EtcdClient {
    /// The members that the configuration names. Nothing is called yet.
    ///
    /// # Errors
    /// When a certificate or key cannot be used.
    pub fn new(config: &config::Etcd) -> Result<Self, EtcdError> {
        let trust = config.ca_file.clone().map_or(Trust::WebPki, Trust::CaFile);
        let files = config
            .certificate
            .as_deref()
            .zip(config.private_key.as_deref());
        let tls = tls::client_as(&trust, files).map_err(|e| EtcdError::Tls(e.to_string()))?;
        Ok(Self {
            client: Client::over(tls),
            endpoints: config.endpoints.clone(),
            current: AtomicUsize::new(0),
            account: config.username.clone().zip(config.password.clone()),
            token: Mutex::new(None),
        })
    }

    /// Checks that a member answers, is new enough, and accepts the credentials.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn check(&self) -> Result<(), EtcdError> {
        let status: StatusAnswer = self.call("maintenance/status", &json!({})).await?;
        let mut numbers = status.version.split('.').map(|n| n.parse::<u32>().ok());
        let version = numbers.next().flatten().zip(numbers.next().flatten());
        if version.is_none_or(|version| version < OLDEST) {
            return Err(EtcdError::Version {
                endpoint: self.endpoints[self.current.load(Ordering::Relaxed)].clone(),
                version: status.version,
            });
        }
        Ok(())
    }

    /// Grants a lease.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn grant(&self, ttl: Duration) -> Result<Lease, EtcdError> {
        let seconds = ttl.as_secs().max(1).to_string();
        let answer: LeaseAnswer = self.call("lease/grant", &json!({"TTL": seconds})).await?;
        Ok(Lease(answer.id))
    }

    /// Renews a lease; false when it has expired.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn keep(&self, lease: Lease) -> Result<bool, EtcdError> {
        let body = json!({"ID": lease.0.to_string()});
        let answer: KeepAnswer = self.call("lease/keepalive", &body).await?;
        Ok(answer.result.ttl > 0)
    }

    /// Revokes a lease, which deletes its keys.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn revoke(&self, lease: Lease) -> Result<(), EtcdError> {
        let body = json!({"ID": lease.0.to_string()});
        let _: Value = self.call("lease/revoke", &body).await?;
        Ok(())
    }

    /// One key.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn read(&self, key: &str) -> Result<Option<Kv>, EtcdError> {
        let answer: RangeAnswer = self.call("kv/range", &json!({"key": encode(key)})).await?;
        Ok(answer.kvs.into_iter().next())
    }

    /// Keys that begin with `prefix`, after the key `after`, as they are at `revision` (0: now); with
    /// their values, or only their revisions.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        revision: Revision,
        limit: usize,
        with_values: bool,
    ) -> Result<RangePage, EtcdError> {
        let from = match after {
            // The next key in byte order.
            Some(after) => format!("{after}\0"),
            None => prefix.to_owned(),
        };
        let body = json!({
            "key": encode(from), "range_end": encode(end_of(prefix)),
            "revision": revision.to_string(), "limit": limit.to_string(),
            "keys_only": !with_values,
        });
        let answer: RangeAnswer = self.call("kv/range", &body).await?;
        Ok(RangePage {
            revision: answer.header.revision,
            cluster: answer.header.cluster_id,
            kvs: answer.kvs,
            has_more: answer.more,
        })
    }

    /// Commits a transaction. Repeats it when the answer was lost, so its values must identify their
    /// writer.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn commit(&self, txn: &Txn) -> Result<TxnOutcome, EtcdError> {
        let answer: TxnAnswer = self.call("kv/txn", txn).await?;
        Ok(answer.into())
    }

    /// Watches the keys that begin with `prefix`, from `revision` on. A watch that receives nothing
    /// for `silence` counts as lost.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn watch(
        &self,
        prefix: &str,
        revision: Revision,
        silence: Duration,
    ) -> Result<Watch, EtcdError> {
        let body = json!({"create_request": {
            "key": encode(prefix), "range_end": encode(end_of(prefix)),
            "start_revision": revision.to_string(),
        }});
        self.authenticate_once().await?;
        let mut errors = Vec::new();
        for n in self.order() {
            let endpoint = &self.endpoints[n];
            let call = self.outgoing(endpoint, "watch", &body).within(ATTEMPT);
            let attempt = match self.client.open(call).await {
                Ok(stream) if stream.status == 200 => {
                    let watch = Watch::new(endpoint.to_owned(), stream, silence);
                    self.prefer(n);
                    return Ok(watch);
                }
                Ok(stream) => match stream.whole(ATTEMPT).await {
                    Ok(answer) => classify(endpoint, &answer),
                    Err(error) => AttemptError::failed(endpoint, &error),
                },
                Err(error) => AttemptError::failed(endpoint, &error),
            };
            match attempt {
                AttemptError::TryNext(error) => errors.push(error),
                AttemptError::Final(error) => return Err(error),
                // The caller tries again.
                AttemptError::TokenExpired => {
                    self.forget_token();
                    return Err(attempt.error());
                }
            }
        }
        Err(most_telling(errors))
    }

    /// The members, beginning with the one that answered last.
    fn order(&self) -> impl Iterator<Item = usize> {
        let (first, all) = (self.current.load(Ordering::Relaxed), self.endpoints.len());
        (0..all).map(move |n| (first + n) % all)
    }

    fn prefer(&self, n: usize) {
        self.current.store(n, Ordering::Relaxed);
    }

    /// Calls the members in turn until one answers; renews the token if it has expired.
    async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, EtcdError> {
        self.authenticate_once().await?;
        let work = async {
            let mut outcome = self.ask(method, body).await;
            if matches!(outcome, Err(AttemptError::TokenExpired)) {
                self.forget_token();
                self.authenticate_once().await?;
                outcome = self.ask(method, body).await;
            }
            outcome.map_err(AttemptError::error)
        };
        clock::by(clock::now() + WITHIN, work)
            .await
            .unwrap_or_else(|_| Err(timed_out(WITHIN)))
    }

    async fn authenticate_once(&self) -> Result<(), EtcdError> {
        let Some((name, password)) = &self.account else {
            return Ok(());
        };
        if self.token().is_some() {
            return Ok(());
        }
        let body = json!({"name": name, "password": password.expose()});
        let answer: Result<TokenAnswer, AttemptError> = self.ask("auth/authenticate", &body).await;
        let token = answer.map_err(|attempt| match attempt.error() {
            EtcdError::Refused(why) => EtcdError::Denied(why),
            error => error,
        })?;
        *self.token.lock() = Some(token.token);
        Ok(())
    }

    fn token(&self) -> Option<String> {
        self.token.lock().clone()
    }

    fn forget_token(&self) {
        *self.token.lock() = None;
    }

    fn outgoing(&self, endpoint: &str, method: &str, body: &impl Serialize) -> Outgoing {
        let call = Outgoing::new(Method::Post, format!("{endpoint}/v3/{method}")).json(body);
        match self.token() {
            Some(token) => call.header("authorization", token),
            None => call,
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, AttemptError> {
        let mut errors = Vec::new();
        for n in self.order() {
            let endpoint = &self.endpoints[n];
            let call = self.outgoing(endpoint, method, body).within(ATTEMPT);
            let attempt = match self.client.send(call).await {
                Ok(answer) if answer.is_ok() => match serde_json::from_slice(&answer.body) {
                    Ok(value) => {
                        self.prefer(n);
                        return Ok(value);
                    }
                    Err(error) => {
                        let why = format!("{error} in {:?}", answer.excerpt());
                        AttemptError::TryNext(AttemptError::not_etcd(endpoint, why))
                    }
                },
                Ok(answer) => classify(endpoint, &answer),
                Err(ClientError::TooLarge) => AttemptError::Final(EtcdError::TooLarge),
                Err(error) => AttemptError::failed(endpoint, &error),
            };
            match attempt {
                AttemptError::TryNext(error) => errors.push(error),
                done => return Err(done),
            }
        }
        Err(AttemptError::TryNext(most_telling(errors)))
    }
}

/// Classifies an answer with an error status.
fn classify(endpoint: &str, answer: &Answer) -> AttemptError {
    match serde_json::from_slice::<ErrorAnswer>(&answer.body) {
        Ok(ErrorAnswer { error, code }) if !error.is_empty() => {
            AttemptError::refused(endpoint, code, &error)
        }
        _ => {
            let excerpt = answer.excerpt();
            AttemptError::TryNext(AttemptError::foreign(endpoint, answer.status, &excerpt))
        }
    }
}
