//! Credentials of the admin API.

use super::ask::{json_of, page_of};
use super::keys::{CURSOR, ID, LIMIT, NAME, NEXT, created};
use super::shape::{Field, Shape, maybe, nullable, required};
use super::table::Operation;
use super::{Answer, Ask};
use crate::admin::problem::Problem;
use crate::credential::Credential;
use crate::store::{NewAdminToken, NewSecret, Role, StoreError};

const ROLE: Shape = Shape::Choice(&["read", "operate", "own"]);

const TOKEN: &[Field] = &[
    required("id", ID, "Its id."),
    required("name", NAME, "For people; the audit log notes it."),
    required("prefix", ID, "The first characters of the token."),
    required("role", ROLE, "read: see all but secrets. operate: change keys and routes. own: these tokens, too."),
    required("created_unix_ms", Shape::UnixMs, "When it was created."),
    maybe("expires_unix_ms", Shape::UnixMs, "From then on it is refused."),
    maybe("revoked_unix_ms", Shape::UnixMs, "Since then it is refused."),
];
const SECRET: &[Field] = &[maybe(
    "secret",
    Shape::Text { chars_max: 200 },
    "The token itself, shown this once. Null: this answers a request that was sent again.",
)];

const LIST: Shape = Shape::Object(&[required("data", Shape::List(&Shape::Object(TOKEN)), "The newest first."), NEXT]);

pub static OPERATIONS: [Operation; 3] = [
    Operation {
        role: Role::Own,
        ..Operation::post("createToken", "/admin/v1/tokens", Shape::Joined(&[TOKEN, SECRET]), |ask| {
            Box::pin(create(ask))
        })
        .about("Creates a credential of this API and shows it, this once.")
        .body(&[
            required("name", NAME, "For people."),
            required("role", ROLE, "What it may do."),
            nullable("expires_unix_ms", Shape::UnixMs, "From then on it is refused."),
        ])
        .creates()
    },
    Operation {
        role: Role::Own,
        ..Operation::get("listTokens", "/admin/v1/tokens", LIST, |ask| Box::pin(list(ask)))
            .about("Lists credentials of this API that the store holds.")
            .query(&[LIMIT, CURSOR])
    },
    Operation {
        role: Role::Own,
        ..Operation::post("revokeToken", "/admin/v1/tokens/{id}/revoke", Shape::Object(TOKEN), |ask| {
            Box::pin(revoke(ask))
        })
        .about("Revokes a credential of this API for good.")
    },
];

async fn create(ask: Ask) -> Result<Answer, Problem> {
    let secret = Credential::random_admin().map_err(StoreError::from)?;
    let new = NewAdminToken {
        secret: NewSecret::of(&secret),
        name: ask.body.or_default("name")?,
        role: ask.body.get("role")?.unwrap_or(Role::Read),
        expires_unix_ms: ask.body.or_default("expires_unix_ms")?,
    };
    let made = ask.api.store()?.create_admin_token(&new, &ask.act()).await?;
    created(&made, &secret)
}

async fn list(ask: Ask) -> Result<Answer, Problem> {
    page_of(&ask.api.store()?.admin_tokens(&ask.page()?).await?)
}

async fn revoke(ask: Ask) -> Result<Answer, Problem> {
    let revoked = ask.api.store()?.revoke_admin_token(&ask.id, &ask.act()).await?;
    Ok(Answer::ok(json_of(&revoked)?))
}
