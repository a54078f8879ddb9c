//! `price:` -> [`Prices`]: what a target costs, from when on. Integers all the way: micro-dollars per million units.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::amount;
use super::place::Place;
use super::tree::Kind;

/// Prices are per so many tokens or characters.
const MILLION: u64 = 1_000_000;
/// Sound is measured in milliseconds and priced by the minute.
const MS_PER_MINUTE: u128 = 60_000;

/// The prices of a target over time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prices {
    /// The newest first.
    rows: Vec<Price>,
}

/// What a target costs, in micro-dollars.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Price {
    /// Says which price a record was made with: the day it came into force, if it has one, and a hash of the row.
    pub version: String,
    /// Since when it is in force, in seconds since 1970.
    pub from_unix: i64,
    /// Per million input tokens.
    pub input_microusd: u64,
    /// Per million input tokens that a cache gave. Default: `input`.
    pub cached_input_microusd: u64,
    /// Per million input tokens that a cache took. Default: `input`.
    pub cache_write_microusd: u64,
    /// Per million input tokens of sound. Default: `input`.
    pub audio_input_microusd: u64,
    /// Per million input tokens of pictures. Default: `input`.
    pub image_input_microusd: u64,
    /// Per million output tokens.
    pub output_microusd: u64,
    /// Per million tokens that the model thought. Default: `output`.
    pub reasoning_microusd: u64,
    /// Per million output tokens of sound. Default: `output`.
    pub audio_output_microusd: u64,
    /// Per million characters spoken.
    pub characters_microusd: u64,
    /// For each picture made.
    pub image_microusd: u64,
    /// For each minute of sound heard.
    pub minute_microusd: u64,
    /// For each search.
    pub search_microusd: u64,
    /// For each document ranked.
    pub document_microusd: u64,
}

/// How much of what was used, each part once: cached input is not in `input` here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "as in Price")]
pub struct Quantities {
    pub input: u64,
    pub cached_input: u64,
    pub cache_write: u64,
    pub audio_input: u64,
    pub image_input: u64,
    pub output: u64,
    pub reasoning: u64,
    pub audio_output: u64,
    pub characters: u64,
    pub images: u64,
    pub audio_ms: u64,
    pub searches: u64,
    pub documents: u64,
}

impl Prices {
    /// The price in force at this time, in seconds since 1970; `None` before the first.
    pub fn at(&self, now_unix: i64) -> Option<&Price> {
        self.rows.iter().find(|row| row.from_unix <= now_unix)
    }

    /// Every price, the newest first.
    pub fn rows(&self) -> &[Price] {
        &self.rows
    }
}

impl From<Price> for Prices {
    fn from(only: Price) -> Self {
        Self { rows: vec![only] }
    }
}

impl Price {
    /// What this much costs, in micro-dollars: exact, then rounded up once.
    pub fn cost_microusd(&self, used: &Quantities) -> u64 {
        let per_million = [
            (used.input, self.input_microusd),
            (used.cached_input, self.cached_input_microusd),
            (used.cache_write, self.cache_write_microusd),
            (used.audio_input, self.audio_input_microusd),
            (used.image_input, self.image_input_microusd),
            (used.output, self.output_microusd),
            (used.reasoning, self.reasoning_microusd),
            (used.audio_output, self.audio_output_microusd),
            (used.characters, self.characters_microusd),
        ];
        let each = [
            (used.images, self.image_microusd),
            (used.searches, self.search_microusd),
            (used.documents, self.document_microusd),
        ];
        let product = |(count, price): (u64, u64)| u128::from(count) * u128::from(price);
        let sum = |products: &[(u64, u64)]| products.iter().map(|it| product(*it)).fold(0, u128::saturating_add);
        // Over the common denominator of a millionth and a millisecond's share of a minute.
        let total = sum(&per_million)
            .saturating_mul(MS_PER_MINUTE)
            .saturating_add(sum(&each).saturating_mul(MS_PER_MINUTE).saturating_mul(MILLION.into()))
            .saturating_add(product((used.audio_ms, self.minute_microusd)).saturating_mul(MILLION.into()));
        let cost = total.div_ceil(MS_PER_MINUTE * u128::from(MILLION));
        // A store's integers are signed.
        u64::try_from(cost).unwrap_or(u64::MAX).min(i64::MAX as u64)
    }
}

/// The rows of `place`: one, or a list of several with their dates.
pub(super) fn prices(place: &Place<'_>) -> Option<Arc<Prices>> {
    let mut rows: Vec<Price> = place.items().iter().map(price).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.from_unix));
    if rows.windows(2).any(|pair| pair[0].from_unix == pair[1].from_unix) {
        place.fault("two prices from the same day; each but the first needs its own 'from'");
    }
    (!rows.is_empty()).then(|| Arc::new(Prices { rows }))
}

fn price(place: &Place<'_>) -> Price {
    for (one, other, about) in [("input", "output", "output"), ("output", "input", "input")] {
        if place.get(one).is_some() && place.get(other).is_none() {
            place.fault(format!("'{other}' is missing: US dollars per million {about} tokens."));
        }
    }
    let own = |name: &str| place.read(name, amount::microusd);
    let or = |name: &str, other: &str| own(name).or(own(other)).unwrap_or_default();
    let price = Price {
        version: String::new(),
        from_unix: place.read("from", amount::date).unwrap_or_default(),
        input_microusd: or("input", "input"),
        cached_input_microusd: or("cached_input", "input"),
        cache_write_microusd: or("cache_write", "input"),
        audio_input_microusd: or("audio_input", "input"),
        image_input_microusd: or("image_input", "input"),
        output_microusd: or("output", "output"),
        reasoning_microusd: or("reasoning", "output"),
        audio_output_microusd: or("audio_output", "output"),
        characters_microusd: or("characters", "characters"),
        image_microusd: or("image", "image"),
        minute_microusd: or("minute", "minute"),
        search_microusd: or("search", "search"),
        document_microusd: or("document", "document"),
    };
    if matches!(place.node.kind, Kind::Map(_)) && place.entries().all(|(name, _)| name == "from") {
        place.fault("a price without an amount, e.g. input: 3.00, output: 15.00");
    }
    Price { version: version(&price, place), ..price }
}

/// The same for the same price, in every process and after every reload.
fn version(price: &Price, place: &Place<'_>) -> String {
    // Debug prints every field by name, in order.
    let digest = Sha256::digest(format!("{price:?}"));
    let hash: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    match place.get("from").and_then(|from| from.text()) {
        Some(from) => format!("{from}/{hash}"),
        None => hash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_exact_and_rounded_up_once() {
        let price = Price {
            input_microusd: 3_000_000,
            cached_input_microusd: 300_000,
            output_microusd: 15_000_000,
            image_microusd: 40_000,
            minute_microusd: 6_000,
            characters_microusd: 15_000_000,
            document_microusd: 2,
            ..Price::default()
        };
        for (used, cost) in [
            (Quantities::default(), 0),
            (Quantities { input: 1, ..Quantities::default() }, 3),
            (Quantities { cached_input: 1, ..Quantities::default() }, 1),
            (Quantities { cached_input: 10, ..Quantities::default() }, 3),
            (Quantities { cached_input: 1, input: 1, output: 1, ..Quantities::default() }, 19),
            (Quantities { images: 2, ..Quantities::default() }, 80_000),
            (Quantities { audio_ms: 90_000, ..Quantities::default() }, 9_000),
            (Quantities { audio_ms: 1, ..Quantities::default() }, 1),
            (Quantities { characters: 1000, documents: 3, ..Quantities::default() }, 15_006),
        ] {
            assert_eq!(price.cost_microusd(&used), cost, "{used:?}");
        }
        let dear = Price { image_microusd: u64::MAX, minute_microusd: u64::MAX, ..Price::default() };
        let much = Quantities { images: u64::MAX, audio_ms: u64::MAX, ..Quantities::default() };
        assert_eq!(dear.cost_microusd(&much), i64::MAX as u64);
    }

    #[test]
    fn the_newest_price_in_force_counts() {
        let row = |from_unix| Price { from_unix, ..Price::default() };
        let prices = Prices { rows: vec![row(200), row(100)] };
        let at = |now| prices.at(now).map(|price| price.from_unix);
        assert_eq!([at(99), at(100), at(199), at(200)], [None, Some(100), Some(100), Some(200)]);
    }
}
