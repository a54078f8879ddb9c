//! Amounts as people write them: `2s`, `40k`, `64MiB`, `3.00`. Text in, exact integers out.

use std::time::Duration;

/// The longest duration a file may name.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// `500ms`, `2s`, `10m`, `1h 30m`: above zero, at most a day.
pub(super) fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|value| !value.is_zero() && *value <= DURATION_MAX)
}

/// `1000`, `40k`, `2M`: whole; k and M are powers of 1000.
pub(super) fn count(text: &str) -> Option<u64> {
    scaled(text, &[("k", 1_000), ("M", 1_000_000)])
}

/// `1048576`, `64KiB`, `200MiB`, `4GiB`: whole bytes.
pub(super) fn bytes(text: &str) -> Option<u64> {
    scaled(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)])
}

/// US dollars with at most six decimals, as micro-dollars: `3.00` is 3 000 000.
pub(super) fn microusd(text: &str) -> Option<u64> {
    const DECIMALS: usize = 6;
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    if decimals.is_empty() || decimals.len() > DECIMALS {
        return None;
    }
    let zeros = "0".repeat(DECIMALS - decimals.len());
    digits(whole)?.checked_mul(1_000_000)?.checked_add(digits(&format!("{decimals}{zeros}"))?)
}

/// `2026-11-01` (midnight) or `2026-11-01T12:00:00Z`, UTC: seconds since 1970, not before it.
pub(super) fn date(text: &str) -> Option<i64> {
    let midnight = if text.len() == "2026-11-01".len() { "T00:00:00Z" } else { "" };
    let time = humantime::parse_rfc3339(&format!("{text}{midnight}")).ok()?;
    i64::try_from(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs()).ok()
}

/// `20%`: whole, at most 100.
pub(super) fn percent(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%').filter(|number| number.len() <= 3)?;
    digits(number).and_then(|number| u32::try_from(number).ok()).filter(|number| *number <= 100)
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let unit = units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?.trim_end(), *scale)));
    let (number, scale) = unit.unwrap_or((text, 1));
    digits(number)?.checked_mul(scale)
}

/// Digits only: `u64::from_str` alone would take a leading `+`.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        assert_eq!(count("40k"), Some(40_000));
        assert_eq!(count("2M"), Some(2_000_000));
        assert_eq!(bytes("200 MiB"), Some(200 << 20));
        assert_eq!(duration("1h 30m"), Some(Duration::from_secs(5400)));
        for bad in ["", "+1", "-1", "1.5", "k", "1kk", "18446744073709551616", "18446744073709551615M"] {
            assert_eq!(count(bad), None, "{bad}");
        }
        assert_eq!((percent("0%"), percent("20%"), percent("100%")), (Some(0), Some(20), Some(100)));
        for bad in ["", "%", "20", "101%", "-1%", "0.5%", "0020%", "20 %"] {
            assert_eq!(percent(bad), None, "{bad}");
        }
        assert_eq!((date("1970-01-02"), date("1970-01-01T00:00:07Z")), (Some(86_400), Some(7)));
        for bad in ["", "1970", "01.02.1970", "1970-02-30", "1969-12-31", "1970-01-01T00:00:00"] {
            assert_eq!(date(bad), None, "{bad}");
        }
        for bad in ["0s", "2 days", "10", "-1s", ""] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn prices_are_exact() {
        for (text, exact) in
            [("3.00", 3_000_000), ("0.1", 100_000), ("0.000001", 1), ("15", 15_000_000), ("0.29", 290_000)]
        {
            assert_eq!(microusd(text), Some(exact), "{text}");
        }
        for bad in ["", ".", "1.", ".5", "1e3", "-1", "0.0000001", "1.2.3", "18446744073710"] {
            assert_eq!(microusd(bad), None, "{bad}");
        }
    }
}
