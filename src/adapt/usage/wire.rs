//! The usage object of every provider, read in one go: whatever of these fields it has.
//!
//! Sources: OpenAI's `CompletionUsage`, `ResponseUsage`, `ImagesUsage`, `TranscriptTextUsageTokens` and
//! `TranscriptTextUsageDuration`; <https://docs.anthropic.com/en/api/messages> (usage);
//! <https://api-docs.deepseek.com/guides/kv_cache> (`prompt_cache_hit_tokens`);
//! <https://docs.cohere.com/reference/rerank> (`meta.billed_units`); Moonshot's `cached_tokens`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};

use super::Usage;
use crate::endpoint::{Dialect, Endpoint};

/// No single request uses more, and sums of what is below it cannot overflow.
const COUNT_MAX: u64 = 1 << 40;

/// The fields, as far as they were reported.
#[derive(Debug, Clone, Copy, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Wire {
    prompt_tokens: Count,
    input_tokens: Count,
    completion_tokens: Count,
    output_tokens: Count,
    total_tokens: Count,
    cached_tokens: Count,
    prompt_cache_hit_tokens: Count,
    cache_read_input_tokens: Count,
    cache_creation_input_tokens: Count,
    reasoning_tokens: Count,
    #[serde(alias = "input_tokens_details", alias = "input_token_details")]
    prompt_tokens_details: Lenient<Details>,
    #[serde(alias = "output_tokens_details", alias = "output_token_details")]
    completion_tokens_details: Lenient<Details>,
    seconds: Milliseconds,
    search_units: Count,
}

#[derive(Debug, Clone, Copy, Default, serde::Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Count,
    cache_write_tokens: Count,
    audio_tokens: Count,
    image_tokens: Count,
    reasoning_tokens: Count,
}

/// Reads a usage object on top of what was reported before: fields that come again are the newer truth.
pub(super) fn read(object: &[u8], so_far: &mut Option<Wire>) {
    if let Ok(wire) = serde_json::from_slice::<Wire>(object) {
        let so_far = so_far.get_or_insert_default();
        so_far.update(&wire);
    }
}

/// A decimal number of seconds as milliseconds, rounded up.
pub(super) fn milliseconds(seconds: &[u8]) -> Option<u64> {
    std::str::from_utf8(seconds).ok()?.parse().ok().map(in_milliseconds)
}

fn in_milliseconds(seconds: f64) -> u64 {
    // Seconds have a few decimals; the subtraction keeps 9.001 s from becoming 9002 ms. A cast saturates.
    ((seconds * 1000.0 - 1e-6).ceil() as u64).min(COUNT_MAX)
}

impl Wire {
    fn update(&mut self, newer: &Self) {
        let pairs = [
            (&mut self.prompt_tokens, newer.prompt_tokens),
            (&mut self.input_tokens, newer.input_tokens),
            (&mut self.completion_tokens, newer.completion_tokens),
            (&mut self.output_tokens, newer.output_tokens),
            (&mut self.total_tokens, newer.total_tokens),
            (&mut self.cached_tokens, newer.cached_tokens),
            (&mut self.prompt_cache_hit_tokens, newer.prompt_cache_hit_tokens),
            (&mut self.cache_read_input_tokens, newer.cache_read_input_tokens),
            (&mut self.cache_creation_input_tokens, newer.cache_creation_input_tokens),
            (&mut self.reasoning_tokens, newer.reasoning_tokens),
            (&mut self.search_units, newer.search_units),
        ];
        for (own, newer) in pairs {
            own.update(newer);
        }
        self.prompt_tokens_details.0.update(&newer.prompt_tokens_details.0);
        self.completion_tokens_details.0.update(&newer.completion_tokens_details.0);
        self.seconds.0 = newer.seconds.0.or(self.seconds.0);
    }

    /// What this means for an answer to `endpoint`.
    pub(super) fn usage(&self, endpoint: Endpoint) -> Usage {
        let (input, output) = (&self.prompt_tokens_details.0, &self.completion_tokens_details.0);
        let cached =
            [input.cached_tokens, self.prompt_cache_hit_tokens, self.cache_read_input_tokens, self.cached_tokens];
        let cached = cached.into_iter().find_map(|count| count.0).unwrap_or_default();
        let written = self.cache_creation_input_tokens.0.or(input.cache_write_tokens.0).unwrap_or_default();
        let said = self.completion_tokens.0.or(self.output_tokens.0);
        let input_tokens = match (self.prompt_tokens.0.or(self.input_tokens.0), self.total_tokens.0) {
            // Anthropic counts what its cache did apart from the rest.
            (Some(tokens), _) if endpoint.row().dialect == Dialect::Anthropic => tokens + cached + written,
            (Some(tokens), _) => tokens,
            (None, Some(total)) => total.saturating_sub(said.unwrap_or_default()),
            (None, None) => 0,
        };
        // Some count what the model thought in the total only.
        let thought_apart = self.total_tokens.0.unwrap_or_default().saturating_sub(input_tokens);
        let output_tokens = said.map_or(0, |said| said.max(thought_apart));
        let reasoning = output.reasoning_tokens.0.or(self.reasoning_tokens.0).unwrap_or_default();
        Usage {
            input_tokens,
            cached_input_tokens: cached.min(input_tokens),
            cache_write_tokens: written.min(input_tokens.saturating_sub(cached)),
            audio_input_tokens: input.audio_tokens.get().min(input_tokens),
            image_input_tokens: input.image_tokens.get().min(input_tokens),
            output_tokens,
            reasoning_tokens: reasoning.min(output_tokens),
            audio_output_tokens: output.audio_tokens.get().min(output_tokens),
            images: 0,
            characters: 0,
            audio_ms: self.seconds.0.unwrap_or_default(),
            searches: self.search_units.get(),
            documents: 0,
        }
    }
}

impl Details {
    fn update(&mut self, newer: &Self) {
        self.cached_tokens.update(newer.cached_tokens);
        self.cache_write_tokens.update(newer.cache_write_tokens);
        self.audio_tokens.update(newer.audio_tokens);
        self.image_tokens.update(newer.image_tokens);
        self.reasoning_tokens.update(newer.reasoning_tokens);
    }
}

/// A count; anything but a number is none.
#[derive(Debug, Clone, Copy, Default)]
struct Count(Option<u64>);

impl Count {
    fn get(self) -> u64 {
        self.0.unwrap_or_default()
    }

    fn update(&mut self, newer: Self) {
        self.0 = newer.0.or(self.0);
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Scalar(value) = Scalar::deserialize(deserializer)?;
        Ok(Self(value.map(|number| match number {
            Number::Whole(whole) => whole.min(COUNT_MAX),
            Number::Decimal(decimal) => (decimal.ceil() as u64).min(COUNT_MAX),
        })))
    }
}

/// A number of seconds, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Milliseconds(Option<u64>);

impl<'de> Deserialize<'de> for Milliseconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Scalar(value) = Scalar::deserialize(deserializer)?;
        Ok(Self(value.map(|number| match number {
            Number::Whole(whole) => whole.saturating_mul(1000).min(COUNT_MAX),
            Number::Decimal(decimal) => in_milliseconds(decimal),
        })))
    }
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Whole(u64),
    Decimal(f64),
}

/// A number, if the value is one.
struct Scalar(Option<Number>);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LenientVisitor(PhantomData::<NumberOnly>)).map(Scalar)
    }
}

/// An object of this type, or its default for a value that is none.
#[derive(Debug, Clone, Copy, Default)]
struct Lenient<T>(T);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = deserializer.deserialize_any(LenientVisitor(PhantomData::<ObjectOnly<T>>))?;
        Ok(Self(object.unwrap_or_default()))
    }
}

/// What a [`LenientVisitor`] takes; everything else is nothing, and no error.
trait Taken<'de> {
    type Value;
    fn number(_number: Number) -> Option<Self::Value> {
        None
    }
    fn object<A: MapAccess<'de>>(map: A) -> Result<Option<Self::Value>, A::Error>;
}

struct NumberOnly;

impl<'de> Taken<'de> for NumberOnly {
    type Value = Number;
    fn number(number: Number) -> Option<Number> {
        Some(number)
    }
    fn object<A: MapAccess<'de>>(mut map: A) -> Result<Option<Number>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

struct ObjectOnly<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Taken<'de> for ObjectOnly<T> {
    type Value = T;
    fn object<A: MapAccess<'de>>(map: A) -> Result<Option<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}

struct LenientVisitor<T>(PhantomData<T>);

impl<'de, T: Taken<'de>> Visitor<'de> for LenientVisitor<T> {
    type Value = Option<T::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }
    fn visit_u64<E>(self, whole: u64) -> Result<Self::Value, E> {
        Ok(T::number(Number::Whole(whole)))
    }
    fn visit_i64<E>(self, _negative: i64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_f64<E>(self, decimal: f64) -> Result<Self::Value, E> {
        Ok(T::number(Number::Decimal(decimal)))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::object(map)
    }
}
