//! The admin API: `/admin/v1/…`.
//!
//! Every operation is one row of `table::operations`: method, path, role, query, body, answer. [`Api::answer`]
//! is the only way in, over HTTP and for a command line that works on the store itself: it finds the row, checks role,
//! query and body along it, and only then calls what serves it. The OpenAPI document is made from the same rows.

mod applications;
mod ask;
mod audit;
mod holders;
mod keys;
mod limits;
mod openapi;
mod running;
mod shape;
mod table;
mod tokens;
mod usage;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;

use super::ReadStatus;
use super::problem::{Kind, Problem};
use crate::config::{EnvLookup, Live, Snapshot, nearest};
use crate::limits::Limits;
use crate::metrics;
use crate::store::{Role, Store};

use ask::Ask;
pub use keys::{GRACE_MS, GRACE_MS_MAX};
pub use shape::time_unix_ms;
pub use usage::sum as usage_row;

/// What a path of the API begins with.
pub const ROOT: &str = "/admin/v1/";
/// The largest body of JSON.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// The largest body of `POST /admin/v1/routes/check`: a routes.yaml.
pub const ROUTES_BYTES_MAX: usize = 1 << 20;

/// Makes a page about what the process knows.
pub type View = Arc<dyn Fn() -> Value + Send + Sync>;

/// What only a running process can do.
#[derive(Clone)]
pub struct Running {
    /// How the last try to load routes.yaml went.
    pub status: ReadStatus,
    /// Asks for a load of routes.yaml now.
    pub reload: Arc<dyn Fn() + Send + Sync>,
    /// The health of lanes to providers.
    pub health: View,
    /// Every count of limits.
    pub limits: Arc<Limits>,
    /// Where relative paths in a routes.yaml to be checked start.
    pub routes_dir: PathBuf,
    /// Where `env:NAME` of a routes.yaml to be checked is looked up.
    pub env: EnvLookup,
}

/// All that operations work on.
#[derive(Clone, Default)]
pub struct Api {
    /// Keys and usage; `None` with `store: none`.
    pub store: Option<Arc<dyn Store>>,
    /// The routes in force; `None` where none could be read.
    pub live: Option<Arc<Live>>,
    /// The process, unless a command line works on the store itself.
    pub running: Option<Running>,
    /// The tier of keys for applications that name none.
    pub apply_tier: Option<String>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of its credential; the audit log notes it.
    pub name: String,
    /// `admin-api` or `cli`.
    pub via: &'static str,
    /// What it may do.
    pub role: Role,
}

/// A request, free of its transport.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// The undecoded path.
    pub path: String,
    /// The undecoded query.
    pub query: String,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Accept`.
    pub accept: Option<String>,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The HTTP status: 200, 201 or 204.
    pub status: u16,
    /// What it says.
    pub content: Content,
}

/// The content of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// `application/json`.
    Json(Value),
    /// `text/csv`. RFC 4180.
    Csv(String),
    /// 204.
    Nothing,
}

impl Answer {
    /// 200 with JSON.
    pub fn ok(value: Value) -> Self {
        Self { status: 200, content: Content::Json(value) }
    }
}

type Served = Pin<Box<dyn Future<Output = Result<Answer, Problem>> + Send>>;

impl Api {
    /// Serves one request of `caller`. Where `caller` is `None`, nothing but 401 is said.
    ///
    /// # Errors
    /// Whatever is in the way, as the client is to read it.
    pub async fn answer(self: Arc<Self>, caller: Option<Caller>, request: Request) -> Result<Answer, Problem> {
        let caller = caller
            .ok_or_else(|| Problem::new(Kind::Unauthorized, "Send an admin token as 'Authorization: Bearer adm-…'."))?;
        let (operation, id) = table::find(&request.method, &request.path)?;
        if caller.role < operation.role {
            let (needed, has) = (operation.role.name(), caller.role.name());
            return Err(Problem::new(Kind::Forbidden, format!("This needs the role '{needed}'; yours is '{has}'.")));
        }
        let served = match Ask::read(self, (caller, operation, id), request) {
            Ok(ask) => (operation.serve)(ask).await,
            Err(problem) => Err(problem),
        };
        let status = served.as_ref().map_or_else(|problem| problem.kind.status(), |answer| answer.status);
        metrics::admin_request(operation.name, status);
        served
    }

    /// The store.
    fn store(&self) -> Result<&dyn Store, Problem> {
        let missing = || Problem::new(Kind::NoStore, "conf/forge.yaml says 'store: none'.");
        self.store.as_deref().ok_or_else(missing)
    }

    /// The routes in force.
    fn snapshot(&self) -> Result<Arc<Snapshot>, Problem> {
        self.live.as_ref().map(|live| live.load()).ok_or_else(not_running)
    }

    fn running(&self) -> Result<&Running, Problem> {
        self.running.as_ref().ok_or_else(not_running)
    }

    /// Checks that there is such a tier, where the tiers are known.
    fn check_tier(&self, name: &str) -> Result<(), Problem> {
        let Some(live) = &self.live else { return Ok(()) };
        let snapshot = live.load();
        if snapshot.tiers.contains_key(name) {
            return Ok(());
        }
        let names = snapshot.tiers.keys().map(String::as_str);
        Err(Problem::field("/tier", format!("no tier '{name}' in routes.yaml"), nearest(name, names)))
    }
}

fn not_running() -> Problem {
    Problem::new(Kind::NotRunning, "Ask a running gateway: forge … --admin URL.")
}
