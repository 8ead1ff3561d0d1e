//! etcd's v3 API through its JSON gateway: keys with revisions, leases, transactions, watches.
//!
//! Knows members, credentials and deadlines, and nothing of what is kept there. Every call goes to
//! a member that answers; every answer is bounded, and what is no answer of etcd is an error that
//! says so.

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
