//! Which addresses a connection may go to. A hub's redirect may lead to another host, but not into
//! the network behind this machine: that is how a hostile mirror would reach it.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ureq::{
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

/// Where an address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    Public,
    Private,
    Loopback,
    /// Link-local (cloud metadata among them), multicast, unspecified: nobody's hub.
    Never,
}

impl Zone {
    /// The zone of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(it) => Self::of_v4(it),
            IpAddr::V6(it) => match embedded_v4(it) {
                Some(it) => Self::of_v4(it),
                None => Self::of_v6(it),
            },
        }
    }

    fn of_v4(it: Ipv4Addr) -> Self {
        let [a, b, ..] = it.octets();
        match (a, b) {
            (127, _) => Self::Loopback,
            _ if it.is_private() => Self::Private,
            // Carrier-grade NAT; benchmarking.
            (100, 64..=127) | (198, 18..=19) => Self::Private,
            (0, _) | (169, 254) | (224..=255, _) => Self::Never,
            _ => Self::Public,
        }
    }

    fn of_v6(it: Ipv6Addr) -> Self {
        match it.segments()[0] {
            _ if it.is_loopback() => Self::Loopback,
            _ if it.is_unspecified() || it.is_multicast() => Self::Never,
            0xfc00..=0xfdff => Self::Private,
            0xfe80..=0xfebf => Self::Never,
            _ => Self::Public,
        }
    }
}

/// The IPv4 address that an IPv6 one stands for: mapped, or behind NAT64.
fn embedded_v4(it: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = it.segments();
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => {
            let ([p, q], [r, s]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(p, q, r, s))
        }
        _ => None,
    }
}

/// Looks up names, and refuses addresses that a redirect may not lead to. It works on the addresses
/// that will be connected to, so a name that changes its mind gains nothing.
#[derive(Debug)]
pub struct GuardedResolver {
    inner: DefaultResolver,
    /// The hub itself, and the proxy: whoever runs this program chose them.
    trusted: Vec<Uri>,
}

impl GuardedResolver {
    /// A resolver for which these hosts are trusted; the first is the hub.
    pub fn new(trusted: Vec<Uri>) -> Self {
        Self { inner: DefaultResolver::default(), trusted }
    }

    fn is_trusted(&self, uri: &Uri) -> bool {
        self.trusted.iter().any(|it| it.host() == uri.host())
    }

    fn hub_is_in(&self, zone: Zone, config: &Config, timeout: NextTimeout) -> bool {
        let Some(hub) = self.trusted.first() else { return false };
        let Ok(addresses) = self.inner.resolve(hub, config, timeout) else { return false };
        addresses.iter().any(|it| Zone::of(it.ip()) == zone)
    }
}

impl Resolver for GuardedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let addresses = self.inner.resolve(uri, config, timeout)?;
        if self.is_trusted(uri) {
            return Ok(addresses);
        }
        for address in addresses.iter() {
            let allowed = match Zone::of(address.ip()) {
                Zone::Public => true,
                Zone::Never => false,
                // A hub inside a company's network may have its files beside it.
                zone => self.hub_is_in(zone, config, timeout),
            };
            if !allowed {
                return Err(ureq::Error::Io(io::Error::other(RefusedAddress(address.ip()))));
            }
        }
        Ok(addresses)
    }
}

/// The reason inside the error of a refused connection.
#[derive(Debug)]
pub struct RefusedAddress(pub IpAddr);

impl fmt::Display for RefusedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is an address inside a network", self.0)
    }
}

impl std::error::Error for RefusedAddress {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_of_addresses() {
        let of = |text: &str| text.parse().map(Zone::of);
        for text in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(text), Ok(Zone::Loopback), "{text}");
        }
        for text in ["10.0.0.1", "192.168.1.1", "172.16.0.9", "100.64.0.1", "fd00::1"] {
            assert_eq!(of(text), Ok(Zone::Private), "{text}");
        }
        for text in [
            "169.254.169.254",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "fe80::1",
            "::",
            "ff02::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
        ] {
            assert_eq!(of(text), Ok(Zone::Never), "{text}");
        }
        for text in ["1.1.1.1", "2606:4700::1111", "172.32.0.1"] {
            assert_eq!(of(text), Ok(Zone::Public), "{text}");
        }
    }
}
