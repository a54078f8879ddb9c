//! The OpenAPI document, made from the table of operations. OpenAPI 3.1.

use serde_json::{Map, Value, json};

use super::shape::{Field, Shape};
use super::table::{self, BodyIs, Operation};
use super::{Answer, Ask};
use crate::admin::problem::{self, Kind};
use crate::config::LimitKind;

pub static OPERATIONS: [Operation; 1] =
    [Operation::get("showOpenApi", "/admin/v1/openapi.json", Shape::Any, |ask| Box::pin(show(ask)))
        .about("Shows this document.")];

async fn show(_ask: Ask) -> Result<Answer, problem::Problem> {
    Ok(Answer::ok(document()))
}

/// The whole document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for operation in table::operations() {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.name().to_ascii_lowercase()] = described(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Forge admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Keys, their holders, usage and the routes of a Forge gateway. \
                Lists are paged by cursor; times are in milliseconds since 1970, UTC; money is in micro-dollars.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:9090", "description": "The default admin listener."}],
        "security": [{"adminToken": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"adminToken": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Problem": problem_schema(), "Limits": limits_schema()},
        },
    })
}

fn described(operation: &Operation) -> Value {
    let mut described = json!({
        "operationId": operation.name,
        "summary": operation.about,
        "description": format!("Needs the role `{}`.", operation.role.name()),
        "tags": [operation.path.split('/').nth(3).unwrap_or_default()],
        "parameters": parameters(operation),
        "responses": responses(operation),
    });
    match operation.body {
        BodyIs::Nothing => {}
        BodyIs::Fields(fields) => {
            let required = fields.iter().any(|field| field.required);
            let schema = Shape::Object(fields).schema();
            described["requestBody"] =
                json!({"required": required, "content": {"application/json": {"schema": schema}}});
        }
        BodyIs::Yaml => {
            let schema = json!({"type": "string", "maxLength": super::ROUTES_BYTES_MAX});
            described["requestBody"] = json!({"required": true, "content": {"application/yaml": {"schema": schema}}});
        }
    }
    described
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let id = operation
        .path
        .contains("{id}")
        .then(|| json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string", "maxLength": 256}}));
    let idempotency = operation.idempotent.then(|| {
        json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "Sent again within a day, the request creates nothing and answers 200, without the secret.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 200},
        })
    });
    id.into_iter().chain(operation.query.iter().map(parameter)).chain(idempotency).collect()
}

fn parameter(field: &Field) -> Value {
    let mut parameter = json!({
        "name": field.name, "in": "query", "required": field.required, "description": field.about,
        "schema": field.shape.schema(),
    });
    if matches!(field.shape, Shape::Words(_)) {
        parameter["style"] = json!("form");
        parameter["explode"] = json!(false);
    }
    parameter
}

fn responses(operation: &Operation) -> Value {
    let mut responses = Map::new();
    let answer = match operation.answer {
        Some(shape) => {
            let mut content = json!({"application/json": {"schema": shape.schema()}});
            if operation.csv {
                content["text/csv"] = json!({"schema": {"type": "string"}});
            }
            json!({"description": operation.about, "content": content})
        }
        None => json!({"description": operation.about}),
    };
    if operation.idempotent {
        let mut again = answer.clone();
        again["description"] = json!("The same was asked for before under this Idempotency-Key.");
        responses.insert("200".into(), again);
    }
    responses.insert(operation.status.to_string(), answer);
    for (status, title) in Kind::statuses() {
        let problem = json!({"description": title, "content": {
            problem::CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}},
        }});
        responses.entry(status.to_string()).or_insert(problem);
    }
    Value::Object(responses)
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "RFC 9457.",
        "required": ["type", "title", "status", "detail", "instance"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "instance": {"type": "string", "format": "uri-reference"},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["field", "message"],
                    "properties": {
                        "field": {"type": "string", "description": "A JSON pointer, or ?name of the query."},
                        "message": {"type": "string"},
                        "did_you_mean": {"type": "string"},
                    },
                },
            },
        },
    })
}

/// Limits as routes.yaml has them.
fn limits_schema() -> Value {
    let amount = json!({"anyOf": [
        {"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[0-9]+ *[kM]?$"},
    ]});
    let budget = json!({"type": "string", "examples": ["50 USD/month", "5 USD/day", "10M tokens/month"]});
    let mut properties = Map::new();
    for kind in LimitKind::ALL.into_iter().filter(|kind| !kind.is_budget()) {
        properties.insert(kind.name().to_owned(), amount.clone());
    }
    properties.insert("budget".into(), json!({"anyOf": [budget, {"type": "array", "items": budget}]}));
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}
