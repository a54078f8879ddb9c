//! Simulations: every pick against a crowd of requests, the same for the same seeds.

use std::collections::HashMap;

use super::*;

/// Targets that hold each request for some rounds.
struct Crowd {
    candidates: Vec<Candidate>,
    /// Rounds until an answer.
    service: Vec<usize>,
    /// When what is in flight ends, by target.
    ends: Vec<Vec<usize>>,
    served: Vec<usize>,
    round: usize,
}

impl Crowd {
    fn new(targets: &[(u32, usize)]) -> Self {
        let candidate = |(index, (weight, _)): (usize, &(u32, usize))| Candidate {
            id: Id::of(("target", index)),
            weight: *weight,
            seen: Seen::default(),
        };
        Self {
            candidates: targets.iter().enumerate().map(candidate).collect(),
            service: targets.iter().map(|(_, rounds)| *rounds).collect(),
            ends: vec![Vec::new(); targets.len()],
            served: vec![0; targets.len()],
            round: 0,
        }
    }

    /// One request; where it went.
    fn send(&mut self, pick: Pick, chance: Chance) -> usize {
        let order = order(pick, &self.candidates, chance);
        let mut whole = order.clone();
        whole.sort_unstable();
        assert_eq!(whole, (0..self.candidates.len()).collect::<Vec<_>>(), "every target is in the order once");
        let target = order[0];
        self.served[target] += 1;
        self.candidates[target].seen.in_flight += 1;
        self.ends[target].push(self.round + self.service[target]);
        target
    }

    fn next_round(&mut self) {
        self.round += 1;
        for (index, ends) in self.ends.iter_mut().enumerate() {
            let before = ends.len();
            ends.retain(|end| *end > self.round);
            let seen = &mut self.candidates[index].seen;
            seen.in_flight = ends.len() as u32;
            if ends.len() < before {
                seen.latency = Some(self.service[index] as f64);
            }
        }
    }

    /// So many rounds of so many requests, each a conversation of its own.
    fn run(&mut self, pick: Pick, (rounds, requests): (usize, usize)) {
        let mut seeds = fastrand::Rng::with_seed(7);
        for _ in 0..rounds {
            for _ in 0..requests {
                self.send(pick, Chance { seed: seeds.u64(..), conversation: seeds.u64(..) });
            }
            self.next_round();
        }
    }

    fn share(&self, target: usize) -> f64 {
        self.served[target] as f64 / self.served.iter().sum::<usize>() as f64
    }
}

#[test]
fn weights_give_shares() {
    let mut crowd = Crowd::new(&[(8, 1), (2, 1)]);
    crowd.run(Pick::Weighted, (1000, 10));
    assert!((0.78..0.82).contains(&crowd.share(0)), "{}", crowd.share(0));
}

#[test]
fn alike_targets_get_alike_shares() {
    for pick in [Pick::Weighted, Pick::LeastBusy, Pick::P2c, Pick::Prefix] {
        let mut crowd = Crowd::new(&[(1, 3); 5]);
        crowd.run(pick, (2000, 5));
        for target in 0..5 {
            assert!((0.17..0.23).contains(&crowd.share(target)), "{pick:?}: {:?}", crowd.served);
        }
    }
}

#[test]
fn least_busy_keeps_what_is_in_flight_within_one_of_each_other() {
    let mut crowd = Crowd::new(&[(1, 7); 6]);
    let mut seeds = fastrand::Rng::with_seed(3);
    for _ in 0..5000 {
        crowd.send(Pick::LeastBusy, Chance { seed: seeds.u64(..), conversation: 0 });
        let in_flight = crowd.candidates.iter().map(|candidate| candidate.seen.in_flight);
        let (least, most) = (in_flight.clone().min().unwrap(), in_flight.max().unwrap());
        assert!(most - least <= 1, "{least} to {most}");
    }
    let mut weighted = Crowd::new(&[(3, 1_000_000), (1, 1_000_000)]);
    weighted.run(Pick::LeastBusy, (1, 4000));
    assert_eq!(weighted.served, [3000, 1000], "per weight");
}

#[test]
fn p2c_leaves_a_slow_target_nearly_alone() {
    let targets = [(1, 1), (1, 1), (1, 1), (1, 40)];
    let mut blind = Crowd::new(&targets);
    blind.run(Pick::Weighted, (500, 8));
    let mut crowd = Crowd::new(&targets);
    crowd.run(Pick::P2c, (500, 8));
    assert!(blind.share(3) > 0.22 && crowd.share(3) < 0.03, "{} {}", blind.share(3), crowd.share(3));
}

/// Hits of conversations that come back: the target was the one of the turn before.
fn hit_rate(pick: impl Fn(&mut Crowd, Chance, usize) -> usize, crowd: &mut Crowd) -> f64 {
    let mut seeds = fastrand::Rng::with_seed(11);
    let mut warm: HashMap<u64, usize> = HashMap::new();
    let (mut hits, mut returns) = (0, 0);
    for turn in 0..20_000 {
        let conversation = seeds.u64(0..300);
        let target = pick(crowd, Chance { seed: seeds.u64(..), conversation }, turn);
        if let Some(before) = warm.insert(conversation, target) {
            returns += 1;
            hits += usize::from(before == target);
        }
        if turn % 8 == 7 {
            crowd.next_round();
        }
    }
    f64::from(hits as u32) / f64::from(returns)
}

#[test]
fn prefix_keeps_caches_warm_where_round_robin_does_not() {
    let prefix = hit_rate(|crowd, chance, _| crowd.send(Pick::Prefix, chance), &mut Crowd::new(&[(1, 12); 4]));
    let round_robin = hit_rate(|_, _, turn| turn % 4, &mut Crowd::new(&[(1, 12); 4]));
    assert!(prefix > 0.75 && round_robin < 0.3, "{prefix} {round_robin}");
}

#[test]
fn prefix_never_loads_one_beyond_its_bound() {
    // Nine of ten requests belong to one conversation.
    let mut crowd = Crowd::new(&[(1, 20), (1, 20), (1, 20), (3, 20)]);
    let mut seeds = fastrand::Rng::with_seed(5);
    for turn in 0..20_000 {
        let conversation = if seeds.u64(0..10) > 0 { 1 } else { seeds.u64(..) };
        let target = crowd.send(Pick::Prefix, Chance { seed: 0, conversation });
        let in_flight = |candidate: &Candidate| f64::from(candidate.seen.in_flight);
        let total: f64 = crowd.candidates.iter().map(in_flight).sum();
        let share = f64::from(crowd.candidates[target].weight) / 6.0;
        let bound = (LOAD_BOUND * total * share).ceil();
        assert!(in_flight(&crowd.candidates[target]) <= bound, "turn {turn}: target {target} of {total}");
        if turn % 5 == 4 {
            crowd.next_round();
        }
    }
}

#[test]
fn prefix_moves_only_the_conversations_of_a_target_that_leaves() {
    let all = Crowd::new(&[(1, 1), (2, 1), (1, 1), (1, 1)]).candidates;
    let left: Vec<Candidate> = all.iter().copied().filter(|candidate| candidate.id != all[2].id).collect();
    let mut moved = 0;
    for conversation in 0..10_000 {
        let chance = Chance { seed: conversation, conversation };
        let before = all[order(Pick::Prefix, &all, chance)[0]].id;
        let after = left[order(Pick::Prefix, &left, chance)[0]].id;
        if before == all[2].id {
            moved += 1;
        } else {
            assert_eq!(before, after);
        }
    }
    assert!((1_800..2_200).contains(&moved), "a fifth by weight: {moved}");
}

#[test]
fn a_target_without_latency_is_compared_by_what_it_has_to_do() {
    let candidate = |in_flight, latency| Candidate { id: Id::of(0), weight: 1, seen: Seen { in_flight, latency } };
    assert!(candidate(0, None).is_cheaper_than(&candidate(1, Some(0.001))));
    assert!(!candidate(1, None).is_cheaper_than(&candidate(1, Some(10.0))));
    assert!(candidate(1, Some(0.1)).is_cheaper_than(&candidate(0, Some(0.3))));
}
