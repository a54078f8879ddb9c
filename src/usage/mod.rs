//! What requests used, on its way to the store.
//!
//! Owns: the record's frame, the journal, the way from there to the store, estimates by a tokenizer. The data plane
//! hands a record over with [`Ledger::record`], one short write to a file; everything else is the control runtime's.
//! Must not touch: requests, answers, routes.

mod estimate;
mod frame;
mod journal;
mod shipper;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use crate::config::{Prices, Quantities};
use crate::store::{Store, UsageRecord};
use estimate::{Text, Texts};
pub use frame::Entry;
pub use journal::Journal;

pub use crate::store::{Attempt, Units};

/// Where the data plane puts records.
#[derive(Debug)]
pub struct Ledger {
    journal: Arc<Journal>,
    texts: Texts,
}

/// Takes what the ledger holds to the store.
pub struct Shipping {
    journal: Arc<Journal>,
    texts: estimate::Pending,
}

/// An answer whose provider did not say what it used: its text, to be counted by a tokenizer.
pub struct Said {
    /// The text, with JSON's escapes; not all of it, perhaps.
    pub text: Vec<u8>,
    /// Bytes of it that were not kept.
    pub bytes_beyond: u64,
    /// What the record was priced with.
    pub prices: Option<Arc<Prices>>,
}

/// Opens the ledger whose journal is in `dir` and takes at most `bytes_max` bytes there.
///
/// # Errors
/// The folder cannot be made or written.
pub fn open(dir: &Path, bytes_max: u64) -> io::Result<(Ledger, Shipping)> {
    let journal = Arc::new(Journal::open(dir, bytes_max)?);
    let (texts, pending) = estimate::channel();
    Ok((Ledger { journal: Arc::clone(&journal), texts }, Shipping { journal, texts: pending }))
}

impl Ledger {
    /// Records what a request used. Written when this returns, unless the journal is full or the disk fails:
    /// then it is lost, counted and logged.
    pub fn record(&self, entry: &Entry<'_>) {
        self.journal.append(entry);
    }

    /// As [`record`](Self::record), where the output's tokens are a guess from `said`'s bytes, to be replaced by a
    /// tokenizer's count before the store gets it.
    pub fn record_estimate(&self, entry: &Entry<'_>, said: Said) {
        // Before the record: who reads that is to find the text.
        self.texts.send(Text { id: entry.id.to_owned(), said });
        self.journal.append(entry);
    }
}

impl Shipping {
    /// Ships to `store` for as long as it is polled.
    pub async fn run(self, store: Arc<dyn Store>) {
        shipper::run(self.journal, self.texts, store).await;
    }
}

/// What units cost at `prices`, and which price that is; nothing and no version where no price is known.
pub fn cost<'a>(prices: Option<&'a Prices>, units: &Units, at_unix_ms: i64) -> (u64, &'a str) {
    let price = prices.and_then(|prices| prices.at(at_unix_ms.div_euclid(1000)));
    price.map_or((0, ""), |price| (price.cost_microusd(&quantities(units)), price.version.as_str()))
}

/// The parts of units, each once.
fn quantities(units: &Units) -> Quantities {
    let mut input = units.input_tokens;
    let mut output = units.output_tokens;
    let part = |whole: &mut u64, part: u64| {
        let part = part.min(*whole);
        *whole -= part;
        part
    };
    Quantities {
        cached_input: part(&mut input, units.cached_input_tokens),
        cache_write: part(&mut input, units.cache_write_tokens),
        audio_input: part(&mut input, units.audio_input_tokens),
        image_input: part(&mut input, units.image_input_tokens),
        input,
        audio_output: part(&mut output, units.audio_output_tokens),
        reasoning: part(&mut output, units.reasoning_tokens),
        output,
        characters: units.characters,
        images: units.images,
        audio_ms: units.audio_ms,
        searches: units.searches,
        documents: units.documents,
    }
}

/// A record's id: the time, so that the store's index grows at its end, and 64 random bits.
pub fn new_id(at_unix_ms: i64) -> String {
    format!("{:012x}{:016x}", at_unix_ms.max(0), fastrand::u64(..))
}

/// The wall clock, in milliseconds since 1970.
pub fn now_unix_ms() -> i64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Replaces the guess of `record`'s output by a better one.
fn refine(record: &mut UsageRecord, output_tokens: u64, prices: Option<&Prices>) {
    record.units.output_tokens = output_tokens.max(record.units.reasoning_tokens + record.units.audio_output_tokens);
    if let (cost, version) = cost(prices, &record.units, record.at_unix_ms)
        && version == record.price_version
    {
        record.cost_microusd = cost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Price;

    #[test]
    fn each_part_is_priced_once() {
        let price = Price {
            input_microusd: 1_000_000,
            cached_input_microusd: 100_000,
            cache_write_microusd: 2_000_000,
            output_microusd: 10_000_000,
            reasoning_microusd: 20_000_000,
            version: "v".into(),
            ..Price::default()
        };
        let units = Units {
            input_tokens: 1000,
            cached_input_tokens: 600,
            cache_write_tokens: 100,
            output_tokens: 50,
            reasoning_tokens: 20,
            ..Units::default()
        };
        let prices = Prices::from(price);
        let cost = cost(Some(&prices), &units, 0);
        assert_eq!(cost, (300 + 60 + 200 + 300 + 400, "v"));
        assert_eq!(super::cost(None, &units, 0), (0, ""));
    }

    #[test]
    fn ids_are_in_the_order_of_time() {
        let (one, two) = (new_id(1_793_491_200_123), new_id(1_793_491_200_124));
        assert!(one < two && one.len() == 28, "{one} {two}");
    }
}
