//! Owners, teams and organisations: who holds keys.

use super::ask::{json_of, page_of};
use super::keys::{CURSOR, ID, LIMIT, NAME, NEXT};
use super::shape::{Field, Shape, field, maybe, nullable, required};
use super::table::{Method, Operation};
use super::{Answer, Ask, Content};
use crate::admin::problem::{Kind, Problem};
use crate::config::HolderKind;
use crate::store::{Created, HolderChange, HolderFilter, HolderRecord, NewHolder};

const HOLDER: &[Field] = &[
    required("id", ID, "Its id."),
    required("kind", Shape::Choice(&["owner", "team", "organisation"]), "What it is."),
    required("name", NAME, "Unique among its kind."),
    maybe("email", NAME, "Of an owner."),
    maybe("team", ID, "The team of an owner."),
    maybe("organisation", ID, "The organisation of a team, or of an owner without team."),
    required("limits", Shape::Limits, "Over all that belongs to it."),
    required("metadata", Shape::TextMap, "For people."),
    required("created_unix_ms", Shape::UnixMs, "When it was created."),
];

const LIST: Shape = Shape::Object(&[required("data", Shape::List(&Shape::Object(HOLDER)), "The newest first."), NEXT]);

const NEW_NAME: Field = required("name", NAME, "Unique among its kind.");
const CHANGED_NAME: Field = field("name", NAME, "Unique among its kind.");
const EMAIL: Field = nullable("email", NAME, "Where it is reached.");
const TEAM: Field = nullable("team", ID, "The id of its team.");
const ORGANISATION: Field = nullable("organisation", ID, "The id of its organisation.");
const LIMITS: Field = field("limits", Shape::Limits, "Over all that belongs to it.");
const METADATA: Field = field("metadata", Shape::TextMap, "For people.");
const BY_TEAM: Field = field("team", ID, "Belonging to this team.");
const BY_ORGANISATION: Field = field("organisation", ID, "Belonging to this organisation.");

/// What one kind of holder is called in paths and operations, and which fields it has.
macro_rules! operations {
    ($kind:expr, $path:literal, $one:literal, $many:literal, [$($own:expr),*], [$($filter:expr),*]) => {
        [
            Operation::post(concat!("create", $one), concat!("/admin/v1/", $path), Shape::Object(HOLDER), |ask| {
                Box::pin(create(ask, $kind))
            })
            .about(concat!("Creates one of the ", $path, "."))
            .body(&[NEW_NAME, $($own,)* LIMITS, METADATA])
            .creates(),
            Operation::get(concat!("list", $many), concat!("/admin/v1/", $path), LIST, |ask| Box::pin(list(ask, $kind)))
                .about(concat!("Lists ", $path, "."))
                .query(&[$($filter,)* LIMIT, CURSOR]),
            Operation::get(concat!("show", $one), concat!("/admin/v1/", $path, "/{id}"), Shape::Object(HOLDER), |ask| {
                Box::pin(show(ask, $kind))
            })
            .about(concat!("Shows one of the ", $path, ".")),
            Operation {
                method: Method::Patch,
                ..Operation::post(
                    concat!("update", $one),
                    concat!("/admin/v1/", $path, "/{id}"),
                    Shape::Object(HOLDER),
                    |ask| Box::pin(update(ask, $kind)),
                )
                .about(concat!("Changes the named fields of one of the ", $path, "."))
                .body(&[CHANGED_NAME, $($own,)* LIMITS, METADATA])
            },
            Operation {
                method: Method::Delete,
                status: 204,
                answer: None,
                ..Operation::post(concat!("delete", $one), concat!("/admin/v1/", $path, "/{id}"), Shape::Any, |ask| {
                    Box::pin(delete(ask, $kind))
                })
                .about(concat!("Deletes one of the ", $path, " that nothing belongs to."))
            },
        ]
    };
}

pub static OWNERS: [Operation; 5] = operations!(
    HolderKind::Owner,
    "owners",
    "Owner",
    "Owners",
    [EMAIL, TEAM, ORGANISATION],
    [BY_TEAM, BY_ORGANISATION]
);
pub static TEAMS: [Operation; 5] =
    operations!(HolderKind::Team, "teams", "Team", "Teams", [ORGANISATION], [BY_ORGANISATION]);
pub static ORGANISATIONS: [Operation; 5] =
    operations!(HolderKind::Organisation, "organisations", "Organisation", "Organisations", [], []);

async fn create(ask: Ask, kind: HolderKind) -> Result<Answer, Problem> {
    let body = &ask.body;
    let new = NewHolder {
        email: body.or_default("email")?,
        team: body.or_default("team")?,
        organisation: body.or_default("organisation")?,
        limits: body.or_default("limits")?,
        metadata: body.or_default("metadata")?,
        ..NewHolder::new(kind, body.or_default::<String>("name")?)
    };
    let made = ask.api.store()?.create_holder(&new, &ask.act()).await?;
    let status = if matches!(made, Created::New(_)) { 201 } else { 200 };
    Ok(Answer { status, content: Content::Json(json_of(made.object())?) })
}

async fn list(ask: Ask, kind: HolderKind) -> Result<Answer, Problem> {
    let (team, organisation) = (ask.filter("team"), ask.filter("organisation"));
    let filter = HolderFilter { kind: Some(kind), team, organisation };
    page_of(&ask.api.store()?.holders(&filter, &ask.page()?).await?)
}

async fn show(ask: Ask, kind: HolderKind) -> Result<Answer, Problem> {
    Ok(Answer::ok(json_of(&holder(&ask, kind).await?)?))
}

/// The holder of the path: one of another kind is none.
async fn holder(ask: &Ask, kind: HolderKind) -> Result<HolderRecord, Problem> {
    let found = ask.api.store()?.holder(&ask.id).await?.filter(|holder| holder.kind == kind);
    found.ok_or_else(|| Problem::no_such(kind.name()))
}

async fn update(ask: Ask, kind: HolderKind) -> Result<Answer, Problem> {
    let body = &ask.body;
    let change = HolderChange {
        name: body.get("name")?,
        email: body.get("email")?,
        team: body.get("team")?,
        organisation: body.get("organisation")?,
        limits: body.get("limits")?,
        metadata: body.get("metadata")?,
    };
    if change == HolderChange::default() {
        return Err(Problem::new(Kind::InvalidRequest, "The body names nothing to change."));
    }
    let id = holder(&ask, kind).await?.id;
    let changed = ask.api.store()?.update_holder(&id, &change, &ask.act()).await?;
    Ok(Answer::ok(json_of(&changed)?))
}

async fn delete(ask: Ask, kind: HolderKind) -> Result<Answer, Problem> {
    let id = holder(&ask, kind).await?.id;
    ask.api.store()?.delete_holder(&id, &ask.act()).await?;
    Ok(Answer { status: 204, content: Content::Nothing })
}
