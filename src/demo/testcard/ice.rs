//! Where a streamer listens, and which candidates it tells the browser.
//!
//! The stack below binds what it is given and announces what it bound; port range, public
//! address, loopback and relay policy are decided here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::settings::{Nat, NatType, NetworkType, PortRange, WebRtc};

/// The addresses to bind. A wildcard stands for every interface but loopback.
pub(super) fn addresses(webrtc: &WebRtc, port: u16) -> Vec<SocketAddr> {
    let mut out = Vec::new();
    let mut family = |wanted, everywhere: IpAddr, loopback: IpAddr| {
        if webrtc.network_types.contains(&wanted) {
            // Loopback first: on a machine with nothing else the wildcard binds as such and
            // would keep loopback's port.
            if webrtc.include_loopback_candidates {
                out.push(SocketAddr::new(loopback, port));
            }
            out.push(SocketAddr::new(everywhere, port));
        }
    };
    family(
        NetworkType::Udp4,
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv4Addr::LOCALHOST.into(),
    );
    family(
        NetworkType::Udp6,
        Ipv6Addr::UNSPECIFIED.into(),
        Ipv6Addr::LOCALHOST.into(),
    );
    out
}

/// A free port of the range, 0 (any) without one, `None` when all are taken.
///
/// Between this look and the binding another streamer may take the port; streamers start at
/// different places in the range to make that rare.
pub(super) fn free_port(range: Option<PortRange>, start: u16) -> Option<u16> {
    let Some(PortRange { min, max }) = range else {
        return Some(0);
    };
    let size = u32::from(max.checked_sub(min)?) + 1;
    (0..size)
        .filter_map(|n| u16::try_from(u32::from(min) + (u32::from(start) + n) % size).ok())
        .find(|&port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok())
}

/// The candidates to tell the browser in the place of `candidate`: none, itself, or others.
pub(super) fn announced(webrtc: &WebRtc, candidate: &str) -> Vec<String> {
    let Some(parsed) = Candidate::parse(candidate) else {
        return Vec::new();
    };
    if parsed.ip.is_unspecified() || (webrtc.relay_only && parsed.kind != "relay") {
        return Vec::new();
    }
    match &webrtc.nat_1to1 {
        Some(nat) if parsed.kind == "host" && !parsed.ip.is_loopback() => {
            translated(nat, candidate, &parsed)
        }
        _ => vec![candidate.to_owned()],
    }
}

/// Whether this combination can never produce an answer in the original, which then stays
/// silent: a 1:1 mapping needs host candidates, and `relay_only` forbids them.
pub(super) fn is_contradiction(webrtc: &WebRtc) -> bool {
    webrtc.relay_only && webrtc.nat_1to1.is_some()
}

/// A description without its candidates: they are trickled, after the rules above.
pub(super) fn without_candidates(sdp: &str) -> String {
    sdp.split_inclusive('\n')
        .filter(|line| {
            !line.starts_with("a=candidate:") && !line.starts_with("a=end-of-candidates")
        })
        .collect()
}

/// The parts of an RFC 8839 candidate line that matter here.
struct Candidate<'a> {
    fields: Vec<&'a str>,
    ip: IpAddr,
    kind: &'a str,
}

impl<'a> Candidate<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let ip = fields.get(4)?.parse().ok()?;
        let kind = match (fields.get(6), fields.get(7)) {
            (Some(&"typ"), Some(kind)) => *kind,
            _ => return None,
        };
        Some(Self { fields, ip, kind })
    }

    /// The same candidate at another address.
    fn at(&self, ip: IpAddr) -> String {
        let ip = ip.to_string();
        let mut fields = self.fields.clone();
        fields[4] = &ip;
        fields.join(" ")
    }
}

fn translated(nat: &Nat, line: &str, parsed: &Candidate<'_>) -> Vec<String> {
    let same_family = |ip: &&IpAddr| ip.is_ipv4() == parsed.ip.is_ipv4();
    let Some(public) = nat.ips.iter().find(same_family) else {
        return vec![line.to_owned()];
    };
    match nat.ice_candidate_type {
        NatType::Host => vec![parsed.at(*public)],
        NatType::Srflx => {
            let mapped = parsed.at(*public).replace(" typ host", " typ srflx");
            let base = format!("raddr {} rport {}", parsed.ip, parsed.fields[5]);
            vec![line.to_owned(), format!("{mapped} {base}")]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "candidate:1 1 udp 2130706431 10.0.0.5 40001 typ host";
    const RELAY: &str = "candidate:2 1 udp 1 192.0.2.9 50000 typ relay raddr 10.0.0.5 rport 40001";

    fn nat(kind: NatType) -> WebRtc {
        let ips = vec!["2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        let ice_candidate_type = kind;
        WebRtc {
            nat_1to1: Some(Nat {
                ips,
                ice_candidate_type,
            }),
            ..WebRtc::default()
        }
    }

    #[test]
    fn candidates_are_announced_as_the_policy_says() {
        let open = WebRtc::default();
        assert_eq!(announced(&open, HOST), [HOST]);
        let relay_only = WebRtc {
            relay_only: true,
            ..WebRtc::default()
        };
        assert!(announced(&relay_only, HOST).is_empty());
        assert_eq!(announced(&relay_only, RELAY), [RELAY]);
        assert_eq!(
            announced(&nat(NatType::Host), HOST),
            ["candidate:1 1 udp 2130706431 192.0.2.1 40001 typ host"]
        );
        assert_eq!(
            announced(&nat(NatType::Srflx), HOST)[1],
            "candidate:1 1 udp 2130706431 192.0.2.1 40001 typ srflx raddr 10.0.0.5 rport 40001"
        );
        let loopback = HOST.replace("10.0.0.5", "127.0.0.1");
        assert_eq!(announced(&nat(NatType::Host), &loopback), [loopback]);
        for useless in ["", "candidate:1", &HOST.replace("10.0.0.5", "0.0.0.0")] {
            assert!(announced(&open, useless).is_empty());
        }
    }

    #[test]
    fn a_port_is_taken_from_the_range_and_a_full_range_says_so() {
        assert_eq!(free_port(None, 7), Some(0));
        let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let only = PortRange {
            min: port,
            max: port,
        };
        assert_eq!(free_port(Some(only), 3), None);
        drop(taken);
        assert_eq!(free_port(Some(only), 3), Some(port));
        assert_eq!(free_port(Some(PortRange { min: 9, max: 8 }), 0), None);
    }

    #[test]
    fn families_and_loopback_are_bound_as_configured() {
        let closed = WebRtc {
            network_types: vec![NetworkType::Udp4],
            include_loopback_candidates: false,
            ..WebRtc::default()
        };
        assert_eq!(
            addresses(&closed, 40001),
            [SocketAddr::from(([0, 0, 0, 0], 40001))]
        );
        assert_eq!(addresses(&WebRtc::default(), 0).len(), 4);
    }

    #[test]
    fn a_description_loses_its_candidates_and_nothing_else() {
        let sdp = "v=0\r\na=candidate:1 1 udp 1 10.0.0.5 1 typ host\r\na=mid:0\r\na=end-of-candidates\r\n";
        assert_eq!(without_candidates(sdp), "v=0\r\na=mid:0\r\n");
    }
}
