//! The routes in force: loaded at start, watched from then on; what became of each try is told here.
//!
//! A file with faults changes nothing but the log, a metric and `/routes`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;

use super::StartError;
use super::demo::Demo;
use super::source::Source;
use crate::admin::ReadStatus;
use crate::config::{First, Live, ReloadStatus, Snapshot, Surroundings, Watch};
use crate::credential::Credential;
use crate::metrics;

/// The routes in force, and the watch that replaces them.
pub(super) struct Routes {
    live: Arc<Live>,
    watch: Watch,
    demo_key: Credential,
    folder: PathBuf,
}

impl Routes {
    /// Loads `source` and watches its file. The demo provider, if it is asked for, runs on `runtime`.
    ///
    /// # Errors
    /// The file has faults, there is no demo key, or no thread for the watch.
    pub(super) fn load(source: &Source, runtime: Handle) -> Result<Self, StartError> {
        let offline = Surroundings::offline();
        let demo_key = match (offline.env)("FORGE_DEMO_KEY") {
            Some(text) => Credential::parse(&text).ok_or(StartError::DemoKey)?,
            None => Credential::random()?,
        };
        let demo = Demo::on(runtime);
        let around = Surroundings {
            demo: Arc::new(move || demo.address()),
            demo_key_sha256: demo_key.sha256(),
            now_unix: now_unix(),
            ..offline
        };
        if let Source::Embedded { default } = source {
            log::warn!("there is no {}: the built-in routes serve, which lead to the demo provider", default.display());
        }
        let first = First::new(source.load(&around).map_err(StartError::Routes)?);
        let live = Arc::clone(&first.live);
        let (watched, name) = (Arc::clone(&live), source.path().display().to_string());
        let watch = Watch::start(source.path().to_owned(), around, first, move |status| tell(&name, &watched, status))?;
        tell(&source.to_string(), &live, &watch.status());
        let folder = source.path().parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(Self { live, watch, demo_key, folder })
    }

    /// Where relative paths of the file start.
    pub(super) fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    pub(super) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    pub(super) fn status(&self) -> ReadStatus {
        Arc::new(self.watch.status_reader())
    }

    /// Reads the file again, changed or not. Returns at once.
    pub(super) fn reload(&self) {
        self.watch.reload();
    }

    /// The demo key and a model it may call, if the routes in force know that key.
    pub(super) fn demo(&self) -> Option<(Credential, String)> {
        let snapshot = self.live.load();
        let key = snapshot.keys.get(&self.demo_key.sha256())?;
        let model = snapshot.models.exact.iter().find(|model| key.may_call(&model.name))?;
        Some((self.demo_key.clone(), model.name.clone()))
    }
}

/// Says in the log and in the metrics what became of a try to load the file called `name`.
fn tell(name: &str, live: &Live, status: &ReloadStatus) {
    match &status.outcome {
        Ok(warnings) => {
            for warning in warnings {
                log::warn!("{name}:{warning}");
            }
            let snapshot = live.load();
            let models = snapshot.models.exact.len() + snapshot.models.wild.len();
            let (generation, providers) = (status.generation, snapshot.providers.len());
            log::info!("{name} is in force: generation {generation}, {providers} providers, {models} models");
            metrics::reload(metrics::Reload::Loaded { generation });
            forget_what_is_gone(&snapshot);
        }
        Err(faults) => {
            log::error!("{name} is not used, the routes before it stay in force:\n{faults}");
            metrics::reload(metrics::Reload::Rejected);
        }
    }
}

fn forget_what_is_gone(snapshot: &Snapshot) {
    let wild = snapshot.models.wild.iter().map(|(_, model)| model);
    let models: HashSet<&str> = snapshot.models.exact.iter().chain(wild).map(|model| model.name.as_str()).collect();
    let providers: HashSet<&str> = snapshot.providers.iter().map(|provider| provider.name.as_str()).collect();
    metrics::retain(&models, &providers);
}

fn now_unix() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
