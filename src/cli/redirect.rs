//! Port 80 of a domain: everything is at HTTPS.

use async_trait::async_trait;

use crate::http::server::Service;
use crate::http::{Done, Exchange, Reply};

/// Sends every request to the same place under HTTPS.
#[derive(Debug)]
pub(super) struct Redirect {
    /// Base URL without a trailing slash.
    pub(super) base: String,
}

#[async_trait]
impl Service for Redirect {
    async fn serve(&self, exchange: Exchange) -> Done {
        let (path, query) = (exchange.head.path(), exchange.head.query());
        let query = query.map(|q| format!("?{q}")).unwrap_or_default();
        let to = format!("{}{path}{query}", self.base);
        // 308 keeps method and content.
        let reply = Reply::empty(308).header("Location", to);
        exchange.answer(reply).await
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::exec;
    use crate::http::server::{ConnectionLimits, Listener};

    #[test]
    fn every_path_moves_to_https_and_the_host_field_has_no_say() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (_stopper, stop) = exec::stop();
        let service = Arc::new(Redirect {
            base: "https://neck.test".into(),
        });
        exec::spawn(listener.serve(service, ConnectionLimits::default(), stop, Duration::ZERO))
            .detach();
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .write_all(
                b"GET /session/a?b=c HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n",
            )
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
        let wanted = "location: https://neck.test/session/a?b=c\r\n";
        assert!(answer.to_ascii_lowercase().contains(wanted), "{answer}");
    }
}
