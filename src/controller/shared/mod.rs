//! Several controllers, one fleet: what they share through etcd.
//!
//! Every controller keeps a copy of the store and serves from it; a placement costs no round trip.
//! `facts` says what stands where, `copy` what follows from a change, `outbox` what is still to be
//! written: they are pure. `follow` watches, `write` writes, `keys` and `turns` are what a create
//! asks the store before it asks a worker. Truth about a session stays with its worker, who also
//! refuses what it cannot hold: nothing here is needed for a session that runs, and without the
//! store each controller goes on from its copy and from what it hears itself.

mod body_lock;
mod idempotency_keys;
mod leases;
mod replica;
mod schema;
mod store_health;
mod watcher;
mod write_queue;
mod writer;

use std::collections::HashSet;
use std::sync::MutexGuard;
use std::time::{Duration, Instant, SystemTime};

use smol::channel::{Receiver, Sender, bounded};

use crate::clock;
use crate::config;
use crate::etcd::{Etcd, EtcdError, Kv, Revision};
use crate::http::Failure;
use crate::ids::SessionId;
use crate::protocol::{Heartbeat, HeartbeatReply, SessionView};
use crate::sync::Mutex;

use super::events;
use super::fleet::{Change, FleetEvent};
use leases::Leases;
use replica::Copy;
use schema::{EventFact, Names, SessionFact};
use store_health::StoreHealth;
use write_queue::{Draft, Named, Outbox};
use writer::WRITERS;

pub(in crate::controller) use idempotency_keys::{Held, Keyed};
pub(in crate::controller) use replica::StoreEvent;
pub(in crate::controller) use watcher::start;

/// Keys of one page of the whole picture; fewer when they are large.
const PAGE: usize = 256;
/// Look-ups of unknown sessions at once: strangers who guess ids are no load on the store.
const LOOKUPS_MAX: usize = 16;
/// How long a look-up may take; whoever asks waits for it.
const LOOKUP: Duration = Duration::from_secs(1);

/// This controller's side of the store.
#[derive(Debug)]
pub(in crate::controller) struct Shared {
    etcd: Etcd,
    names: Names,
    /// This controller's process.
    me: String,
    copy: Mutex<Copy>,
    outbox: Mutex<Outbox>,
    leases: Leases,
    contact: StoreHealth,
    lookups: smol::lock::Semaphore,
    kick: Sender<()>,
    kicked: Receiver<()>,
}

/// The answer to a client whose request needs the store while it is away.
pub(in crate::controller) fn away(why: &str) -> Failure {
    Failure::new(503, "store_away", "the controllers' shared store is away")
        .detail(why.to_owned())
        .retry_after(Duration::from_secs(2))
}

impl Shared {
    /// Joins the controllers that share this store: it answers, its whole picture is read, and the
    /// others can see this process.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub(in crate::controller) async fn join(
        config: &config::Etcd,
        me: &str,
        heartbeat_timeout: Duration,
    ) -> Result<(Self, Vec<StoreEvent>), EtcdError> {
        let names = Names::under(&config.prefix);
        let (kick, kicked) = bounded(WRITERS);
        let shared = Self {
            etcd: Etcd::new(config)?,
            copy: Mutex::new(Copy::new(names.clone(), me)),
            names,
            me: me.to_owned(),
            outbox: Mutex::default(),
            leases: Leases::new(heartbeat_timeout),
            contact: StoreHealth::default(),
            lookups: smol::lock::Semaphore::new(LOOKUPS_MAX),
            kick,
            kicked,
        };
        shared.etcd.check().await?;
        shared.pulse().await?;
        let (kvs, revision) = shared.picture().await?;
        let tales = shared.copy().replace(clock::now(), kvs, revision);
        Ok((shared, tales))
    }

    fn copy(&self) -> MutexGuard<'_, Copy> {
        self.copy.lock()
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock()
    }

    /// Everything that is watched, as it is at one revision.
    async fn picture(&self) -> Result<(Vec<Kv>, Revision), EtcdError> {
        let live = self.names.live();
        let (mut kvs, mut revision, mut limit) = (Vec::<Kv>::new(), 0, PAGE);
        loop {
            let after = kvs.last().map(|kv| kv.key.clone());
            match self
                .etcd
                .page(&live, after.as_deref(), revision, limit)
                .await
            {
                Ok(page) => {
                    if revision == 0 {
                        revision = page.revision;
                    }
                    kvs.extend(page.kvs);
                    if !page.has_more {
                        return Ok((kvs, revision));
                    }
                }
                Err(EtcdError::TooLarge) if limit > 1 => limit /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    /// What is wrong with the store, for health.
    pub(in crate::controller) fn problem(&self, now: Instant) -> Option<String> {
        let (since, why) = self.contact.away()?;
        let span = clock::human(now.saturating_duration_since(since));
        Some(format!(
            "the shared store is away for {span}: {why}; creates with an Idempotency-Key and \
             drains are refused, everything else goes on from this controller's copy"
        ))
    }

    /// Numbers for metrics: contact, lag of the watch, things that wait, events given up,
    /// controllers.
    pub(in crate::controller) fn gauges(&self) -> [(&'static str, &'static str, f64); 5] {
        let (waiting, lost) = {
            let outbox = self.outbox();
            (outbox.len() as f64, outbox.lost as f64)
        };
        let is_there = if self.contact.is_there() { 1.0 } else { 0.0 };
        [
            ("store_up", "Whether the shared store is there", is_there),
            (
                "store_lag_seconds",
                "Time from a write until the watch shows it, last measured",
                self.contact.lag().as_secs_f64(),
            ),
            (
                "store_waiting",
                "Workers and requests to be written",
                waiting,
            ),
            (
                "store_events_lost",
                "Events given up while the store was away",
                lost,
            ),
            (
                "store_controllers",
                "Controllers that share the store",
                self.copy().controllers() as f64,
            ),
        ]
    }

    /// A copy of the heartbeat if others must know what it says.
    pub(in crate::controller) fn news_of(&self, beat: &Heartbeat) -> Option<Heartbeat> {
        let copy = self.copy();
        let is_known = copy.worker(&beat.worker_id).0.is_some_and(|fact| {
            fact.by == self.me && fact.heard && schema::is_old_news(&fact.beat, beat)
        });
        (!is_known).then(|| beat.clone())
    }

    /// A worker has said something new, here.
    pub(in crate::controller) fn heard(&self, beat: Heartbeat) {
        let id = beat.worker_id.clone();
        self.outbox().draft(&id, Draft { beat, heard: true });
        self.kick();
    }

    /// Workers that this controller heard and hears no longer: the others learn it.
    fn fallen_silent(&self, workers: &HashSet<String>) {
        if workers.is_empty() {
            return;
        }
        let mine: Vec<Heartbeat> = {
            let copy = self.copy();
            let silent = copy.mine().filter(|f| workers.contains(&f.beat.worker_id));
            silent.map(|fact| fact.beat.clone()).collect()
        };
        for beat in mine {
            let id = beat.worker_id.clone();
            self.outbox().draft(&id, Draft { beat, heard: false });
        }
        self.kick();
    }

    /// Things happened, here: they go to every controller's stream.
    pub(in crate::controller) fn happened(
        &self,
        happened: &[FleetEvent],
        view: impl Fn(&SessionId) -> Option<SessionView>,
    ) {
        for event in happened {
            let named = self.named(event, &view);
            self.outbox().events(&event.worker_id, [named]);
        }
        if !happened.is_empty() {
            self.kick();
        }
    }

    fn named(&self, event: &FleetEvent, view: impl Fn(&SessionId) -> Option<SessionView>) -> Named {
        let at = self.copy().worker(&event.worker_id).1;
        let view = match &event.change {
            Change::SessionConnected(id) | Change::SessionLingering(id) => view(id),
            _ => None,
        };
        let (name, data) = events::written(event);
        let fact = EventFact {
            order: 0,
            name: name.to_owned(),
            data,
        };
        (schema::event_name(event, view.as_ref(), at), fact)
    }

    fn kick(&self) {
        // Full: as many are awake as there are.
        let _ = self.kick.try_send(());
    }

    /// What the store says of drains overrules what a worker remembers.
    pub(in crate::controller) fn drain_of(&self, worker_id: &str) -> Option<Option<String>> {
        self.copy().drain(worker_id).cloned()
    }

    /// Puts the ordered drain into the answer to a heartbeat.
    pub(in crate::controller) fn complete(
        &self,
        worker_id: &str,
        wall: SystemTime,
        reply: &mut HeartbeatReply,
    ) {
        reply.order(self.drain_of(worker_id), wall);
    }

    /// Whether nothing comes from the store.
    pub(in crate::controller) fn is_away(&self) -> bool {
        !self.contact.is_there()
    }

    /// Whether the store can be asked now; else why not.
    fn there(&self) -> Result<(), Failure> {
        match self.contact.away() {
            None => Ok(()),
            Some((_, why)) => Err(away(&why)),
        }
    }

    /// Looks an unknown session up: another controller may have just made it.
    ///
    /// # Errors
    /// 503 when the store does not say.
    pub(in crate::controller) async fn look_up(
        &self,
        id: &SessionId,
    ) -> Result<Option<StoreEvent>, Failure> {
        self.there()?;
        let one = self.lookups.try_acquire();
        let _one = one.ok_or_else(|| away("too many unknown sessions are asked for at once"))?;
        let key = self.names.session(id);
        let read = clock::by(clock::now() + LOOKUP, self.etcd.read(&key)).await;
        let read = read.map_err(|_| away("it does not answer in time"))?;
        let kv = read.map_err(|error| away(&error.to_string()))?;
        let fact: Option<SessionFact> = kv.as_ref().and_then(schema::read);
        Ok(fact.map(|fact| StoreEvent::Announced(fact.worker_id, Box::new(fact.view))))
    }
}
