//! How often an address may do something: a bucket for each, and one for all of them together.
//!
//! Pure: time is an argument. Uses nothing of ours.
//!
//! ```
//! # use std::time::{Duration, Instant};
//! # use forge::allowance::{Allowance, Rate};
//! let twice_a_minute = Rate { times: 2, period: Duration::from_secs(60) };
//! let mut allowance = Allowance::new(twice_a_minute, Rate { times: 100, ..twice_a_minute });
//! let (address, now) = ([127, 0, 0, 1].into(), Instant::now());
//! assert_eq!((allowance.take(address, now), allowance.take(address, now)), (Ok(()), Ok(())));
//! assert_eq!(allowance.take(address, now), Err(Duration::from_secs(30)));
//! ```

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Addresses that are remembered; whoever comes when all are taken shares the bucket of all.
const ADDRESSES_MAX: usize = 4096;

/// So many times at once, refilled evenly over the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Above zero.
    pub times: u32,
    /// Above zero.
    pub period: Duration,
}

impl Rate {
    /// The time that one takes.
    fn step(self) -> Duration {
        self.period / self.times.max(1)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Allowance {
    each: Rate,
    all: Rate,
    /// When each address's bucket is full again; who is not here has a full one.
    full_at: HashMap<IpAddr, Instant>,
    all_full_at: Option<Instant>,
}

impl Allowance {
    /// `each` for one IPv4 address or IPv6 /64, `all` for all of them together.
    pub fn new(each: Rate, all: Rate) -> Self {
        Self { each, all, full_at: HashMap::new(), all_full_at: None }
    }

    /// How long `address` must wait before it may again; `None`: it may now.
    pub fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let each = wait(self.full_at.get(&network(address)).copied(), self.each, now);
        let all = wait(self.all_full_at, self.all, now);
        each.max(all)
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long to wait before there is one.
    pub fn take(&mut self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        if let Some(wait) = self.wait(address, now) {
            return Err(wait);
        }
        let address = network(address);
        if self.full_at.len() >= ADDRESSES_MAX {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        if self.full_at.len() < ADDRESSES_MAX || self.full_at.contains_key(&address) {
            let full_at = self.full_at.entry(address).or_insert(now);
            *full_at = (*full_at).max(now) + self.each.step();
        }
        self.all_full_at = Some(self.all_full_at.map_or(now, |full_at| full_at.max(now)) + self.all.step());
        Ok(())
    }
}

/// How long until a bucket that is full at `full_at` has room for one more.
fn wait(full_at: Option<Instant>, rate: Rate, now: Instant) -> Option<Duration> {
    let after = full_at?.saturating_duration_since(now) + rate.step();
    after.checked_sub(rate.step() * rate.times.max(1)).filter(|wait| !wait.is_zero())
}

/// One subscriber has a whole IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn who_waits_as_told_may_again() {
        let (each, all) = (Rate { times: 3, period: MINUTE }, Rate { times: 1000, period: MINUTE });
        let mut allowance = Allowance::new(each, all);
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut now = Instant::now();
        for _ in 0..3 {
            assert_eq!(allowance.take(one, now), Ok(()));
        }
        for _ in 0..5 {
            let wait = allowance.take(one, now).unwrap_err();
            assert_eq!(allowance.take(other, now), Ok(()));
            assert!(allowance.take(one, now + wait - Duration::from_nanos(1)).is_err());
            now += wait;
            assert_eq!(allowance.take(one, now), Ok(()));
        }
    }

    #[test]
    fn a_network_is_one_and_all_have_a_bound() {
        let rate = Rate { times: 1, period: MINUTE };
        let mut allowance = Allowance::new(rate, Rate { times: 2, period: MINUTE });
        let now = Instant::now();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(allowance.take(address("2001:db8::1"), now), Ok(()));
        assert!(allowance.take(address("2001:db8::ffff"), now).is_err());
        assert_eq!(allowance.take(address("2001:db8:0:1::1"), now), Ok(()));
        assert!(allowance.take(address("192.0.2.1"), now).is_err());
        let mut allowance = Allowance::new(rate, Rate { times: u32::MAX, period: MINUTE });
        for n in 0..10_000_u32 {
            assert_eq!(allowance.take(IpAddr::V4(n.into()), now), Ok(()));
        }
        assert!(allowance.full_at.len() <= ADDRESSES_MAX);
    }
}
