//! The controller: the fleet, and the way to a worker.
//!
//! Holds what workers last reported and nothing else: it may be killed at any time, and one round of
//! heartbeats restores its state. Places sessions, relays browsers to the worker that owns
//! theirs, and answers the fleet's API. Several that share a store ([`cluster`]) are one fleet's.

mod api;
mod body_owners;
mod cluster;
mod create;
mod ended_sessions;
mod events;
pub(crate) mod fleet;
mod health;
mod metrics;
pub(crate) mod placement;
mod relay;

use std::sync::{Arc, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::acme::Acme;
use crate::config::Config;
use crate::dashboard::{self, Dashboard, Desk};
use crate::etcd::EtcdError;
use crate::exec::{self, Stop};
use crate::http::audit::{Audit, AuditError};
use crate::http::client::{Client, ClientError};
use crate::http::event_bus::EventBus;
use crate::http::exchange::API_BODY_MAX;
use crate::http::router::Router;
use crate::http::server::Service;
use crate::http::{Done, Exchange};
use crate::ids::SessionId;
use crate::protocol::SessionView;
use crate::proxy::Proxy;
use crate::secret::Secret;
use crate::sync::Mutex;
use crate::tls::Trust;
use crate::{clock, ids};

use cluster::FleetStore;
use fleet::{Fleet, FleetChange, FleetEvent, HeartbeatTiming};

/// Longest time between two ticks of the fleet: people notice no delay of half a second. After two
/// heartbeat intervals without a tick the fleet assumes that the process was suspended, so a
/// shorter interval shortens this.
const TICK: Duration = Duration::from_millis(500);

/// Why a controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The audit file cannot be used.
    #[error("{0}")]
    Audit(#[source] AuditError),
    /// Outgoing TLS cannot be set up.
    #[error("{0}")]
    Client(#[source] ClientError),
    /// The store that controllers share cannot be used.
    #[error("{0}")]
    Store(#[source] EtcdError),
}

impl ControllerError {
    /// Whether the configuration must change before another try makes sense.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Audit(_) | Self::Client(_) => true,
            Self::Store(error) => error.is_configuration(),
        }
    }
}

/// A controller's state; [`Controller::service`] is what a server serves.
#[derive(Debug)]
pub struct Controller {
    fleet: Mutex<Fleet>,
    client: Client,
    proxy: Proxy,
    event_bus: EventBus,
    ended: ended_sessions::EndedSessions,
    /// What is shared with the other controllers of the fleet.
    store: Box<dyn FleetStore>,
    audit: Arc<Audit>,
    dashboard: Arc<Dashboard>,
    acme: OnceLock<Acme>,
    counters: metrics::ControllerCounters,
    settings: ControllerSettings,
    process_id: String,
    started: Instant,
}

/// What a controller takes from the configuration.
#[derive(Clone, Debug)]
struct ControllerSettings {
    district: String,
    /// Base URL for browsers; the request's own `Host` when there is none.
    public_url: Option<String>,
    return_url: String,
    token: Secret,
    metrics_public: bool,
    pace: HeartbeatTiming,
    /// `bodies.sessions_max`.
    body_sessions: usize,
    /// `sessions.disconnect_grace`.
    disconnect_grace: Duration,
}

impl Controller {
    /// Starts a controller: its clock runs until `stop`. With a shared store it knows the fleet
    /// before it serves.
    ///
    /// # Errors
    /// See [`ControllerError`].
    pub async fn start(config: &Config, stop: Stop) -> Result<Arc<Self>, ControllerError> {
        let trust = config
            .controller
            .ca_file
            .clone()
            .map_or(Trust::WebPki, Trust::CaFile);
        let client = Client::new(&trust).map_err(ControllerError::Client)?;
        let audit =
            Audit::open(config.log.audit_file.as_deref()).map_err(ControllerError::Audit)?;
        let audit = Arc::new(audit);
        let pace = HeartbeatTiming {
            heartbeat_interval: config.controller.heartbeat_interval,
            heartbeat_timeout: config.workers.heartbeat_timeout,
        };
        let public_url = config.server.public_url.clone().or_else(|| {
            config
                .server
                .domain
                .as_ref()
                .map(|d| format!("https://{d}"))
        });
        let process_id = ids::label();
        let store = cluster::open(config.store.as_ref(), &process_id, pace.heartbeat_timeout)
            .map_err(ControllerError::Store)?;
        let controller = Arc::new(Self {
            fleet: Mutex::new(Fleet::new(clock::now(), pace)),
            proxy: Proxy::new(client.clone()),
            client,
            event_bus: store.event_bus(),
            ended: ended_sessions::EndedSessions::default(),
            dashboard: Dashboard::new(config.server.admin_token.clone(), Arc::clone(&audit)),
            audit,
            store,
            acme: OnceLock::new(),
            counters: metrics::ControllerCounters::default(),
            settings: ControllerSettings {
                district: config.district.clone(),
                public_url,
                return_url: config.sessions.return_url.clone(),
                token: config.server.admin_token.clone(),
                metrics_public: config.metrics.public,
                pace,
                body_sessions: usize::from(config.bodies.sessions_max),
                disconnect_grace: config.sessions.disconnect_grace,
            },
            process_id,
            started: clock::now(),
        });
        let started = controller.store.start(&controller, &stop).await;
        started.map_err(ControllerError::Store)?;
        let (ticking, tick) = (Arc::clone(&controller), TICK.min(pace.heartbeat_interval));
        exec::spawn(async move {
            while stop.or(clock::sleep(tick)).await.is_some() {
                let is_away = ticking.store.is_away();
                let events = {
                    let (mut fleet, now) = (ticking.fleet(), clock::now());
                    fleet.set_store_away(now, is_away);
                    fleet.tick(now)
                };
                ticking.announce(events);
            }
        })
        .detach();
        log::info!(target: "controller", "started version={} process_id={}",
            crate::protocol::VERSION, controller.process_id);
        Ok(controller)
    }

    /// Lets health report what hinders the domain's next certificate.
    pub fn watch_certificates(&self, acme: Acme) {
        let _ = self.acme.set(acme);
    }

    /// Every route of the API as (method, path with `:name` segments, whether it asks for a token).
    #[must_use]
    pub fn routes(self: &Arc<Self>) -> Vec<(http_types::Method, String, bool)> {
        let desk = api::desk(self);
        api::router(self).table().chain(desk.0.table()).collect()
    }

    /// What a server serves.
    #[must_use]
    pub fn service(self: &Arc<Self>) -> Arc<dyn Service> {
        Arc::new(ControllerService {
            router: api::router(self),
            desk: api::desk(self),
            controller: Arc::clone(self),
        })
    }

    /// Sessions of the fleet that hold a slot.
    #[must_use]
    pub fn active_sessions(&self) -> usize {
        self.fleet().totals(clock::now()).active_sessions
    }

    /// Whether a worker has registered and is heard.
    #[must_use]
    pub fn has_worker(&self) -> bool {
        self.fleet().totals(clock::now()).healthy > 0
    }

    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock()
    }

    /// Tells the controllers that share the fleet that this one stops.
    pub async fn leave(&self) {
        self.store.leave().await;
    }

    /// Counts, logs and publishes changes of the fleet.
    fn announce(&self, changes: Vec<FleetEvent>) {
        self.count_and_log(&changes);
        self.store.publish(self, &changes);
    }

    /// Counts and logs changes.
    fn count_and_log(&self, changes: &[FleetEvent]) {
        self.remember_ended(changes);
        for change in changes {
            self.counters.changed(change);
            events::log(change);
        }
    }

    /// Remembers which workers had the sessions that ended.
    fn remember_ended(&self, changes: &[FleetEvent]) {
        for change in changes {
            if let FleetChange::SessionEnded(id, _) = &change.change {
                self.ended.remember(id, &change.worker_id);
            }
        }
    }

    fn view_of(&self, id: &SessionId) -> Option<SessionView> {
        self.fleet().session(id).map(|(_, view)| view.clone())
    }

    /// Base URL for browsers that came with this `Host`.
    fn base_url(&self, host: &str, secure: bool) -> String {
        match &self.settings.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("{}://{host}", if secure { "https" } else { "http" }),
        }
    }
}

struct ControllerService {
    router: Router,
    desk: Desk,
    controller: Arc<Controller>,
}

#[async_trait]
impl Service for ControllerService {
    async fn serve(&self, exchange: Exchange) -> Done {
        if exchange.head.path().starts_with("/session/") {
            // Boxed, because a connection's future is as large as the largest of these.
            return Box::pin(relay::relay(&self.controller, exchange)).await;
        }
        if dashboard::is_below(exchange.head.path()) {
            return exchange.serve(&self.desk, dashboard::BODY_MAX).await;
        }
        exchange.serve(&self.router, API_BODY_MAX).await
    }
}
