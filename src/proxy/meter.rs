//! What a request used: read from its answer as it passes, recorded once, before the client has the answer's end.
//!
//! Owns the reading of one attempt's answer and the making of its record. Must not touch: how records are kept
//! (`usage`), what usage looks like on the wire (`adapt/usage`).

use bytes::Bytes;
use memchr::memmem;

use super::body::Asking;
use super::call::{Call, Routed};
use crate::adapt::usage::said::Said;
use crate::adapt::usage::sent::{BYTES_PER_TOKEN, Sent};
use crate::adapt::usage::strip::Strip;
use crate::adapt::usage::{Reader, Usage, is_metered};
use crate::config::Target;
use crate::endpoint::Endpoint;
use crate::metrics::{self, UsageSeen};
use crate::usage::{self, Attempt, Entry, Units};

/// Bytes of a second of sound in an upload whose length nobody says: 128 kbit/s, as most recordings have.
const SOUND_BYTES_PER_SECOND: u64 = 16_000;

/// Reads what one attempt's answer used.
pub struct Meter {
    endpoint: Endpoint,
    status: u16,
    reader: Option<Reader>,
    said: Said,
    strip: Option<Strip>,
    recorded: bool,
    is_stream: bool,
}

/// What an answer is, as far as its usage goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Events. The usage chunk is for Forge only, or for the client too.
    Events(Chunk),
    /// A JSON body.
    Json,
    /// Sound, or plain text: it says nothing about usage.
    Other,
}

/// Whose the usage chunk of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// Only Forge asked for it.
    Forges,
    /// The client's, or nobody's.
    Clients,
}

/// How far an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// To its end.
    Whole,
    /// Not to its end: the client left, or the provider broke off.
    InPart,
}

impl Meter {
    /// For an answer of this form and status.
    pub(super) fn new(endpoint: Endpoint, form: Form, status: u16) -> Self {
        let (reader, said) = match form {
            Form::Events(_) => (Some(Reader::sse(endpoint)), Said::in_events(endpoint)),
            Form::Json => (Some(Reader::json(endpoint)), Said::in_body(endpoint)),
            Form::Other => (None, Said::nothing()),
        };
        let strip = (form == Form::Events(Chunk::Forges)).then(Strip::default);
        let reader = reader.filter(|_| is_metered(endpoint));
        Self { endpoint, status, reader, said, strip, recorded: false, is_stream: matches!(form, Form::Events(_)) }
    }

    /// Whether the answer may become shorter.
    pub(super) fn strips(&self) -> bool {
        self.strip.is_some()
    }

    /// Reads the next bytes; gives what of them is for the client.
    fn pass(&mut self, bytes: Bytes) -> Bytes {
        if let Some(reader) = &mut self.reader {
            reader.feed(&bytes);
            self.said.feed(&bytes);
        }
        match &mut self.strip {
            Some(strip) => strip.feed(bytes),
            None => bytes,
        }
    }

    /// Whether usage was reported, and `chunk` holds the event behind which clients read no further.
    fn is_final(&self, chunk: &[u8]) -> bool {
        const ENDS: [&[u8]; 5] = [
            b"[DONE]",
            b"\"message_stop\"",
            b"\"response.completed\"",
            b"\"response.incomplete\"",
            b"\"response.failed\"",
        ];
        self.reader.as_ref().is_some_and(Reader::is_reported)
            && ENDS.iter().any(|end| memmem::find(chunk, end).is_some())
    }
}

/// Whether all is known of what an answer used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Used {
    /// It is: with the bytes that passed, a client has all it waits for.
    Known,
    /// Not yet, or nobody wants to know.
    Unknown,
}

/// Passes bytes of an answer by its meter.
pub(super) fn pass(bytes: &mut Option<Bytes>, end: bool, call: &mut Call) -> Used {
    let Some(meter) = call.routed.as_mut().and_then(|routed| routed.meter.as_mut()) else { return Used::Unknown };
    let mut is_final = end;
    if let Some(chunk) = bytes.take() {
        *bytes = Some(meter.pass(chunk.clone()));
        is_final |= meter.is_final(&chunk);
    }
    if end && let Some(strip) = &mut meter.strip {
        let rest = strip.finish();
        if !rest.is_empty() {
            *bytes = Some([bytes.take().unwrap_or_default(), rest].concat().into());
        }
    }
    if is_final { Used::Known } else { Used::Unknown }
}

/// Records what the answer used, unless that was done.
pub(super) fn settle(call: &mut Call, came: Came) {
    let Some(meter) = call.routed.as_mut().and_then(|routed| routed.meter.as_mut()) else { return };
    if std::mem::replace(&mut meter.recorded, true) {
        return;
    }
    let sent = call.body.as_ref().and_then(|body| body.sent(Counted::of));
    let settled = Settled::of(meter, sent.unwrap_or_default(), came);
    call.used = Some(settled.usage);
    record(call, settled, Attempt::Answer);
}

/// The request ends. What came to its end was recorded then; what the client has, or had until it left, is now.
pub(super) fn end(call: &mut Call) {
    if call.is_answered() { settle(call, Came::InPart) } else { replaced(call) }
}

/// Records what an attempt used whose place another one takes, if its provider reported something.
pub(super) fn replaced(call: &mut Call) {
    let Some(mut meter) = call.routed.as_mut().and_then(|routed| routed.meter.take()) else { return };
    let reported = meter.reader.as_ref().and_then(Reader::reported).filter(|usage| !usage.is_zero());
    if let Some(usage) = reported.filter(|_| !std::mem::replace(&mut meter.recorded, true)) {
        record(call, Settled { usage, status: meter.status, estimated: false, guess: None }, Attempt::Replaced);
    }
}

/// What was counted of the request.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    tokens: u64,
    characters: u64,
    bytes: u64,
}

impl Counted {
    fn of(sent: &Sent) -> Self {
        Self { tokens: sent.tokens(), characters: sent.characters(), bytes: sent.bytes() }
    }
}

/// What is to be recorded.
struct Settled {
    usage: Usage,
    status: u16,
    estimated: bool,
    /// The text that the output's tokens were guessed from, and bytes of it that were not kept.
    guess: Option<(Vec<u8>, u64)>,
}

impl Settled {
    fn of(meter: &mut Meter, sent: Counted, came: Came) -> Self {
        let reported = meter.reader.as_ref().and_then(Reader::reported);
        let said = std::mem::replace(&mut meter.said, Said::nothing()).finish();
        let guessed = (said.0.len() as u64 + said.1).div_ceil(BYTES_PER_TOKEN);
        let mut settled =
            Self { usage: reported.unwrap_or_default(), status: meter.status, estimated: false, guess: None };
        let usage = &mut settled.usage;
        match (meter.endpoint, reported, came) {
            (Endpoint::AudioSpeech, _, _) => usage.characters = sent.characters,
            (_, Some(_), Came::Whole) => {}
            // A stream that said nothing and broke by itself: an error, or an end before the beginning.
            (
                Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Messages | Endpoint::Responses,
                _,
                Came::Whole,
            ) if guessed == 0 && meter.is_stream => {}
            (Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Messages | Endpoint::Responses, _, _) => {
                usage.input_tokens = if usage.input_tokens == 0 { sent.tokens } else { usage.input_tokens };
                if guessed > usage.output_tokens {
                    usage.output_tokens = guessed;
                    settled.guess = Some(said);
                }
                settled.estimated = true;
            }
            (Endpoint::Embeddings | Endpoint::Rerank, None, _) => {
                (usage.input_tokens, settled.estimated) = (sent.tokens, true);
            }
            (Endpoint::AudioTranscriptions | Endpoint::AudioTranslations, None, _) => {
                (usage.audio_ms, settled.estimated) = (sent.bytes * 1000 / SOUND_BYTES_PER_SECOND, true);
            }
            // Pictures are counted, or there are none; the rest costs nothing.
            (
                Endpoint::Embeddings
                | Endpoint::Rerank
                | Endpoint::AudioTranscriptions
                | Endpoint::AudioTranslations
                | Endpoint::Moderations
                | Endpoint::ImagesGenerations
                | Endpoint::ImagesEdits
                | Endpoint::ImagesVariations
                | Endpoint::MessagesCountTokens
                | Endpoint::Realtime
                | Endpoint::Models
                | Endpoint::Model
                | Endpoint::Usage
                | Endpoint::Limits
                | Endpoint::RotateKey
                | Endpoint::Files
                | Endpoint::FileContent
                | Endpoint::File,
                _,
                _,
            ) => {}
        }
        settled
    }
}

/// Puts a record into the ledger.
fn record(call: &mut Call, settled: Settled, attempt: Attempt) {
    let Some(target) = call.routed.as_ref().and_then(Routed::target) else { return };
    let (units, at_unix_ms) = (units(&settled.usage), usage::now_unix_ms());
    let (cost_microusd, price_version) = usage::cost(target.price.as_deref(), &units, at_unix_ms);
    call.cost_microusd += cost_microusd;
    let (Some(ledger), Some(key), Some(routed)) = (&call.ledger, &call.key, &call.routed) else { return };
    let entry = Entry {
        id: &usage::new_id(at_unix_ms),
        request_id: call.request_id.to_str().unwrap_or_default(),
        at_unix_ms,
        attempt,
        status: settled.status,
        key: &key.id,
        tier: &key.tier.name,
        owner: key.owner.as_deref(),
        team: key.team.as_deref(),
        organisation: key.organisation.as_deref(),
        model: &routed.plan.model.name,
        provider: &target.provider.name,
        upstream_model: upstream_model(call, target),
        endpoint: call.endpoint.map_or("", Endpoint::name),
        units: &units,
        estimated: settled.estimated,
        price_version,
        cost_microusd,
    };
    match settled.guess {
        None => ledger.record(&entry),
        Some((text, bytes_beyond)) => {
            ledger.record_estimate(&entry, usage::Said { text, bytes_beyond, prices: target.price.clone() });
        }
    }
    observe(routed, target, &entry);
}

fn upstream_model<'a>(call: &'a Call, target: &'a Target) -> &'a str {
    target.model.as_deref().or(call.requested.as_deref()).unwrap_or_default()
}

fn observe(routed: &Routed, target: &Target, entry: &Entry<'_>) {
    let amounts = entry.units.amounts();
    let amounts: [(&'static str, u64); Units::NAMES.len()] =
        std::array::from_fn(|index| (Units::NAMES[index], amounts[index]));
    metrics::usage(&UsageSeen {
        provider: &target.provider.name,
        model: &routed.plan.model.name,
        amounts: &amounts,
        cost_microusd: entry.cost_microusd,
        estimated: entry.estimated,
    });
}

fn units(usage: &Usage) -> Units {
    Units {
        input_tokens: usage.input_tokens,
        cached_input_tokens: usage.cached_input_tokens,
        cache_write_tokens: usage.cache_write_tokens,
        audio_input_tokens: usage.audio_input_tokens,
        image_input_tokens: usage.image_input_tokens,
        output_tokens: usage.output_tokens,
        reasoning_tokens: usage.reasoning_tokens,
        audio_output_tokens: usage.audio_output_tokens,
        images: usage.images,
        characters: usage.characters,
        audio_ms: usage.audio_ms,
        searches: usage.searches,
        documents: usage.documents,
    }
}

/// What is counted of a request's body, and whether its attempts may ask for usage; `None`: nothing is billed.
pub(super) fn wanted(endpoint: Endpoint) -> Option<(Sent, Asking)> {
    let may_ask = matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
    let asking = if may_ask { Asking::Usage } else { Asking::Nothing };
    is_metered(endpoint).then(|| (Sent::new(endpoint), asking))
}
