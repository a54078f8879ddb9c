//! Usage of requests: the ledger that the data plane writes to, and its way to the store.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::StartError;
use crate::config::UsageConf;
use crate::store::Store;
use crate::usage::{self, Ledger};

/// Opens the ledger and begins to take records from there to `store`.
///
/// # Errors
/// The journal's folder cannot be written.
pub(super) fn start(conf: &UsageConf, store: Arc<dyn Store>, control: &Handle) -> Result<Arc<Ledger>, StartError> {
    let (ledger, shipping) = usage::open(&conf.journal, conf.journal_bytes_max)
        .map_err(|error| StartError::Journal { path: conf.journal.clone(), error })?;
    control.spawn(shipping.run(store));
    Ok(Arc::new(ledger))
}
