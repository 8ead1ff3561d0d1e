//! coturn: a real allocation with a fresh credential, and the proof that foreign peers are
//! refused.
//!
//! The client side of RFC 8656 over UDP, as far as a check needs it: allocate, ask for
//! permissions, give back.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use rtc::crypto::RTCCryptoProvider as _;
use rtc::crypto::providers::RingProvider;
use rtc::stun::attributes::{
    ATTR_LIFETIME, ATTR_NONCE, ATTR_REALM, ATTR_REQUESTED_TRANSPORT, ATTR_USERNAME,
    ATTR_XOR_PEER_ADDRESS, ATTR_XOR_RELAYED_ADDRESS, AttrType,
};
use rtc::stun::error_code::ErrorCodeAttribute;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{
    CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, Getter as _, METHOD_ALLOCATE, METHOD_BINDING,
    METHOD_CREATE_PERMISSION, METHOD_REFRESH, Message, MessageType, Method, Setter as _,
};
use rtc::stun::xoraddr::XorMappedAddress;
use smol::net::UdpSocket;

use super::Finding;
use crate::clock;
use crate::config::Config;
use crate::http::client;
use crate::secret::Secret;
use crate::turn::mint;

const CHECK: &str = "turn";
/// Waits for an answer, one a try: RFC 8489 doubles from 500 ms; a relay is near.
const WAITS: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_millis(1_000),
    Duration::from_millis(1_500),
];
/// An address that belongs to nobody (TEST-NET-2, RFC 5737).
const FOREIGN: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
/// REQUESTED-TRANSPORT: UDP.
const UDP: [u8; 4] = [17, 0, 0, 0];
/// RFC 8656, section 18: the peer address may not be reached.
const FORBIDDEN: u16 = 403;
/// The port that permissions are asked for; permissions are by address alone.
const ANY_PORT: u16 = 9;

/// Why a relay is no use.
#[derive(Debug)]
enum TurnError {
    Address(String),
    Malformed(String),
    Refused(u16, String),
    Silent,
    Socket(std::io::Error),
}

impl fmt::Display for TurnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(why) => f.write_str(why),
            Self::Malformed(why) => write!(f, "its answer cannot be read: {why}"),
            Self::Refused(code, reason) => write!(f, "it refuses with {code} {reason}"),
            Self::Silent => f.write_str("no answer"),
            Self::Socket(error) => write!(f, "{error}"),
        }
    }
}

/// A user of a relay.
struct User {
    name: String,
    password: Secret,
}

/// Every relay that the configuration names.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(turn) = &config.turn {
        let minted = mint(&turn.secret, "doctor", clock::wall(), turn.ttl);
        for url in &turn.urls {
            let user = User {
                name: minted.username.clone(),
                password: minted.password.clone(),
            };
            findings.extend(look(url, Some(user)).await);
        }
    }
    for server in &config.ice_servers {
        for url in &server.urls {
            let pair = server.username.clone().zip(server.credential.clone());
            let user = pair.map(|(name, password)| User { name, password });
            findings.extend(look(url, user).await);
        }
    }
    if findings.is_empty() {
        findings.push(Finding::warn(
            CHECK,
            "no relay is configured",
            "set turn.secret_file and turn.urls: visitors behind strict networks need one",
        ));
    }
    findings
}

async fn look(url: &str, user: Option<User>) -> Vec<Finding> {
    let Some((host, port, is_turn)) = parse(url) else {
        let what = format!("{url}: only UDP without TLS is tried here");
        return vec![Finding::ok(CHECK, what)];
    };
    let mut client = match Client::open(&host, port).await {
        Ok(client) => client,
        Err(error) => {
            let remedy = "check the name in turn.urls or ice_servers, and DNS";
            return vec![Finding::fail(CHECK, format!("{url}: {error}"), remedy)];
        }
    };
    if !is_turn {
        return vec![match client.bind().await {
            Ok(()) => Finding::ok("stun", format!("{url} answers")),
            Err(error) => Finding::warn(
                "stun",
                format!("{url}: {error}"),
                "streams go through the relay without it",
            ),
        }];
    }
    let Some(user) = user else {
        return vec![Finding::fail(CHECK, format!("{url}: no credentials"), "")];
    };
    let relayed = match client.allocate(&user).await {
        Ok(relayed) => relayed,
        Err(error) => {
            let remedy = match &error {
                TurnError::Refused(401, _) => {
                    "turn.secret_file must hold coturn's static-auth-secret, and both clocks agree"
                }
                TurnError::Silent => "systemctl start coturn; open its port in the firewall",
                _ => "look at coturn's log",
            };
            return vec![Finding::fail(CHECK, format!("{url}: {error}"), remedy)];
        }
    };
    let mut findings = vec![Finding::ok(CHECK, format!("{url} relays at {relayed}"))];
    findings.push(match client.permit(FOREIGN).await {
        Err(TurnError::Refused(FORBIDDEN, _)) => {
            Finding::ok(CHECK, format!("{url} refuses foreign peers (403)"))
        }
        Ok(()) => Finding::fail(
            CHECK,
            format!("{url} relays to anybody: {FOREIGN} was allowed"),
            "set denied-peer-ip=0.0.0.0-255.255.255.255 and allowed-peer-ip=<own address> in turnserver.conf",
        ),
        Err(error) => Finding::warn(
            CHECK,
            format!("{url}: whether foreign peers are refused is not known: {error}"),
            "look at coturn's log",
        ),
    });
    findings.push(match client.permit(relayed.ip()).await {
        Ok(()) => Finding::ok(CHECK, format!("{url} relays to itself")),
        Err(error) => Finding::fail(
            CHECK,
            format!("{url} does not relay to itself: {error}"),
            format!("set allowed-peer-ip={} in turnserver.conf", relayed.ip()),
        ),
    });
    client.release().await;
    findings
}

/// Host, port and whether it is TURN; `None` for what goes over TCP or TLS.
fn parse(url: &str) -> Option<(String, u16, bool)> {
    let (rest, is_turn) = match url.split_once(':')? {
        ("turn", rest) => (rest, true),
        ("stun", rest) => (rest, false),
        _ => return None,
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if query.contains("transport=tcp") {
        return None;
    }
    let split = place.rsplit_once(':').filter(|(host, port)| {
        // A bare IPv6 address has colons of its own.
        (!host.contains(':') || host.ends_with(']')) && port.bytes().all(|b| b.is_ascii_digit())
    });
    let (host, port) = match split {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (place, 3478),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    Some((bare.to_owned(), port, is_turn))
}

/// What a relay's 401 told, and the key made of it.
struct Known {
    name: String,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: Vec<u8>,
}

struct Client {
    socket: UdpSocket,
    known: Option<Known>,
}

impl Client {
    async fn open(host: &str, port: u16) -> Result<Self, TurnError> {
        let at = resolve(host, port).await?;
        let any: SocketAddr = match at {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any).await.map_err(TurnError::Socket)?;
        socket.connect(at).await.map_err(TurnError::Socket)?;
        Ok(Self {
            socket,
            known: None,
        })
    }

    async fn bind(&mut self) -> Result<(), TurnError> {
        let outcome = self.request(METHOD_BINDING, &[], None).await;
        outcome.map(|_| ()).map_err(|(error, _)| error)
    }

    /// The relayed address.
    async fn allocate(&mut self, user: &User) -> Result<SocketAddr, TurnError> {
        let transport = [(ATTR_REQUESTED_TRANSPORT, UDP.to_vec())];
        let answer = match self.request(METHOD_ALLOCATE, &transport, None).await {
            Err((TurnError::Refused(401, _), Some(answer))) => {
                self.known = Some(learn(user, &answer)?);
                self.request(METHOD_ALLOCATE, &transport, None)
                    .await
                    .map_err(|(error, _)| error)?
            }
            Err((error, _)) => return Err(error),
            Ok(_) => {
                let why = "it relays without asking who one is";
                return Err(TurnError::Malformed(why.to_owned()));
            }
        };
        let mut relayed = XorMappedAddress::default();
        relayed
            .get_from_as(&answer, ATTR_XOR_RELAYED_ADDRESS)
            .map_err(|e| TurnError::Malformed(e.to_string()))?;
        Ok((relayed.ip, relayed.port).into())
    }

    async fn permit(&mut self, peer: IpAddr) -> Result<(), TurnError> {
        let outcome = self
            .request(METHOD_CREATE_PERMISSION, &[], Some(peer))
            .await;
        outcome.map(|_| ()).map_err(|(error, _)| error)
    }

    /// Gives the allocation back; it would end by itself in ten minutes.
    async fn release(&mut self) {
        let lifetime = [(ATTR_LIFETIME, vec![0; 4])];
        let _ = self.request(METHOD_REFRESH, &lifetime, None).await;
    }

    async fn request(
        &mut self,
        method: Method,
        attributes: &[(AttrType, Vec<u8>)],
        peer: Option<IpAddr>,
    ) -> Result<Message, (TurnError, Option<Message>)> {
        let message = self
            .compose(method, attributes, peer)
            .map_err(|why| (TurnError::Malformed(why), None))?;
        self.ask(message)
            .await
            .map_err(|error| (error, None))
            .and_then(judge)
    }

    fn compose(
        &self,
        method: Method,
        attributes: &[(AttrType, Vec<u8>)],
        peer: Option<IpAddr>,
    ) -> Result<Message, String> {
        let mut message = Message::new();
        message.set_type(MessageType::new(method, CLASS_REQUEST));
        message.new_transaction_id().map_err(|e| e.to_string())?;
        message.write_header();
        for (kind, value) in attributes {
            message.add(*kind, value);
        }
        if let Some(ip) = peer {
            let address = XorMappedAddress { ip, port: ANY_PORT };
            address
                .add_to_as(&mut message, ATTR_XOR_PEER_ADDRESS)
                .map_err(|e| e.to_string())?;
        }
        if let Some(known) = &self.known {
            message.add(ATTR_USERNAME, known.name.as_bytes());
            message.add(ATTR_REALM, &known.realm);
            message.add(ATTR_NONCE, &known.nonce);
            let provider = RingProvider::new();
            let integrity = MessageIntegrity::new_raw_integrity_with_provider(
                known.key.clone(),
                provider.crypto(),
            );
            integrity.add_to(&mut message).map_err(|e| e.to_string())?;
        }
        Ok(message)
    }

    /// Sends until an answer comes.
    async fn ask(&self, message: Message) -> Result<Message, TurnError> {
        let mut buffer = [0; 1500];
        for wait in WAITS {
            let deadline = clock::now() + wait;
            match clock::by(deadline, self.exchange(&message, &mut buffer)).await {
                Ok(Ok(answer)) => return Ok(answer),
                // Nothing listens, as the kernel heard; it may in a moment.
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    clock::until(deadline).await;
                }
                Ok(Err(error)) => return Err(TurnError::Socket(error)),
                Err(_) => {}
            }
        }
        Err(TurnError::Silent)
    }

    async fn exchange(&self, message: &Message, buffer: &mut [u8]) -> std::io::Result<Message> {
        self.socket.send(&message.raw).await?;
        loop {
            let n = self.socket.recv(buffer).await?;
            let mut answer = Message::new();
            let read = answer.unmarshal_binary(&buffer[..n]);
            if read.is_ok() && answer.transaction_id == message.transaction_id {
                return Ok(answer);
            }
        }
    }
}

fn judge(answer: Message) -> Result<Message, (TurnError, Option<Message>)> {
    if answer.typ.class == CLASS_SUCCESS_RESPONSE {
        return Ok(answer);
    }
    let mut code = ErrorCodeAttribute::default();
    let error = match code.get_from(&answer) {
        Ok(()) => {
            let reason = String::from_utf8_lossy(&code.reason).into_owned();
            TurnError::Refused(code.code.0, reason)
        }
        Err(error) => TurnError::Malformed(error.to_string()),
    };
    Err((error, Some(answer)))
}

fn learn(user: &User, answer: &Message) -> Result<Known, TurnError> {
    let malformed = |e: rtc::shared::error::Error| TurnError::Malformed(e.to_string());
    let realm = answer.get(ATTR_REALM).map_err(malformed)?;
    let nonce = answer.get(ATTR_NONCE).map_err(malformed)?;
    let provider = RingProvider::new();
    let key = MessageIntegrity::long_term_integrity_key(
        user.name.clone(),
        String::from_utf8_lossy(&realm).into_owned(),
        user.password.expose().to_owned(),
        provider.crypto(),
    );
    Ok(Known {
        name: user.name.clone(),
        realm,
        nonce,
        key: key.map_err(malformed)?,
    })
}

async fn resolve(host: &str, port: u16) -> Result<SocketAddr, TurnError> {
    let found = smol::net::resolve((host, port)).await;
    let found = found.map_err(|e| {
        TurnError::Address(client::ClientError::Resolve(host.to_owned(), e).to_string())
    })?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| TurnError::Address(format!("{host} has no address")))
}

#[cfg(test)]
#[path = "turn_tests.rs"]
mod tests;
