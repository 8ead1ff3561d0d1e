//! `Idempotency-Key` for handlers: one does the work, the others wait for its answer.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use super::call::Call;
use super::idempotency::{Begin, Idempotency, KEY_LENGTH_MAX};
use super::reply::Failure;
use crate::clock;
use crate::sync::Mutex;

/// How often a waiting request looks whether the first one is done.
const LOOK: Duration = Duration::from_millis(50);
/// How long it waits: longer than a session takes to start.
const WAIT: Duration = Duration::from_secs(90);

/// Answers by key.
#[derive(Debug)]
pub(crate) struct Keyed<A>(Arc<Mutex<Idempotency<A>>>);

/// What a request with or without a key is to do.
#[derive(Debug)]
pub(crate) enum Turn<A: Clone> {
    /// Give this answer again.
    Again(A),
    /// Do the work, then say so on the ticket.
    Do(Ticket<A>),
}

/// The duty to say how the work went. Dropped without a word, the key is free again.
#[derive(Debug)]
pub(crate) struct Ticket<A: Clone> {
    table: Arc<Mutex<Idempotency<A>>>,
    key: Option<String>,
    /// The worker that may have done the work for an earlier request with this key.
    pub retry_at: Option<String>,
}

impl<A: Clone> Default for Keyed<A> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// The key of a request, if it has one.
///
/// # Errors
/// 400 for an unusable key.
pub(crate) fn key_of(call: &Call) -> Result<Option<&str>, Failure> {
    match call.header("idempotency-key") {
        Some(key) if key.is_empty() || key.len() > KEY_LENGTH_MAX => {
            let what = format!("Idempotency-Key must have 1 to {KEY_LENGTH_MAX} characters");
            Err(Failure::new(400, "bad_request", what))
        }
        key => Ok(key),
    }
}

impl<A: Clone> Keyed<A> {
    /// Takes a request's turn.
    ///
    /// # Errors
    /// 400 for an unusable key, 422 when the key came with another body, 409 when the first
    /// request does not finish, 503 when there are too many keys.
    pub(crate) async fn turn(&self, call: &Call) -> Result<Turn<A>, Failure> {
        let Some(key) = key_of(call)? else {
            return Ok(Turn::Do(Ticket {
                table: Arc::clone(&self.0),
                key: None,
                retry_at: None,
            }));
        };
        let mut hasher = DefaultHasher::new();
        call.body.hash(&mut hasher);
        let digest = hasher.finish();
        let deadline = clock::now() + WAIT;
        loop {
            let begin = self.0.lock().begin(clock::now(), key, digest);
            let ticket = |retry_at| Ticket {
                table: Arc::clone(&self.0),
                key: Some(key.to_owned()),
                retry_at,
            };
            match begin {
                Begin::Answered(answer) => return Ok(Turn::Again(answer)),
                Begin::Fresh => return Ok(Turn::Do(ticket(None))),
                Begin::Retry(worker) => return Ok(Turn::Do(ticket(Some(worker)))),
                Begin::Busy if clock::now() < deadline => clock::sleep(LOOK).await,
                Begin::Busy => {
                    let what = "the first request with this Idempotency-Key still runs";
                    return Err(Failure::new(409, "idempotency_busy", what).retry_after(LOOK * 20));
                }
                Begin::Mismatch => {
                    let what = "this Idempotency-Key was used with another body";
                    return Err(Failure::new(422, "idempotency_mismatch", what));
                }
                Begin::Full => {
                    return Err(
                        Failure::new(503, "idempotency_full", "too many Idempotency-Keys")
                            .retry_after(WAIT),
                    );
                }
            }
        }
    }
}

impl<A: Clone> Ticket<A> {
    /// The work is done and this is the answer, now and for requests to come.
    pub(crate) fn answered(mut self, answer: A) {
        if let Some(key) = self.key.take() {
            self.table.lock().answered(&key, answer);
        }
    }

    /// Nobody knows whether that worker did it.
    pub(crate) fn unsure(mut self, worker_id: &str) {
        if let Some(key) = self.key.take() {
            self.table.lock().unsure(&key, worker_id);
        }
    }

    /// The client's key, if it sent one.
    #[must_use]
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

impl<A: Clone> Drop for Ticket<A> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.table.lock().forgotten(&key);
        }
    }
}
