//! Counts of days and months on their way to the store and back: they outlive the process.

use super::Limits;
use super::bucket::{Bucket, Level};
use crate::config::{HolderKind, LimitKind};

/// What one holder has used of one day or month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedCount {
    /// Whose.
    pub holder: HolderKind,
    /// Whose, by id.
    pub id: String,
    /// Of which limit.
    pub kind: LimitKind,
    /// When the day or month began, in milliseconds since 1970.
    pub window_unix_ms: u64,
    /// Requests, tokens or micro-dollars, settled.
    pub used: u64,
}

impl Limits {
    /// What was used beyond what was asked for before, to be added to what the store has. Nothing where a fleet shares
    /// its counts: its server keeps them.
    pub fn unsaved(&self) -> Vec<SavedCount> {
        if self.fleet.is_some() {
            return Vec::new();
        }
        let mut counts = Vec::new();
        for state in self.table.all() {
            for bucket in state.buckets.lock().iter_mut() {
                if let Some((window_unix_ms, used)) = bucket.take_unsaved() {
                    let (id, kind) = (state.id.to_string(), bucket.kind);
                    counts.push(SavedCount { holder: state.kind, id, kind, window_unix_ms, used });
                }
            }
        }
        counts
    }

    /// These could not be saved: they are given again next time.
    pub fn not_saved(&self, counts: &[SavedCount]) {
        for count in counts {
            if let Some(state) = self.table.peek(count.holder, &count.id) {
                let mut buckets = state.buckets.lock();
                let saved = &mut buckets.of(count.kind).saved;
                saved.1 = saved.1.saturating_sub(count.used);
            }
        }
    }

    /// Takes over what was counted before; to be called before the first request.
    pub fn restore(&self, counts: impl IntoIterator<Item = SavedCount>) {
        if self.fleet.is_some() {
            return;
        }
        for count in counts {
            let Ok(state) = self.table.find(count.holder, &count.id) else { continue };
            let mut buckets = state.buckets.lock();
            let bucket = buckets.of(count.kind);
            if let Level::Window(period, window) = &mut bucket.level {
                let number = period.number(count.window_unix_ms);
                if number >= window.number {
                    (window.number, window.used) = (number, count.used);
                    bucket.saved = (number, count.used);
                }
            }
        }
    }
}

impl Bucket {
    /// What of the window that is counted was used beyond what the store knows, and when the window began.
    fn take_unsaved(&mut self) -> Option<(u64, u64)> {
        let Level::Window(period, window) = &self.level else { return None };
        let known = if self.saved.0 == window.number { self.saved.1 } else { 0 };
        let used = window.used.saturating_sub(known);
        if used == 0 || window.number == 0 {
            return None;
        }
        self.saved = (window.number, window.used);
        Some((period.end_unix_ms(window.number - 1), used))
    }
}
