//! Transactions: all of it happens, at one revision, or none.

use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Lease;
use super::fields::{Header, Kv, Revision, encode};

/// Conditions, what happens when all hold, and what is read when one does not.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    compare: Vec<Value>,
    success: Vec<Value>,
    failure: Vec<Value>,
}

/// How a transaction ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether every condition held.
    pub succeeded: bool,
    /// The store's revision after it.
    pub revision: Revision,
    /// What [`Txn::otherwise_read`] read, in that order.
    pub read: Vec<Option<Kv>>,
}

impl Txn {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it would do nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.success.is_empty()
    }

    /// Only when the key was last written at that revision; 0: when there is none.
    #[must_use]
    pub fn when_at(mut self, key: &str, revision: Revision) -> Self {
        self.compare.push(json!({
            "key": encode(key), "target": "MOD", "result": "EQUAL",
            "mod_revision": revision.to_string(),
        }));
        self
    }

    /// Only when the key has that value.
    #[must_use]
    pub fn when_is(mut self, key: &str, value: &[u8]) -> Self {
        self.compare.push(json!({
            "key": encode(key), "target": "VALUE", "result": "EQUAL", "value": encode(value),
        }));
        self
    }

    /// Writes a key, under a lease if one is given.
    #[must_use]
    pub fn put(mut self, key: &str, value: &[u8], lease: Option<Lease>) -> Self {
        let lease = lease.map_or(0, |lease| lease.0);
        self.success.push(json!({"request_put": {
            "key": encode(key), "value": encode(value), "lease": lease.to_string(),
        }}));
        self
    }

    /// Deletes a key.
    #[must_use]
    pub fn delete(mut self, key: &str) -> Self {
        self.success
            .push(json!({"request_delete_range": {"key": encode(key)}}));
        self
    }

    /// Runs another transaction inside; whether its conditions hold does not matter to this one.
    #[must_use]
    pub fn and(mut self, inner: &Self) -> Self {
        self.success.push(json!({"request_txn": inner.body()}));
        self
    }

    /// Reads a key when a condition does not hold.
    #[must_use]
    pub fn otherwise_read(mut self, key: &str) -> Self {
        self.failure
            .push(json!({"request_range": {"key": encode(key)}}));
        self
    }

    pub(super) fn body(&self) -> Value {
        json!({"compare": self.compare, "success": self.success, "failure": self.failure})
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TxnAnswer {
    header: Header,
    succeeded: bool,
    responses: Vec<Response>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Response {
    response_range: Option<Read>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Read {
    kvs: Vec<Kv>,
}

impl From<TxnAnswer> for Outcome {
    fn from(answer: TxnAnswer) -> Self {
        let ranges = answer.responses.into_iter();
        let reads = ranges.filter_map(|response| response.response_range);
        Self {
            succeeded: answer.succeeded,
            revision: answer.header.revision,
            read: reads.map(|read| read.kvs.into_iter().next()).collect(),
        }
    }
}
