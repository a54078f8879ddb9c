//! A reader of forms more lenient than any in use.

use crate::reading::Reading;

/// Every part that a reader more lenient than any in use would see: name in lower case and trimmed,
/// content. Lines may end with CR, LF or both; boundaries may have anything behind them; a preamble is
/// skipped; names are looked for wherever `name=` stands in a disposition, decoded or not.
fn lenient(boundary: &str, body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let boundary = format!("--{boundary}");
    let starts: Vec<usize> = (0..body.len())
        .filter(|&at| body[at..].starts_with(boundary.as_bytes()))
        .filter(|&at| at == 0 || matches!(body[at - 1], b'\r' | b'\n'))
        .collect();
    let mut parts = Vec::new();
    for (index, start) in starts.iter().enumerate() {
        let behind = start + boundary.len();
        let end = starts.get(index + 1).map_or(body.len(), |next| *next);
        if behind > end || body[behind..].starts_with(b"--") {
            break;
        }
        let mut lines = Lines(&body[behind..end]);
        lines.next();
        let mut names = Vec::new();
        while let Some(line) = lines.next().filter(|line| !line.is_empty()) {
            names.extend(names_in(&String::from_utf8_lossy(line)));
        }
        let content = lines.0.strip_suffix(b"\n").unwrap_or(lines.0);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        parts.extend(names.into_iter().map(|name| (name, content.to_vec())));
    }
    parts
}

/// Lines that end with CR, LF or CRLF.
struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
        let (line, rest) = self.0.split_at(end);
        self.0 = rest.strip_prefix(b"\r\n").unwrap_or(&rest[1..]);
        Some(line)
    }
}

fn names_in(line: &str) -> Vec<String> {
    let lower = line.to_ascii_lowercase();
    if !lower.trim_start().starts_with("content-disposition") {
        return Vec::new();
    }
    lower
        .match_indices("name=")
        .filter(|(at, _)| !lower[..*at].ends_with("file"))
        .map(|(at, _)| {
            let value = &lower[at + 5..];
            let value = match value.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next().unwrap_or(""),
                None => value.split([';', ' ', '\t']).next().unwrap_or(""),
            };
            value.replace('\\', "").trim().to_owned()
        })
        .collect()
}

/// What Forge decides on is what the most lenient reader sees, and nothing else is of that name.
pub fn every_reader_agrees(boundary: &str, body: &[u8], reading: &Reading) {
    let parts = lenient(boundary, body);
    let named = |wanted: &str| -> Vec<&[u8]> {
        parts.iter().filter(|(name, _)| name == wanted).map(|(_, content)| content.as_slice()).collect()
    };
    let model: Vec<&[u8]> = reading.model.iter().map(|(name, _)| name.as_bytes()).collect();
    assert_eq!(named("model"), model, "{}", body.escape_ascii());
    let stream: Vec<&[u8]> = reading.stream.iter().map(|on| if *on { &b"true"[..] } else { b"false" }).collect();
    assert_eq!(named("stream"), stream, "{}", body.escape_ascii());
}
