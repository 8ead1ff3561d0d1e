//! Records on their way to one service: a file each, sent in order, repeated until taken.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_types::Method;
use serde::Serialize;
use smol::channel::{Receiver, Sender};

use crate::atomic_file;
use crate::clock;
use crate::exec::{self, Stop};
use crate::http::client::{Client, Outgoing};
use crate::secret::Secret;

/// Records kept while the service is away: a month of a busy worker; about 40 MB.
const KEPT_MAX: usize = 10_000;
/// Pause after the first failure; doubles with each.
const BACK_OFF_MIN: Duration = Duration::from_secs(2);
/// Longest pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(300);
/// Time for one record.
const WITHIN: Duration = Duration::from_secs(15);

/// Where records go.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    /// The whole URL.
    pub url: String,
    /// Bearer token, if the service wants one.
    pub token: Option<Secret>,
}

/// An outbox. Without a destination, records are dropped: nobody asked for them.
#[derive(Debug)]
pub(crate) struct Outbox {
    dir: PathBuf,
    prefix: &'static str,
    active: bool,
    next: AtomicU64,
    wake: Sender<()>,
}

impl Outbox {
    /// Opens the outbox in `dir` and sends what is in it until `stop`. `prefix` is the log
    /// prefix.
    #[must_use]
    pub(crate) fn open(
        dir: PathBuf,
        destination: Option<Destination>,
        client: Client,
        prefix: &'static str,
        stop: Stop,
    ) -> Self {
        let (wake, woken) = smol::channel::bounded(1);
        release_all(&dir);
        let next = waiting(&dir).last().map_or(1, |(n, _)| n + 1);
        let outbox = Self {
            dir: dir.clone(),
            prefix,
            active: destination.is_some(),
            next: AtomicU64::new(next),
            wake,
        };
        if let Some(destination) = destination {
            let send = deliver(dir, destination, client, prefix, woken);
            exec::spawn(async move {
                stop.or(send).await;
            })
            .detach();
        }
        outbox
    }

    /// Where the records are, once there was one; `None` when nobody wants records.
    #[must_use]
    pub(crate) fn dir(&self) -> Option<&Path> {
        (self.active && self.dir.exists()).then_some(&self.dir)
    }

    /// Puts a record into the outbox.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub(crate) async fn put(&self, record: &(impl Serialize + Sync)) -> Result<(), OutboxError> {
        if let Some(held) = self.hold(record).await? {
            self.release(held, record).await;
        }
        Ok(())
    }

    /// Puts a record into the outbox that is to be sent only after [`Outbox::release`], or when
    /// the process has gone and come back. `None` when nobody wants records.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub(crate) async fn hold(
        &self,
        record: &(impl Serialize + Sync),
    ) -> Result<Option<HeldRecord>, OutboxError> {
        if !self.active {
            return Ok(None);
        }
        let held = HeldRecord(self.next.fetch_add(1, Ordering::Relaxed));
        let failed = |error| OutboxError {
            dir: self.dir.clone(),
            error,
        };
        let text = serde_json::to_string(record).map_err(|e| failed(e.into()))?;
        let (dir, name) = (self.dir.clone(), held.file(HELD));
        let written = smol::unblock(move || {
            let all = waiting(&dir);
            for (_, path) in all.iter().take((all.len() + 1).saturating_sub(KEPT_MAX)) {
                log::error!(target: "records", "outbox {} is full, dropped {}", dir.display(), path.display());
                fs::remove_file(path)?;
            }
            write(&dir, &name, &text)
        });
        written.await.map_err(failed)?;
        Ok(Some(held))
    }

    /// Sends a held record, as it is now.
    pub(crate) async fn release(&self, held: HeldRecord, record: &(impl Serialize + Sync)) {
        let Ok(text) = serde_json::to_string(record) else {
            return;
        };
        let dir = self.dir.clone();
        let released = smol::unblock(move || {
            // A disk that is full since has the record as it was held.
            let updated = write(&dir, &held.file(HELD), &text);
            fs::rename(dir.join(held.file(HELD)), dir.join(held.file(READY)))?;
            updated
        });
        if let Err(error) = released.await {
            log::error!(target: self.prefix, "record in {} is sent without its last change: {error}", self.dir.display());
        }
        let _ = self.wake.try_send(());
    }
}

/// A record could not be written.
#[derive(Debug)]
pub(crate) struct OutboxError {
    dir: PathBuf,
    error: io::Error,
}

impl std::fmt::Display for OutboxError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (dir, error) = (self.dir.display(), &self.error);
        write!(
            f,
            "cannot write a record to {dir}: {error}, check space and rights of worker.state_dir"
        )
    }
}

impl std::error::Error for OutboxError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// A record that waits.
#[derive(Debug)]
pub(crate) struct HeldRecord(u64);

impl HeldRecord {
    fn file(&self, ending: &str) -> String {
        format!("{:020}.{ending}", self.0)
    }
}

/// Ending of a record's file while it is held, and when it is to be sent.
const HELD: &str = "held";
const READY: &str = "json";

/// Records that an earlier process held are sent as they are; what it was writing is not whole,
/// and its session will be recorded anew.
fn release_all(dir: &Path) {
    for path in fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
    {
        if path.extension().is_some_and(|e| e == "new") {
            let _ = fs::remove_file(&path);
        } else if path.extension().is_some_and(|e| e == HELD)
            && let Err(error) = fs::rename(&path, path.with_extension(READY))
        {
            log::error!(target: "records", "{} stays behind: {error}", path.display());
        }
    }
}

/// Records in the outbox, oldest first.
fn waiting(dir: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.path();
            let number = path
                .file_name()?
                .to_str()?
                .strip_suffix(".json")?
                .parse()
                .ok()?;
            Some((number, path))
        })
        .collect();
    all.sort();
    all
}

fn write(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let draft = dir.join(format!("{name}.new"));
    atomic_file::replace(&dir.join(name), &draft, text.as_bytes())
}

async fn deliver(
    dir: PathBuf,
    to: Destination,
    client: Client,
    prefix: &'static str,
    woken: Receiver<()>,
) {
    let mut pause = BACK_OFF_MIN;
    loop {
        let here = dir.clone();
        let oldest = smol::unblock(move || {
            let (_, path) = waiting(&here).into_iter().next()?;
            let text = fs::read(&path).ok()?;
            Some((path, text))
        });
        let Some((path, text)) = oldest.await else {
            if woken.recv().await.is_err() {
                return;
            }
            continue;
        };
        match send(&to, &client, &text).await {
            Ok(()) => {
                log::info!(target: prefix, "sent {}", String::from_utf8_lossy(&text));
                remove(&path).await;
                pause = BACK_OFF_MIN;
            }
            Err(Refused {
                why,
                is_final: true,
            }) => {
                log::error!(target: prefix, "record refused for good: {why}; it was {}", String::from_utf8_lossy(&text));
                remove(&path).await;
            }
            Err(Refused {
                why,
                is_final: false,
            }) => {
                log::warn!(target: prefix, "record not taken, next try in {}: {why}", clock::human(pause));
                clock::sleep(pause).await;
                pause = (pause * 2).min(BACK_OFF_MAX);
            }
        }
    }
}

async fn remove(path: &Path) {
    let file = path.to_owned();
    if let Err(error) = smol::unblock(move || fs::remove_file(file)).await {
        log::error!(target: "records", "cannot remove {}: {error}", path.display());
        // It would be sent again at once, for ever.
        clock::sleep(BACK_OFF_MAX).await;
    }
}

struct Refused {
    why: String,
    is_final: bool,
}

async fn send(to: &Destination, client: &Client, text: &[u8]) -> Result<(), Refused> {
    let value: serde_json::Value = serde_json::from_slice(text).map_err(|e| Refused {
        why: format!("not JSON: {e}"),
        is_final: true,
    })?;
    let mut call = Outgoing::new(Method::Post, &to.url)
        .json(&value)
        .within(WITHIN);
    if let Some(token) = &to.token {
        call = call.bearer(token);
    }
    let answer = client.send(call).await.map_err(|e| Refused {
        why: e.to_string(),
        is_final: false,
    })?;
    match answer.status {
        200..=299 => Ok(()),
        // A wrong token is mended by an operator, a wrong record by nobody.
        400 | 404..=407 | 409..=422 => Err(Refused {
            why: format!("status {}: {}", answer.status, answer.excerpt()),
            is_final: true,
        }),
        status => Err(Refused {
            why: format!("status {status}: {}", answer.excerpt()),
            is_final: false,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::server::{Api, ConnectionLimits, Listener};
    use crate::http::{Call, Failure, Handler, Reply};
    use crate::tls::Trust;
    use std::sync::{Arc, Mutex};

    struct Service(Mutex<Vec<String>>, Mutex<u32>);

    #[async_trait::async_trait]
    impl Handler for Service {
        async fn answer(&self, call: Call) -> Result<Reply, Failure> {
            let mut failures = self.1.lock().unwrap();
            if *failures > 0 {
                *failures -= 1;
                return Err(Failure::new(503, "away", "away"));
            }
            self.0
                .lock()
                .unwrap()
                .push(String::from_utf8_lossy(&call.body).into_owned());
            Ok(Reply::empty(204))
        }
    }

    #[test]
    fn records_survive_a_restart_and_a_service_that_is_away_and_arrive_once_in_order() {
        let dir = std::env::temp_dir().join(format!("outbox-{}", crate::ids::label()));
        let client = Client::new(&Trust::WebPki).unwrap();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = listener.local_addr().unwrap();
        let destination = |at: std::net::SocketAddr| {
            Some(Destination {
                url: format!("http://{at}/api/v1/ratings"),
                token: None,
            })
        };
        let (first_stop, stop) = exec::stop();
        // Nobody listens there: what it was sending would arrive beside what the second one sends.
        let nobody = destination(([127, 0, 0, 1], 1).into());
        let outbox = Outbox::open(dir.clone(), nobody, client.clone(), "nps", stop);
        exec::block_on(outbox.put(&"one")).unwrap();
        exec::block_on(outbox.put(&"two")).unwrap();
        drop((outbox, first_stop));
        let service = Arc::new(Api(Service(Mutex::default(), Mutex::new(1))));
        let (_serving, stop) = exec::stop();
        exec::spawn(listener.serve(
            service.clone(),
            ConnectionLimits::default(),
            stop,
            Duration::ZERO,
        ))
        .detach();
        let (_second_stop, stop) = exec::stop();
        let outbox = Outbox::open(dir.clone(), destination(at), client, "nps", stop);
        exec::block_on(outbox.put(&"three")).unwrap();
        let deadline = clock::now() + Duration::from_secs(60);
        while service.0.0.lock().unwrap().len() < 3 && clock::now() < deadline {
            exec::block_on(clock::sleep(Duration::from_millis(20)));
        }
        assert_eq!(
            *service.0.0.lock().unwrap(),
            ["\"one\"", "\"two\"", "\"three\""]
        );
        while !waiting(&dir).is_empty() && clock::now() < deadline {
            exec::block_on(clock::sleep(Duration::from_millis(20)));
        }
        assert!(waiting(&dir).is_empty());
        fs::remove_dir_all(dir).unwrap();
    }
}
