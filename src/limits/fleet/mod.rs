//! Limits that a fleet shares through Redis or Valkey.
//!
//! Each node leases from the server what it is about to use, and spends it without asking ([`super::lease`]). One task
//! on the control runtime speaks with the server, one batch at a time; a request that needs more than is leased waits
//! for it at most [`BUDGET`]. While the server is slow or gone, each node enforces its share of every limit by its own
//! counts.

mod batch;
mod link;
mod task;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::bucket::Cost;
use super::clock::Clock;
use super::decide::{Basis, Decision};
use super::reservation::Reservation;
use super::table::{Buckets, Hold, HolderState, Table};
use crate::config::ConnectionUrl;
use task::Task;

/// The longest that a request, or a batch of them, waits for the server.
const BUDGET: Duration = Duration::from_millis(20);
/// Requests that may wait to be asked for; who finds no place decides locally.
const ASKS_MAX: usize = 8_192;

/// The way to the fleet's counts.
#[derive(Debug)]
pub(super) struct Fleet {
    asks: mpsc::Sender<Ask>,
    pub state: Arc<State>,
}

/// A request that needs more than is leased.
#[derive(Debug)]
struct Ask {
    holds: Vec<Hold>,
    cost: Cost,
    /// How often others have spent what was granted.
    tries: u8,
    answer: oneshot::Sender<Result<Reservation, Decision>>,
}

/// What the task and the requests both know.
#[derive(Debug)]
pub(super) struct State {
    /// The server answers in time.
    up: AtomicBool,
    /// Nodes seen alive, this one included.
    nodes: AtomicU64,
    /// Holders with something to tell or to give back.
    changed: Mutex<Vec<Arc<HolderState>>>,
}

impl Fleet {
    /// The fleet behind `url`, and the task that speaks with it, to be run on the control runtime.
    ///
    /// # Errors
    /// `url` is no Redis URL.
    pub fn new(
        url: &ConnectionUrl,
        (table, clock): (Arc<Table>, Arc<Clock>),
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), String> {
        let client = redis::Client::open(url.reveal()).map_err(|error| format!("{}: {error}", url.shown()))?;
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let changed = Mutex::default();
        let state = Arc::new(State { up: AtomicBool::new(false), nodes: AtomicU64::new(1), changed });
        let task = Task::new(link::Link::new(client, url.shown()), (asked, Arc::clone(&state)), (table, clock));
        Ok((Self { asks, state }, task.run()))
    }

    /// What decides when the lease does not.
    pub fn share(&self) -> Basis {
        Basis::Share(self.state.nodes.load(Ordering::Relaxed))
    }

    /// What decides at once.
    pub fn basis(&self) -> Basis {
        if self.state.up.load(Ordering::Relaxed) { Basis::Leased } else { self.share() }
    }

    /// Asks the server; `None` when it does not answer in time.
    pub async fn ask(&self, holds: &[Hold], cost: Cost) -> Option<Result<Reservation, Decision>> {
        let (answer, answered) = oneshot::channel();
        self.asks.try_send(Ask { holds: holds.to_vec(), cost, tries: 0, answer }).ok()?;
        pingora_timeout::timeout(BUDGET, answered).await.ok()?.ok()
    }
}

impl State {
    /// `holder` has something to tell or to give back.
    pub fn changed(&self, holder: &Arc<HolderState>, buckets: &mut Buckets) {
        if !std::mem::replace(&mut buckets.queued, true) {
            self.changed.lock().push(Arc::clone(holder));
        }
    }
}
