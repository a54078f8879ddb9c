//! A value that satisfies a JSON schema: tool arguments and structured output of the demo model.
//!
//! Covers what structured outputs allow: objects, arrays, unions, `enum`, `const`, `$ref`, bounds and the
//! common formats. A `pattern` is beyond it.
//! <https://platform.openai.com/docs/guides/structured-outputs#supported-schemas>

use std::cell::Cell;

use serde_json::{Map, Value, json};

/// Deeper than this, only what is required is made, so that recursive schemas end.
const FULL_DEPTH_MAX: usize = 4;
/// Deeper than this, nothing is made; a schema that requires more has no finite value.
const DEPTH_MAX: usize = 32;
/// The most elements or characters made, whatever the schema's minimum.
const COUNT_MAX: usize = 1024;
/// The most values made in all, so that nested minimums do not multiply.
const VALUES_MAX: usize = 10_000;

/// A value for `schema`, whose references are resolved within itself.
pub(super) fn value(schema: &Value) -> Value {
    Sampler { root: schema, made: Cell::new(0) }.sample(schema, Place { name: "value", depth: 0 })
}

struct Sampler<'a> {
    root: &'a Value,
    made: Cell<usize>,
}

/// Where in the value we are.
#[derive(Clone, Copy)]
struct Place<'a> {
    name: &'a str,
    depth: usize,
}

impl<'a> Place<'a> {
    fn inside(self, name: &'a str) -> Self {
        Self { name, depth: self.depth + 1 }
    }
}

impl Sampler<'_> {
    fn sample(&self, schema: &Value, place: Place) -> Value {
        self.made.set(self.made.get() + 1);
        if place.depth > DEPTH_MAX || self.made.get() > VALUES_MAX {
            return Value::Null;
        }
        if let Some(fixed) = schema.get("const") {
            return fixed.clone();
        }
        if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
            return first.clone();
        }
        if let Some(target) = schema["$ref"].as_str().and_then(|reference| self.resolve(reference)) {
            return self.sample(target, Place { depth: place.depth + 1, ..place });
        }
        if let Some(branches) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
            return self.union(branches, place);
        }
        if let Some(parts) = schema["allOf"].as_array() {
            return self.intersection(schema, parts, place);
        }
        self.typed(schema, place)
    }

    fn resolve(&self, reference: &str) -> Option<&Value> {
        self.root.pointer(reference.strip_prefix('#')?)
    }

    /// The first branch; deep down, `null` if it is allowed.
    fn union(&self, branches: &[Value], place: Place) -> Value {
        let is_null = |branch: &&Value| branch["type"] == "null";
        let null = branches.iter().find(is_null);
        let other = branches.iter().find(|branch| !is_null(branch));
        match if place.depth > FULL_DEPTH_MAX { null.or(other) } else { other.or(null) } {
            Some(branch) => self.sample(branch, place.inside(place.name)),
            None => Value::Null,
        }
    }

    /// The members of every part together; of parts that are no objects, the first.
    fn intersection(&self, schema: &Value, parts: &[Value], place: Place) -> Value {
        let mut whole = self.object(schema, place);
        for part in parts {
            match self.sample(part, place.inside(place.name)) {
                Value::Object(members) => whole.extend(members),
                other => return other,
            }
        }
        Value::Object(whole)
    }

    fn typed(&self, schema: &Value, place: Place) -> Value {
        match type_of(schema, place.depth) {
            Some("string") => Value::String(text(schema, place.name)),
            Some("integer") => json!(number(schema, 1.0) as i64),
            Some("number") => json!(number(schema, 0.5)),
            Some("boolean") => Value::Bool(true),
            Some("array") => Value::Array(self.array(schema, place)),
            Some("null") => Value::Null,
            Some(_) | None => Value::Object(self.object(schema, place)),
        }
    }

    fn object(&self, schema: &Value, place: Place) -> Map<String, Value> {
        let required =
            |name: &String| schema["required"].as_array().is_some_and(|names| names.iter().any(|other| other == name));
        let members = schema["properties"].as_object().into_iter().flatten();
        members
            .filter(|(name, _)| place.depth <= FULL_DEPTH_MAX || required(name))
            .map(|(name, member)| (name.clone(), self.sample(member, place.inside(name))))
            .collect()
    }

    fn array(&self, schema: &Value, place: Place) -> Vec<Value> {
        if let Some(items) = schema["prefixItems"].as_array() {
            return items.iter().map(|item| self.sample(item, place.inside(place.name))).collect();
        }
        let wanted = usize::from(place.depth <= FULL_DEPTH_MAX).max(bound(schema, "minItems").unwrap_or(0));
        let count = wanted.min(bound(schema, "maxItems").unwrap_or(COUNT_MAX)).min(COUNT_MAX);
        (0..count).map(|_| self.sample(&schema["items"], place.inside(place.name))).collect()
    }
}

/// The type to make: the only one, the first of several but `null`, or the one the keywords suggest.
fn type_of(schema: &Value, depth: usize) -> Option<&str> {
    match &schema["type"] {
        Value::String(name) => Some(name),
        Value::Array(names) => {
            let mut names = names.iter().filter_map(Value::as_str);
            if depth > FULL_DEPTH_MAX && names.clone().any(|name| name == "null") {
                return Some("null");
            }
            names.find(|name| *name != "null").or(Some("null"))
        }
        _ if schema.get("properties").is_some() => Some("object"),
        _ if schema.get("items").is_some() => Some("array"),
        _ => Some("string"),
    }
}

fn bound(schema: &Value, keyword: &str) -> Option<usize> {
    schema[keyword].as_u64().map(|bound| usize::try_from(bound).unwrap_or(usize::MAX))
}

/// `ideal`, moved into the schema's bounds.
fn number(schema: &Value, ideal: f64) -> f64 {
    let step = schema["multipleOf"].as_f64().filter(|step| *step > 0.0);
    let unit = step.unwrap_or(if schema["type"] == "number" { 0.5 } else { 1.0 });
    let low = schema["minimum"].as_f64().or(schema["exclusiveMinimum"].as_f64().map(|low| low + unit));
    let high = schema["maximum"].as_f64().or(schema["exclusiveMaximum"].as_f64().map(|high| high - unit));
    let number = ideal.max(low.unwrap_or(ideal)).min(high.unwrap_or(f64::MAX));
    match step {
        Some(step) if low.is_some() => (number / step).ceil() * step,
        Some(step) => (number / step).floor() * step,
        None => number,
    }
}

fn text(schema: &Value, name: &str) -> String {
    let mut text = match schema["format"].as_str() {
        Some("date-time") => "2026-01-01T00:00:00Z".to_owned(),
        Some("date") => "2026-01-01".to_owned(),
        Some("time") => "00:00:00Z".to_owned(),
        Some("duration") => "PT1S".to_owned(),
        Some("email") => "demo@example.com".to_owned(),
        Some("hostname") => "example.com".to_owned(),
        Some("uri") => "https://example.com/".to_owned(),
        Some("ipv4") => "192.0.2.1".to_owned(),
        Some("ipv6") => "2001:db8::1".to_owned(),
        Some("uuid") => "00000000-0000-4000-8000-000000000000".to_owned(),
        Some(_) | None => format!("demo {name}"),
    };
    let missing = bound(schema, "minLength").unwrap_or(0).min(COUNT_MAX).saturating_sub(text.chars().count());
    text.extend(std::iter::repeat_n('.', missing));
    match bound(schema, "maxLength") {
        Some(max) => text.chars().take(max).collect(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_satisfy_their_schema() {
        let cases = [
            (json!({"type": "string"}), json!("demo value")),
            (json!({"type": "string", "minLength": 12}), json!("demo value..")),
            (json!({"type": "string", "maxLength": 4}), json!("demo")),
            (json!({"type": "integer", "minimum": 7}), json!(7)),
            (json!({"type": "integer", "maximum": -3}), json!(-3)),
            (json!({"type": "integer", "minimum": 4, "multipleOf": 5}), json!(5)),
            (json!({"type": "number", "exclusiveMinimum": 0, "maximum": 0.25}), json!(0.25)),
            (json!({"type": ["null", "boolean"]}), json!(true)),
            (json!({"enum": ["a", "b"]}), json!("a")),
            (json!({"anyOf": [{"type": "null"}, {"const": 3}]}), json!(3)),
            (json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2}), json!([true, true])),
            (
                json!({"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]}),
                json!({"a": 1, "b": 2}),
            ),
            (json!({"properties": {"city": {"type": "string"}}}), json!({"city": "demo city"})),
            (json!({"$ref": "#/$defs/x", "$defs": {"x": {"const": "y"}}}), json!("y")),
        ];
        for (schema, expected) in cases {
            assert_eq!(value(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn a_recursive_schema_ends() {
        let tree = json!({
            "type": "object", "required": ["next"],
            "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "kids": {"type": "array", "items": {"$ref": "#"}}},
        });
        assert!(value(&tree).to_string().len() < 10_000);
        assert!(value(&json!({"$ref": "#"})).is_null());
        let wide = json!({"type": "array", "minItems": 1000, "items": {"$ref": "#"}});
        assert!(value(&wide).to_string().len() < 1_000_000);
    }
}
