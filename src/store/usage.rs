//! Records of usage, and questions about them.

use serde::Serialize;

/// What was used, in every kind there is. Parts are included in their whole: cached, written, audio and image
/// tokens in the input, reasoning and audio tokens in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Units {
    /// Of the prompt, with what was read from a cache and what was written to one.
    pub input_tokens: u64,
    /// Of these, read from the provider's cache.
    pub cached_input_tokens: u64,
    /// Of the input tokens, written to the provider's cache.
    pub cache_write_tokens: u64,
    /// Of the input tokens, of sound.
    pub audio_input_tokens: u64,
    /// Of the input tokens, of pictures.
    pub image_input_tokens: u64,
    /// Of the answer, with what the model thought.
    pub output_tokens: u64,
    /// Of these, what the model thought.
    pub reasoning_tokens: u64,
    /// Of the output tokens, of sound.
    pub audio_output_tokens: u64,
    /// Pictures made.
    pub images: u64,
    /// Characters turned into speech.
    pub characters: u64,
    /// Sound that was heard, in milliseconds.
    pub audio_ms: u64,
    /// Searches, where a provider bills so.
    pub searches: u64,
    /// Documents ranked.
    pub documents: u64,
}

impl Units {
    /// The names of the kinds: columns of the store and of exports.
    pub const NAMES: [&str; 13] = [
        "input_tokens",
        "cached_input_tokens",
        "cache_write_tokens",
        "audio_input_tokens",
        "image_input_tokens",
        "output_tokens",
        "reasoning_tokens",
        "audio_output_tokens",
        "images",
        "characters",
        "audio_ms",
        "searches",
        "documents",
    ];

    /// The amounts, in the order of [`NAMES`](Self::NAMES).
    pub const fn amounts(&self) -> [u64; 13] {
        [
            self.input_tokens,
            self.cached_input_tokens,
            self.cache_write_tokens,
            self.audio_input_tokens,
            self.image_input_tokens,
            self.output_tokens,
            self.reasoning_tokens,
            self.audio_output_tokens,
            self.images,
            self.characters,
            self.audio_ms,
            self.searches,
            self.documents,
        ]
    }

    /// Of amounts in the order of [`NAMES`](Self::NAMES).
    pub const fn of(amounts: [u64; 13]) -> Self {
        let [input, cached, written, audio_in, image_in, output, reasoning, audio_out, rest @ ..] = amounts;
        let [images, characters, audio_ms, searches, documents] = rest;
        Self {
            input_tokens: input,
            cached_input_tokens: cached,
            cache_write_tokens: written,
            audio_input_tokens: audio_in,
            image_input_tokens: image_in,
            output_tokens: output,
            reasoning_tokens: reasoning,
            audio_output_tokens: audio_out,
            images,
            characters,
            audio_ms,
            searches,
            documents,
        }
    }

    /// Both together.
    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = self.amounts();
        sum.iter_mut().zip(other.amounts()).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        Self::of(sum)
    }
}

/// What one request, or one attempt that was billed and replaced, used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsageRecord {
    /// Unique: recording it again changes nothing.
    pub id: String,
    /// The request's id, as the client got it.
    pub request_id: String,
    /// When the request ended, in milliseconds since 1970.
    pub at_unix_ms: i64,
    /// Whether this is the answer.
    pub attempt: Attempt,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The key's id; of a static key, `static:NAME`.
    pub key: String,
    /// The key's tier.
    pub tier: String,
    /// The key's owner then.
    pub owner: Option<String>,
    /// Its team then.
    pub team: Option<String>,
    /// Its organisation then.
    pub organisation: Option<String>,
    /// The model of routes.yaml.
    pub model: String,
    /// Who served it.
    pub provider: String,
    /// What the provider calls the model.
    pub upstream_model: String,
    /// The endpoint's name, e.g. `chat_completions`.
    pub endpoint: String,
    /// What was used.
    pub units: Units,
    /// Whether some of it was estimated, since the provider did not say or the client left.
    pub estimated: bool,
    /// Which price it was counted with; empty: none is known.
    pub price_version: String,
    /// What it cost, in micro-dollars.
    pub cost_microusd: u64,
}

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attempt {
    /// The client got its answer, or as much of it as it waited for.
    Answer,
    /// Billed by the provider, but another attempt took its place.
    Replaced,
}

impl Attempt {
    /// The word in the store and in exports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Replaced => "replaced",
        }
    }

    /// The attempt called `name`.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Answer, Self::Replaced].into_iter().find(|attempt| attempt.name() == name)
    }
}

/// What sums are made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "as in UsageRecord")]
pub enum GroupBy {
    Key,
    Tier,
    Owner,
    Team,
    Organisation,
    Model,
    Provider,
    Endpoint,
}

impl GroupBy {
    /// Every one, in the order of columns.
    pub const ALL: [GroupBy; 8] = [
        GroupBy::Key,
        GroupBy::Tier,
        GroupBy::Owner,
        GroupBy::Team,
        GroupBy::Organisation,
        GroupBy::Model,
        GroupBy::Provider,
        GroupBy::Endpoint,
    ];

    /// The word of the admin API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Tier => "tier",
            Self::Owner => "owner",
            Self::Team => "team",
            Self::Organisation => "organisation",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Endpoint => "endpoint",
        }
    }

    /// The one called `name`.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.name() == name)
    }

    /// The column of the store.
    pub(super) const fn column(self) -> &'static str {
        match self {
            Self::Key => "key_id",
            Self::Tier => "tier",
            Self::Owner => "owner_id",
            Self::Team => "team_id",
            Self::Organisation => "organisation_id",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Endpoint => "endpoint",
        }
    }
}

/// How long a period of sums is. Days are UTC's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// All of the time that was asked for.
    All,
}

/// Which usage; `None` does not narrow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageFilter {
    /// From this time on, in milliseconds since 1970. Sums begin with its hour.
    pub from_unix_ms: Option<i64>,
    /// Before this time. Sums end before its hour, unless it stands inside.
    pub until_unix_ms: Option<i64>,
    /// Only where these have these values.
    pub only: Vec<(GroupBy, String)>,
}

/// A question about sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageQuery {
    /// Which usage.
    pub filter: UsageFilter,
    /// By what, in this order; each at most once.
    pub by: Vec<GroupBy>,
    /// In which periods.
    pub period: Period,
    /// Rows at most, 1..=100,000; the first periods first, and in one the dearest.
    pub rows_max: u32,
}

/// A sum of usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// When the period begins; of [`Period::All`], `None`.
    pub period_unix_ms: Option<i64>,
    /// The values of what was asked for, in the order of the question; empty: none, e.g. a key without an owner.
    pub by: Vec<String>,
    /// Requests that ended.
    pub requests: u64,
    /// Attempts that were billed and replaced.
    pub replaced_attempts: u64,
    /// Of both, how many were estimated.
    pub estimated: u64,
    /// What was used.
    pub units: Units,
    /// What it cost, in micro-dollars.
    pub cost_microusd: u64,
}
