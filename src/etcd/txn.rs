//! Transactions: all operations happen at one revision, or none.

use serde::{Deserialize, Serialize};

use super::client::Lease;
use super::fields::{Header, Kv, Revision, encode};

/// A transaction: conditions, operations when all hold, and reads when one does not.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Txn {
    compare: Vec<Compare>,
    success: Vec<Step>,
    failure: Vec<Step>,
}

#[derive(Clone, Debug, Serialize)]
struct Compare {
    key: String,
    result: &'static str,
    #[serde(flatten)]
    to: Target,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "target")]
enum Target {
    #[serde(rename = "MOD")]
    Revision { mod_revision: String },
    #[serde(rename = "VALUE")]
    Value { value: String },
}

#[derive(Clone, Debug, Serialize)]
enum Step {
    #[serde(rename = "request_delete_range")]
    Delete { key: String },
    #[serde(rename = "request_put")]
    Put {
        key: String,
        value: String,
        lease: String,
    },
    #[serde(rename = "request_range")]
    Read { key: String },
    #[serde(rename = "request_txn")]
    Txn(Txn),
}

/// The result of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnOutcome {
    /// Whether every condition held.
    pub succeeded: bool,
    /// The store's revision after it.
    pub revision: Revision,
    /// The keys of [`Txn::otherwise_read`], in that order.
    pub read: Vec<Option<Kv>>,
}

impl Txn {
    /// A transaction without conditions and operations.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the condition that the key was last written at that revision; 0: that there is none.
    #[must_use]
    pub fn when_at(self, key: &str, revision: Revision) -> Self {
        let mod_revision = revision.to_string();
        self.when(key, Target::Revision { mod_revision })
    }

    /// Adds the condition that the key has that value.
    #[must_use]
    pub fn when_is(self, key: &str, value: &[u8]) -> Self {
        let value = encode(value);
        self.when(key, Target::Value { value })
    }

    fn when(mut self, key: &str, to: Target) -> Self {
        self.compare.push(Compare {
            key: encode(key),
            result: "EQUAL",
            to,
        });
        self
    }

    /// Writes a key, under a lease if one is given.
    #[must_use]
    pub fn put(mut self, key: &str, value: &[u8], lease: Option<Lease>) -> Self {
        let lease = lease.map_or(0, |lease| lease.0);
        self.success.push(Step::Put {
            key: encode(key),
            value: encode(value),
            lease: lease.to_string(),
        });
        self
    }

    /// Deletes a key.
    #[must_use]
    pub fn delete(mut self, key: &str) -> Self {
        self.success.push(Step::Delete { key: encode(key) });
        self
    }

    /// Adds a nested transaction; it may fail without failing this one.
    #[must_use]
    pub fn and(mut self, inner: Self) -> Self {
        self.success.push(Step::Txn(inner));
        self
    }

    /// Reads a key when a condition does not hold.
    #[must_use]
    pub fn otherwise_read(mut self, key: &str) -> Self {
        self.failure.push(Step::Read { key: encode(key) });
        self
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

impl From<TxnAnswer> for TxnOutcome {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_transaction_is_written_as_the_gateway_reads_it() {
        let inner = Txn::new().when_at("b", 0).put("b", b"2", None);
        let txn = Txn::new()
            .when_at("a", 7)
            .when_is("a", b"1")
            .put("a", b"2", Some(Lease(9)))
            .delete("c")
            .and(inner)
            .otherwise_read("a");
        let wanted = json!({
            "compare": [
                {"key": "YQ==", "result": "EQUAL", "target": "MOD", "mod_revision": "7"},
                {"key": "YQ==", "result": "EQUAL", "target": "VALUE", "value": "MQ=="},
            ],
            "success": [
                {"request_put": {"key": "YQ==", "value": "Mg==", "lease": "9"}},
                {"request_delete_range": {"key": "Yw=="}},
                {"request_txn": {
                    "compare": [
                        {"key": "Yg==", "result": "EQUAL", "target": "MOD", "mod_revision": "0"},
                    ],
                    "success": [{"request_put": {"key": "Yg==", "value": "Mg==", "lease": "0"}}],
                    "failure": [],
                }},
            ],
            "failure": [{"request_range": {"key": "YQ=="}}],
        });
        assert_eq!(serde_json::to_value(&txn).unwrap(), wanted);
    }
}
