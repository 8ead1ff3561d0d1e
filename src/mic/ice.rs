//! ICE of one peer (RFC 8445), sans-IO.
//!
//! The agent is ICE-lite (section 2.5) and is given no remote candidates: it answers connectivity
//! checks that carry its password, and sends to no other address.

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

/// Most validated remote addresses: the current path and those the browser moved from.
const VALIDATED_MAX: usize = 8;
/// Most remote addresses whose checks are answered: more than a browser has with all its networks
/// and relays.
const CANDIDATES_MAX: usize = 32;
/// Time without a check after which the browser counts as disconnected, unless it sends media.
/// Firefox sends a check every four to six seconds.
const DISCONNECTED: Duration = Duration::from_secs(8);

/// The ICE agent of the only component.
pub(super) struct IceAgent {
    agent: Agent,
    local: SocketAddr,
    candidate: String,
    /// Remote addresses that sent a check with the agent's password.
    validated: Vec<SocketAddr>,
}

impl IceAgent {
    /// An agent at `local` that waits for the browser's checks.
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
            // Disabled: the peer decides, since it knows whether media arrives.
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
        // The lite side is always controlled (RFC 8445, section 6.1.1).
        agent.start_connectivity_checks(now, false, offer.ufrag.clone(), offer.pwd.clone())?;
        Ok(Self {
            agent,
            local,
            candidate: written,
            validated: Vec::new(),
        })
    }

    /// The user name fragment and the password for checks.
    pub(super) fn credentials(&self) -> (&str, &str) {
        let own = self.agent.get_local_credentials();
        (&own.ufrag, &own.pwd)
    }

    /// The candidate, in the form of the answer.
    pub(super) fn candidate(&self) -> &str {
        &self.candidate
    }

    /// Handles a received STUN message. Invalid messages are ignored: anyone can send them.
    pub(super) fn receive(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
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

    /// Whether `from` has sent a check with the right password.
    pub(super) fn is_validated(&self, from: SocketAddr) -> bool {
        self.validated.contains(&from)
    }

    /// The remote address of the nominated pair.
    pub(super) fn remote(&self) -> Option<SocketAddr> {
        let (_, remote) = self.agent.get_selected_candidate_pair()?;
        Some(remote.addr())
    }

    /// Whether checks have stopped, or never succeeded.
    pub(super) fn is_disconnected(&self) -> bool {
        matches!(
            self.agent.state(),
            ConnectionState::Disconnected | ConnectionState::Failed | ConnectionState::Closed
        )
    }

    /// Handles expired timers.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if self.next_timeout().is_some_and(|at| at <= now) {
            self.agent.handle_timeout(now)?;
        }
        // Events are not needed: the state is read instead.
        while self.agent.poll_event().is_some() {}
        Ok(())
    }

    /// When [`Self::handle_timeout`] must be called next.
    pub(super) fn next_timeout(&mut self) -> Option<Instant> {
        self.agent.poll_timeout()
    }

    /// The next message to send, and its destination, which is validated: the agent answers only
    /// checks with the right password.
    pub(super) fn poll_transmit(&mut self) -> Option<(BytesMut, SocketAddr)> {
        let message = self.agent.poll_write()?;
        let to = message.transport.peer_addr;
        self.add_validated(to);
        Some((message.message, to))
    }

    /// Accepts DTLS and SRTP from an address.
    pub(super) fn add_validated(&mut self, from: SocketAddr) {
        if !self.validated.contains(&from) {
            if self.validated.len() == VALIDATED_MAX {
                self.validated.remove(0);
            }
            self.validated.push(from);
        }
    }
}

/// Whether a message is a check of the controlling side or a response. The library would act on
/// others (role conflicts, indications) before it verifies the password.
fn is_check(datagram: &[u8]) -> bool {
    let mut message = Message {
        raw: datagram.to_vec(),
        ..Default::default()
    };
    message.decode().is_ok()
        && [CLASS_REQUEST, CLASS_SUCCESS_RESPONSE].contains(&message.typ.class)
        && !message.contains(ATTR_ICE_CONTROLLED)
}
