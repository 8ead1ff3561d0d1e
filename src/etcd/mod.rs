//! etcd's v3 API through its JSON gateway: keys with revisions, leases, transactions, watches.
//!
//! Knows members, credentials and deadlines, and nothing of what is stored. A call tries the members
//! until one answers. Answers are bounded, and one that etcd cannot have given is an error of its
//! own.

mod client;
mod error;
mod fields;
mod txn;
mod watch;

pub use client::EtcdClient;
pub(crate) use client::Lease;
pub use error::EtcdError;
pub use fields::WatchEvent;
pub(crate) use fields::{Kv, Revision};
pub use txn::Txn;
pub(crate) use txn::TxnOutcome;
