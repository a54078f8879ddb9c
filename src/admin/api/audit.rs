//! The audit log: who changed what, when, through what.

use super::ask::page_of;
use super::keys::{CURSOR, ID, LIMIT, NAME, NEXT};
use super::shape::{Shape, field, required};
use super::table::Operation;
use super::{Answer, Ask};
use crate::admin::problem::Problem;
use crate::store::AuditFilter;

const ENTRY: Shape = Shape::Object(&[
    required("id", ID, "Its id."),
    required("at_unix_ms", Shape::UnixMs, "When."),
    required("actor", NAME, "Who: the name of an admin token, `config:NAME`, a system's user, a key's id."),
    required("via", NAME, "Through what: admin-api, cli, self-service, public."),
    required("action", NAME, "What was done, e.g. key.revoke."),
    required("object", NAME, "The id of what it was done to."),
    required("detail", Shape::Any, "What was changed, without secrets."),
]);

pub static OPERATIONS: [Operation; 1] = [Operation::get(
    "listAuditLog",
    "/admin/v1/audit",
    Shape::Object(&[required("data", Shape::List(&ENTRY), "The newest first."), NEXT]),
    |ask| Box::pin(list(ask)),
)
.about("Lists the audit log.")
.query(&[
    field("actor", NAME, "Of this actor."),
    field("object", NAME, "About this object."),
    field("action", NAME, "Of this action."),
    LIMIT,
    CURSOR,
])];

async fn list(ask: Ask) -> Result<Answer, Problem> {
    let filter = AuditFilter { actor: ask.filter("actor"), object: ask.filter("object"), action: ask.filter("action") };
    page_of(&ask.api.store()?.audit_log(&filter, &ask.page()?).await?)
}
