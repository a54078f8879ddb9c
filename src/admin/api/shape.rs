//! The shapes of what the admin API takes and gives: every field, its kind and its sentence, once.
//!
//! The checker walks a request along these tables and the OpenAPI document is made from them, so the two cannot
//! disagree; that answers have their shape is tested against a running gateway.

use serde_json::{Map, Value, json};

use crate::admin::problem::FieldFault;
use crate::config::{LimitSet, nearest, parse_network};
use crate::endpoint::Endpoint;

/// Items of a list in a body.
const ITEMS_MAX: usize = 1000;

/// What may stand in a place.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Text of 1 to so many characters.
    #[allow(missing_docs, reason = "the name says it")]
    Text { chars_max: usize },
    /// A whole number.
    #[allow(missing_docs, reason = "the names say it")]
    Count { min: u64, max: u64 },
    /// True or false.
    Switch,
    /// A time in milliseconds since 1970.
    UnixMs,
    /// A time in a query: `2026-11-01`, `2026-11-01T12:00:00Z`, or milliseconds since 1970.
    Time,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Some of these words, each once, with commas between.
    Words(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A list of names of endpoints.
    Endpoints,
    /// A list of networks.
    Networks,
    /// Names, each with a text.
    TextMap,
    /// Limits as in routes.yaml.
    Limits,
    /// These fields.
    Object(&'static [Field]),
    /// Fields of several tables together.
    Joined(&'static [&'static [Field]]),
    /// A list.
    List(&'static Shape),
    /// Any JSON.
    Any,
}

/// One field of a body or an answer, or one parameter of a query.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// As it stands in JSON or in the query.
    pub name: &'static str,
    /// What may stand there.
    pub shape: Shape,
    /// It must be there.
    pub required: bool,
    /// It may be null.
    pub nullable: bool,
    /// What it says.
    pub about: &'static str,
}

/// A field that may be left out.
pub const fn field(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, required: false, nullable: false, about }
}

/// A field that must be there.
pub const fn required(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { required: true, ..field(name, shape, about) }
}

/// In a body: may be left out, and null takes the value away.
pub const fn nullable(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { nullable: true, ..field(name, shape, about) }
}

/// In an answer: always there, perhaps null.
pub const fn maybe(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { nullable: true, ..required(name, shape, about) }
}

/// Reports everything in `body` that is not of these fields.
pub fn check_body(body: &Map<String, Value>, fields: &[Field], faults: &mut Vec<FieldFault>) {
    for (name, value) in body {
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        match fields.iter().find(|field| field.name == name) {
            Some(field) if value.is_null() && field.nullable => {}
            Some(field) => field.shape.check(value, &pointer, faults),
            None => faults.push(unknown(pointer, name, fields)),
        }
    }
    for field in fields.iter().filter(|field| field.required && !body.contains_key(field.name)) {
        let message = format!("is missing: {}", field.about);
        faults.push(FieldFault { field: format!("/{}", field.name), message, meant: None });
    }
}

/// What is wrong with a name that none of `fields` has.
pub fn unknown(place: String, name: &str, fields: &[Field]) -> FieldFault {
    let names = || fields.iter().map(|field| field.name);
    let meant = nearest(name, names());
    let message = match (&meant, fields.is_empty()) {
        (Some(_), _) => "unknown field".to_owned(),
        (None, true) => "unknown field; none is known here".to_owned(),
        (None, false) => format!("unknown field; known here: {}", names().collect::<Vec<_>>().join(", ")),
    };
    FieldFault { field: place, message, meant }
}

impl Shape {
    fn check(&self, value: &Value, pointer: &str, faults: &mut Vec<FieldFault>) {
        let mut fault = |message: String, meant| {
            faults.push(FieldFault { field: pointer.to_owned(), message, meant });
        };
        match *self {
            Shape::Texts | Shape::Endpoints | Shape::Networks => self.check_items(value, pointer, faults),
            Shape::Limits => {
                if let Err(error) = serde_json::from_value::<LimitSet>(value.clone()) {
                    fault(error.to_string(), None);
                }
            }
            Shape::Choice(words) => match value.as_str() {
                Some(word) if words.contains(&word) => {}
                Some(word) => fault(format!("not {}", self.expected()), nearest(word, words.iter().copied())),
                None => fault(format!("not {}", self.expected()), None),
            },
            _ if self.accepts(value) => {}
            _ => fault(format!("not {}", self.expected()), None),
        }
    }

    fn check_items(&self, value: &Value, pointer: &str, faults: &mut Vec<FieldFault>) {
        let mut fault = |field: String, message: String, meant| faults.push(FieldFault { field, message, meant });
        let Some(items) = value.as_array().filter(|items| items.len() <= ITEMS_MAX) else {
            return fault(pointer.to_owned(), format!("not {}", self.expected()), None);
        };
        for (index, item) in items.iter().enumerate() {
            let place = format!("{pointer}/{index}");
            match (item.as_str(), self) {
                (Some(name), Shape::Endpoints) if Endpoint::by_name(name).is_none() => {
                    let names = crate::endpoint::ENDPOINTS.iter().map(|row| row.name);
                    fault(place, "no endpoint is called so".to_owned(), nearest(name, names));
                }
                (Some(network), Shape::Networks) if parse_network(network).is_none() => {
                    fault(place, "not a network, e.g. 10.0.0.0/8".to_owned(), None);
                }
                (Some(text), _) if !text.is_empty() => {}
                (Some(_) | None, _) => fault(place, "not text".to_owned(), None),
            }
        }
    }

    /// Whether `value` may stand here, where that is all there is to say.
    fn accepts(&self, value: &Value) -> bool {
        match *self {
            Shape::Text { chars_max } => {
                value.as_str().is_some_and(|text| (1..=chars_max).contains(&text.chars().count()))
            }
            Shape::Count { min, max } => value.as_u64().is_some_and(|count| (min..=max).contains(&count)),
            Shape::Switch => value.is_boolean(),
            Shape::UnixMs => value.as_i64().is_some_and(|time| (0..=UNIX_MS_MAX).contains(&time)),
            Shape::TextMap => value.as_object().is_some_and(|map| map.values().all(Value::is_string)),
            Shape::Any => true,
            Shape::Time
            | Shape::Choice(_)
            | Shape::Words(_)
            | Shape::Texts
            | Shape::Endpoints
            | Shape::Networks
            | Shape::Limits
            | Shape::Object(_)
            | Shape::Joined(_)
            | Shape::List(_) => false,
        }
    }

    /// Whether this text of a query may stand here.
    pub fn accepts_text(&self, text: &str) -> bool {
        match *self {
            Shape::Text { chars_max } => (1..=chars_max).contains(&text.chars().count()),
            Shape::Count { min, max } => text.parse().is_ok_and(|count: u64| (min..=max).contains(&count)),
            Shape::Time => time_unix_ms(text).is_some(),
            Shape::Choice(words) => words.contains(&text),
            Shape::Words(words) => {
                let mut named: Vec<&str> = text.split(',').collect();
                let count = named.len();
                named.sort_unstable();
                named.dedup();
                named.len() == count && named.iter().all(|word| words.contains(word))
            }
            Shape::Switch => matches!(text, "true" | "false"),
            Shape::UnixMs
            | Shape::Texts
            | Shape::Endpoints
            | Shape::Networks
            | Shape::TextMap
            | Shape::Limits
            | Shape::Object(_)
            | Shape::Joined(_)
            | Shape::List(_)
            | Shape::Any => false,
        }
    }

    /// What is expected here, for a message.
    pub fn expected(&self) -> String {
        match *self {
            Shape::Text { chars_max } => format!("text of 1 to {chars_max} characters"),
            Shape::Count { min, max } => format!("a whole number from {min} to {max}"),
            Shape::Switch => "true or false".to_owned(),
            Shape::UnixMs => "a time in milliseconds since 1970".to_owned(),
            Shape::Time => "a time, e.g. 2026-11-01, 2026-11-01T12:00:00Z or milliseconds since 1970".to_owned(),
            Shape::Choice(words) => format!("one of {}", words.join(", ")),
            Shape::Words(words) => format!("some of {}, with commas between", words.join(", ")),
            Shape::Texts | Shape::Endpoints | Shape::Networks => format!("a list of at most {ITEMS_MAX} texts"),
            Shape::TextMap => "a map of texts".to_owned(),
            Shape::Limits => "limits, e.g. {\"rpm\": 20, \"budget\": \"50 USD/month\"}".to_owned(),
            Shape::Object(_) | Shape::Joined(_) => "an object".to_owned(),
            Shape::List(_) => "a list".to_owned(),
            Shape::Any => "JSON".to_owned(),
        }
    }

    /// Its JSON Schema (draft 2020-12, as OpenAPI 3.1 has it).
    pub fn schema(&self) -> Value {
        match *self {
            Shape::Text { chars_max } => json!({"type": "string", "minLength": 1, "maxLength": chars_max}),
            Shape::Count { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
            Shape::Switch => json!({"type": "boolean"}),
            Shape::UnixMs => json!({"type": "integer", "format": "int64", "minimum": 0, "maximum": UNIX_MS_MAX}),
            Shape::Time => {
                json!({"type": "string", "examples": ["2026-11-01", "2026-11-01T12:00:00Z", "1793491200000"]})
            }
            Shape::Choice(words) => json!({"type": "string", "enum": words}),
            Shape::Words(words) => json!({"type": "array", "items": {"type": "string", "enum": words}}),
            Shape::Texts | Shape::Networks => {
                json!({"type": "array", "maxItems": ITEMS_MAX, "items": {"type": "string"}})
            }
            Shape::Endpoints => {
                let names: Vec<&str> = crate::endpoint::ENDPOINTS.iter().map(|row| row.name).collect();
                json!({"type": "array", "maxItems": ITEMS_MAX, "items": {"type": "string", "enum": names}})
            }
            Shape::TextMap => json!({"type": "object", "additionalProperties": {"type": "string"}}),
            Shape::Limits => json!({"$ref": "#/components/schemas/Limits"}),
            Shape::Object(fields) => object_schema([fields]),
            Shape::Joined(tables) => object_schema(tables.iter().copied()),
            Shape::List(item) => json!({"type": "array", "items": item.schema()}),
            Shape::Any => json!({}),
        }
    }
}

/// The year 2286: times behind it are slips of the fingers.
const UNIX_MS_MAX: i64 = 9_999_999_999_999;

/// The JSON Schema of an object with these fields.
pub fn object_schema<'a>(tables: impl IntoIterator<Item = &'a [Field]>) -> Value {
    let fields: Vec<&Field> = tables.into_iter().flatten().collect();
    let properties: Map<String, Value> =
        fields.iter().map(|field| (field.name.to_owned(), field_schema(field))).collect();
    let required: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn field_schema(field: &Field) -> Value {
    let mut schema = field.shape.schema();
    if field.nullable {
        schema = json!({"anyOf": [schema, {"type": "null"}]});
    }
    schema["description"] = json!(field.about);
    schema
}

/// A time of a query, in milliseconds since 1970.
pub fn time_unix_ms(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|time| (0..=UNIX_MS_MAX).contains(time));
    }
    let midnight = if text.len() == "2026-11-01".len() { "T00:00:00Z" } else { "" };
    let time = humantime::parse_rfc3339(&format!("{text}{midnight}")).ok()?;
    i64::try_from(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[
        required("name", Shape::Text { chars_max: 5 }, "For people."),
        nullable("team", Shape::Text { chars_max: 5 }, "Its team."),
        field("limits", Shape::Limits, "Its limits."),
        field("endpoints", Shape::Endpoints, "What it may call."),
        field("networks", Shape::Networks, "Where from."),
        field("state", Shape::Choice(&["active", "revoked"]), "Its state."),
    ];

    fn faults(body: Value) -> Vec<String> {
        let mut faults = Vec::new();
        check_body(body.as_object().unwrap(), FIELDS, &mut faults);
        let shown =
            |fault: FieldFault| format!("{} {} [{}]", fault.field, fault.message, fault.meant.unwrap_or_default());
        faults.into_iter().map(shown).collect()
    }

    #[test]
    fn every_fault_is_found_at_its_place() {
        assert_eq!(
            faults(json!({"name": "a", "team": null, "limits": {"rpm": 1}, "networks": ["10.0.0.0/8"]})),
            [""; 0]
        );
        let found = faults(json!({
            "nmae": 1, "team": "too long", "limits": {"rmp": 1}, "endpoints": ["chat_completion"],
            "networks": ["10.0.0.0/99"], "state": "actve",
        }));
        for (found, expected) in found.iter().zip([
            "/nmae unknown field [name]",
            "/team not text of 1 to 5 characters []",
            "/limits unknown limit 'rmp'",
            "/endpoints/0 no endpoint is called so [chat_completions]",
            "/networks/0 not a network, e.g. 10.0.0.0/8 []",
            "/state not one of active, revoked [active]",
            "/name is missing: For people. []",
        ]) {
            assert!(found.starts_with(expected), "{found:?} is not {expected:?}");
        }
        assert_eq!(found.len(), 7);
    }

    #[test]
    fn times_and_words_of_a_query() {
        assert_eq!(time_unix_ms("1970-01-02"), Some(86_400_000));
        assert_eq!(time_unix_ms("1970-01-01T00:00:01Z"), Some(1000));
        assert_eq!(time_unix_ms("1700000000000"), Some(1_700_000_000_000));
        for bad in ["", "yesterday", "-1", "99999999999999"] {
            assert!(time_unix_ms(bad).is_none(), "{bad}");
        }
        let words = Shape::Words(&["key", "model"]);
        assert!(words.accepts_text("key,model") && words.accepts_text("model"));
        assert!(!words.accepts_text("key,key") && !words.accepts_text("") && !words.accepts_text("kex"));
    }
}
