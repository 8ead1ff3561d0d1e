//! Calling JSON APIs of peers: one connection a call, everything bounded and timed.

mod answer;
mod dial;
mod error;
mod outgoing;

use std::io;
use std::sync::Arc;

use http_types::{Method, Url};
use rustls::ClientConfig;

pub(crate) use self::answer::{Answer, Incoming};
pub(crate) use self::dial::{CONNECT, dial};
pub(crate) use self::error::ClientError;
pub(crate) use self::outgoing::Outgoing;
use self::outgoing::encode;
use crate::clock;
use crate::tls::{self, Trust};
use crate::wire::{Conn, HeadError, HeadLimits, MessageBody, framing};

/// Interim responses that are skipped before a final one.
const INTERIM_MAX: usize = 8;

/// Calls peers, all with the same trust. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    tls: Arc<ClientConfig>,
}

impl Client {
    /// A client with that trust.
    ///
    /// # Errors
    /// [`ClientError::Setup`] when the CA file cannot be used.
    pub fn new(trust: &Trust) -> Result<Self, ClientError> {
        Ok(Self {
            tls: tls::client(trust).map_err(ClientError::Setup)?,
        })
    }

    /// A client over that TLS configuration.
    #[must_use]
    pub fn over(tls: Arc<ClientConfig>) -> Self {
        Self { tls }
    }

    /// Calls and reads the whole answer.
    ///
    /// # Errors
    /// See [`ClientError`]. An answer with an error status is an answer.
    pub async fn send(&self, call: Outgoing) -> Result<Answer, ClientError> {
        let within = call.within;
        let work = async { self.start(call).await?.whole(within).await };
        clock::by(clock::now() + within, work)
            .await
            .unwrap_or(Err(ClientError::Timeout(within)))
    }

    /// Calls and reads the head of the answer; the content comes later.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn open(&self, call: Outgoing) -> Result<Incoming, ClientError> {
        let within = call.within;
        clock::by(clock::now() + within, self.start(call))
            .await
            .unwrap_or(Err(ClientError::Timeout(within)))
    }

    async fn start(&self, call: Outgoing) -> Result<Incoming, ClientError> {
        let url = Url::parse(&call.url).map_err(|_| ClientError::Url(call.url.clone()))?;
        let head = encode(&call, url.clone()).await?;
        let mut conn = Conn::new(self.connect(&url).await?);
        conn.write_all(&head, call.within)
            .await
            .map_err(ClientError::Io)?;
        for _ in 0..INTERIM_MAX {
            let head = match conn.read_response(&HeadLimits::RESPONSE, call.within).await {
                Ok(Some(head)) => head,
                Ok(None) => return Err(ClientError::Io(io::ErrorKind::UnexpectedEof.into())),
                Err(HeadError::Io(error)) => return Err(ClientError::Io(error)),
                Err(HeadError::Refused(why)) => return Err(ClientError::Protocol(why.to_string())),
                Err(HeadError::Timeout) => return Err(ClientError::Timeout(call.within)),
            };
            if head.status < 200 {
                continue;
            }
            let to_head = call.method == Method::Head;
            let framing = framing::of_response(&head.fields, head.version, head.status, to_head)
                .map_err(|why| ClientError::Protocol(why.to_string()))?;
            return Ok(Incoming {
                status: head.status,
                fields: head.fields,
                conn,
                body: MessageBody::new(framing),
                line: Vec::new(),
            });
        }
        Err(ClientError::Protocol("only interim responses".into()))
    }
}
