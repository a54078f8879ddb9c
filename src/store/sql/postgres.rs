//! Postgres: shared by a fleet. LISTEN and NOTIFY say at once that something changed.

use std::time::Duration;

use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::{Backend, SqlStore};
use crate::store::Result;

/// Listens for as long as it lives.
#[derive(Debug)]
pub struct Postgres {
    listening: AbortHandle,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Backend for Postgres {
    const BEGIN: &'static str = "BEGIN";
    const NOTIFY: Option<&'static str> = Some("NOTIFY forge_changes");
}

const CHANNEL: &str = "forge_changes";
/// Of one node, besides the one that listens.
const CONNECTIONS_MAX: u32 = 6;
/// Besides those: for keys and changes.
const QUICK_MAX: u32 = 2;
/// How long a connection is waited for.
const ACQUIRE_MAX: Duration = Duration::from_secs(10);
/// Idle connections are closed, but for the one that the poll of changes keeps busy.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Between two tries to listen again.
const PAUSE: Duration = Duration::from_secs(1);

impl SqlStore<Postgres> {
    /// Connects to `postgres://…` and brings the schema up to date.
    ///
    /// # Errors
    /// The server does not answer within 10 s or refuses, or the schema is one that this version does not know.
    pub async fn open(url: &str) -> Result<Self> {
        let store = Self::lazy(url)?;
        store.ready().await?;
        Ok(store)
    }

    /// Connects when it is first used, which fails until the server answers.
    ///
    /// # Errors
    /// `url` is none.
    pub fn lazy(url: &str) -> Result<Self> {
        install_default_drivers();
        let options: PgConnectOptions = url.parse()?;
        let pool = |connections_max| {
            AnyPoolOptions::new()
                .max_connections(connections_max)
                .acquire_timeout(ACQUIRE_MAX)
                .idle_timeout(IDLE_MAX)
                .connect_lazy(url)
        };
        let pools = (pool(CONNECTIONS_MAX)?, pool(QUICK_MAX)?);
        let hints = watch::Sender::new(0);
        let listening = tokio::spawn(listen(options, hints.clone())).abort_handle();
        Ok(Self::new(pools, hints, Postgres { listening }))
    }
}

/// Hints at every notification, and after every time it could not listen.
async fn listen(options: PgConnectOptions, hints: watch::Sender<u64>) {
    loop {
        if let Err(error) = listen_once(&options, &hints).await {
            log::warn!("store: listening for changes failed, polling goes on: {error}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn listen_once(options: &PgConnectOptions, hints: &watch::Sender<u64>) -> std::result::Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_MAX).connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // What was notified while nobody listened is lost, so whoever follows looks at once.
        hints.send_modify(|hint| *hint += 1);
        if listener.try_recv().await?.is_none() {
            return Err(sqlx::Error::Protocol("the connection ended".into()));
        }
    }
}
