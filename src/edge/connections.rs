//! How many connections clients may have open, in all and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::ClientConf;
use crate::metrics;

/// Descriptors for everything that is no client or provider connection: listeners, files, the admin pages.
const DESCRIPTORS_RESERVED: u64 = 128;
/// Enough for any machine that nobody has tuned.
const DEFAULT_MAX: u64 = 100_000;

/// The bounds in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub max: u64,
    /// From one IPv4 address or IPv6 /64.
    pub per_address_max: u64,
}

impl ConnectionLimits {
    /// The bounds of conf/forge.yaml; what it leaves out follows from how many descriptors the process may open.
    pub fn of(conf: &ClientConf, descriptors: u64) -> Self {
        let derived = (descriptors.saturating_sub(DESCRIPTORS_RESERVED) / 2).clamp(16, DEFAULT_MAX);
        let max = conf.connections_max.unwrap_or(derived);
        let per_address_max = conf.connections_per_address_max.unwrap_or(max.div_ceil(4) * 3).min(max);
        Self { max, per_address_max }
    }
}

/// Raises the process's limit on open descriptors as far as it may, and returns it.
pub fn raise_descriptor_limit() -> u64 {
    const MODEST: u64 = 1024;
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        log::warn!("the limit on open files cannot be raised: {error}");
        MODEST
    })
}

/// The connections that are open.
#[derive(Debug)]
pub(super) struct Connections {
    limits: ConnectionLimits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: u64,
    by_address: HashMap<IpAddr, u64>,
}

/// A place among the open connections; given back by drop.
#[derive(Debug)]
pub(super) struct Permit {
    connections: Arc<Connections>,
    address: Option<IpAddr>,
    _gauge: metrics::Held,
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default() })
    }

    /// A place for a connection from `address`; `None` when a bound is reached. A connection without an address
    /// (a Unix socket) counts only in all.
    pub(super) fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Permit> {
        let address = address.map(network);
        let mut open = self.open.lock();
        if open.all >= self.limits.max {
            return None;
        }
        if let Some(address) = address {
            let count = open.by_address.entry(address).or_default();
            if *count >= self.limits.per_address_max {
                return None;
            }
            *count += 1;
        }
        open.all += 1;
        drop(open);
        Some(Permit { connections: Arc::clone(self), address, _gauge: metrics::hold_connection() })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.all -= 1;
        if let Some(address) = self.address
            && let Some(count) = open.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

/// What one client can easily have many of counts as one: all of an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn rule_21_bounds_hold_in_all_and_per_address_and_places_come_back() {
        let connections = Connections::new(ConnectionLimits { max: 3, per_address_max: 2 });
        let first = connections.admit(ip("10.0.0.1")).unwrap();
        let _second = connections.admit(ip("::ffff:10.0.0.1")).unwrap();
        assert!(connections.admit(ip("10.0.0.1")).is_none(), "per address, mapped ones included");
        let third = connections.admit(ip("2001:db8::1")).unwrap();
        assert!(connections.admit(ip("10.0.0.2")).is_none(), "in all");
        drop(third);
        let _fourth = connections.admit(ip("2001:db8::2")).unwrap();
        drop(first);
        let _fifth = connections.admit(ip("2001:db8::ffff")).unwrap();
        assert!(connections.admit(None).is_none());
        assert_eq!(connections.open.lock().by_address.len(), 2);
    }

    #[test]
    fn the_default_follows_the_descriptor_limit() {
        let conf = ClientConf::default();
        assert_eq!(ConnectionLimits::of(&conf, 20_128), ConnectionLimits { max: 10_000, per_address_max: 7_500 });
        assert_eq!(ConnectionLimits::of(&conf, 64).max, 16);
        assert_eq!(ConnectionLimits::of(&conf, u64::MAX).max, 100_000);
        let conf = ClientConf { connections_max: Some(5), connections_per_address_max: Some(9), ..conf };
        assert_eq!(ConnectionLimits::of(&conf, 64), ConnectionLimits { max: 5, per_address_max: 5 });
    }
}
