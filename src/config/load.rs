//! routes.yaml -> [`Snapshot`]: the shape first, then the meaning, every fault of both at once.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::access::{self, Keys};
use super::finding::{Faults, Finding};
use super::limits::LimitSet;
use super::model::Resolver;
use super::place::{Place, Report};
use super::provider;
use super::rule::Rules;
use super::secret::{FilesRead, Secrets, read_regular, sha256};
use super::shape::ROUTES;
use super::snapshot::{Provider, Snapshot};
use super::tree::{self, Kind};

/// Looks up an environment variable.
pub type EnvLookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;
/// Tells where the demo provider listens, starting it if it does not yet.
pub type DemoAddress = Arc<dyn Fn() -> io::Result<SocketAddr> + Send + Sync>;

/// What a routes.yaml cannot know by itself.
#[derive(Clone)]
pub struct Surroundings {
    /// Where relative paths in the file start. [`load`] takes the file's own directory instead.
    pub base_dir: PathBuf,
    /// Where `env:NAME` is looked up.
    pub env: EnvLookup,
    /// The demo provider's address; asked for only if a provider is of kind `demo`, so that it is started then.
    pub demo: DemoAddress,
    /// SHA-256 of the key that `hash: generated` stands for.
    pub demo_key_sha256: [u8; 32],
    /// Becomes [`Snapshot::generation`].
    pub generation: u64,
    /// Becomes [`Snapshot::loaded_unix`], in seconds since 1970.
    pub now_unix: i64,
}

impl Surroundings {
    /// The process's own environment, no demo provider running, no generated key: enough for `forge check`.
    #[expect(clippy::disallowed_methods, reason = "this is the place that the ban points to")]
    pub fn offline() -> Self {
        Self {
            base_dir: PathBuf::from("."),
            env: Arc::new(|name| std::env::var(name).ok()),
            demo: Arc::new(|| Ok(SocketAddr::from(([127, 0, 0, 1], 9)))),
            demo_key_sha256: [0; 32],
            generation: 1,
            now_unix: 0,
        }
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("base_dir", &self.base_dir).finish_non_exhaustive()
    }
}

/// A file that holds no fault.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub snapshot: Snapshot,
    /// What is doubtful in it.
    pub warnings: Vec<Finding>,
    /// The file itself, where it is one, and those it refers to: secrets and certificates.
    pub files: FilesRead,
}

/// Reads and checks the file at `path`; relative paths in it start at its directory. Blocks on file reads.
pub fn load(path: &Path, around: &Surroundings) -> Result<Loaded, Faults> {
    load_with_files(path, around).0
}

/// As [`load`], with the files that were read also where there are faults: mending one of them mends the load.
pub(super) fn load_with_files(path: &Path, around: &Surroundings) -> (Result<Loaded, Faults>, FilesRead) {
    let name = path.display().to_string();
    let bytes = read_regular(path);
    let own = FilesRead::from([(path.to_path_buf(), bytes.as_deref().ok().map(sha256))]);
    match text_of(bytes, &name) {
        Ok(text) => {
            let base_dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
            check_with_files(&text, &name, &Surroundings { base_dir, ..around.clone() }, own)
        }
        Err(faults) => (Err(faults), own),
    }
}

/// The text of a configuration file's bytes.
pub(super) fn text_of(bytes: io::Result<Vec<u8>>, name: &str) -> Result<String, Faults> {
    let bytes = bytes.map_err(|error| Faults::unreadable(name, error))?;
    String::from_utf8(bytes).map_err(|error| Faults::unreadable(name, error))
}

/// Checks the text of a routes.yaml; `name` is what messages call it.
pub fn check(text: &str, name: &str, around: &Surroundings) -> Result<Loaded, Faults> {
    check_with_files(text, name, around, FilesRead::new()).0
}

fn check_with_files(
    text: &str,
    name: &str,
    around: &Surroundings,
    mut files: FilesRead,
) -> (Result<Loaded, Faults>, FilesRead) {
    let faults = |list| Faults { file: name.to_owned(), list };
    let root = match tree::parse(text) {
        Ok(root) => root,
        Err(list) => return (Err(faults(list)), files),
    };
    let report = Report::default();
    let place = Place::root(&root, &report);
    ROUTES.check(&place);
    let secrets = Secrets::new(around);
    let snapshot = snapshot(&place, &secrets, around);
    files.extend(secrets.into_files());
    let (list, warnings) = report.finish();
    if list.is_empty() {
        (Ok(Loaded { snapshot, warnings, files: files.clone() }), files)
    } else {
        (Err(faults(list)), files)
    }
}

/// What the file says, as far as it can be read; not to be used when a fault was reported.
fn snapshot(root: &Place<'_>, secrets: &Secrets<'_>, around: &Surroundings) -> Snapshot {
    let providers: Vec<Arc<Provider>> =
        section(root, "providers").map(|section| provider::read_all(&section, secrets, around)).unwrap_or_default();
    let resolver = section(root, "models").map(|section| Resolver::new(&section, &providers));
    let models = resolver.as_ref().map(Resolver::models).unwrap_or_default();
    let rules = match (root.get("rules"), &resolver) {
        (Some(section), Some(resolver)) => Rules::read(&section, resolver),
        (Some(_), None) | (None, _) => Rules::default(),
    };
    let tiers = access::tiers(root.get("tiers").as_ref(), &models);
    let keys = Keys::read(root.get("keys").as_ref(), &tiers, &models, around);
    if keys.by_hash.is_empty() {
        root.warn("no 'keys': nobody can call this gateway");
    }
    drop(resolver);
    Snapshot {
        generation: around.generation,
        loaded_unix: around.now_unix,
        providers,
        models,
        rules,
        limits: root.get("limits").map(|limits| LimitSet::read(&limits)).unwrap_or_default(),
        tiers,
        keys: keys.by_hash,
        generated_key: keys.generated,
    }
}

/// A section that must say something: an empty one is what a file cut short looks like.
fn section<'a>(root: &Place<'a>, name: &str) -> Option<Place<'a>> {
    let section = root.get(name)?;
    if matches!(&section.node.kind, Kind::Map(entries) if entries.is_empty()) {
        section.fault(format!("'{name}' is empty"));
    }
    Some(section)
}
