//! Whole decisions: many holders, many tasks, days that end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::config::{LimitKind, LimitSet};

const DAY_MS: u64 = 86_400_000;

fn limits_of(json: &str) -> LimitSet {
    serde_json::from_str(json).unwrap()
}

fn claimed<'a>(kind: HolderKind, name: &'a str, json: &str) -> Claimed<'a> {
    Claimed { kind, id: name, name, limits: limits_of(json) }
}

fn claim<'a>(json: &str) -> Claim<'a> {
    Claim::new([claimed(HolderKind::Key, "k", json)], Cost::default())
}

fn tokens(input_tokens: u64, output_tokens: u64) -> Cost {
    Cost { input_tokens, output_tokens, microusd: 0 }
}

fn at(ms: u64) -> Now {
    Now { mono_ms: ms, unix_ms: 20_000 * DAY_MS + ms }
}

/// Reserves when it is `now`, and leaves the clock there.
fn reserve_at(limits: &Limits, claim: &Claim<'_>, now: Now) -> Result<Reservation, Denied> {
    *limits.clock.set.lock() = Some(now);
    futures::executor::block_on(limits.reserve(claim.clone()))
}

fn refused(result: Result<Reservation, Denied>) -> (HolderKind, LimitKind, u64) {
    match result.unwrap_err() {
        Denied::Limit { limit, holder, wait_ms, .. } => (holder, limit.kind, wait_ms),
        Denied::Full => panic!("full"),
    }
}

#[test]
fn all_limits_are_taken_or_none() {
    let limits = Limits::new();
    let both = |cost| {
        let key = claimed(HolderKind::Key, "k", r#"{"rpm": 100, "tpm": 1000}"#);
        Claim::new([key, claimed(HolderKind::Global, "g", r#"{"rpm": 3}"#)], cost)
    };
    reserve_at(&limits, &both(tokens(100, 100)), at(0)).unwrap().settle(tokens(100, 100));
    // Tokens are short: no request is counted, neither for the key nor for the gateway.
    assert_eq!(refused(reserve_at(&limits, &both(tokens(801, 0)), at(0))), (HolderKind::Key, LimitKind::Tpm, 60));
    for _ in 0..2 {
        reserve_at(&limits, &both(tokens(1, 0)), at(0)).unwrap().settle(tokens(1, 0));
    }
    // Both are short: the longer wait is the one that is told.
    let denied = refused(reserve_at(&limits, &both(tokens(900, 0)), at(0)));
    assert_eq!(denied, (HolderKind::Global, LimitKind::Rpm, 20_000));
    let current = limits.current(&both(Cost::default()));
    assert_eq!(current.len(), 3);
}

#[test]
fn a_settled_reservation_counts_what_it_cost_and_a_dropped_one_nothing_but_the_request() {
    let limits = Limits::new();
    let claim =
        |cost| super::tests::claim(r#"{"rpm": 10, "tpm": 1000, "budget": "1 USD/day", "concurrent": 2}"#).costing(cost);
    let cost = Cost { input_tokens: 300, output_tokens: 300, microusd: 600_000 };
    let first = reserve_at(&limits, &claim(cost), at(0)).unwrap();
    assert_eq!(first.standing().tokens.unwrap().remaining, 400);
    assert_eq!(refused(reserve_at(&limits, &claim(cost), at(0))).1, LimitKind::SpendDay);
    drop(first);
    let second = reserve_at(&limits, &claim(cost), at(0)).unwrap();
    assert_eq!((second.standing().requests.unwrap().remaining, second.standing().tokens.unwrap().remaining), (8, 400));
    // Into debt: the next waits until it is paid off.
    second.settle(tokens(1_500, 0));
    assert_eq!(refused(reserve_at(&limits, &claim(tokens(100, 0)), at(0))), (HolderKind::Key, LimitKind::Tpm, 36_000));
    reserve_at(&limits, &claim(tokens(100, 0)), at(36_000)).unwrap().settle(Cost::default());
}

#[test]
fn slots_are_given_back() {
    let limits = Limits::new();
    let claim = claim(r#"{"concurrent": 2}"#);
    let (one, two) = (reserve_at(&limits, &claim, at(0)).unwrap(), reserve_at(&limits, &claim, at(0)).unwrap());
    assert_eq!(refused(reserve_at(&limits, &claim, at(0))).1, LimitKind::Concurrent);
    drop(one);
    let three = reserve_at(&limits, &claim, at(0)).unwrap();
    assert!(reserve_at(&limits, &claim, at(0)).is_err());
    two.settle(Cost::default());
    drop(three);
    limits.sweep();
    assert_eq!(limits.table.all().len(), 0, "nothing is left to count");
}

#[test]
fn days_and_months_end_at_midnight_utc_and_what_is_under_way_counts_where_it_ends() {
    let limits = Limits::new();
    let claim = |cost| super::tests::claim(r#"{"tpd": 1000, "rpd": 3}"#).costing(cost);
    let late = reserve_at(&limits, &claim(tokens(600, 0)), at(DAY_MS - 2_000)).unwrap();
    let denied = refused(reserve_at(&limits, &claim(tokens(600, 0)), at(DAY_MS - 2_000)));
    assert_eq!(denied, (HolderKind::Key, LimitKind::Tpd, 2_000));
    // As long as the first is under way it holds its tokens, on the new day too.
    assert!(reserve_at(&limits, &claim(tokens(600, 0)), at(DAY_MS)).is_err());
    late.settle(tokens(300, 0));
    reserve_at(&limits, &claim(tokens(600, 0)), at(DAY_MS)).unwrap().settle(tokens(700, 0));
    assert_eq!(refused(reserve_at(&limits, &claim(tokens(1, 0)), at(DAY_MS + 1))).2, DAY_MS - 1);
}

#[test]
fn counts_of_days_outlive_the_process() {
    let json = r#"{"rpm": 50, "rpd": 2, "budget": "10 USD/month"}"#;
    let first = Limits::new();
    let cost = Cost { microusd: 9_000_000, ..Cost::default() };
    let priced = claim(json).costing(cost);
    reserve_at(&first, &priced, at(0)).unwrap().settle(cost);
    let under_way = reserve_at(&first, &claim(json), at(0)).unwrap();
    let saved = first.unsaved();
    assert_eq!(saved.len(), 2);
    assert!(saved.iter().any(|count| count.kind == LimitKind::SpendMonth && count.used == 9_000_000));
    assert!(saved.iter().any(|count| count.kind == LimitKind::Rpd && count.used == 1), "what is under way is not used");
    assert!(first.unsaved().is_empty());
    first.not_saved(&saved);
    assert_eq!(first.unsaved(), saved);
    drop(under_way);

    let second = Limits::new();
    second.restore(saved);
    assert_eq!(refused(reserve_at(&second, &priced, at(1))).1, LimitKind::SpendMonth);
    drop(reserve_at(&second, &claim(json), at(1)).unwrap());
    assert_eq!(refused(reserve_at(&second, &claim(json), at(1))).1, LimitKind::Rpd);
    assert!(reserve_at(&second, &claim(json), at(DAY_MS)).is_ok());
}

#[test]
fn of_64_racing_for_10_exactly_10_get_through() {
    for _ in 0..50 {
        let limits = Arc::new(Limits::new());
        let taken = Arc::new(AtomicU64::new(0));
        let start = Arc::new(std::sync::Barrier::new(64));
        let race = |index: usize| {
            let (limits, taken, start) = (Arc::clone(&limits), Arc::clone(&taken), Arc::clone(&start));
            std::thread::spawn(move || {
                // Under different keys and one gateway, so that the locks of several holders are at stake.
                let key = ["a", "b", "c"][index % 3];
                let holders = [
                    claimed(HolderKind::Key, key, r#"{"rpm": 1000, "tpm": 100k}"#.replace("100k", "100000").as_str()),
                    claimed(HolderKind::Model, "m", r#"{"concurrent": 1000}"#),
                    claimed(HolderKind::Global, "g", r#"{"rpm": 10}"#),
                ];
                let claim = Claim::new(holders, tokens(10, 10));
                start.wait();
                if let Ok(reservation) = reserve_at(&limits, &claim, at(0)) {
                    taken.fetch_add(1, Ordering::Relaxed);
                    reservation.settle(tokens(10, 10));
                }
            })
        };
        let threads: Vec<_> = (0..64).map(race).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(taken.load(Ordering::Relaxed), 10);
    }
}

#[test]
fn names_of_holders_are_kept_apart() {
    let limits = Limits::new();
    let of = |kind, name| Claim::new([claimed(kind, name, r#"{"rpm": 1}"#)], Cost::default());
    for (kind, name) in [(HolderKind::Key, "a"), (HolderKind::Team, "a"), (HolderKind::Key, "b")] {
        assert!(reserve_at(&limits, &of(kind, name), at(0)).is_ok(), "{kind:?} {name}");
        assert!(reserve_at(&limits, &of(kind, name), at(0)).is_err(), "{kind:?} {name}");
    }
    let twice = [claimed(HolderKind::Key, "c", r#"{"rpm": 5}"#), claimed(HolderKind::Key, "c", r#"{"rpm": 2}"#)];
    assert_eq!(Claim::new(twice, Cost::default()).holders()[0].limits, limits_of(r#"{"rpm": 2}"#));
}

#[test]
fn typical_answers_follow_the_model() {
    let typical = Typical::default();
    assert_eq!(typical.output_tokens("m", 500), 500);
    typical.answered("m", 80);
    assert_eq!(typical.output_tokens("m", 500), 80);
    (0..100).for_each(|_| typical.answered("m", 1_000));
    assert!((990..=1_000).contains(&typical.output_tokens("m", 500)));
    typical.retain(|_| false);
    assert_eq!(typical.output_tokens("m", 500), 500);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// At any interleaving of reservations, settlements and drops: what was really used in any window keeps to burst
    /// and rate as long as estimates hold, and a client that waits as told is let through.
    #[test]
    fn any_interleaving_keeps_to_the_limits(
        steps in prop::collection::vec((0u64..8_000, 1u64..400, 0usize..4, 0u64..=100), 1..150),
    ) {
        let limits = Limits::new();
        let amount = 1_000;
        let claim = |cost| super::tests::claim(r#"{"tpm": 1000, "concurrent": 8}"#).costing(cost);
        let (mut now, mut open, mut used) = (0, Vec::new(), Vec::new());
        for (gap, cost, end, percent) in steps {
            now += gap;
            match reserve_at(&limits, &claim(tokens(cost, 0)), at(now)) {
                Ok(reservation) => open.push((now, cost, reservation)),
                Err(Denied::Limit { wait_ms, limit, .. }) if limit.kind == LimitKind::Tpm => {
                    now += wait_ms;
                    let next = reserve_at(&limits, &claim(tokens(cost, 0)), at(now));
                    prop_assert!(next.is_ok() || open.len() == 8);
                    next.into_iter().for_each(|reservation| open.push((now, cost, reservation)));
                }
                Err(_) => prop_assert_eq!(open.len(), 8),
            }
            if end < open.len() {
                let (from, cost, reservation) = open.swap_remove(end);
                let actual = cost * percent / 100;
                if percent == 0 { drop(reservation) } else { reservation.settle(tokens(actual, 0)) }
                used.push((from, actual));
            }
        }
        used.extend(open.iter().map(|(from, cost, _)| (*from, *cost)));
        used.sort_unstable();
        for (first, &(from, _)) in used.iter().enumerate() {
            let mut sum = 0;
            for &(until, actual) in &used[first..] {
                sum += actual;
                prop_assert!(sum * 60_000 <= amount * 60_000 + (until - from) * amount);
            }
        }
    }
}

#[test]
fn a_key_comes_under_everyone_above_it() {
    use crate::config::{EchoModel, Holder, Key, Model, Pick, Retry, Snapshot, Tier, Timeouts};
    let tier = Tier {
        name: "free".into(),
        models: vec![],
        limits: limits_of(r#"{"rpm": 20, "tpm": 500}"#),
        shared: limits_of(r#"{"rpm": 1000}"#),
        files: crate::config::FileLimits::default(),
    };
    let team = Holder { kind: HolderKind::Team, id: "team_1".into(), name: "blue".into() };
    let key = Key {
        limits: limits_of(r#"{"rpm": 5, "tpm": 900}"#),
        holders: vec![(team, limits_of(r#"{"rpm": 3}"#))],
        ..Key::of_routes("k", Arc::new(tier))
    };
    let snapshot = Snapshot { limits: limits_of(r#"{"concurrent": 9}"#), ..Snapshot::default() };
    let model = Model {
        name: "m".into(),
        to: vec![],
        fallback: vec![],
        pick: Pick::default(),
        timeouts: Timeouts::default(),
        retry: Retry::default(),
        hold: crate::config::DEFAULT_HOLD,
        echo_model: EchoModel::default(),
        owned_by: "x".into(),
        limits: limits_of(r#"{"rpd": 7}"#),
    };
    let claim = Claim::of(&snapshot, &key, &model);
    let held: Vec<_> = claim.holders().iter().map(|held| (held.kind, held.id, held.limits.iter().count())).collect();
    let expected = [
        (HolderKind::Global, "", 1),
        (HolderKind::Model, "m", 1),
        (HolderKind::Tier, "free", 1),
        (HolderKind::Team, "team_1", 1),
        (HolderKind::Key, "static:k", 2),
    ];
    assert_eq!(held, expected);
    assert_eq!(claim.holders()[4].limits, limits_of(r#"{"rpm": 5, "tpm": 500}"#));
}
