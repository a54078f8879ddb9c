//! The line itself: which fields, in which order, how they are escaped.

use std::cell::RefCell;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Record;
use crate::config::LogFormat;

/// Characters shown of any one value; what is longer is cut and ends in `…`.
const VALUE_CHARS_MAX: usize = 256;

thread_local! {
    /// The last second that was written on this thread, since 1970, and its text.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// Appends the line of `record`, without a newline. Fields that do not apply are left out.
pub fn write_line(out: &mut String, record: &Record<'_>, now: SystemTime, format: LogFormat) {
    let mut line = Line { out, format };
    line.begin(now);
    write_who(&mut line, record);
    write_what(&mut line, record);
    line.end();
}

fn write_who(line: &mut Line<'_>, record: &Record<'_>) {
    line.text("request_id", Some(record.request_id));
    line.text("key", record.key_name);
    line.text("endpoint", record.endpoint.map(|endpoint| endpoint.name()));
    line.text("model", record.requested_model.or(record.model));
    if record.model != record.requested_model {
        line.text("route", record.model);
    }
    line.text("provider", record.provider);
    line.text("upstream_model", record.upstream_model);
    line.number("attempts", (record.attempts > 0).then_some(u64::from(record.attempts)));
    line.number("rule", record.rule.map(|index| index as u64));
}

fn write_what(line: &mut Line<'_>, record: &Record<'_>) {
    line.number("status", Some(u64::from(record.status)));
    line.text("error", record.error_code);
    line.flag("stream", record.stream);
    line.flag("aborted", record.aborted_by_client);
    line.millis("first_byte_ms", record.first_byte);
    line.millis("total_ms", Some(record.total));
    line.number("bytes_in", Some(record.bytes_in));
    line.number("bytes_out", Some(record.bytes_out));
    line.number("input_tokens", record.input_tokens);
    line.number("output_tokens", record.output_tokens);
    line.address("client_ip", record.client_ip);
}

struct Line<'a> {
    out: &'a mut String,
    format: LogFormat,
}

/// Formats by hand what every request needs: `fmt` would cost most of the line's time.
impl Line<'_> {
    fn begin(&mut self, now: SystemTime) {
        self.out.push_str(match self.format {
            LogFormat::Text => "time=",
            LogFormat::Json => "{\"time\":\"",
        });
        push_time(self.out, now);
        self.out.push_str(self.quote_in_json());
    }

    fn end(&mut self) {
        if self.format == LogFormat::Json {
            self.out.push('}');
        }
    }

    fn field(&mut self, name: &str) {
        let (before, after) = match self.format {
            LogFormat::Text => (" ", "="),
            LogFormat::Json => (",\"", "\":"),
        };
        self.out.push_str(before);
        self.out.push_str(name);
        self.out.push_str(after);
    }

    fn quote_in_json(&self) -> &'static str {
        match self.format {
            LogFormat::Text => "",
            LogFormat::Json => "\"",
        }
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.field(name);
        if !is_plain(value) {
            push_quoted(self.out, value);
            return;
        }
        self.out.push_str(self.quote_in_json());
        self.out.push_str(value);
        self.out.push_str(self.quote_in_json());
    }

    fn number(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.field(name);
            push_number(self.out, value, 1);
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.field(name);
            self.out.push_str("true");
        }
    }

    fn millis(&mut self, name: &str, value: Option<Duration>) {
        if let Some(value) = value {
            self.field(name);
            let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
            push_number(self.out, micros / 1000, 1);
            self.out.push('.');
            push_number(self.out, micros % 1000, 3);
        }
    }

    fn address(&mut self, name: &str, value: Option<IpAddr>) {
        let Some(value) = value else { return };
        self.field(name);
        self.out.push_str(self.quote_in_json());
        match value {
            IpAddr::V4(value) => {
                let [first, rest @ ..] = value.octets();
                push_number(self.out, first.into(), 1);
                for octet in rest {
                    self.out.push('.');
                    push_number(self.out, octet.into(), 1);
                }
            }
            // Writing to a String cannot fail.
            IpAddr::V6(value) => _ = write!(self.out, "{value}"),
        }
        self.out.push_str(self.quote_in_json());
    }
}

/// RFC 3339 with milliseconds. The part down to the second is kept: most lines share it with the one before.
fn push_time(out: &mut String, now: SystemTime) {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() || text.is_empty() {
            *second = since.as_secs();
            text.clear();
            let whole = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(*second));
            let _ = write!(text, "{whole}");
            text.truncate(text.trim_end_matches('Z').len());
        }
        out.push_str(text);
    });
    out.push('.');
    push_number(out, u64::from(since.subsec_millis()), 3);
    out.push('Z');
}

/// Decimal digits, with zeros in front up to `digits_min`.
fn push_number(out: &mut String, mut number: u64, digits_min: usize) {
    const DIGITS_MAX: usize = 20;
    let mut digits = [b'0'; DIGITS_MAX];
    let mut at = DIGITS_MAX;
    while number > 0 || DIGITS_MAX - at < digits_min {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    // Digits are ASCII.
    out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

/// Whether a value stands for itself in both forms: visible ASCII without what delimits, bounded.
fn is_plain(value: &str) -> bool {
    // Without an early end the compiler turns this into a few vector instructions.
    let plain = |all: bool, b: u8| all & b.is_ascii_graphic() & (b != b'"') & (b != b'=') & (b != b'\\');
    (1..=VALUE_CHARS_MAX).contains(&value.len()) && value.bytes().fold(true, plain)
}

/// Appends `value` as a JSON string: RFC 8259 section 7, and whatever could forge or garble a terminal's line.
fn push_quoted(out: &mut String, value: &str) {
    out.push('"');
    for (index, c) in value.chars().enumerate() {
        if index == VALUE_CHARS_MAX {
            out.push('…');
            break;
        }
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // All of these are in the basic plane, so one \u escape is the whole of it.
            c if c.is_control() || is_invisible(c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Line separators, direction overrides, zero-width characters and the byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;

    fn full() -> Record<'static> {
        Record {
            request_id: "req_1",
            key_name: Some("team a"),
            endpoint: Some(Endpoint::ChatCompletions),
            model: Some("gpt-*"),
            requested_model: Some("gpt-5"),
            provider: Some("openai"),
            upstream_model: Some("gpt-5-2026"),
            attempts: 2,
            status: 500,
            error_code: Some("upstream_error"),
            rule: Some(0),
            stream: true,
            first_byte: Some(Duration::from_micros(1_234)),
            total: Duration::from_micros(5_000_007),
            bytes_in: 10,
            bytes_out: 20,
            client_ip: Some([127, 0, 0, 1].into()),
            aborted_by_client: true,
            input_tokens: Some(12),
            output_tokens: Some(0),
        }
    }

    fn line(record: &Record<'_>, format: LogFormat) -> String {
        let mut out = String::new();
        write_line(&mut out, record, UNIX_EPOCH, format);
        out
    }

    #[test]
    fn text_is_key_value_pairs() {
        assert_eq!(
            line(&full(), LogFormat::Text),
            "time=1970-01-01T00:00:00.000Z request_id=req_1 key=\"team a\" endpoint=chat_completions model=gpt-5 \
             route=gpt-* provider=openai upstream_model=gpt-5-2026 attempts=2 rule=0 status=500 error=upstream_error \
             stream=true aborted=true first_byte_ms=1.234 total_ms=5000.007 bytes_in=10 bytes_out=20 \
             input_tokens=12 output_tokens=0 \
             client_ip=127.0.0.1"
        );
    }

    #[test]
    fn json_is_one_object() {
        let value: serde_json::Value = serde_json::from_str(&line(&full(), LogFormat::Json)).unwrap();
        assert_eq!(value["key"], "team a");
        assert_eq!(value["status"], 500);
        assert_eq!(value["first_byte_ms"], 1.234);
        assert_eq!(value["client_ip"], "127.0.0.1");
        assert_eq!(value["aborted"], true);
    }

    #[test]
    fn what_does_not_apply_is_left_out() {
        let record = Record { request_id: "r", status: 401, ..Record::default() };
        assert_eq!(
            line(&record, LogFormat::Text),
            "time=1970-01-01T00:00:00.000Z request_id=r status=401 total_ms=0.000 bytes_in=0 bytes_out=0"
        );
    }

    #[test]
    fn client_text_can_forge_no_line() {
        let nasty = "x\r\ntime=now status=200 \u{1b}[2J\u{202e}\"\\\u{0} মডেল 𝄞";
        let record = Record { requested_model: Some(nasty), model: Some(nasty), ..full() };
        let json = line(&record, LogFormat::Json);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["model"], nasty);
        for line in [json, line(&record, LogFormat::Text)] {
            assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
            assert!(line.contains("মডেল"), "readable text stays readable: {line}");
        }
    }

    #[test]
    fn times_and_numbers_are_what_the_library_writes() {
        for millis in [0_u64, 7, 999, 1_000, 86_399_999, 1_795_371_802_045, 1_795_371_802_999, 1_795_371_803_000] {
            let (time, mut out) = (UNIX_EPOCH + Duration::from_millis(millis), String::new());
            push_time(&mut out, time);
            assert_eq!(out, humantime::format_rfc3339_millis(time).to_string());
        }
        for number in [0, 1, 9, 10, 65_535, u64::MAX] {
            let mut out = String::new();
            push_number(&mut out, number, 1);
            assert_eq!(out, number.to_string());
        }
    }

    #[test]
    fn long_values_are_cut() {
        let long = "é".repeat(5_000);
        let record = Record { requested_model: Some(&long), ..Record::default() };
        for format in [LogFormat::Text, LogFormat::Json] {
            let line = line(&record, format);
            assert!(line.len() < 1_000 && line.contains("é…\""), "{line}");
        }
    }
}
