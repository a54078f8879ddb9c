//! What models usually answer, in tokens: the estimate for an answer that is not there yet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

/// The weight of one answer in the average: 1 of 8.
const ANSWERS: u64 = 8;
/// Averages are kept in so many parts of a token.
const PARTS: u64 = 256;

/// A moving average of output tokens by model.
#[derive(Debug, Default)]
pub struct Typical {
    models: RwLock<HashMap<Box<str>, AtomicU64>>,
}

impl Typical {
    /// What `model` usually answers; `unknown` before its first answer. `model` is its name in routes.yaml.
    pub fn output_tokens(&self, model: &str, unknown: u64) -> u64 {
        self.models.read().get(model).map_or(unknown, |parts| parts.load(Ordering::Relaxed).div_ceil(PARTS))
    }

    /// `model` answered with so many tokens.
    pub fn answered(&self, model: &str, output_tokens: u64) {
        let seen = output_tokens.min(u64::from(u32::MAX)) * PARTS;
        if let Some(parts) = self.models.read().get(model) {
            let average = parts.load(Ordering::Relaxed);
            // Of two answers at once one may be left out of the average.
            parts.store(average - average / ANSWERS + seen / ANSWERS, Ordering::Relaxed);
            return;
        }
        self.models.write().entry(model.into()).or_insert_with(|| AtomicU64::new(seen));
    }

    /// Forgets models that `known` does not know.
    pub fn retain(&self, known: impl Fn(&str) -> bool) {
        self.models.write().retain(|model, _| known(model));
    }
}
