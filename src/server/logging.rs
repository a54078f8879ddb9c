//! The process's log: env_logger, as text or as JSON lines, to stderr.

use std::io::Write;
use std::time::SystemTime;

use env_logger::fmt::Formatter;
use log::Record;
use serde_json::json;

use crate::access;
use crate::config::LogFormat;

/// What is logged unless `RUST_LOG` says otherwise. The engine tells at `info` what it does at every start
/// and at `error` what a client did wrong, which the access line says already.
const DEFAULT_FILTER: &str = "info,pingora=off,pingora_core=warn,pingora_core::services=off,pingora_proxy=off";

/// Sets the process's logger. A second call changes nothing.
pub(super) fn init(format: LogFormat) {
    let mut builder = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(DEFAULT_FILTER));
    match format {
        LogFormat::Text => builder.format(text),
        LogFormat::Json => builder.format(json_line),
    };
    // Only a test starts two servers in one process; the first one's logger serves both.
    let _ = builder.try_init();
}

fn text(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    // An access line carries its own time, and is escaped already.
    if record.target() == access::LOG_TARGET {
        return writeln!(out, "{}", record.args());
    }
    let time = humantime::format_rfc3339_millis(SystemTime::now());
    let message = record.args().to_string();
    writeln!(out, "time={time} level={} target={} {}", record.level(), record.target(), one_line(&message))
}

fn json_line(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    if record.target() == access::LOG_TARGET {
        return writeln!(out, "{}", record.args());
    }
    let line = json!({
        "time": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        "level": record.level().as_str(),
        "target": record.target(),
        "message": record.args().to_string(),
    });
    writeln!(out, "{line}")
}

/// Text that forges no second line. Faults of a file are many lines by intent, so a line break becomes an
/// indented one; every other control character is escaped.
fn one_line(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for c in message.chars() {
        match c {
            '\n' => out.push_str("\n  "),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_forge_a_line() {
        assert_eq!(one_line("a\ntime=now level=INFO\u{1b}[0m"), "a\n  time=now level=INFO\\u{1b}[0m");
    }
}
