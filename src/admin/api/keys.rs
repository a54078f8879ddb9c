//! Keys: created and rotated with their secret shown once, listed, changed, revoked.

use serde_json::{Value, json};

use super::ask::{json_of, page_of};
use super::shape::{Field, Shape, field, maybe, nullable, required};
use super::table::{Method, Operation};
use super::{Answer, Ask, Content};
use crate::admin::problem::{Kind, Problem};
use crate::credential::Credential;
use crate::store::{Created, KeyChange, KeyFilter, KeyRecord, KeyState, NewKey, NewSecret};

pub const NAME: Shape = Shape::Text { chars_max: 200 };
pub const ID: Shape = Shape::Text { chars_max: 64 };
pub const LIMIT: Field = field("limit", Shape::Count { min: 1, max: 1000 }, "Rows of a page. Default: 100.");
pub const CURSOR: Field = field("cursor", Shape::Text { chars_max: 300 }, "`next` of the page before.");
pub const NEXT: Field =
    maybe("next", Shape::Text { chars_max: 300 }, "The cursor of the next page; null: this is the last.");

/// For how long an old secret stays valid when the caller does not say.
pub const GRACE_MS: u64 = 3_600_000;
/// Thirty days.
pub const GRACE_MS_MAX: u64 = 30 * 24 * 3_600_000;

pub const KEY: &[Field] = &[
    required("id", ID, "Stays the same when the secret is rotated."),
    required("name", NAME, "For people."),
    required("prefix", ID, "The first characters of the secret in force."),
    required("tier", NAME, "A tier of routes.yaml."),
    maybe("owner", ID, "Its owner."),
    maybe("team", ID, "Its team, where that is not its owner's."),
    maybe("organisation", ID, "Its organisation, where that is not its team's or owner's."),
    required("models", Shape::Texts, "Patterns that narrow the tier's models; empty: all of the tier's."),
    required("endpoints", Shape::Endpoints, "Endpoints it may call; empty: all."),
    required("networks", Shape::Networks, "Networks it may call from; empty: all."),
    required("metadata", Shape::TextMap, "Read by rules as key.metadata."),
    required("limits", Shape::Limits, "Its own limits, besides its tier's."),
    required("created_unix_ms", Shape::UnixMs, "When it was created."),
    maybe("expires_unix_ms", Shape::UnixMs, "From then on it is refused."),
    maybe("revoked_unix_ms", Shape::UnixMs, "Since then it is refused."),
    maybe("rotated_unix_ms", Shape::UnixMs, "When it got its present secret, if that is not its first."),
    maybe("last_used_unix_ms", Shape::UnixMs, "When it was last used, to about a minute."),
];

const SECRET: &[Field] = &[maybe(
    "secret",
    Shape::Text { chars_max: 200 },
    "The key itself, shown this once. Null: this answers a request that was sent again.",
)];
pub const KEY_WITH_SECRET: Shape = Shape::Joined(&[KEY, SECRET]);

/// What can be changed of a key.
pub const CHANGE: [Field; 11] = [
    field("name", NAME, "For people."),
    field("tier", NAME, "A tier of routes.yaml."),
    nullable("owner", ID, "The id of an owner."),
    nullable("team", ID, "The id of a team."),
    nullable("organisation", ID, "The id of an organisation."),
    field("models", Shape::Texts, "Patterns that narrow the tier's models."),
    field("endpoints", Shape::Endpoints, "Endpoints it may call."),
    field("networks", Shape::Networks, "Networks it may call from, e.g. 10.0.0.0/8."),
    field("metadata", Shape::TextMap, "Read by rules as key.metadata."),
    field("limits", Shape::Limits, "Its own limits, besides its tier's."),
    nullable("expires_unix_ms", Shape::UnixMs, "From then on it is refused."),
];

/// What a key is made of.
const CREATE: [Field; 11] = {
    let mut fields = CHANGE;
    (fields[0].required, fields[1].required) = (true, true);
    fields
};

const ROTATE: &[Field] = &[field(
    "grace_ms",
    Shape::Count { min: 0, max: GRACE_MS_MAX },
    "For how long the old secret stays valid, in milliseconds. Default: an hour.",
)];

const FILTER: &[Field] = &[
    field("owner", ID, "Of this owner."),
    field("team", ID, "Of this team, or of its owners."),
    field("organisation", ID, "Of this organisation, its teams or its owners."),
    field("tier", NAME, "Of this tier."),
    field("state", Shape::Choice(&["active", "revoked"]), "Revoked, or not."),
    LIMIT,
    CURSOR,
];

const LIST: Shape = Shape::Object(&[required("data", Shape::List(&Shape::Object(KEY)), "The newest first."), NEXT]);

pub static OPERATIONS: [Operation; 6] = [
    Operation::post("createKey", "/admin/v1/keys", KEY_WITH_SECRET, |ask| Box::pin(create(ask)))
        .about("Creates a key and shows its secret, this once.")
        .body(&CREATE)
        .creates(),
    Operation::get("listKeys", "/admin/v1/keys", LIST, |ask| Box::pin(list(ask))).about("Lists keys.").query(FILTER),
    Operation::get("showKey", "/admin/v1/keys/{id}", Shape::Object(KEY), |ask| Box::pin(show(ask)))
        .about("Shows a key."),
    Operation {
        method: Method::Patch,
        ..Operation::post("updateKey", "/admin/v1/keys/{id}", Shape::Object(KEY), |ask| Box::pin(update(ask)))
            .about("Changes the fields that are named; in force at once here, within two seconds on every node.")
            .body(&CHANGE)
    },
    Operation::post("revokeKey", "/admin/v1/keys/{id}/revoke", Shape::Object(KEY), |ask| Box::pin(revoke(ask)))
        .about("Revokes a key for good, every secret of it."),
    Operation::post("rotateKey", "/admin/v1/keys/{id}/rotate", KEY_WITH_SECRET, |ask| Box::pin(rotate(ask)))
        .about("Gives a key a new secret and shows it, this once. The one in force stays valid for the grace period.")
        .body(ROTATE),
];

/// A new credential for a client.
///
/// # Errors
/// The system gives no randomness.
pub fn new_secret() -> Result<Credential, Problem> {
    Credential::random().map_err(|error| crate::store::StoreError::from(error).into())
}

/// A record with its secret, where it is to be shown.
///
/// # Errors
/// It cannot be written as JSON.
pub fn with_secret(record: &impl serde::Serialize, secret: Option<&Credential>) -> Result<Value, Problem> {
    let mut value = json_of(record)?;
    value["secret"] = json!(secret.map(Credential::reveal));
    Ok(value)
}

/// A creation: 201 with the secret the first time, 200 without it from then on.
///
/// # Errors
/// It cannot be written as JSON.
pub fn created<T: serde::Serialize>(made: &Created<T>, secret: &Credential) -> Result<Answer, Problem> {
    let (status, shown) = match made {
        Created::New(_) => (201, Some(secret)),
        Created::Before(_) => (200, None),
    };
    Ok(Answer { status, content: Content::Json(with_secret(made.object(), shown)?) })
}

/// What the body says of a key to be created.
///
/// # Errors
/// There is no such tier.
pub fn new_key(ask: &Ask, secret: &Credential, defaults: (String, String)) -> Result<NewKey, Problem> {
    let (body, (name, tier)) = (&ask.body, defaults);
    let tier = body.get("tier")?.unwrap_or(tier);
    ask.api.check_tier(&tier)?;
    Ok(NewKey {
        name: body.get("name")?.unwrap_or(name),
        tier,
        owner: body.or_default("owner")?,
        team: body.or_default("team")?,
        organisation: body.or_default("organisation")?,
        models: body.or_default("models")?,
        endpoints: body.or_default("endpoints")?,
        networks: body.or_default("networks")?,
        metadata: body.or_default("metadata")?,
        limits: body.or_default("limits")?,
        expires_unix_ms: body.or_default("expires_unix_ms")?,
        ..NewKey::new(secret)
    })
}

async fn create(ask: Ask) -> Result<Answer, Problem> {
    let secret = new_secret()?;
    let new = new_key(&ask, &secret, Default::default())?;
    let made = ask.api.store()?.create_key(&new, &ask.act()).await?;
    created(&made, &secret)
}

async fn list(ask: Ask) -> Result<Answer, Problem> {
    let filter = KeyFilter {
        owner: ask.filter("owner"),
        team: ask.filter("team"),
        organisation: ask.filter("organisation"),
        tier: ask.filter("tier"),
        state: ask.query("state").map(|state| if state == "revoked" { KeyState::Revoked } else { KeyState::InForce }),
    };
    page_of(&ask.api.store()?.keys(&filter, &ask.page()?).await?)
}

async fn show(ask: Ask) -> Result<Answer, Problem> {
    Ok(Answer::ok(json_of(&key(&ask).await?)?))
}

async fn key(ask: &Ask) -> Result<KeyRecord, Problem> {
    ask.api.store()?.key(&ask.id).await?.ok_or_else(|| Problem::no_such("key"))
}

async fn update(ask: Ask) -> Result<Answer, Problem> {
    let body = &ask.body;
    let change = KeyChange {
        name: body.get("name")?,
        tier: body.get("tier")?,
        owner: body.get("owner")?,
        team: body.get("team")?,
        organisation: body.get("organisation")?,
        models: body.get("models")?,
        endpoints: body.get("endpoints")?,
        networks: body.get("networks")?,
        metadata: body.get("metadata")?,
        limits: body.get("limits")?,
        expires_unix_ms: body.get("expires_unix_ms")?,
    };
    if change == KeyChange::default() {
        return Err(Problem::new(Kind::InvalidRequest, "The body names nothing to change."));
    }
    if let Some(tier) = &change.tier {
        ask.api.check_tier(tier)?;
    }
    let changed = ask.api.store()?.update_key(&ask.id, &change, &ask.act()).await?;
    Ok(Answer::ok(json_of(&changed)?))
}

async fn revoke(ask: Ask) -> Result<Answer, Problem> {
    let revoked = ask.api.store()?.revoke_key(&ask.id, &ask.act()).await?;
    Ok(Answer::ok(json_of(&revoked)?))
}

async fn rotate(ask: Ask) -> Result<Answer, Problem> {
    let secret = new_secret()?;
    let grace_ms = ask.body.get("grace_ms")?.unwrap_or(GRACE_MS);
    let store = ask.api.store()?;
    let rotated = store.rotate_key(&ask.id, &NewSecret::of(&secret), grace_ms, &ask.act()).await?;
    Ok(Answer::ok(with_secret(&rotated, Some(&secret))?))
}
