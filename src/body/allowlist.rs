//! Which addresses may be bodies, so that the API is no way to reach other machines.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What the machine says of its own interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Addresses of every interface.
    pub addresses: Vec<IpAddr>,
    /// Names of WireGuard interfaces that are up.
    pub wireguard: Vec<String>,
    /// Networks behind them: of their addresses and of the routes through them.
    pub wireguard_networks: Vec<IpNet>,
}

/// The address may not be a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forbidden {
    /// The address, canonical.
    pub ip: IpAddr,
    why: &'static str,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ip, why } = self;
        write!(
            f,
            "body_ip {ip} {why}; if it is a body, list it in bodies.allowed_networks"
        )
    }
}

impl std::error::Error for Forbidden {}

/// Addresses that may be bodies.
#[derive(Clone, Debug)]
pub(crate) struct Allowed {
    configured: Vec<IpNet>,
    networks: Vec<IpNet>,
    own: Vec<IpAddr>,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6(bits: u128, prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), prefix))
}

/// Private networks of RFC 1918.
const PRIVATE: [IpNet; 3] = [
    v4(10, 0, 0, 0, 8),
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
];

/// Ranges in which no body lives (RFC 6890 and the metadata addresses of clouds). They open only
/// to a configured network that lies inside the range: a wide one does not mean them.
const SPECIAL: [(&str, IpNet); 17] = [
    ("is the unspecified network", v4(0, 0, 0, 0, 8)),
    ("is a loopback address", v4(127, 0, 0, 0, 8)),
    ("is a cloud's metadata address", v4(169, 254, 169, 254, 32)),
    ("is a cloud's metadata address", v4(100, 100, 100, 200, 32)),
    ("is a cloud's metadata address", v4(192, 0, 0, 192, 32)),
    ("is a link-local address", v4(169, 254, 0, 0, 16)),
    ("is a multicast address", v4(224, 0, 0, 0, 4)),
    ("is a reserved address", v4(240, 0, 0, 0, 4)),
    ("is the unspecified address", v6(0, 128)),
    ("is a loopback address", v6(1, 128)),
    ("carries an IPv4 address", v6(0, 96)),
    ("carries an IPv4 address", v6(0x0064_ff9b << 96, 96)),
    ("carries an IPv4 address", v6(0x2002 << 112, 16)),
    (
        "is a cloud's metadata address",
        v6((0xfd00_0ec2 << 96) | 0x254, 128),
    ),
    ("is a link-local address", v6(0xfe80 << 112, 10)),
    ("is a site-local address", v6(0xfec0 << 112, 10)),
    ("is a multicast address", v6(0xff00 << 112, 8)),
];

impl Allowed {
    /// The configured networks; without any, the private ones and those behind WireGuard.
    #[must_use]
    pub(crate) fn new(configured: &[IpNet], machine: &Machine) -> Self {
        let networks = if configured.is_empty() {
            let behind = machine.wireguard_networks.iter().copied();
            PRIVATE.into_iter().chain(behind).collect()
        } else {
            configured.to_vec()
        };
        let own = machine.addresses.iter().map(IpAddr::to_canonical);
        Self {
            configured: configured.to_vec(),
            networks,
            // Loopback has its own rule.
            own: own.filter(|ip| !ip.is_loopback()).collect(),
        }
    }

    /// The canonical form of an address that may be a body. An IPv4 address in IPv6 clothes is
    /// judged, and returned, as what it is.
    ///
    /// # Errors
    /// [`Forbidden`] names the address and the configuration key.
    pub(crate) fn check(&self, ip: IpAddr) -> Result<IpAddr, Forbidden> {
        let ip = ip.to_canonical();
        let refuse = |why| Err(Forbidden { ip, why });
        if let Some((why, range)) = SPECIAL.iter().find(|(_, range)| range.contains(&ip)) {
            let meant = |n: &IpNet| range.contains(n) && n.contains(&ip);
            return match self.configured.iter().any(meant) {
                true => Ok(ip),
                false => refuse(why),
            };
        }
        if self.own.contains(&ip) {
            return match self.configured.contains(&IpNet::from(ip)) {
                true => Ok(ip),
                false => refuse("is this machine's own address"),
            };
        }
        match self.networks.iter().any(|n| n.contains(&ip)) {
            true => Ok(ip),
            false => refuse("is outside the allowed networks"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            addresses: vec![
                "127.0.0.1".parse().unwrap(),
                "10.0.0.2".parse().unwrap(),
                "fd12::2".parse().unwrap(),
            ],
            wireguard: vec!["wg0".into()],
            wireguard_networks: vec![
                "fd12::/64".parse().unwrap(),
                "100.64.0.0/24".parse().unwrap(),
            ],
        }
    }

    fn allowed(configured: &[&str]) -> Allowed {
        let networks: Vec<IpNet> = configured.iter().map(|n| n.parse().unwrap()).collect();
        Allowed::new(&networks, &machine())
    }

    #[test]
    fn by_default_private_addresses_and_those_behind_wireguard_are_bodies() {
        let allowed = allowed(&[]);
        for good in [
            "10.0.1.50",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.9",
            "fd12::50",
        ] {
            assert_eq!(
                allowed.check(good.parse().unwrap()),
                Ok(good.parse().unwrap())
            );
        }
    }

    #[test]
    fn by_default_nothing_else_is_a_body() {
        let allowed = allowed(&[]);
        for bad in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "8.8.8.8",
            "172.32.0.1",
            "100.64.1.1",
            "10.0.0.2",
            "100.100.100.200",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd12::2",
            "fd13::1",
            "2001:db8::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
        ] {
            let error = allowed.check(bad.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains("bodies.allowed_networks"), "{error}");
        }
    }

    #[test]
    fn a_mapped_address_is_judged_as_the_ipv4_address_it_is() {
        let ip = allowed(&[]).check("::ffff:10.0.1.50".parse().unwrap());
        assert_eq!(ip, Ok("10.0.1.50".parse().unwrap()));
    }

    #[test]
    fn a_configured_list_replaces_the_default() {
        let allowed = allowed(&["10.1.0.0/16", "203.0.113.7/32"]);
        assert!(allowed.check("203.0.113.7".parse().unwrap()).is_ok());
        assert!(allowed.check("10.1.2.3".parse().unwrap()).is_ok());
        assert!(allowed.check("10.2.0.1".parse().unwrap()).is_err());
        assert!(allowed.check("fd12::50".parse().unwrap()).is_err());
    }

    #[test]
    fn special_and_own_addresses_open_only_when_they_are_meant() {
        let wide = allowed(&["0.0.0.0/0", "::/0"]);
        for bad in [
            "127.0.0.1",
            "169.254.169.254",
            "10.0.0.2",
            "::1",
            "224.0.0.1",
        ] {
            assert!(wide.check(bad.parse().unwrap()).is_err(), "{bad}");
        }
        assert!(wide.check("8.8.8.8".parse().unwrap()).is_ok());
        let meant = allowed(&["127.0.0.0/8", "10.0.0.2/32", "169.254.10.0/24"]);
        for good in ["127.0.0.1", "10.0.0.2", "169.254.10.1"] {
            assert!(meant.check(good.parse().unwrap()).is_ok(), "{good}");
        }
        assert!(meant.check("169.254.169.254".parse().unwrap()).is_err());
    }
}
