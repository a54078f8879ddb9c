//! `GET /v1/files/{id}/content`: the bytes, whole or one range of them. RFC 9110 sections 13 and 14.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Answer, Jobs, caller};
use crate::error::ApiError;
use crate::store::FileRecord;

/// RFC 8187 section 3.2.1: attr-char is not encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// What of a file is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// All of it.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that it does not have.
    Unsatisfiable,
    /// Nothing: the client has it.
    Unchanged,
}

pub(super) async fn download(
    State(jobs): State<Arc<Jobs>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Answer<Response> {
    let file = jobs.find(&caller(&headers)?, &id).await?;
    let etag = etag(&file);
    let (status, range) = match wanted(&headers, &etag, file.bytes) {
        Wanted::Whole => (StatusCode::OK, 0..file.bytes),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
        Wanted::Unchanged => (StatusCode::NOT_MODIFIED, 0..0),
    };
    let body = match status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
            let pieces = jobs.blobs.read(&file.id, range.clone()).await.map_err(|error| {
                log::error!("files: {}: {error}", file.id);
                error.answer()
            })?;
            Body::from_stream(pieces)
        }
        _ => Body::empty(),
    };
    respond(&file, (status, range, &etag), body)
}

fn respond(file: &FileRecord, (status, range, etag): (StatusCode, Range<u64>, &str), body: Body) -> Answer<Response> {
    let size = file.bytes;
    let content_range = match status {
        StatusCode::PARTIAL_CONTENT => Some(format!("bytes {}-{}/{size}", range.start, range.end - 1)),
        StatusCode::RANGE_NOT_SATISFIABLE => Some(format!("bytes */{size}")),
        _ => None,
    };
    let fields: [(HeaderName, Option<String>); 9] = [
        (ETAG, Some(etag.to_owned())),
        (ACCEPT_RANGES, Some("bytes".to_owned())),
        // It belongs to a key: no cache on the way may keep it, and the client's asks again.
        (CACHE_CONTROL, Some("private, no-cache".to_owned())),
        (CONTENT_RANGE, content_range),
        (CONTENT_LENGTH, (status != StatusCode::NOT_MODIFIED).then(|| (range.end - range.start).to_string())),
        (CONTENT_TYPE, (range.end > range.start || size == 0).then(|| file.content_type.clone())),
        (CONTENT_DISPOSITION, Some(disposition(&file.filename))),
        // Whatever the file holds, a browser neither guesses its type nor runs it on our origin.
        (X_CONTENT_TYPE_OPTIONS, Some("nosniff".to_owned())),
        (CONTENT_SECURITY_POLICY, Some("sandbox; default-src 'none'".to_owned())),
    ];
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in fields {
        let Some(value) = value else { continue };
        let value = HeaderValue::try_from(value).map_err(|_| ApiError::internal())?;
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// The same bytes have the same tag.
fn etag(file: &FileRecord) -> String {
    format!("\"{}\"", file.sha256.get(..32).unwrap_or(&file.id))
}

fn wanted(headers: &HeaderMap, etag: &str, size: u64) -> Wanted {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if text(IF_NONE_MATCH).is_some_and(|tags| matches_any(tags, etag)) {
        return Wanted::Unchanged;
    }
    // A range of what has changed since is of no use: RFC 9110 section 13.1.5. Only a strong tag may ask for it.
    let current = text(IF_RANGE).is_none_or(|tag| tag.trim() == etag);
    match text(RANGE).filter(|_| current) {
        Some(range) => part(range, size),
        None => Wanted::Whole,
    }
}

/// RFC 9110 section 13.1.2: compared weakly.
fn matches_any(tags: &str, etag: &str) -> bool {
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// One range of bytes. What is malformed, of another unit, or more than one range is as good as absent, which
/// RFC 9110 section 14.2 allows.
fn part(range: &str, size: u64) -> Wanted {
    let Some((unit, spec)) = range.split_once('=') else { return Wanted::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let range = match (number(first), number(last)) {
        (Some(None), Some(Some(suffix))) => size.saturating_sub(suffix)..size,
        (Some(Some(first)), Some(None)) => first..size,
        (Some(Some(first)), Some(Some(last))) if first <= last => first..size.min(last.saturating_add(1)),
        _ => return Wanted::Whole,
    };
    if range.is_empty() { Wanted::Unsatisfiable } else { Wanted::Part(range) }
}

/// `None`: no number. `Some(None)`: nothing. More than fits is as good as the largest.
fn number(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

/// `attachment` with a name that is no path anywhere. RFC 6266 section 4.3: a plain form for old readers, and the
/// exact one.
fn disposition(name: &str) -> String {
    let harmless =
        |c: char| if matches!(c, '/' | '\\' | '"' | '%' | ':' | '*' | '?' | '<' | '>' | '|') { '_' } else { c };
    let flat: String = name.chars().map(harmless).collect();
    // A leading dot hides a file, and two lead out of a folder.
    let flat = flat.trim_start_matches('.');
    let flat = if flat.is_empty() { "file" } else { flat };
    let plain: String = flat.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '_' }).collect();
    if plain == flat {
        return format!("attachment; filename=\"{plain}\"");
    }
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", utf8_percent_encode(flat, ENCODED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (range, size, expected) in [
            ("bytes=0-0", 10, Wanted::Part(0..1)),
            ("bytes=2-", 10, Wanted::Part(2..10)),
            ("bytes=-3", 10, Wanted::Part(7..10)),
            ("bytes=-30", 10, Wanted::Part(0..10)),
            ("bytes=5-100", 10, Wanted::Part(5..10)),
            ("bytes=0-99999999999999999999999", 10, Wanted::Part(0..10)),
            ("Bytes=9-9", 10, Wanted::Part(9..10)),
            ("bytes=10-", 10, Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Wanted::Unsatisfiable),
            ("bytes=-0", 10, Wanted::Unsatisfiable),
            ("bytes=0-", 0, Wanted::Unsatisfiable),
            ("bytes=-1", 0, Wanted::Unsatisfiable),
            ("bytes=5-2", 10, Wanted::Whole),
            ("bytes=-", 10, Wanted::Whole),
            ("bytes=0-1,3-4", 10, Wanted::Whole),
            ("bytes=a-b", 10, Wanted::Whole),
            ("bytes=+1-2", 10, Wanted::Whole),
            ("lines=0-1", 10, Wanted::Whole),
            ("0-1", 10, Wanted::Whole),
        ] {
            assert_eq!(part(range, size), expected, "{range} of {size}");
        }
    }

    #[test]
    fn conditions() {
        let of = |fields: &[(HeaderName, &'static str)]| {
            let fields = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            wanted(&HeaderMap::from_iter(fields), "\"tag\"", 10)
        };
        assert_eq!(of(&[(IF_NONE_MATCH, "\"x\", W/\"tag\"")]), Wanted::Unchanged);
        assert_eq!(of(&[(IF_NONE_MATCH, "*"), (RANGE, "bytes=0-1")]), Wanted::Unchanged);
        assert_eq!(of(&[(IF_NONE_MATCH, "\"x\"")]), Wanted::Whole);
        assert_eq!(of(&[(IF_RANGE, "\"tag\""), (RANGE, "bytes=0-1")]), Wanted::Part(0..2));
        assert_eq!(of(&[(IF_RANGE, "W/\"tag\""), (RANGE, "bytes=0-1")]), Wanted::Whole);
        assert_eq!(of(&[(IF_RANGE, "\"old\""), (RANGE, "bytes=0-1")]), Wanted::Whole);
    }

    #[test]
    fn a_disposition_names_no_path_and_breaks_no_header() {
        for (name, expected) in [
            ("a b.jsonl", "attachment; filename=\"a b.jsonl\""),
            ("../../etc/passwd", "attachment; filename=\"_.._etc_passwd\""),
            ("C:\\x\"; evil=\"1", "attachment; filename=\"C__x_; evil=_1\""),
            ("..", "attachment; filename=\"file\""),
            ("naïve 100%.txt", "attachment; filename=\"na_ve 100_.txt\"; filename*=UTF-8''na%C3%AFve%20100_.txt"),
        ] {
            let found = disposition(name);
            assert_eq!(found, expected);
            assert!(HeaderValue::try_from(found).is_ok());
        }
    }
}
