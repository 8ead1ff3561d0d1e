//! The proxy path alone, for measuring: `proxy LISTEN UPSTREAM [--tls CERTIFICATE KEY] [SNIPPET]`.
//!
//! Every request to `LISTEN` is forwarded to `UPSTREAM`; HTML documents get `SNIPPET` after
//! `<head>`. Ends with the process.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hydraneckwebrtc::testing::exec;
use hydraneckwebrtc::testing::http::client::Client;
use hydraneckwebrtc::testing::http::server::{
    Certificates, ConnectionLimits, Listener, Service, listen_address,
};
use hydraneckwebrtc::testing::http::{Done, Exchange};
use hydraneckwebrtc::testing::proxy::{Policy, Proxy, Upstream};
use hydraneckwebrtc::testing::tls::{self, Trust};

struct Through {
    proxy: Proxy,
    upstream: Upstream,
    policy: Policy,
}

#[async_trait]
impl Service for Through {
    async fn serve(&self, exchange: Exchange) -> Done {
        self.proxy
            .forward(exchange, &self.upstream, &self.policy)
            .await
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, rest @ ..] = &words[..] else {
        return Err("usage: proxy LISTEN UPSTREAM [--tls CERTIFICATE KEY] [SNIPPET]".into());
    };
    let (tls, rest) = match rest {
        [tls, certificate, key, rest @ ..] if tls == "--tls" => {
            let config = tls::server(Path::new(certificate), Path::new(key))?;
            (Some(Certificates::new(config)), rest)
        }
        _ => (None, rest),
    };
    hydraneckwebrtc::testing::log::init(
        log::LevelFilter::Warn,
        hydraneckwebrtc::testing::log::Format::default(),
    );
    let mut listener = Listener::bind(listen_address(listen)?)?;
    if let Some(certificates) = tls {
        listener = listener.with_tls(certificates);
    }
    let service = Arc::new(Through {
        proxy: Proxy::new(Client::new(&Trust::WebPki)?),
        upstream: Upstream::Address(upstream.parse()?),
        policy: Policy {
            set: vec![("x-forwarded-user", "session-1".to_owned())],
            snippet: rest.first().map(|s| Arc::from(s.as_str())),
            ..Policy::default()
        },
    });
    let (_stopper, stop) = exec::stop();
    let admission = ConnectionLimits {
        total: 50_000,
        per_address: 50_000,
    };
    exec::block_on(listener.serve(service, admission, stop, Duration::ZERO));
    Ok(())
}
