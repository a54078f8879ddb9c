//! An administrator who holds every answer of the admin API against its OpenAPI document.

use serde_json::{Value, json};

use crate::support::client::{Request, Response};
use crate::support::gateway::{ADMIN_TOKEN, Gateway};

/// Talks to one gateway's admin API with one token.
pub struct Operator<'a> {
    pub gateway: &'a Gateway,
    token: String,
    document: Value,
}

impl<'a> Operator<'a> {
    /// The owner of every gateway of these tests.
    pub async fn of(gateway: &'a Gateway) -> Operator<'a> {
        let request = Request::new("GET", "/admin/v1/openapi.json").bearer(ADMIN_TOKEN);
        let document = gateway.admin_send(request).await.expect(200).json();
        Operator { gateway, token: ADMIN_TOKEN.to_owned(), document }
    }

    /// The same document, another token.
    pub fn with_token(&self, token: &str) -> Operator<'a> {
        Operator { gateway: self.gateway, token: token.to_owned(), document: self.document.clone() }
    }

    /// The OpenAPI document.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Gets, and checks the answer.
    pub async fn get(&self, target: &str) -> Response {
        self.ask(Request::new("GET", target)).await
    }

    /// Posts JSON, and checks the answer.
    pub async fn post(&self, target: &str, body: Value) -> Response {
        self.send("POST", target, body).await
    }

    /// Sends JSON, and checks the answer.
    pub async fn send(&self, method: &str, target: &str, body: Value) -> Response {
        let request = Request::new(method, target).header("content-type", "application/json");
        self.ask(request.body(body.to_string())).await
    }

    /// Sends a request with the token, and checks the answer.
    pub async fn ask(&self, request: Request) -> Response {
        let (method, target) = (request.method.clone(), request.target.clone());
        let response = self.gateway.admin_send(request.bearer(&self.token)).await;
        self.check(&method, &target, &response);
        response
    }

    /// Asserts that the document describes this answer.
    fn check(&self, method: &str, target: &str, response: &Response) {
        let path = target.split('?').next().unwrap();
        let content_type = response.header("content-type").unwrap_or_default().split(';').next().unwrap().to_owned();
        if response.status >= 400 {
            assert_eq!(content_type, "application/problem+json", "{method} {target} {}", response.text());
            self.valid(&response.json(), &json!({"$ref": "#/components/schemas/Problem"}), target);
            assert_eq!(response.json()["status"], response.status);
        }
        let paths = self.document["paths"].as_object().unwrap();
        let pattern =
            paths.keys().filter(|pattern| matches(pattern, path)).min_by_key(|pattern| pattern.matches('{').count());
        let Some(operation) = pattern.and_then(|pattern| paths[pattern].get(method.to_lowercase())) else {
            return assert!(matches!(response.status, 404 | 405), "{method} {target} is not in the document");
        };
        let described = &operation["responses"][response.status.to_string()];
        assert!(described.is_object(), "{method} {target}: {} is not described", response.status);
        if response.status == 204 {
            return assert!(response.body.is_empty());
        }
        let schema = &described["content"][&content_type]["schema"];
        assert!(schema.is_object(), "{method} {target}: {content_type} is not described");
        if content_type.ends_with("json") {
            self.valid(&response.json(), schema, &format!("{method} {target}"));
        }
    }

    /// Asserts that `value` is of `schema`, as far as our documents go.
    fn valid(&self, value: &Value, schema: &Value, at: &str) {
        if let Some(reference) = schema["$ref"].as_str() {
            let pointed = self.document.pointer(reference.trim_start_matches('#'));
            return self.valid(value, pointed.unwrap_or_else(|| panic!("{at}: {reference} leads nowhere")), at);
        }
        if let Some(any) = schema["anyOf"].as_array() {
            assert!(any.iter().any(|schema| self.is_of_type(value, schema)), "{at}: {value} is none of {schema}");
            let fitting = any.iter().find(|schema| self.is_of_type(value, schema)).unwrap();
            return self.valid(value, fitting, at);
        }
        assert!(self.is_of_type(value, schema), "{at}: {value} is not {schema}");
        if let Some(words) = schema["enum"].as_array() {
            assert!(words.contains(value), "{at}: {value} is none of {words:?}");
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            self.valid(item, &schema["items"], &format!("{at}/{index}"));
        }
        let Some(object) = value.as_object() else { return };
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(object.contains_key(name.as_str().unwrap()), "{at}: {name} is missing in {value}");
        }
        for (name, value) in object {
            match (schema["properties"].get(name), &schema["additionalProperties"]) {
                (Some(schema), _) => self.valid(value, schema, &format!("{at}/{name}")),
                (None, Value::Bool(false)) => panic!("{at}: {name} is not described"),
                (None, Value::Object(schema)) => self.valid(value, &Value::Object(schema.clone()), at),
                (None, _) => {}
            }
        }
    }

    fn is_of_type(&self, value: &Value, schema: &Value) -> bool {
        if let Some(reference) = schema["$ref"].as_str() {
            return self.is_of_type(value, self.document.pointer(reference.trim_start_matches('#')).unwrap());
        }
        match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("boolean") => value.is_boolean(),
            Some("null") => value.is_null(),
            Some(other) => panic!("the document says {other:?}"),
            None => true,
        }
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len() && pattern.iter().zip(&path).all(|(part, is)| part == is || *part == "{id}")
}
