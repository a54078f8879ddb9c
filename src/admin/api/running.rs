//! What a running process knows and does: routes, tiers, limits, the health of lanes.

use std::time::Duration;

use serde_json::{Value, json};

use super::keys::NAME;
use super::shape::{Field, Shape, maybe, required};
use super::table::{BodyIs, Operation};
use super::{Answer, Ask};
use crate::admin::problem::{Kind, Problem};
use crate::admin::routes;
use crate::config::{self, Finding, Surroundings};
use crate::store::NewAuditEntry;

/// The longest wait for a reload, and how often its outcome is looked for.
const RELOAD_WAIT_MAX: Duration = Duration::from_secs(10);
const RELOAD_PAUSE: Duration = Duration::from_millis(20);

const FINDING: Shape = Shape::Object(&[
    required("line", Shape::Count { min: 0, max: u64::MAX }, "Counted from 1."),
    required("path", Shape::Any, "The dotted path; empty for the file as a whole."),
    required("message", Shape::Any, "What was found and what is expected."),
    maybe("did_you_mean", Shape::Any, "The nearest thing that would have been accepted."),
]);

const CHECKED: &[Field] = &[
    required("valid", Shape::Switch, "Whether it can be used."),
    required("faults", Shape::List(&FINDING), "What is wrong."),
    required("warnings", Shape::List(&FINDING), "What is doubtful."),
];

const TIER: Shape = Shape::Object(&[
    required("name", NAME, "Its name."),
    required("models", Shape::Texts, "Patterns of models its keys may call."),
    required("limits", Shape::Limits, "The limits of each of its keys."),
    required("shared", Shape::Limits, "The limits of all its keys together."),
]);

pub static OPERATIONS: [Operation; 5] = [
    Operation::get(
        "listTiers",
        "/admin/v1/tiers",
        Shape::Object(&[required("data", Shape::List(&TIER), "By name.")]),
        |ask| Box::pin(tiers(ask)),
    )
    .about("Lists the tiers of the routes in force."),
    Operation::get("showRoutes", "/admin/v1/routes", Shape::Any, |ask| Box::pin(routes_in_force(ask)))
        .about("Shows the routes in force, without secrets."),
    Operation {
        body: BodyIs::Yaml,
        ..Operation::post("checkRoutes", "/admin/v1/routes/check", Shape::Object(CHECKED), |ask| Box::pin(check(ask)))
            .about("Says what is wrong with a routes.yaml, the body, without using it. Secrets it names are looked up.")
    },
    Operation::post(
        "reloadRoutes",
        "/admin/v1/routes/reload",
        Shape::Joined(&[
            CHECKED,
            &[required("generation", Shape::Count { min: 0, max: u64::MAX }, "Of the routes in force now.")],
        ]),
        |ask| Box::pin(reload(ask)),
    )
    .about("Reads routes.yaml again and says what became of it; with faults, the routes before stay in force."),
    Operation::get("showHealth", "/admin/v1/health", HEALTH, |ask| Box::pin(health(ask)))
        .about("Shows the health of every way to a provider."),
];

const HEALTH: Shape = Shape::Object(&[required(
    "data",
    Shape::List(&Shape::Object(&[
        required("model", Shape::Any, "The model of routes.yaml."),
        required("provider", Shape::Any, "The provider."),
        required("upstream_model", Shape::Any, "What the provider calls the model."),
        required("origin", Shape::Any, "Scheme, host and port."),
        required("key", Shape::Count { min: 0, max: 1_000_000 }, "The position of the provider's key."),
        required("healthy", Shape::Switch, "Whether requests are sent there."),
        maybe("reason", Shape::Any, "Why not."),
        maybe("left_ms", Shape::Count { min: 0, max: u64::MAX }, "For how long it is kept out."),
    ])),
    "By model and target.",
)]);

async fn tiers(ask: Ask) -> Result<Answer, Problem> {
    let snapshot = ask.api.snapshot()?;
    let mut tiers: Vec<_> = snapshot.tiers.values().collect();
    tiers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let view = tiers.into_iter().map(|tier| {
        let models: Vec<String> = tier.models.iter().map(ToString::to_string).collect();
        json!({"name": tier.name, "models": models, "limits": tier.limits, "shared": tier.shared})
    });
    Ok(Answer::ok(json!({"data": view.collect::<Vec<Value>>()})))
}

async fn routes_in_force(ask: Ask) -> Result<Answer, Problem> {
    let snapshot = ask.api.snapshot()?;
    Ok(Answer::ok(routes::view(&snapshot, &(ask.api.running()?.status)())))
}

async fn check(ask: Ask) -> Result<Answer, Problem> {
    let running = ask.api.running()?;
    let around =
        Surroundings { base_dir: running.routes_dir.clone(), env: running.env.clone(), ..Surroundings::offline() };
    let text = ask.body.text;
    let checked = tokio::task::spawn_blocking(move || config::check(&text, "routes.yaml", &around)).await;
    let checked = checked.map_err(|error| {
        log::error!("admin: a check of routes failed: {error}");
        Problem::new(Kind::Internal, "The check failed.")
    })?;
    Ok(Answer::ok(match checked {
        Ok(loaded) => outcome(&[], &loaded.warnings),
        Err(faults) => outcome(&faults.list, &[]),
    }))
}

async fn reload(ask: Ask) -> Result<Answer, Problem> {
    let running = ask.api.running()?;
    let tries = || {
        let status = (running.status)();
        status.taken + status.refused
    };
    let before = tries();
    (running.reload)();
    let began = tokio::time::Instant::now();
    while tries() == before {
        if began.elapsed() > RELOAD_WAIT_MAX {
            return Err(Problem::new(Kind::Internal, "The reload has not ended yet; look at GET /admin/v1/routes."));
        }
        tokio::time::sleep(RELOAD_PAUSE).await;
    }
    let status = (running.status)();
    let mut value = match &status.outcome {
        Ok(warnings) => outcome(&[], warnings),
        Err(faults) => outcome(&faults.list, &[]),
    };
    value["generation"] = status.generation.into();
    if let Some(store) = &ask.api.store {
        let detail = json!({"valid": status.outcome.is_ok(), "generation": status.generation});
        let entry = NewAuditEntry { action: "routes.reload".into(), object: "routes.yaml".into(), detail };
        store.audit(&entry, &ask.act()).await?;
    }
    Ok(Answer::ok(value))
}

fn outcome(faults: &[Finding], warnings: &[Finding]) -> Value {
    let view = |finding: &Finding| json!({"line": finding.line, "path": finding.path, "message": finding.message, "did_you_mean": finding.meant});
    let view = |findings: &[Finding]| findings.iter().map(view).collect::<Vec<Value>>();
    json!({"valid": faults.is_empty(), "faults": view(faults), "warnings": view(warnings)})
}

async fn health(ask: Ask) -> Result<Answer, Problem> {
    Ok(Answer::ok(json!({"data": (ask.api.running()?.health)()})))
}
