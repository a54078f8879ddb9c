//! Where a command works: a running gateway's admin API, or the store itself.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::Common;
use super::remote::Remote;
use crate::admin::api::{Answer, Api, Caller, Content, Request};
use crate::admin::problem::Problem;
use crate::cli::Failure;
use crate::config::{Live, ProcessConf, Role, Surroundings};
use crate::server::{self, Source};
use crate::store;

/// See the module.
pub(super) enum Place {
    /// A running gateway.
    Remote(Box<Remote>),
    /// The store.
    Store(Arc<Api>, Caller),
}

impl Place {
    pub(super) async fn open(common: &Common) -> Result<Self, Failure> {
        let env = Surroundings::offline().env;
        let works_on_store = common.store.is_some() || common.conf.is_some();
        let url = common.admin.clone().or_else(|| env("FORGE_ADMIN_URL").filter(|_| !works_on_store));
        if let Some(url) = url {
            let token = env("FORGE_ADMIN_TOKEN").ok_or_else(|| {
                Failure::Usage("FORGE_ADMIN_TOKEN holds no token; `forge admin token create` makes one".into())
            })?;
            return Remote::new(&url, &token).map(|remote| Self::Remote(Box::new(remote)));
        }
        let conf = conf(common)?;
        let store = store::open(&conf.store).await.map_err(|error| Failure::Fault(error.to_string()))?;
        if store.is_none() {
            return Err(Failure::Fault("the settings say 'store: none'; nothing is kept".into()));
        }
        let api =
            Api { store, live: routes(&conf.routes), running: None, apply_tier: conf.apply.map(|apply| apply.tier) };
        let user = env("USER").or_else(|| env("LOGNAME")).filter(|user| !user.is_empty());
        let name = user.unwrap_or_else(|| "unknown".into());
        Ok(Self::Store(Arc::new(api), Caller { name, via: "cli", role: Role::Own }))
    }

    /// Does one operation.
    pub(super) async fn ask(&self, request: Request) -> Result<Content, Failure> {
        match self {
            Self::Remote(remote) => remote.ask(request).await,
            Self::Store(api, caller) => {
                let answer = Arc::clone(api).answer(Some(caller.clone()), request).await;
                answer.map(|Answer { content, .. }| content).map_err(|problem| refused(&problem))
            }
        }
    }

    /// Gets JSON.
    pub(super) async fn get(&self, path: &str, query: &[(&str, Option<String>)]) -> Result<Value, Failure> {
        json(self.ask(request(("GET", path), query, None)).await?)
    }

    /// Sends JSON.
    pub(super) async fn send(&self, method: &str, path: &str, body: Value) -> Result<Value, Failure> {
        json(self.ask(request((method, path), &[], Some(body))).await?)
    }

    /// Every row of a list, page by page, `rows_max` at most; whether there are more.
    pub(super) async fn list(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
        rows_max: usize,
    ) -> Result<(Vec<Value>, bool), Failure> {
        const PAGE_ROWS: usize = 1000;
        let (mut rows, mut cursor) = (Vec::new(), None);
        while rows.len() < rows_max {
            let limit = (rows_max - rows.len()).min(PAGE_ROWS).to_string();
            let paging = [("limit", Some(limit)), ("cursor", cursor)];
            let mut page = self.get(path, &[query, &paging].concat()).await?;
            if let Value::Array(data) = page["data"].take() {
                rows.extend(data);
            }
            cursor = page["next"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return Ok((rows, false));
            }
        }
        Ok((rows, true))
    }
}

fn conf(common: &Common) -> Result<ProcessConf, Failure> {
    let conf = server::read_conf(common.conf.as_deref())?;
    let Some(store) = &common.store else { return Ok(conf) };
    // A scalar in double quotes is JSON's string.
    let text = format!("store: {}\n", Value::from(store.as_str()));
    let store = ProcessConf::parse(&text, "--store")?.store;
    Ok(ProcessConf { store, ..conf })
}

/// The routes, for the names of tiers. Without them a tier is taken as it is named: secrets that the gateway has need
/// not be here.
fn routes(path: &Path) -> Option<Arc<Live>> {
    let loaded = Source::choose(None, path).load(&Surroundings::offline()).ok()?;
    Some(Arc::new(Live::new(loaded.snapshot)))
}

fn refused(problem: &Problem) -> Failure {
    Failure::Fault(problem.detail.clone())
}

fn json(content: Content) -> Result<Value, Failure> {
    match content {
        Content::Json(value) => Ok(value),
        Content::Nothing => Ok(Value::Null),
        Content::Csv(_) => Err(Failure::Fault("the answer is no JSON".into())),
    }
}

/// A request of the API. Parameters without a value are left out.
pub(super) fn request((method, path): (&str, &str), query: &[(&str, Option<String>)], body: Option<Value>) -> Request {
    let named = query.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_ref()?))));
    Request {
        method: method.to_owned(),
        path: format!("/admin/v1/{path}"),
        query: named.collect::<Vec<_>>().join("&"),
        content_type: body.is_some().then(|| "application/json".to_owned()),
        body: body.map(|body| body.to_string().into_bytes()).unwrap_or_default(),
        ..Request::default()
    }
}

/// A value as it stands in a query or as a segment of a path. RFC 3986 section 2.3.
pub(super) fn encoded(text: &str) -> String {
    const KEPT: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(text, &KEPT).to_string()
}
