//! Counts of days and months between the limits and the store: read at start, saved every second.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::config::{HolderKind, LimitKind};
use crate::limits::{Limits, SavedCount};
use crate::store::{Counter, Store};

/// No window is longer.
const WINDOW_MAX: Duration = Duration::from_secs(32 * 24 * 3600);
/// What a process that is killed may have counted in vain.
const PERIOD: Duration = Duration::from_secs(1);

/// Gives `limits` what the store knows. A store that does not answer is said, and leaves them at zero.
pub(super) async fn restore(limits: &Limits, store: &dyn Store) {
    let since = UNIX_EPOCH.elapsed().unwrap_or_default().saturating_sub(WINDOW_MAX);
    let since_ms = i64::try_from(since.as_millis()).unwrap_or_default();
    match store.counters(since_ms).await {
        Ok(counters) => limits.restore(counters.iter().filter_map(count)),
        Err(error) => log::error!("limits of days and months begin at zero: {error}"),
    }
}

/// Saves what is counted, for as long as the process lives.
pub(super) async fn save(limits: Arc<Limits>, store: Arc<dyn Store>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let counts = limits.unsaved();
        if counts.is_empty() {
            continue;
        }
        let counters: Vec<Counter> = counts.iter().map(counter).collect();
        if let Err(error) = store.add_counters(&counters).await {
            log::warn!("{} counts of limits are not saved yet: {error}", counts.len());
            limits.not_saved(&counts);
        }
    }
}

fn counter(count: &SavedCount) -> Counter {
    Counter {
        holder: format!("{}:{}", count.holder.name(), count.id),
        name: count.kind.name().to_owned(),
        window_unix_ms: i64::try_from(count.window_unix_ms).unwrap_or(i64::MAX),
        used: i64::try_from(count.used).unwrap_or(i64::MAX),
    }
}

fn count(counter: &Counter) -> Option<SavedCount> {
    let (holder, id) = counter.holder.split_once(':')?;
    Some(SavedCount {
        holder: HolderKind::by_name(holder)?,
        id: id.to_owned(),
        kind: LimitKind::by_name(&counter.name)?,
        window_unix_ms: u64::try_from(counter.window_unix_ms).ok()?,
        used: u64::try_from(counter.used).ok()?,
    })
}
