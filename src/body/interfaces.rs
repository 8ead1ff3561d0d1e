//! Reads what the kernel says of this machine's interfaces.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;
use nix::sys::socket::SockaddrStorage;

use super::allowlist::Machine;

/// Shortest prefix of a route that names a network of bodies: shorter ones send the internet
/// through the tunnel.
const ROUTE_PREFIX_MIN: u8 = 8;

/// This machine now. What cannot be read is left out and logged: the check of addresses is then
/// stricter about WireGuard networks, and laxer about own addresses.
#[must_use]
pub(crate) fn read() -> Machine {
    let mut machine = Machine::default();
    let interfaces = match nix::ifaddrs::getifaddrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            log::warn!(target: "worker", "cannot list network interfaces: {error}");
            return machine;
        }
    };
    for interface in interfaces {
        let name = interface.interface_name;
        let up = interface
            .flags
            .contains(nix::net::if_::InterfaceFlags::IFF_UP);
        let wireguard = up && is_wireguard(Path::new("/sys/class/net"), &name);
        if wireguard && !machine.wireguard.contains(&name) {
            machine.wireguard.push(name);
        }
        let Some(ip) = interface.address.as_ref().and_then(ip) else {
            continue;
        };
        machine.addresses.push(ip);
        let mask = interface.netmask.as_ref().and_then(self::ip);
        if wireguard && let Some(network) = mask.and_then(|mask| IpNet::with_netmask(ip, mask).ok())
        {
            machine.wireguard_networks.push(network.trunc());
        }
    }
    let table = |path| fs::read_to_string(path).unwrap_or_default();
    let routes = routes_v4(&table("/proc/net/route"))
        .chain(routes_v6(&table("/proc/net/ipv6_route")))
        .filter(|(name, network)| {
            network.prefix_len() >= ROUTE_PREFIX_MIN && machine.wireguard.contains(name)
        })
        .map(|(_, network)| network)
        .collect::<Vec<_>>();
    machine.wireguard_networks.extend(routes);
    machine
}

/// Where WireGuard programs outside of the kernel listen for `wg`, one socket an interface.
const USER_SPACE_SOCKETS: &str = "/var/run/wireguard";

/// The kernel's own word for the type of an interface; an interface that a program in user space
/// drives has another type, and a control socket.
fn is_wireguard(class: &Path, name: &str) -> bool {
    fs::read_to_string(class.join(name).join("uevent"))
        .is_ok_and(|text| text.lines().any(|l| l == "DEVTYPE=wireguard"))
        || Path::new(USER_SPACE_SOCKETS)
            .join(format!("{name}.sock"))
            .exists()
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
}

/// Lines of `/proc/net/route`: interface, destination, gateway, flags, three counts, mask;
/// addresses in hexadecimal as the machine keeps them in memory.
fn routes_v4(table: &str) -> impl Iterator<Item = (String, IpNet)> + '_ {
    table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let name = columns.next()?;
        let address = |hex: &str| {
            let bits = u32::from_str_radix(hex, 16).ok()?;
            Some(Ipv4Addr::from(bits.to_ne_bytes()))
        };
        let destination = address(columns.next()?)?;
        let mask = address(columns.nth(5)?)?;
        let network = IpNet::with_netmask(destination.into(), mask.into()).ok()?;
        Some((name.to_owned(), network))
    })
}

/// Lines of `/proc/net/ipv6_route`: destination, prefix length, then more, the interface last.
fn routes_v6(table: &str) -> impl Iterator<Item = (String, IpNet)> + '_ {
    table.lines().filter_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let bits = u128::from_str_radix(columns.next()?, 16).ok()?;
        let prefix = u8::from_str_radix(columns.next()?, 16).ok()?;
        let network = IpNet::new(Ipv6Addr::from_bits(bits).into(), prefix).ok()?;
        // Link-local and multicast routes exist on every interface and name no bodies.
        let special = network.addr().is_multicast() || bits >> 118 == 0xfe80 >> 6;
        (!special).then(|| Some((columns.last()?.to_owned(), network)))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_the_own_addresses() {
        assert!(read().addresses.contains(&Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn routes_are_read_from_the_kernels_tables() {
        let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                  wg0\t00640A0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\nbroken line\n";
        let expected = ("wg0".to_owned(), "10.10.100.0/24".parse().unwrap());
        assert_eq!(routes_v4(v4).collect::<Vec<_>>(), [expected]);
        let zero = "0".repeat(32);
        let v6 = format!(
            "fd120000000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     wg0\n\
             fe800000000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     wg0\n"
        );
        let expected = ("wg0".to_owned(), "fd12::/64".parse().unwrap());
        assert_eq!(routes_v6(&v6).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn the_kernel_names_wireguard_interfaces() {
        let class = std::env::temp_dir().join(format!("neck-class-{}", crate::ids::label()));
        for (name, uevent) in [
            ("wg0", "DEVTYPE=wireguard\nINTERFACE=wg0\n"),
            ("eth0", "INTERFACE=eth0\n"),
        ] {
            fs::create_dir_all(class.join(name)).unwrap();
            fs::write(class.join(name).join("uevent"), uevent).unwrap();
        }
        assert!(is_wireguard(&class, "wg0"));
        assert!(!is_wireguard(&class, "eth0") && !is_wireguard(&class, "none"));
        fs::remove_dir_all(&class).unwrap();
    }
}
