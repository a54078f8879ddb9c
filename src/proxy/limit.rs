//! The limits of a request: what it is expected to cost, what the client is told of them, and the refusal.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;
use pingora::http::ResponseHeader;

use super::body::Body;
use super::call::{Call, now_unix};
use super::route::Plan;
use crate::config::{HolderKind, Key, Limit, LimitKind, Quantities, Snapshot};
use crate::endpoint::{Dialect, Endpoint, ModelIn};
use crate::error::ApiError;
use crate::limits::{Claim, Cost, Denied, Gauge, Limits, Standing};
use crate::metrics;

/// Bytes of JSON to a token, about.
const BYTES_PER_TOKEN: u64 = 4;
/// A body beyond this is mostly images and files in base64, of which a token covers far more.
const TEXT_BYTES: u64 = 256 << 10;
/// Bytes of an encoded file to a token, about.
const FILE_BYTES_PER_TOKEN: u64 = 100;
/// What a model is expected to answer before it has.
const OUTPUT_TOKENS: u64 = 256;

/// Reserves what `call` is expected to cost. Costs nothing where nothing is limited.
pub(super) async fn reserve(
    limits: &Limits,
    call: &mut Call,
    (snapshot, key, plan): (&Snapshot, &Key, &Plan),
) -> Result<(), ApiError> {
    let claim = Claim::of(snapshot, key, &plan.model);
    if claim.is_free() {
        return Ok(());
    }
    let claim = claim.costing(expected(limits, call, plan));
    match limits.reserve(claim).await {
        Ok(reservation) => {
            call.standing = Some(reservation.standing());
            call.reservation = Some(reservation);
            Ok(())
        }
        Err(denied) => {
            if let Denied::Limit { limit, holder, standing, .. } = &denied {
                metrics::limited(limit.kind, *holder);
                call.standing = Some(*standing);
            }
            Err(refusal(&denied))
        }
    }
}

/// Ends the reservation: a request that was answered keeps what it took, any other gives tokens and money back.
pub(super) fn end(limits: &Limits, call: &mut Call) {
    let Some(reservation) = call.reservation.take() else { return };
    if let (Some(used), Some(routed)) = (call.used.filter(|used| used.output_tokens > 0), &call.routed) {
        limits.typical().answered(&routed.plan.model.name, used.output_tokens);
    }
    match call.used {
        Some(used) => reservation.settle(Cost {
            input_tokens: used.input_tokens,
            output_tokens: used.output_tokens,
            microusd: call.cost_microusd,
        }),
        // Nobody reads what passes by on a WebSocket.
        None if call.is_answered() => {
            let expected = reservation.expected();
            reservation.settle(expected);
        }
        None => {}
    }
}

/// Whether a request of `key` may come under a limit, whichever model it calls.
pub(super) fn may_limit(snapshot: &Snapshot, key: &Key) -> bool {
    let tier = &key.tier;
    let sets = [&snapshot.limits, &tier.limits, &tier.shared, &key.limits];
    snapshot.models.limited || !key.holders.is_empty() || sets.iter().any(|limits| !limits.is_empty())
}

/// What a request is expected to cost: its input by its bytes, its output by what the model usually answers, its
/// price by the target that is tried first.
fn expected(limits: &Limits, call: &Call, plan: &Plan) -> Cost {
    let input_tokens = input_tokens(call);
    let output_tokens = limits.typical().output_tokens(&plan.model.name, first_output(call.endpoint));
    let first = plan.attempts.first().and_then(|attempt| plan.target(attempt.slot).price.as_ref());
    let price = first.and_then(|prices| prices.at(now_unix()));
    let used = Quantities {
        input: input_tokens,
        output: output_tokens,
        images: images(call.endpoint),
        ..Quantities::default()
    };
    Cost { input_tokens, output_tokens, microusd: price.map_or(0, |price| price.cost_microusd(&used)) }
}

fn input_tokens(call: &Call) -> u64 {
    let json = call.endpoint.is_some_and(|endpoint| endpoint.row().model_in == ModelIn::Json);
    let bytes = match &call.body {
        Some(body) if json => call.announced.unwrap_or_else(|| Body::taken(body)),
        Some(_) | None => return 0,
    };
    bytes.min(TEXT_BYTES) / BYTES_PER_TOKEN + bytes.saturating_sub(TEXT_BYTES) / FILE_BYTES_PER_TOKEN
}

/// What endpoints that write text are expected to write.
fn first_output(endpoint: Option<Endpoint>) -> u64 {
    use Endpoint::{ChatCompletions, Completions, Messages, Responses};
    let writes = [ChatCompletions, Completions, Messages, Responses];
    if endpoint.is_some_and(|endpoint| writes.contains(&endpoint)) { OUTPUT_TOKENS } else { 0 }
}

/// Endpoints that make pictures make one at least.
fn images(endpoint: Option<Endpoint>) -> u64 {
    use Endpoint::{ImagesEdits, ImagesGenerations, ImagesVariations};
    let makes = [ImagesGenerations, ImagesEdits, ImagesVariations];
    u64::from(endpoint.is_some_and(|endpoint| makes.contains(&endpoint)))
}

fn refusal(denied: &Denied) -> ApiError {
    match denied {
        Denied::Full => ApiError::overloaded(Duration::from_secs(1)),
        Denied::Limit { limit, holder, name, wait_ms, .. } => {
            let wait = Duration::from_millis(*wait_ms);
            let message = message(*limit, (*holder, name), wait);
            match limit.kind {
                LimitKind::Rpm | LimitKind::Rpd | LimitKind::Concurrent => {
                    ApiError::rate_limited("requests", message, wait)
                }
                LimitKind::Tpm
                | LimitKind::Itpm
                | LimitKind::Otpm
                | LimitKind::Tpd
                | LimitKind::Itpd
                | LimitKind::Otpd => ApiError::rate_limited("tokens", message, wait),
                LimitKind::TokensMonth | LimitKind::SpendDay | LimitKind::SpendMonth => {
                    ApiError::quota_exceeded(message, wait)
                }
            }
        }
    }
}

fn message(limit: Limit, (holder, name): (HolderKind, &str), wait: Duration) -> String {
    let what = match limit.kind {
        LimitKind::Rpm => "requests per minute (rpm)",
        LimitKind::Rpd => "requests per day (rpd)",
        LimitKind::Tpm => "tokens per minute (tpm)",
        LimitKind::Itpm => "input tokens per minute (itpm)",
        LimitKind::Otpm => "output tokens per minute (otpm)",
        LimitKind::Tpd => "tokens per day (tpd)",
        LimitKind::Itpd => "input tokens per day (itpd)",
        LimitKind::Otpd => "output tokens per day (otpd)",
        LimitKind::TokensMonth => "tokens per month",
        LimitKind::SpendDay => "US dollars per day",
        LimitKind::SpendMonth => "US dollars per month",
        LimitKind::Concurrent => "requests at once (concurrent)",
    };
    let amount = match limit.kind {
        LimitKind::SpendDay | LimitKind::SpendMonth => dollars(limit.amount),
        LimitKind::Rpm
        | LimitKind::Rpd
        | LimitKind::Tpm
        | LimitKind::Itpm
        | LimitKind::Otpm
        | LimitKind::Tpd
        | LimitKind::Itpd
        | LimitKind::Otpd
        | LimitKind::TokensMonth
        | LimitKind::Concurrent => limit.amount.to_string(),
    };
    let holder = match holder {
        HolderKind::Global => "the gateway".to_owned(),
        HolderKind::Model
        | HolderKind::Tier
        | HolderKind::Organisation
        | HolderKind::Team
        | HolderKind::Owner
        | HolderKind::Key => format!("{} '{name}'", holder.name()),
    };
    let wait = reset_text(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    format!("Limit reached for {holder}: {amount} {what}. Please try again in {wait}.")
}

/// Micro-dollars as dollars, to the cent or as exact as it is.
fn dollars(microusd: u64) -> String {
    let text = format!("{}.{:06}", microusd / 1_000_000, microusd % 1_000_000);
    text.strip_suffix("0000").unwrap_or(&text).to_owned()
}

/// Tells the client how near its limits are, in the names of OpenAI
/// (<https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers>) and, on its endpoints, of Anthropic
/// (<https://docs.anthropic.com/en/api/rate-limits#response-headers>).
pub(super) fn tell(head: &mut ResponseHeader, call: &Call) -> pingora::Result<()> {
    let Some(Standing { requests, tokens }) = &call.standing else { return Ok(()) };
    if let Some(gauge) = requests {
        tell_openai(head, OPENAI_REQUESTS, gauge)?;
    }
    if let Some(gauge) = tokens {
        tell_openai(head, OPENAI_TOKENS, gauge)?;
    }
    if call.dialect == Dialect::Anthropic {
        if let Some(gauge) = requests {
            tell_anthropic(head, ANTHROPIC_REQUESTS, gauge)?;
        }
        if let Some(gauge) = tokens {
            tell_anthropic(head, ANTHROPIC_TOKENS, gauge)?;
        }
    }
    Ok(())
}

/// Limit, remaining, reset.
type Names = [&'static str; 3];

const OPENAI_REQUESTS: Names =
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];
const OPENAI_TOKENS: Names = ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];
const ANTHROPIC_REQUESTS: Names = [
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
];
const ANTHROPIC_TOKENS: Names =
    ["anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"];

fn tell_openai(head: &mut ResponseHeader, names: Names, gauge: &Gauge) -> pingora::Result<()> {
    head.insert_header(names[0], HeaderValue::from(gauge.limit))?;
    head.insert_header(names[1], HeaderValue::from(gauge.remaining))?;
    head.insert_header(names[2], reset_text(gauge.reset_ms))
}

fn tell_anthropic(head: &mut ResponseHeader, names: Names, gauge: &Gauge) -> pingora::Result<()> {
    head.insert_header(names[0], HeaderValue::from(gauge.limit))?;
    head.insert_header(names[1], HeaderValue::from(gauge.remaining))?;
    // Whole seconds, rounded up, as Anthropic has them.
    let reset = UNIX_EPOCH.elapsed().unwrap_or_default() + Duration::from_millis(gauge.reset_ms + 999);
    let reset = UNIX_EPOCH + Duration::from_secs(reset.as_secs());
    head.insert_header(names[2], humantime::format_rfc3339_seconds(reset).to_string())
}

/// A wait as OpenAI writes it: `120ms`, `8.64s`, `6m0s`, `1h0m0s`.
fn reset_text(ms: u64) -> String {
    if ms > 0 && ms < 1_000 {
        return format!("{ms}ms");
    }
    let (hours, minutes, seconds, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    let mut text = String::with_capacity(16);
    // Writing to a string does not fail.
    let _ = match (hours, minutes) {
        (0, 0) => write!(text, "{seconds}"),
        (0, minutes) => write!(text, "{minutes}m{seconds}"),
        (hours, minutes) => write!(text, "{hours}h{minutes}m{seconds}"),
    };
    if ms > 0 {
        let _ = write!(text, ".{ms:03}");
        text.truncate(text.trim_end_matches('0').len());
    }
    text.push('s');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_written_as_openai_does() {
        for (ms, text) in [
            (0, "0s"),
            (1, "1ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (8_640, "8.64s"),
            (10_001, "10.001s"),
            (360_000, "6m0s"),
            (4_320_000, "1h12m0s"),
            (90_000_500, "25h0m0.5s"),
        ] {
            assert_eq!(reset_text(ms), text);
        }
    }

    #[test]
    fn a_refusal_names_limit_and_holder() {
        let denied = |kind, amount, holder, wait_ms| Denied::Limit {
            limit: Limit { kind, amount },
            holder,
            name: "demo".into(),
            wait_ms,
            standing: Standing::default(),
        };
        let error = refusal(&denied(LimitKind::Rpm, 20, HolderKind::Key, 2_500));
        assert_eq!((error.status, error.kind, error.code), (429, "requests", "rate_limit_exceeded"));
        let text = "Limit reached for key 'demo': 20 requests per minute (rpm). Please try again in 2.5s.";
        assert_eq!((error.message.as_ref(), error.retry_after), (text, Some(Duration::from_millis(2_500))));
        let error = refusal(&denied(LimitKind::SpendMonth, 50_250_000, HolderKind::Team, 3_600_000));
        assert_eq!((error.kind, error.code), ("insufficient_quota", "insufficient_quota"));
        let text = "Limit reached for team 'demo': 50.25 US dollars per month. Please try again in 1h0m0s.";
        assert_eq!(error.message, text);
        let error = refusal(&denied(LimitKind::Tpm, 5, HolderKind::Global, 1));
        assert_eq!((error.kind, error.message.contains("the gateway: 5 tokens per minute")), ("tokens", true));
    }

    #[test]
    fn money_is_written_in_dollars() {
        for (microusd, text) in [(500_000, "0.50"), (1, "0.000001"), (2_000_000, "2.00"), (50_250_000, "50.25")] {
            assert_eq!(dollars(microusd), text);
        }
    }
}
