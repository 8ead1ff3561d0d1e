//! The body room against the demo body, over real sockets: what its tests share.

mod doubles;
mod pairing;
mod program;
mod reach;
mod visit;

use std::path::PathBuf;
use std::time::Duration;

use super::{BodyOptions, DemoBody, Faults};
use crate::body::allowlist::{Allowed, Machine};
use crate::body::identity::{ClientIdentity, ProgramKind};
use crate::body::pairing::PairingError;
use crate::body::stream_api::StreamApi;
use crate::body::sunshine::SunshineCredentials;
use crate::body::{Bodies, BodyPorts, CleanupRecord, Paired, Rules, SessionBody};
use crate::secret::Secret;
use crate::session::program_config::{SEED_HOST, Seed};
use crate::session::stream_program::ConfigFormat;
use crate::session::testing;
use crate::{exec, ids};
use program::{PREFIX, ProgramDouble};

const LONG: Duration = Duration::from_secs(40);
const LEAVE: Duration = Duration::from_secs(10);

/// A demo body, the neck's view of it, and a directory for both.
struct Stage {
    demo: DemoBody,
    bodies: Bodies,
    rules: Rules,
    dir: PathBuf,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn stage(faults: Faults) -> Stage {
    with(
        BodyOptions {
            faults,
            ..BodyOptions::default()
        },
        |_| {},
    )
}

fn with(options: BodyOptions, change: impl FnOnce(&mut Rules)) -> Stage {
    let dir = std::env::temp_dir().join(format!("neck-body-{}", ids::label()));
    std::fs::create_dir_all(&dir).unwrap();
    let demo = DemoBody::start(options).unwrap();
    let mut rules = Rules {
        allowed: Allowed::new(&["127.0.0.0/8".parse().unwrap()], &Machine::default()),
        ports: BodyPorts {
            sunshine: demo.sunshine().port(),
            http: demo.http().port(),
            agent: demo.agent().port(),
        },
        state_dir: dir.join("state"),
        worker_id: "w1".into(),
        pair_once: false,
        close_foreign_app: false,
    };
    change(&mut rules);
    Stage {
        demo,
        bodies: Bodies::new(rules.clone(), ProgramKind::Moonlight),
        rules,
        dir,
    }
}

impl Stage {
    fn body(&self) -> SessionBody {
        self.body_as("sunshine", "sunshine")
    }

    fn body_as(&self, user: &str, password: &str) -> SessionBody {
        let credentials = SunshineCredentials::new(user, Secret::new(password)).unwrap();
        let ip = self.demo.sunshine().ip();
        self.bodies.body(ip, credentials).unwrap()
    }

    /// The worker starts again with other rules.
    fn change(&mut self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.rules);
        self.bodies = Bodies::new(self.rules.clone(), ProgramKind::Moonlight);
    }

    fn program(&self, kept: Option<ClientIdentity>) -> (ProgramDouble, StreamApi) {
        self.program_of(ConfigFormat::Fork, kept)
    }

    fn program_of(
        &self,
        generation: ConfigFormat,
        kept: Option<ClientIdentity>,
    ) -> (ProgramDouble, StreamApi) {
        let data_json = self.dir.join(format!("{}.json", ids::label()));
        if let Some(kept) = kept {
            std::fs::write(&data_json, seeded(&kept, generation).to_string()).unwrap();
        }
        let double = ProgramDouble::start(data_json);
        let user = format!("neck-{}", ids::label());
        let program = StreamApi::new(double.port, PREFIX, &user).unwrap();
        (double, program)
    }

    /// Pairs as a new session; the stream program lives until the end of it.
    async fn pair(&self) -> (CleanupRecord, Result<Paired, PairingError>) {
        let body = self.body();
        let (_double, program) = self.program(None);
        let traces = marked(body.traces(None));
        let paired = pair(&body, &program, &traces, None, LONG).await;
        (traces, paired)
    }

    fn calls(&self) -> Vec<String> {
        let calls = self.demo.calls();
        calls
            .iter()
            .map(|c| format!("{} {}", c.to, c.call))
            .collect()
    }

    fn pins(&self) -> usize {
        let calls = self.calls();
        calls
            .iter()
            .filter(|c| c.ends_with("POST /api/pin"))
            .count()
    }
}

/// As the worker marks them before it pairs and launches.
fn marked(traces: CleanupRecord) -> CleanupRecord {
    CleanupRecord {
        asked: true,
        launched: true,
        ..traces
    }
}

/// Recalls or pairs, as the worker does.
async fn pair(
    body: &SessionBody,
    program: &StreamApi,
    traces: &CleanupRecord,
    seeded: Option<u32>,
    within: Duration,
) -> Result<Paired, PairingError> {
    if let Some(host_id) = seeded
        && body.recalls(program, host_id, within).await?
    {
        let fresh = false;
        return Ok(Paired { host_id, fresh });
    }
    let _hold = body.hold(within).await?;
    let (_stopper, stop) = exec::stop();
    let paired = body.pair(program, traces, within, &stop).await;
    if paired.is_err() {
        body.drop_pairing(program.user()).await;
    }
    paired
}

/// The `data.json` that a session starts with when an identity is kept.
fn seeded(kept: &ClientIdentity, generation: ConfigFormat) -> serde_json::Value {
    let mut settings = testing::settings(8_080);
    settings.seed = Some(Seed {
        client_unique_id: kept.unique_id().to_owned(),
        host: kept.host(),
    });
    let program = testing::program(generation);
    settings.render(&program).data.unwrap()
}
