//! Applications for keys: an administrator approves or rejects what `POST /apply` took.

use serde_json::json;

use super::ask::{json_of, page_of};
use super::keys::{self, CURSOR, ID, KEY_WITH_SECRET, LIMIT, NAME, NEXT};
use super::shape::{Field, Shape, field, maybe, nullable, required};
use super::table::Operation;
use super::{Answer, Ask};
use crate::admin::problem::Problem;
use crate::store::{Application, ApplicationStatus};

const STATUS: Shape = Shape::Choice(&["pending", "approved", "rejected"]);
const TEXT: Shape = Shape::Text { chars_max: 4000 };

const APPLICATION: &[Field] = &[
    required("id", ID, "Its id."),
    required("name", NAME, "Who asks."),
    required("email", NAME, "Where they are told."),
    required("purpose", TEXT, "What the key is for."),
    required("address", NAME, "Where it was sent from."),
    required("status", STATUS, "What became of it."),
    required("created_unix_ms", Shape::UnixMs, "When it was filed."),
    maybe("decided_unix_ms", Shape::UnixMs, "When it was approved or rejected."),
    maybe("decided_by", NAME, "By whom."),
    maybe("reason", TEXT, "Why it was rejected."),
    maybe("key", ID, "The key that was made for it."),
];

/// As for a key that is created, with defaults.
const APPROVE: [Field; 11] = {
    let mut fields = keys::CHANGE;
    fields[0].about = "The name of its key. Default: the applicant's.";
    fields[1].about = "The tier of its key. Default: `apply.tier` of conf/forge.yaml.";
    fields
};

const LIST: Shape =
    Shape::Object(&[required("data", Shape::List(&Shape::Object(APPLICATION)), "The newest first."), NEXT]);
const APPROVED: Shape = Shape::Object(&[
    required("application", Shape::Object(APPLICATION), "The application."),
    required("key", KEY_WITH_SECRET, "The key that was made, with its secret, shown this once."),
]);

pub static OPERATIONS: [Operation; 4] = [
    Operation::get("listApplications", "/admin/v1/applications", LIST, |ask| Box::pin(list(ask)))
        .about("Lists applications for keys.")
        .query(&[field("status", STATUS, "Of this status."), LIMIT, CURSOR]),
    Operation::get("showApplication", "/admin/v1/applications/{id}", Shape::Object(APPLICATION), |ask| {
        Box::pin(show(ask))
    })
    .about("Shows an application."),
    Operation::post("approveApplication", "/admin/v1/applications/{id}/approve", APPROVED, |ask| {
        Box::pin(approve(ask))
    })
    .about("Approves a pending application: creates its key and shows the secret, this once.")
    .body(&APPROVE),
    Operation::post("rejectApplication", "/admin/v1/applications/{id}/reject", Shape::Object(APPLICATION), |ask| {
        Box::pin(reject(ask))
    })
    .about("Rejects a pending application.")
    .body(&[nullable("reason", TEXT, "Why, for other administrators.")]),
];

async fn list(ask: Ask) -> Result<Answer, Problem> {
    let status = ask.query("status").and_then(ApplicationStatus::by_name);
    page_of(&ask.api.store()?.applications(status, &ask.page()?).await?)
}

async fn application(ask: &Ask) -> Result<Application, Problem> {
    ask.api.store()?.application(&ask.id).await?.ok_or_else(|| Problem::no_such("application"))
}

async fn show(ask: Ask) -> Result<Answer, Problem> {
    Ok(Answer::ok(json_of(&application(&ask).await?)?))
}

async fn approve(ask: Ask) -> Result<Answer, Problem> {
    let secret = keys::new_secret()?;
    let applicant = application(&ask).await?.name;
    let tier = ask.body.get("tier")?.or_else(|| ask.api.apply_tier.clone());
    let tier = tier.ok_or_else(|| Problem::field("/tier", "is missing: conf/forge.yaml names none for it", None))?;
    let new = keys::new_key(&ask, &secret, (applicant, tier))?;
    let (application, key) = ask.api.store()?.approve_application(&ask.id, &new, &ask.act()).await?;
    let key = keys::with_secret(&key, Some(&secret))?;
    Ok(Answer::ok(json!({"application": json_of(&application)?, "key": key})))
}

async fn reject(ask: Ask) -> Result<Answer, Problem> {
    let reason: Option<String> = ask.body.or_default("reason")?;
    let rejected = ask.api.store()?.reject_application(&ask.id, reason.as_deref(), &ask.act()).await?;
    Ok(Answer::ok(json_of(&rejected)?))
}
