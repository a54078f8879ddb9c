//! How many secrets are looked up in the store a second, in all and for one address: guesses cost the database
//! little, and one who guesses leaves room for others.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// In all: 1000 a second. As much may come at once as in one second.
const EACH_US: u64 = 1_000;
/// For one IPv4 address or IPv6 /64: 250 a second.
const EACH_OF_ADDRESS_US: u64 = 4_000;
const BURST_US: u64 = 1_000_000;
/// Addresses share these by a keyed hash.
const SLOTS: usize = 1024;

/// The two bounds.
pub struct Flood {
    start: Instant,
    all: Bucket,
    addresses: Box<[Bucket]>,
    hasher: RandomState,
}

impl Default for Flood {
    fn default() -> Self {
        let addresses = (0..SLOTS).map(|_| Bucket::default()).collect();
        Self { start: Instant::now(), all: Bucket::default(), addresses, hasher: RandomState::new() }
    }
}

impl Flood {
    /// Whether one more may be looked up now for who comes from `address`.
    pub fn admits(&self, address: Option<IpAddr>) -> bool {
        let now_us = self.start.elapsed().as_micros() as u64;
        let slot = self.hasher.hash_one(address.map(network)) as usize % SLOTS;
        self.addresses[slot].admits(now_us, EACH_OF_ADDRESS_US) && self.all.admits(now_us, EACH_US)
    }
}

/// Who an address is, as far as many addresses are one's own: the address itself, or the /64 of IPv6.
fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

/// The generic cell rate algorithm (ITU-T I.371, annex A): when the next would be due if all came evenly.
#[derive(Default)]
struct Bucket(AtomicU64);

impl Bucket {
    fn admits(&self, now_us: u64, each_us: u64) -> bool {
        let next = |due_us: u64| {
            let due_us = due_us.max(now_us);
            (due_us - now_us < BURST_US).then_some(due_us + each_us)
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_at_once_and_then_the_rate() {
        let bucket = Bucket::default();
        let admitted = |now_us| (0..5_000).filter(|_| bucket.admits(now_us, EACH_US)).count();
        assert_eq!(admitted(0), 1_000);
        assert_eq!(admitted(10_000), 10);
        assert_eq!(admitted(20_000_000), 1_000, "not more after a pause");
    }

    #[test]
    fn one_who_guesses_leaves_room() {
        let flood = Flood::default();
        let guesser: IpAddr = "203.0.113.9".parse().unwrap();
        let admitted = (0..5_000).filter(|_| flood.admits(Some(guesser))).count();
        assert!((250..400).contains(&admitted), "{admitted}");
        assert!(flood.admits(Some("198.51.100.1".parse().unwrap())));
    }

    #[test]
    fn a_site_of_ipv6_is_one() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
    }
}
