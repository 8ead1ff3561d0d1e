//! What the page asks to see: filters, orders, pages.

use serde::Deserialize;

use crate::http::{Call, Failure};
use crate::protocol::Status;

/// Longest filter: longer than any name.
const FILTER_MAX: usize = 256;

/// What the page wants to see.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub(super) worker: TableQuery<WorkerOrder>,
    pub(super) session: TableQuery<SessionOrder>,
    pub(super) status: Option<Status>,
}

/// What one table is to show.
#[derive(Clone, Debug, Default)]
pub(super) struct TableQuery<O> {
    /// In lower case.
    pub(super) filter: String,
    pub(super) order: O,
    pub(super) is_reversed: bool,
    pub(super) page: usize,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WorkerOrder {
    #[default]
    Name,
    Status,
    Load,
    Heartbeat,
    District,
    Version,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SessionOrder {
    #[default]
    Age,
    Status,
    Experience,
    Body,
    Worker,
    Rtt,
    Path,
    Viewers,
}

impl Query {
    /// Reads the query of a call.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub fn of(call: &Call) -> Result<Self, Failure> {
        Ok(Self {
            worker: wish(call, ["worker_filter", "worker_order", "worker_page"])?,
            session: wish(call, ["session_filter", "session_order", "session_page"])?,
            status: call
                .query_value("session_status")
                .filter(|word| !word.is_empty())
                .map(|word| match word_of("session_status", &word)? {
                    Status::Other(_) => Err(bad("session_status", &word)),
                    status => Ok(status),
                })
                .transpose()?,
        })
    }
}

fn bad(name: &str, value: &str) -> Failure {
    Failure::new(
        400,
        "bad_request",
        format!("{name}: {value:?} is not known"),
    )
}

/// One of an enum's words.
fn word_of<T: serde::de::DeserializeOwned>(name: &str, word: &str) -> Result<T, Failure> {
    serde_json::from_value(word.into()).map_err(|_| bad(name, word))
}

/// `-` before the order's word turns it round.
fn wish<O: serde::de::DeserializeOwned + Default>(
    call: &Call,
    [filter, order, page]: [&str; 3],
) -> Result<TableQuery<O>, Failure> {
    let value = |name| call.query_value(name).unwrap_or_default();
    let (text, word, number) = (value(filter), value(order), value(page));
    if text.len() > FILTER_MAX {
        let what = format!("{filter}: at most {FILTER_MAX} bytes");
        return Err(Failure::new(400, "bad_request", what));
    }
    let turned = word.strip_prefix('-');
    let plain = turned.unwrap_or(&word);
    Ok(TableQuery {
        filter: text.trim().to_lowercase(),
        order: if plain.is_empty() {
            O::default()
        } else {
            word_of(order, plain)?
        },
        is_reversed: turned.is_some(),
        page: if number.is_empty() {
            0
        } else {
            number.parse().map_err(|_| bad(page, &number))?
        },
    })
}
