//! What the older endpoints take as text: `prompt` and `input`, as text or as token numbers.

use serde_json::Value;

use super::fields::Fields;
use super::refusal::Refusal;
use super::writing::tokens;

/// An input text, or the stand-in for one that came as token numbers.
pub(super) struct Input {
    pub text: String,
    pub tokens: u64,
}

/// Reads a string, an array of strings, an array of tokens or an array of such arrays.
pub(super) fn inputs(fields: &Fields, name: &'static str) -> Result<Vec<Input>, Refusal> {
    let wrong = || Refusal::wrong_type(name, "a string, an array of strings or an array of tokens");
    let one = |value: &Value| match value {
        Value::String(text) => Some(Input { text: text.clone(), tokens: tokens(text) }),
        Value::Array(numbers) if !numbers.is_empty() && numbers.iter().all(Value::is_u64) => {
            Some(Input { text: value.to_string(), tokens: numbers.len() as u64 })
        }
        _ => None,
    };
    match fields.required(name)? {
        Value::Array(list) if list.is_empty() => Err(Refusal::value(name, "the array must not be empty.")),
        Value::Array(list) if !list.iter().all(Value::is_u64) => {
            list.iter().map(|item| one(item).ok_or_else(wrong)).collect()
        }
        single => Ok(vec![one(single).ok_or_else(wrong)?]),
    }
}
