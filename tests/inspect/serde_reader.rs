//! What `serde_json` reads of a body that Forge inspects.

use std::borrow::Cow;
use std::fmt;

use forge::proxy::inspect::Inspector;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::reading::read;

/// What `serde_json` reads, and whether the body is one of those that only Forge refuses.
#[derive(Default)]
struct Reference {
    model: Vec<Option<String>>,
    stream: Vec<Option<bool>>,
    wrong_type: bool,
    stricter: bool,
}

struct ReferenceVisitor;

impl<'de> Visitor<'de> for ReferenceVisitor {
    type Value = Reference;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Reference, A::Error> {
        let mut found = Reference::default();
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            match name.as_ref() {
                "model" => match map.next_value::<&serde_json::value::RawValue>()?.get() {
                    "null" => found.model.push(None),
                    text => match serde_json::from_str(text) {
                        Ok(name) => found.model.push(Some(name)),
                        Err(_) => found.wrong_type = true,
                    },
                },
                "stream" => match serde_json::from_str(map.next_value::<&serde_json::value::RawValue>()?.get()) {
                    Ok(stream) => found.stream.push(stream),
                    Err(_) => found.wrong_type = true,
                },
                other => {
                    let folded = other.replace('ſ', "s").to_ascii_lowercase();
                    found.stricter |= folded == "model" || folded == "stream" || other.contains('\0');
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

fn reference(body: &[u8]) -> Option<Reference> {
    let text = std::str::from_utf8(body).ok()?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = reader.deserialize_map(ReferenceVisitor).ok()?;
    reader.end().ok()?;
    Some(found)
}

fn depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0usize, 0, false, false);
    for byte in body {
        match (in_text, escaped, byte) {
            (true, true, _) => escaped = false,
            (true, false, b'\\') => escaped = true,
            (_, _, b'"') => in_text = !in_text,
            (false, _, b'{' | b'[') => depth += 1,
            (false, _, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The scanner agrees with `serde_json`, but for what it refuses by the rules listed here.
pub fn agrees_with_serde_json(body: &[u8]) {
    let shown = String::from_utf8_lossy(body);
    match (read(Inspector::json(), &[body]), reference(body)) {
        (Err(_), None) => {}
        (Ok(reading), None) => panic!("only serde_json refuses {shown}: {reading:?}"),
        (reading, Some(found)) => {
            let named = found.model.first().cloned().flatten();
            let refused = found.wrong_type
                || found.stricter
                || found.model.len() > 1
                || found.stream.len() > 1
                || named
                    .as_ref()
                    .is_some_and(|name| name.is_empty() || name.len() > 256 || name.chars().any(char::is_control))
                || depth(body) > 128;
            assert_eq!(reading.is_err(), refused, "{shown}: {reading:?}");
            if let Ok(reading) = reading {
                assert_eq!(reading.model.map(|(name, _)| name), named, "{shown}");
                assert_eq!(reading.stream, found.stream.first().copied().flatten(), "{shown}");
            }
        }
    }
}
