//! Counts of days and months on their way to the store and back: they outlive the process.

use super::Limits;
use super::bucket::Level;
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
    /// The day or month, counted from 1970, UTC.
    pub window: u64,
    /// Requests, tokens or micro-dollars, settled.
    pub used: u64,
}

impl Limits {
    /// Counts that changed since they were last asked for; whoever asks is to save them, each in the place of the one
    /// with the same holder, id, kind and window. None where a fleet shares its counts: its server keeps them.
    pub fn unsaved(&self) -> Vec<SavedCount> {
        let mut counts = Vec::new();
        if self.fleet.is_some() {
            return counts;
        }
        for state in self.table.all() {
            for bucket in state.buckets.lock().iter_mut().filter(|bucket| bucket.unsaved) {
                bucket.unsaved = false;
                let Level::Window(_, window) = &bucket.level else { continue };
                let (id, kind) = (state.id.to_string(), bucket.kind);
                counts.push(SavedCount { holder: state.kind, id, kind, window: window.number, used: window.used });
            }
        }
        counts
    }

    /// These could not be saved: they are given again next time.
    pub fn not_saved(&self, counts: &[SavedCount]) {
        for count in counts {
            if let Some(state) = self.table.peek(count.holder, &count.id) {
                state.buckets.lock().of(count.kind).unsaved = true;
            }
        }
    }

    /// Takes over what an earlier process counted; before the first request.
    pub fn restore(&self, counts: impl IntoIterator<Item = SavedCount>) {
        if self.fleet.is_some() {
            return;
        }
        for count in counts {
            let Ok(state) = self.table.find(count.holder, &count.id) else { continue };
            if let Level::Window(_, window) = &mut state.buckets.lock().of(count.kind).level
                && count.window >= window.number
            {
                (window.number, window.used) = (count.window, count.used);
            }
        }
    }
}
