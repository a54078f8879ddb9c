//! The order among equals: targets of a model, origins and keys of a target. Pure.
//!
//! Every function takes what it orders as plain values and gives positions back, all of them, best first: what
//! follows the first is tried when it fails.

use super::lanes::{Id, Seen};
use crate::config::Pick;

/// A share of more than this multiple of the mean is too much for one target of `pick: prefix`.
const LOAD_BOUND: f64 = 1.25;

/// What is known of one of the things to be ordered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The same in every process and every generation.
    pub id: Id,
    /// Share among its siblings, at least 1.
    pub weight: u32,
    /// How busy it is.
    pub seen: Seen,
}

impl Candidate {
    /// What a request more would meet. `None` while the latency is unknown.
    fn cost(&self) -> Option<f64> {
        self.seen.latency.map(|latency| latency * (f64::from(self.seen.in_flight) + 1.0))
    }

    fn is_cheaper_than(&self, other: &Self) -> bool {
        match (self.cost(), other.cost()) {
            (Some(own), Some(others)) => own < others,
            // Nothing to compare but who has less to do.
            (None, _) | (_, None) => self.seen.in_flight < other.seen.in_flight,
        }
    }
}

/// What chooses among equals.
#[derive(Debug, Clone, Copy)]
pub struct Chance {
    /// Different for each request.
    pub seed: u64,
    /// The same for each request of a conversation.
    pub conversation: u64,
}

/// The positions of `candidates` in the order in which they are tried.
pub fn order(pick: Pick, candidates: &[Candidate], chance: Chance) -> Vec<usize> {
    match pick {
        // Cheapest is by price, which is the model's business; equals keep the order their weights gave them.
        Pick::Weighted | Pick::Cheapest => by_weight(candidates, chance.seed),
        Pick::LeastBusy => least_busy(candidates, chance.seed),
        Pick::P2c => better_of_two(candidates, chance.seed),
        Pick::Prefix => same_for(chance.conversation, candidates),
    }
}

/// A random order in which each place goes to a candidate by its share of the weight that is left.
fn by_weight(candidates: &[Candidate], seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    if order.len() < 2 {
        return order;
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let weight = |position: usize| u64::from(candidates[position].weight);
    for place in 0..order.len() {
        let total: u64 = order[place..].iter().map(|position| weight(*position)).sum();
        let mut at = random.u64(0..total.max(1));
        let mut chosen = place;
        while at >= weight(order[chosen]) && chosen + 1 < order.len() {
            at -= weight(order[chosen]);
            chosen += 1;
        }
        order.swap(place, chosen);
    }
    order
}

fn least_busy(candidates: &[Candidate], seed: u64) -> Vec<usize> {
    let mut order = by_weight(candidates, seed);
    // Stable: equals keep the order their weights gave them. Cross-multiplied, the division is exact.
    order.sort_by(|one, two| {
        let (one, two) = (&candidates[*one], &candidates[*two]);
        let busy = |own: &Candidate, other: &Candidate| u64::from(own.seen.in_flight) * u64::from(other.weight);
        busy(one, two).cmp(&busy(two, one))
    });
    order
}

fn better_of_two(candidates: &[Candidate], seed: u64) -> Vec<usize> {
    let mut order = by_weight(candidates, seed);
    if let [first, second, ..] = order[..]
        && candidates[second].is_cheaper_than(&candidates[first])
    {
        order.swap(0, 1);
    }
    // What follows is for the rare case that the first fails, so there is no herd to fear: the best go first.
    let cost = |position: usize| candidates[position].cost().unwrap_or(f64::INFINITY);
    if let Some(rest) = order.get_mut(1..) {
        rest.sort_by(|one, two| cost(*one).total_cmp(&cost(*two)));
    }
    order
}

/// Weighted rendezvous hashing, bounded: who has more than its share comes after all who have not. One that
/// leaves takes only its own conversations with it.
fn same_for(conversation: u64, candidates: &[Candidate]) -> Vec<usize> {
    let conversation = Id::of(conversation);
    let distance = |position: usize| {
        let Candidate { id, weight, .. } = candidates[position];
        // In (0, 1]: of exponential variables, the smallest is one's by its share of the weight.
        let uniform = ((conversation.and(id).bits() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        -uniform.ln() / f64::from(weight.max(1))
    };
    let (in_flight, weight) = candidates.iter().fold((1.0, 0.0), |(in_flight, weight), candidate| {
        (in_flight + f64::from(candidate.seen.in_flight), weight + f64::from(candidate.weight.max(1)))
    });
    let is_over = |position: usize| {
        let Candidate { weight: own, seen, .. } = candidates[position];
        let bound = LOAD_BOUND * in_flight * f64::from(own.max(1)) / weight;
        f64::from(seen.in_flight) + 1.0 > bound.ceil()
    };
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|one, two| is_over(*one).cmp(&is_over(*two)).then_with(|| distance(*one).total_cmp(&distance(*two))));
    order
}

#[cfg(test)]
mod tests;
