//! The table of operations: the router and the OpenAPI document are made from it.

use percent_encoding::percent_decode_str;

use super::shape::{Field, Shape};
use super::{Ask, Served, applications, audit, holders, keys, limits, openapi, running, tokens, usage};
use crate::admin::problem::{Kind, Problem};
use crate::store::Role;

/// The methods that operations have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Method {
    Get,
    Post,
    Patch,
    Delete,
}

impl Method {
    /// As it stands in a request.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// What a body is.
#[derive(Debug, Clone, Copy)]
pub enum BodyIs {
    /// There is none.
    Nothing,
    /// A JSON object of these fields.
    Fields(&'static [Field]),
    /// Text: a routes.yaml.
    Yaml,
}

/// One operation, whole.
pub struct Operation {
    /// `operationId` of the document.
    pub name: &'static str,
    /// Its method.
    pub method: Method,
    /// Its path; `{id}` stands for one segment.
    pub path: &'static str,
    /// What a caller must be.
    pub role: Role,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// Parameters of its query.
    pub query: &'static [Field],
    /// Its body.
    pub body: BodyIs,
    /// The status of its answer.
    pub status: u16,
    /// The shape of its answer; `None`: 204.
    pub answer: Option<Shape>,
    /// Whether it honours `Idempotency-Key`.
    pub idempotent: bool,
    /// Whether it can answer `text/csv`.
    pub csv: bool,
    /// What serves it.
    pub serve: fn(Ask) -> Served,
}

impl Operation {
    /// A reading operation without query.
    pub const fn get(name: &'static str, path: &'static str, answer: Shape, serve: fn(Ask) -> Served) -> Self {
        Self {
            name,
            method: Method::Get,
            path,
            role: Role::Read,
            about: "",
            query: &[],
            body: BodyIs::Nothing,
            status: 200,
            answer: Some(answer),
            idempotent: false,
            csv: false,
            serve,
        }
    }

    /// A changing operation.
    pub const fn post(name: &'static str, path: &'static str, answer: Shape, serve: fn(Ask) -> Served) -> Self {
        Self { method: Method::Post, role: Role::Operate, ..Self::get(name, path, answer, serve) }
    }

    /// What it does.
    pub const fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    /// With these parameters.
    pub const fn query(self, query: &'static [Field]) -> Self {
        Self { query, ..self }
    }

    /// With a JSON body of these fields.
    pub const fn body(self, fields: &'static [Field]) -> Self {
        Self { body: BodyIs::Fields(fields), ..self }
    }

    /// A creation: 201, idempotent.
    pub const fn creates(self) -> Self {
        Self { status: 201, idempotent: true, ..self }
    }
}

/// Groups of rows, in the order of the document.
static TABLE: [&[Operation]; 11] = [
    &keys::OPERATIONS,
    &holders::OWNERS,
    &holders::TEAMS,
    &holders::ORGANISATIONS,
    &applications::OPERATIONS,
    &usage::OPERATIONS,
    &running::OPERATIONS,
    &limits::OPERATIONS,
    &audit::OPERATIONS,
    &tokens::OPERATIONS,
    &openapi::OPERATIONS,
];

/// Every operation.
pub fn operations() -> impl Iterator<Item = &'static Operation> {
    TABLE.into_iter().flatten()
}

/// The operation of a method and an undecoded path, with its `{id}`.
///
/// # Errors
/// 404 for a path that none has, 405 for a method that the path's operations do not take.
pub fn find(method: &str, path: &str) -> Result<(&'static Operation, String), Problem> {
    let here: Vec<_> = operations().filter_map(|operation| Some((operation, id_of(operation.path, path)?))).collect();
    // `/usage/records` is no key called so: a path without `{id}` comes first.
    let exact = here.iter().any(|(operation, _)| operation.path == path);
    let mut here: Vec<_> = here.into_iter().filter(|(operation, _)| !exact || operation.path == path).collect();
    if let Some(index) = here.iter().position(|(operation, _)| operation.method.name() == method) {
        return Ok(here.swap_remove(index));
    }
    if here.is_empty() {
        return Err(Problem::new(Kind::NotFound, "No such path; GET /admin/v1/openapi.json lists all."));
    }
    let allow: Vec<&str> = here.iter().map(|(operation, _)| operation.method.name()).collect();
    let allow = allow.join(", ");
    Err(Problem { allow: Some(allow.clone()), ..Problem::new(Kind::MethodNotAllowed, format!("It takes {allow}.")) })
}

/// What stands for `{id}` where `path` is of this pattern.
fn id_of(pattern: &str, path: &str) -> Option<String> {
    const ID_CHARS_MAX: usize = 256;
    let Some((before, after)) = pattern.split_once("{id}") else {
        return (pattern == path).then(String::new);
    };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    let id = percent_decode_str(id).decode_utf8().ok().filter(|_| !id.is_empty() && !id.contains('/'))?;
    (id.len() <= ID_CHARS_MAX).then(|| id.into_owned())
}
