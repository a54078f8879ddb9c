//! What a provider's answer means: for the client, for the next attempt and for the provider's health.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;

/// What a status says about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The answer the client wants: 2xx, and 101 where an upgrade was asked for.
    Success,
    /// The provider refuses the request itself; another provider would too.
    Refusal,
    /// 429: later, or elsewhere.
    RateLimited,
    /// 408: the provider did not get the request in time.
    RequestTimeout,
    /// The provider refuses our key or account, which is not the client's business.
    OurCredential,
    /// 403: our key may not do this; but some providers refuse a prompt so, too.
    Forbidden,
    /// The provider failed, or answered what the protocol does not allow here.
    ProviderFault,
}

/// What `status` means.
///
/// Of the 4xx, those pass for refusals that speak of what the client wrote. The others speak of what Forge
/// made of it (method, length, connection) or of the provider's own state, and are held against the provider.
/// Redirects are never followed, so a redirect is no answer. RFC 9110 section 15;
/// 529: <https://docs.anthropic.com/en/api/errors>; 498: <https://console.groq.com/docs/errors>.
pub fn judge(status: u16) -> Outcome {
    match status {
        101 | 200..=299 => Outcome::Success,
        401 | 402 => Outcome::OurCredential,
        403 => Outcome::Forbidden,
        408 => Outcome::RequestTimeout,
        429 | 498 => Outcome::RateLimited,
        // Method, proxy credential, length, misdirected, failed dependency, too early, upgrade,
        // precondition, head too large: all ours or the provider's.
        405 | 407 | 411 | 421 | 424..=426 | 428 | 431 => Outcome::ProviderFault,
        400..=499 => Outcome::Refusal,
        _ => Outcome::ProviderFault,
    }
}

/// The longest wait a provider's answer can ask for; a longer one is cut to it.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How long the provider asks to be left alone, counted from `now_unix` (seconds since 1970);
/// at most [`RETRY_AFTER_MAX`].
///
/// Reads `retry-after-ms` (milliseconds, OpenAI and Azure) before `Retry-After` (seconds or a date, RFC 9110
/// section 10.2.3). A date that has passed is a wait of zero; what cannot be read counts as absent.
pub fn retry_after(headers: &HeaderMap, now_unix: i64) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let wait = match text("retry-after-ms").and_then(|value| decimal(value, Duration::from_millis(1))) {
        Some(wait) => wait,
        None => {
            let value = text("retry-after")?;
            decimal(value, Duration::from_secs(1)).or_else(|| until(value, now_unix))?
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// A count of `unit`; some providers send fractions.
fn decimal(text: &str, unit: Duration) -> Option<Duration> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let count = plain.then(|| text.parse::<f64>().ok()).flatten()?;
    // Bounded before the multiplication, which would panic above what a Duration holds.
    Some(unit.mul_f64(count.min(1e9)))
}

/// The time from now to an HTTP date.
fn until(text: &str, now_unix: i64) -> Option<Duration> {
    let date = httpdate::parse_http_date(text).ok()?;
    let now = UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(now_unix).ok()?))?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn statuses() {
        use Outcome::{OurCredential, ProviderFault, Refusal, RequestTimeout, Success};
        let table: &[(&[u16], Outcome)] = &[
            (&[101, 200, 201, 204], Success),
            (&[400, 404, 406, 409, 410, 412, 413, 414, 415, 416, 422, 451], Refusal),
            (&[429, 498], Outcome::RateLimited),
            (&[408], RequestTimeout),
            (&[401, 402], OurCredential),
            (&[403], Outcome::Forbidden),
            (&[0, 100, 102, 103, 199, 300, 301, 302, 304, 307, 308], ProviderFault),
            (&[405, 407, 411, 421, 424, 426, 431, 500, 502, 503, 504, 529, 599, 600, 999], ProviderFault),
        ];
        for (statuses, outcome) in table {
            for status in *statuses {
                assert_eq!(judge(*status), *outcome, "{status}");
            }
        }
    }

    #[test]
    fn waits() {
        const NOW: i64 = 1_445_412_000; // Wed, 21 Oct 2015 07:20:00 GMT
        let seconds = Duration::from_secs;
        type Headers = &'static [(&'static str, &'static str)];
        let cases: &[(Headers, Option<Duration>)] = &[
            (&[], None),
            (&[("retry-after", "0")], Some(seconds(0))),
            (&[("retry-after", "7")], Some(seconds(7))),
            (&[("retry-after", " 7 ")], Some(seconds(7))),
            (&[("retry-after", "0.5")], Some(Duration::from_millis(500))),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "1e3")], None),
            (&[("retry-after", "inf")], None),
            (&[("retry-after", ".")], None),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "99999")], Some(RETRY_AFTER_MAX)),
            (&[("retry-after", "99999999999999999999999999999")], Some(RETRY_AFTER_MAX)),
            (&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")], Some(seconds(480))),
            (&[("retry-after", "Wednesday, 21-Oct-15 07:28:00 GMT")], Some(seconds(480))),
            (&[("retry-after", "Wed Oct 21 07:28:00 2015")], Some(seconds(480))),
            (&[("retry-after", "Wed, 21 Oct 2015 07:00:00 GMT")], Some(seconds(0))),
            (&[("retry-after", "Sun, 21 Oct 2035 07:00:00 GMT")], Some(RETRY_AFTER_MAX)),
            (&[("retry-after-ms", "1500"), ("retry-after", "2")], Some(Duration::from_millis(1500))),
            (&[("retry-after-ms", "x"), ("retry-after", "2")], Some(seconds(2))),
        ];
        for (headers, expected) in cases {
            let mut map = HeaderMap::new();
            for (name, value) in *headers {
                map.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(retry_after(&map, NOW), *expected, "{headers:?}");
        }
    }
}
