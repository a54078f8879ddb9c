//! Takes records from the journal to the store: on the control runtime, in batches, again and again until the store
//! has them. A record keeps its id, so one that is sent twice counts once.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::estimate::{self, Pending};
use super::journal::{self, Journal, Removed};
use super::{now_unix_ms, refine};
use crate::config::Prices;
use crate::metrics;
use crate::store::{Store, StoreError, UsageRecord};

/// Records of one transaction.
const BATCH: usize = 500;
/// How often the journal is looked at.
const PERIOD: Duration = Duration::from_millis(100);
/// The longest a store may take for a batch.
const STORE_WAIT_MAX: Duration = Duration::from_secs(30);
/// Between two tries of a store that does not answer: at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Ships for as long as it is polled.
pub(super) async fn run(journal: Arc<Journal>, texts: Pending, store: Arc<dyn Store>) {
    let (shipped, counted) = (HashMap::new(), HashMap::new());
    let mut shipper = Shipper { journal, texts, store, shipped, counted, began_unix_ms: now_unix_ms() };
    let mut pause = BACK_OFF.0;
    loop {
        match shipper.pass().await {
            Ok(()) => {
                pause = BACK_OFF.0;
                tokio::time::sleep(PERIOD).await;
            }
            Err(error) => {
                log::warn!("usage stays in the journal, next try in {pause:.1?}: {error}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACK_OFF.1);
            }
        }
    }
}

/// Why usage was not shipped.
#[derive(Debug, thiserror::Error)]
enum ShipError {
    #[error("reading it: {0}")]
    Journal(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

struct Shipper {
    journal: Arc<Journal>,
    texts: Pending,
    store: Arc<dyn Store>,
    /// How far segments were shipped that are not gone yet.
    shipped: HashMap<PathBuf, u64>,
    /// Tokens of texts whose records the store does not have yet, and what they were priced with.
    counted: HashMap<String, (u64, Option<Arc<Prices>>)>,
    /// When this process began, as records have it.
    began_unix_ms: i64,
}

impl Shipper {
    /// Ships what is in the journal now.
    async fn pass(&mut self) -> Result<(), ShipError> {
        let segments = self.journal.segments()?;
        self.shipped.retain(|path, _| segments.iter().any(|(segment, _)| segment == path));
        for (path, bytes) in segments {
            let active = self.journal.is_active(&path);
            let start = self.shipped.get(&path).copied().unwrap_or_default();
            if (active && bytes > start) || (!active && !journal::is_held(&path)?) {
                self.segment(&path, start).await?;
            }
        }
        metrics::usage_lag(Duration::ZERO);
        Ok(())
    }

    async fn segment(&mut self, path: &Path, start: u64) -> Result<(), ShipError> {
        let mut at = start;
        loop {
            let mut chunk = journal::read(path, at, BATCH)?;
            if chunk.records.is_empty() {
                if chunk.damaged > 0 && !self.journal.is_active(path) {
                    log::warn!(
                        "{} bytes at the end of {} are no record: a crash left them",
                        chunk.damaged,
                        path.display()
                    );
                }
                break;
            }
            self.refine(&mut chunk.records).await;
            self.batch(&chunk.records).await?;
            chunk.records.iter().for_each(|record| drop(self.counted.remove(&record.id)));
            at = chunk.end;
            self.shipped.insert(path.to_owned(), at);
        }
        if self.journal.shipped(path, at)? == Removed::Yes {
            self.shipped.remove(path);
        }
        Ok(())
    }

    /// Counts what was guessed, where the text is here.
    async fn refine(&mut self, records: &mut [UsageRecord]) {
        for record in records.iter_mut().filter(|record| record.estimated) {
            if let Some(said) = self.texts.take(&record.id) {
                // It is arithmetic that may take a second.
                let counting = tokio::task::spawn_blocking(move || (estimate::tokens(&said), said.prices));
                if let Ok(counted) = counting.await {
                    self.counted.insert(record.id.clone(), counted);
                }
            }
            if let Some((tokens, prices)) = self.counted.get(&record.id) {
                refine(record, *tokens, prices.as_deref());
            }
        }
    }

    async fn batch(&self, records: &[UsageRecord]) -> Result<(), ShipError> {
        if let Some(oldest) = records.first() {
            let age_ms = now_unix_ms().saturating_sub(oldest.at_unix_ms);
            metrics::usage_lag(Duration::from_millis(u64::try_from(age_ms).unwrap_or_default()));
        }
        match self.record(records).await {
            Ok(()) => Ok(()),
            Err(error @ StoreError::Unavailable(_)) => Err(error.into()),
            // One of them may be what the store does not take; it must not hold up the rest.
            Err(_) => self.one_by_one(records).await,
        }
    }

    async fn one_by_one(&self, records: &[UsageRecord]) -> Result<(), ShipError> {
        for record in records {
            match self.record(std::slice::from_ref(record)).await {
                Ok(()) => {}
                Err(error @ StoreError::Unavailable(_)) => return Err(error.into()),
                Err(error) => {
                    metrics::usage_dropped();
                    log::error!("the store refuses a usage record of request {}: {error}", record.request_id);
                }
            }
        }
        Ok(())
    }

    async fn record(&self, records: &[UsageRecord]) -> Result<(), StoreError> {
        let recording = tokio::time::timeout(STORE_WAIT_MAX, self.store.record_usage(records)).await;
        recording.map_err(|_| StoreError::Unavailable(format!("nothing in {STORE_WAIT_MAX:?}")))??;
        let earlier = records.iter().filter(|record| record.at_unix_ms < self.began_unix_ms).count();
        metrics::usage_shipped(records.len() as u64, earlier as u64);
        Ok(())
    }
}
