//! What integration tests, benchmarks and fuzz targets use of the inside of this crate.
//!
//! Everything else is private to the crate, so that the compiler finds code that nobody calls. This
//! is no stable interface: a name is here because a test needs it, and leaves with the test.

/// Whether a test finds on the machine what it needs: root's rights, or a tool. By hand a test that
/// does not is skipped, with a line that says so.
///
/// # Panics
/// In CI (`CI=true`), where nobody would see that the test was skipped.
#[track_caller]
pub fn has(need: &str, is_met: bool) -> bool {
    if !is_met {
        let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(
            !is_ci,
            "this test needs {need}, and in CI no test is skipped"
        );
        eprintln!("skipped: this test needs {need}");
    }
    is_met
}

pub mod clock {
    //! The clock.
    pub use crate::clock::{now, sleep, wall};
}

pub mod config {
    //! The configuration.
    pub use crate::config::{Config, Etcd, Role};
}

pub mod controller {
    //! The controller, and the fleet as it knows it.
    pub use crate::controller::Controller;

    pub mod fleet {
        //! The registry of workers.
        pub use crate::controller::fleet::{Fleet, HeartbeatTiming};
    }

    pub mod placement {
        //! The choice of a worker.
        pub use crate::controller::placement::Placement;
    }
}

pub mod dashboard {
    //! The shapes of the operators' page.
    pub use crate::dashboard::{Board, Page, SessionRow};
}

#[cfg(feature = "demo")]
pub mod demo {
    //! The doubles.

    pub mod body {
        //! The double of a body.
        pub use crate::demo::body::{BodyOptions, DemoBody, Faults};
    }
}

pub mod etcd {
    //! The client of the store.
    pub use crate::etcd::{EtcdClient, EtcdError, Txn, WatchEvent};
}

pub mod exec {
    //! The executor.
    pub use crate::exec::{block_on, spawn, stop};
}

pub mod http {
    //! The server and client of JSON APIs.
    pub use crate::http::{Done, Exchange, Reply};

    pub mod auth {
        //! Authentication by bearer token.
        pub use crate::http::auth::Bearer;
    }

    pub mod client {
        //! The client.
        pub use crate::http::client::Client;
    }

    pub mod openapi {
        //! The API's description.
        pub use crate::http::openapi::DOCUMENT;
    }

    pub mod router {
        //! The router.
        pub use crate::http::router::Router;
    }

    pub mod server {
        //! The server.
        pub use crate::http::server::{
            Api, Certificates, ConnectionLimits, Listener, Service, listen_address,
        };
    }
}

pub mod ids {
    //! Identifiers.
    pub use crate::ids::{SessionId, label};
}

pub mod log {
    //! Log lines.
    pub use crate::log::{Format, init};
}

pub mod mic {
    //! The microphone.
    pub use crate::mic::{MicSettings, Microphones};

    pub mod sdp_offer {
        //! What a browser offers.
        pub use crate::mic::sdp_offer::{SdpOffer, without_addresses};
    }

    pub mod rtp_rewriter {
        //! RTP on its way to the body.
        pub use crate::mic::rtp_rewriter::{Rewrite, RtpHeader, RtpRewriter};
    }
}

pub mod protocol {
    //! What roles and clients tell each other.
    pub use crate::protocol::{
        CreateSession, Created, EndReason, ErrorBody, Health, Heartbeat, HeartbeatReply, PageStats,
        Phase, SessionView, Status, WorkerSessions, WorkerView,
    };
}

pub mod proxy {
    //! The proxy.
    pub use crate::proxy::{Policy, Proxy, Upstream};

    pub mod inject {
        //! The script tag in HTML responses.
        pub use crate::proxy::inject::Injector;
    }
}

pub mod secret {
    //! Secrets.
    pub use crate::secret::Secret;
}

pub mod tls {
    //! TLS.
    pub use crate::tls::{Fingerprint, Trust, client, server};
}

pub mod turn {
    //! TURN credentials.
    pub use crate::turn::mint;
}

pub mod worker {
    //! The worker.
    pub use crate::worker::Worker;
}
