//! The admin listener: metrics, health, the routes in force, and the admin API. Never on the request path.
//!
//! It answers on its own address, loopback by default. A page in a browser must not reach it through a
//! name that was rebound to this address, so `Host` has to be an IP address, `localhost` or a name the
//! operator listed, and a foreign `Origin` is refused. The pages are read-only and, on loopback, open; the API
//! ([`api`]) always wants a credential ([`Credentials`]).

pub mod api;
mod credentials;
mod guard;
mod http;
pub mod problem;
mod routes;

use std::net::SocketAddr;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::{Live, ReloadStatus};
use crate::metrics;

pub use credentials::Credentials;
pub use guard::Hosts;

/// Where the process is in its life; `/readyz` follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not accepting yet.
    Starting,
    /// Accepting.
    Serving,
    /// Finishing what is open, accepting nothing new.
    Draining,
}

/// Reads how the last try to load routes.yaml went.
pub type ReadStatus = Arc<dyn Fn() -> Arc<ReloadStatus> + Send + Sync>;

/// What the pages show.
#[derive(Clone)]
pub struct Admin {
    /// The routes in force.
    pub live: Arc<Live>,
    /// Where the process is in its life.
    pub phase: watch::Receiver<Phase>,
    /// How the last try to load routes.yaml went.
    pub reload: ReadStatus,
    /// The names `Host` may hold.
    pub hosts: Arc<Hosts>,
    /// What the API works on.
    pub api: Arc<api::Api>,
    /// Who may use the API.
    pub credentials: Arc<Credentials>,
    /// Whether metrics and routes are shown to everyone who can connect: on loopback.
    pub pages_are_open: bool,
}

/// Answers on `listener` until `stop` turns true or its sender is gone.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: TcpListener, admin: Admin, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
    let stopped = async move {
        // A sender that is gone stops the page as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let app = app(admin).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).with_graceful_shutdown(stopped).await
}

fn app(admin: Admin) -> axum::Router {
    axum::Router::new()
        .route("/metrics", get(metrics_page))
        .route("/routes", get(routes_page))
        .route_layer(middleware::from_fn_with_state(admin.clone(), http::wants_credential))
        .route("/", get(index))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/admin/v1/{*rest}", any(http::serve))
        .fallback(async || (StatusCode::NOT_FOUND, "not found\n"))
        .layer(middleware::from_fn_with_state(Arc::clone(&admin.hosts), guard::check))
        .with_state(admin)
}

async fn index() -> &'static str {
    "/metrics  for Prometheus\n/healthz  the process lives\n/readyz   it takes requests\n/routes   the routes in force\n\
     /admin/v1/openapi.json  the admin API; it wants an admin token\n"
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    match *admin.phase.borrow() {
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Serving => (StatusCode::OK, "ready\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

async fn metrics_page() -> Response {
    match metrics::render() {
        Ok(page) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response(),
        Err(error) => {
            log::error!("admin: the metrics cannot be encoded: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn routes_page(State(admin): State<Admin>) -> Json<serde_json::Value> {
    Json(routes::view(&admin.live.load(), &(admin.reload)()))
}

#[cfg(test)]
mod tests;
