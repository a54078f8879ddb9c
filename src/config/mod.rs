//! Configuration: files in, checked values out.
//!
//! `routes.yaml` goes raw file -> check (every fault, with place and hint) -> [`Snapshot`]; the process
//! reads `conf/forge.yaml` into a [`ProcessConf`] once. Nothing here touches a request.

mod access;
mod admin;
mod amount;
mod catalogue;
mod clients;
mod expression;
mod files;
mod finding;
mod key;
mod limits;
mod load;
mod model;
mod origin;
mod place;
mod price;
mod probe;
mod process;
mod provider;
mod rule;
mod schema;
mod secret;
mod shape;
mod snapshot;
mod storage;
mod store;
mod tls;
mod tree;
mod watch;

pub use access::parse_network;
pub use admin::{AdminConf, AdminToken, ApplyConf, Role};
pub use clients::ClientConf;
pub use files::FileWatch;
pub use finding::{Faults, Finding, nearest};
pub use key::Key;
pub use limits::{Holder, HolderKind, Limit, LimitKind, LimitSet, LimitsConf};
pub use load::{DemoAddress, EnvLookup, Loaded, Surroundings, check, load};
pub use price::{Price, Prices, Quantities};
pub use probe::Probe;
pub use process::{Bounds, LogFormat, ProcessConf, UpstreamConf, UsageConf};
pub use rule::{Facts, Rule, Rules};
pub use schema::routes_schema;
pub use secret::FilesRead;
pub use snapshot::*;
pub use storage::{Encryption, FileLimits, FilesAt, FilesConf, S3Conf, Secret, ShareFiles};
pub use store::{ConnectionUrl, StoreConf};
pub use tls::{ClientCertificates, TlsConf, TlsFault, TlsMaterial, TlsVersion};
pub use watch::{First, ReloadStatus, Watch};

use std::sync::Arc;

use arc_swap::ArcSwap;

/// The routes.yaml that ships with Forge, for a binary that runs where there is none.
pub const EMBEDDED_ROUTES: &str = include_str!("../../routes.yaml");

/// The one place where control reaches the data plane: the snapshot in force.
#[derive(Debug)]
pub struct Live {
    current: ArcSwap<Snapshot>,
}

impl Live {
    /// Starts with this snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        Self { current: ArcSwap::from_pointee(snapshot) }
    }

    /// The snapshot in force; a request calls this once.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Puts another in force; requests in flight keep theirs.
    pub fn store(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
    }
}
