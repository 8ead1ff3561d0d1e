//! The path: ICE of one peer, sans IO.
//!
//! It is the lite side (RFC 8445, section 2.5) and knows no remote candidate: it answers checks
//! that carry its password, and speaks to nobody else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::crypto::RTCCryptoProvider;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::ice::state::ConnectionState;
use rtc::ice::{
    Agent, AgentConfig,
    candidate::{CandidateConfig, CandidateType, candidate_host::CandidateHostConfig},
};
use rtc::sansio::Protocol as _;
use rtc::shared::error::Error;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use rtc::stun::attributes::ATTR_ICE_CONTROLLED;
use rtc::stun::message::{CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, Message};

use super::sdp_offer::SdpOffer;

/// Remote addresses that may speak DTLS and SRTP: one path, and those it moved to.
const PATHS_MAX: usize = 8;
/// Remote addresses whose checks are answered: what a browser's relays and networks come to.
const CANDIDATES_MAX: usize = 32;
/// A browser that has not checked for this long is lost, unless it is heard: Firefox checks every
/// four to six seconds.
const DISCONNECTED: Duration = Duration::from_secs(8);

/// One component's ICE agent.
pub(super) struct IceAgent {
    agent: Agent,
    local: SocketAddr,
    candidate: String,
    /// Addresses that the agent answered: their checks carried its password.
    welcome: Vec<SocketAddr>,
}

impl IceAgent {
    /// An agent on `local` that waits for the browser's checks.
    pub(super) fn new(
        offer: &SdpOffer,
        local: SocketAddr,
        provider: Arc<dyn RTCCryptoProvider>,
        now: Instant,
    ) -> Result<Self, Error> {
        let config = AgentConfig {
            lite: true,
            candidate_types: vec![CandidateType::Host],
            multicast_dns_mode: MulticastDnsMode::Disabled,
            disconnected_timeout: Some(DISCONNECTED),
            // Never on its own: the peer knows whether anything is heard.
            failed_timeout: Some(Duration::ZERO),
            ..Default::default()
        };
        let mut agent = Agent::new(now, Arc::new(config), provider)?;
        let candidate = CandidateHostConfig {
            base_config: CandidateConfig {
                network: "udp".to_owned(),
                address: local.ip().to_string(),
                port: local.port(),
                component: 1,
                ..Default::default()
            },
            ..Default::default()
        };
        let candidate = candidate.new_candidate_host()?;
        let written = candidate.marshal();
        agent.add_local_candidate(candidate)?;
        // The lite side never controls (RFC 8445, section 6.1.1).
        agent.start_connectivity_checks(now, false, offer.ufrag.clone(), offer.pwd.clone())?;
        Ok(Self {
            agent,
            local,
            candidate: written,
            welcome: Vec::new(),
        })
    }

    /// The user name fragment and the password that checks must carry.
    pub(super) fn credentials(&self) -> (&str, &str) {
        let own = self.agent.get_local_credentials();
        (&own.ufrag, &own.pwd)
    }

    /// The candidate as the answer names it.
    pub(super) fn candidate(&self) -> &str {
        &self.candidate
    }

    /// Takes a STUN message. Garbage of a stranger is no reason to end.
    pub(super) fn take(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        if !is_check(datagram) {
            return;
        }
        let known = self.agent.get_remote_candidates();
        if known.len() >= CANDIDATES_MAX && !known.iter().any(|c| c.addr() == from) {
            return;
        }
        let _ = self.agent.handle_read(TaggedBytesMut {
            now,
            transport: TransportContext {
                local_addr: self.local,
                peer_addr: from,
                transport_protocol: TransportProtocol::UDP,
                ecn: None,
            },
            message: BytesMut::from(datagram),
        });
    }

    /// Whether `from` has proved that it knows the password.
    pub(super) fn admits(&self, from: SocketAddr) -> bool {
        self.welcome.contains(&from)
    }

    /// Where the browser has nominated to be spoken to.
    pub(super) fn remote(&self) -> Option<SocketAddr> {
        let (_, remote) = self.agent.get_selected_candidate_pair()?;
        Some(remote.addr())
    }

    /// Whether the browser has stopped checking, or checks never succeeded.
    pub(super) fn is_lost(&self) -> bool {
        matches!(
            self.agent.state(),
            ConnectionState::Disconnected | ConnectionState::Failed | ConnectionState::Closed
        )
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), Error> {
        if self.due().is_some_and(|due| due <= now) {
            self.agent.handle_timeout(now)?;
        }
        // The state says all that the events do.
        while self.agent.poll_event().is_some() {}
        Ok(())
    }

    /// When it must be ticked next.
    pub(super) fn due(&mut self) -> Option<Instant> {
        self.agent.poll_timeout()
    }

    /// The next message to send, and where.
    pub(super) fn said(&mut self) -> Option<(BytesMut, SocketAddr)> {
        let message = self.agent.poll_write()?;
        let to = message.transport.peer_addr;
        self.welcome(to);
        Some((message.message, to))
    }

    /// Lets an address speak DTLS and SRTP.
    pub(super) fn welcome(&mut self, from: SocketAddr) {
        if !self.welcome.contains(&from) {
            if self.welcome.len() == PATHS_MAX {
                self.welcome.remove(0);
            }
            self.welcome.push(from);
        }
    }
}

/// Whether it is a check of the controlling side, or an answer to one of ours. The agent would act
/// on others before it has seen a password: a role conflict, an indication.
fn is_check(datagram: &[u8]) -> bool {
    let mut message = Message {
        raw: datagram.to_vec(),
        ..Default::default()
    };
    message.decode().is_ok()
        && [CLASS_REQUEST, CLASS_SUCCESS_RESPONSE].contains(&message.typ.class)
        && !message.contains(ATTR_ICE_CONTROLLED)
}
