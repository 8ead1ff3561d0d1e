//! The worker: one machine's sessions, offered to a controller and to browsers.
//!
//! The only authority on its sessions. Admits them, drives each through its life (`driver` and
//! `steps` carry out what `session::lifecycle` asks for), serves the stream page through the
//! proxy, and tells the controller by heartbeat. `ledger` entries let the next process of this
//! worker adopt what this one leaves running.

mod admit;
mod adopt;
mod api;
mod body_owners;
mod browser;
mod driver;
mod effects;
mod health;
mod heartbeat;
pub(crate) mod ice_servers;
mod interface_cache;
mod ledger_writer;
mod metrics;
mod pairing_gc;
mod program;
mod session_handle;
mod session_table;
mod settings;
mod shortage;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::acme::Acme;
use crate::body::Bodies;
use crate::body::identity::ProgramKind;
use crate::clock;
use crate::config::Config;
use crate::exec::{self, Stop};
use crate::http::audit::{Audit, AuditError};
use crate::http::client::{Client, ClientError};
use crate::http::event_bus::EventBus;
use crate::http::idempotency::MemoryKeys;
use crate::http::server::Service;
use crate::ids::{self, SessionId};
use crate::mic::Microphones;
use crate::protocol::EndReason;
use crate::proxy::Proxy;
use crate::records::Outbox;
use crate::records::outbox::Destination;
use crate::session::ledger::{Ledger, LedgerError};
use crate::session::lifecycle::Input;
use crate::session::ports::{PortError, SessionPorts};
use crate::session::spawner::Spawner;
use crate::session::state_lock::{LockError, StateLock};
use crate::session::stream_program::{StreamProgramError, TESTCARD};
use crate::session::workspace::{SessionsDir, WorkspaceError};
use crate::sync::Mutex;
use crate::tls::Trust;

pub(crate) use settings::body_rules;

use session_handle::SessionHandle;
use session_table::LiveSessions;
use settings::WorkerSettings;

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The audit file cannot be used.
    #[error("{0}")]
    Audit(#[source] AuditError),
    /// Outgoing TLS cannot be set up.
    #[error("{0}")]
    Client(#[source] ClientError),
    /// The ledger cannot be used.
    #[error("{0}")]
    Ledger(#[source] LedgerError),
    /// Another worker uses the state directory, or it cannot be used.
    #[error("{0}")]
    Lock(#[source] LockError),
    /// The configured ports do not exist.
    #[error("{0}")]
    Ports(#[source] PortError),
    /// No stream program can be used with this configuration.
    #[error("{0}")]
    Program(#[source] StreamProgramError),
    /// The directory of the sessions cannot be used.
    #[error("{0}")]
    Workspace(#[source] WorkspaceError),
}

/// Whether and how long the worker drains.
#[derive(Clone, Debug, Default)]
struct Drain {
    /// By its operator's wish.
    own: bool,
    /// By its controller's order, with the deadline as it was given.
    ordered: bool,
    ordered_deadline: Option<String>,
    /// Process stop: nothing new, what runs is kept or ended by `shutdown`.
    stopping: bool,
}

/// A worker's state.
#[derive(Debug)]
pub struct Worker {
    settings: WorkerSettings,
    roster: LiveSessions,
    ports: SessionPorts,
    ledger: Ledger,
    _lock: StateLock,
    supervisor: Spawner,
    program: program::ProgramWatch,
    sessions_dir: SessionsDir,
    bodies: Bodies,
    /// Which sessions have which bodies.
    owners: Arc<body_owners::BodyOwners>,
    /// Which bodies were tidied.
    tidy: pairing_gc::Tidy,
    machine: interface_cache::InterfaceCache,
    counters: metrics::WorkerCounters,
    shortages: shortage::Shortages,
    /// One record for each ended session, to the NPS service.
    outbox: Outbox,
    /// Ratings, to the experience library.
    ratings: Outbox,
    mics: Microphones,
    proxy: Proxy,
    client: Client,
    hub: EventBus,
    audit: Arc<Audit>,
    acme: OnceLock<Acme>,
    keys: MemoryKeys<SessionId>,
    drain: Mutex<Drain>,
    /// Set by the heartbeat while the controller refuses us as a duplicate.
    is_duplicate: AtomicBool,
    controller_problem: Mutex<Option<String>>,
    /// The address under which the controller was reached, for want of `worker.url`.
    learned_url: Mutex<Option<String>>,
    kick: smol::channel::Sender<()>,
    process_id: String,
    predecessors: Vec<String>,
    started: Instant,
}

impl Worker {
    /// Starts a worker: adopts or reaps what its predecessor left, then sends heartbeats until
    /// `stop`. `own_ports` are the ports it listens on itself.
    ///
    /// # Errors
    /// See [`WorkerError`].
    pub async fn start(
        config: &Config,
        own_ports: &[u16],
        stop: Stop,
    ) -> Result<Arc<Self>, WorkerError> {
        let process_id = ids::label();
        let state_dir = config.worker.state_dir.clone();
        let lock = StateLock::acquire(&state_dir, &process_id).map_err(WorkerError::Lock)?;
        let predecessors = lock.predecessors().to_vec();
        let machine = smol::unblock(crate::body::interfaces::read).await;
        let settings = WorkerSettings::new(config, &machine, own_ports);
        if machine.wireguard.is_empty() {
            log::warn!(target: "worker", "no WireGuard interface detected");
        }
        let program = program::ProgramWatch::new(&settings.web_server)
            .await
            .map_err(WorkerError::Program)?;
        let trust = config
            .controller
            .ca_file
            .clone()
            .map_or(Trust::WebPki, Trust::CaFile);
        let client = Client::new(&trust).map_err(WorkerError::Client)?;
        let audit = Audit::open(config.log.audit_file.as_deref()).map_err(WorkerError::Audit)?;
        let ports = SessionPorts::new(settings.ports.clone()).map_err(WorkerError::Ports)?;
        let ledger = Ledger::open(&state_dir).map_err(WorkerError::Ledger)?;
        let sessions_dir =
            SessionsDir::open(&config.sessions.dir, &state_dir).map_err(WorkerError::Workspace)?;
        let outbox = Outbox::open(
            state_dir.join("outbox/nps"),
            settings.nps.as_ref().map(ratings_of),
            client.clone(),
            "nps",
            stop.clone(),
        );
        let ratings = Outbox::open(
            state_dir.join("outbox/ratings"),
            settings.experience_library.as_ref().map(ratings_of),
            client.clone(),
            "rating",
            stop.clone(),
        );
        let (kick, kicked) = smol::channel::bounded(1);
        let worker = Arc::new_cyclic(|me: &Weak<Self>| {
            let hearing = me.clone();
            let mics = Microphones::new(settings.mic.clone(), move |session, on| {
                if let Some(worker) = hearing.upgrade() {
                    worker.mic_changed(session, on);
                }
            });
            Self {
                roster: LiveSessions::default(),
                ports,
                ledger,
                _lock: lock,
                supervisor: Spawner::new(settings.limits, settings.log_max_bytes),
                bodies: Bodies::new(settings.rules.clone(), kind_of(&settings.web_server)),
                owners: Arc::default(),
                program,
                sessions_dir,
                tidy: pairing_gc::Tidy::default(),
                machine: interface_cache::InterfaceCache::new(&machine),
                counters: metrics::WorkerCounters::default(),
                shortages: shortage::Shortages::default(),
                outbox,
                ratings,
                mics,
                proxy: Proxy::new(client.clone()),
                client,
                hub: EventBus::default(),
                audit: Arc::new(audit),
                acme: OnceLock::new(),
                keys: MemoryKeys::default(),
                drain: Mutex::default(),
                is_duplicate: AtomicBool::new(false),
                controller_problem: Mutex::default(),
                learned_url: Mutex::default(),
                kick,
                process_id,
                predecessors,
                started: clock::now(),
                settings,
            }
        });
        log::info!(target: "worker", "started version={} worker_id={} process_id={}",
            crate::protocol::VERSION, worker.settings.worker_id, worker.process_id);
        adopt::adopt_or_reap(&worker).await;
        pairing_gc::at_start(&worker);
        exec::spawn(crate::session::pid1_reaper::reap()).detach();
        interface_cache::watch(&worker, stop.clone());
        shortage::watch(&worker, stop.clone());
        program::watch(&worker, stop.clone());
        heartbeat::start(&worker, kicked, stop);
        Ok(worker)
    }

    /// Health names what hinders this domain's next certificate.
    pub fn watch_certificates(&self, acme: Acme) {
        let _ = self.acme.set(acme);
    }

    /// Every route of the API as (method, path with `:name` segments, whether it asks for a token).
    #[must_use]
    pub fn routes(self: &Arc<Self>) -> Vec<(http_types::Method, String, bool)> {
        api::router(self).table().collect()
    }

    /// What a server serves.
    #[must_use]
    pub fn service(self: &Arc<Self>) -> Arc<dyn Service> {
        Arc::new(browser::Front::new(self))
    }

    /// Sessions that hold a slot.
    #[must_use]
    pub fn active_sessions(&self) -> usize {
        self.roster.slots()
    }

    /// Stops taking sessions; those that run live until `deadline`, or until they end by
    /// themselves.
    pub fn drain(&self, deadline: Option<SystemTime>) {
        self.drain_state().own = true;
        log::info!(target: "worker", "draining deadline={}",
            deadline.map_or_else(|| "none".to_owned(), clock::rfc3339));
        self.order_drain(deadline.map(|at| at.duration_since(clock::wall()).unwrap_or_default()));
        self.hub.publish(
            "worker_draining",
            &self.settings.district,
            serde_json::json!({
                "worker_id": self.settings.worker_id,
            }),
        );
    }

    /// Takes sessions again.
    pub fn undrain(&self) {
        {
            let mut drain = self.drain_state();
            *drain = Drain {
                stopping: drain.stopping,
                ..Drain::default()
            };
        }
        log::info!(target: "worker", "taking sessions again");
        self.roster.tell_all(&Input::DrainLifted);
        self.kick();
    }

    fn order_drain(&self, left: Option<Duration>) {
        let until = left.and_then(|left| clock::now().checked_add(left));
        self.roster.tell_all(&Input::DrainOrdered(until));
        self.kick();
    }

    /// Whether new sessions are refused, and why.
    fn refusal(&self) -> Option<&'static str> {
        self.refusal_under(&self.drain_state())
    }

    /// Takes a session on, unless a drain or a stop came first: whoever orders one afterwards finds
    /// the session in the roster and tells it.
    fn enlist(&self, live: &Arc<SessionHandle>) -> Result<(), &'static str> {
        let drain = self.drain_state();
        if let Some(why) = self.refusal_under(&drain) {
            return Err(why);
        }
        self.roster.add(live);
        Ok(())
    }

    fn refusal_under(&self, drain: &Drain) -> Option<&'static str> {
        if drain.stopping {
            Some("the worker is stopping")
        } else if drain.own || drain.ordered {
            Some("the worker is draining")
        } else if self.is_duplicate.load(Ordering::Relaxed) {
            Some("another process has this worker's name at the controller")
        } else {
            None
        }
    }

    /// Prepares the end of this process. With `keep` the sessions run on and the next process
    /// adopts them; without it they end with `worker_shutdown`, each within `within`. The
    /// controller is told.
    pub async fn shutdown(self: &Arc<Self>, keep: bool, within: Duration) {
        self.drain_state().stopping = true;
        if keep {
            log::info!(target: "worker", "stopping, {} sessions stay for the next process", self.roster.len());
        } else {
            self.end_all(within).await;
        }
        heartbeat::last_word(self).await;
    }

    async fn end_all(&self, within: Duration) {
        self.roster
            .tell_all(&Input::EndRequested(EndReason::WorkerShutdown));
        let deadline = clock::now() + within;
        while self.roster.len() > 0 && clock::now() < deadline {
            clock::sleep(SHUTDOWN_LOOK).await;
        }
        self.roster.len().checked_sub(1).inspect(|_| {
            log::error!(target: "worker", "{} sessions did not end in time", self.roster.len());
        });
    }

    fn drain_state(&self) -> MutexGuard<'_, Drain> {
        self.drain.lock()
    }

    /// Asks for a heartbeat at once.
    fn kick(&self) {
        let _ = self.kick.try_send(());
    }

    fn mic_changed(&self, session: &SessionId, on: bool) {
        let name = if on { "mic_on" } else { "mic_off" };
        if let Some(live) = self.roster.find(session) {
            live.set_mic(on);
        }
        log::info!(target: "mic", session = session.as_str(); "{name}");
        self.publish(name, session, serde_json::Map::new());
        self.kick();
    }

    /// An event about a session.
    fn publish(&self, name: &str, session: &SessionId, mut more: serde_json::Map<String, Value>) {
        more.insert("worker_id".into(), self.settings.worker_id.as_str().into());
        more.insert("session_id".into(), session.as_str().into());
        self.hub
            .publish(name, &self.settings.district, Value::Object(more));
    }
}

/// How often a shutdown looks whether the sessions are gone.
const SHUTDOWN_LOOK: Duration = Duration::from_millis(50);

fn kind_of(web_server: &Path) -> ProgramKind {
    match web_server.as_os_str() == TESTCARD {
        true => ProgramKind::TestCard,
        false => ProgramKind::Moonlight,
    }
}

/// Both services take ratings at the same path.
fn ratings_of(peer: &crate::config::Peer) -> Destination {
    let url = format!("{}/api/v1/ratings", peer.url.trim_end_matches('/'));
    Destination {
        url,
        token: peer.token.clone(),
    }
}
