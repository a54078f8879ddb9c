//! `Content-Type` of a request (RFC 9110, section 8.3.1).

/// A media type that every reader reads alike.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MediaType {
    /// `type/subtype` in lower case.
    pub(super) essence: String,
    /// Names in lower case, each once.
    params: Vec<(String, String)>,
}

impl MediaType {
    /// Parses a header's value. `None` also for what readers take differently: a parameter given
    /// twice, in RFC 2231's extended form, or with a backslash in it.
    pub(super) fn parse(value: &[u8]) -> Option<MediaType> {
        let text = std::str::from_utf8(value).ok()?.trim_matches(BLANK);
        let (essence, mut rest) = match text.find(';') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let essence = essence.trim_end_matches(BLANK).to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let mut params: Vec<(String, String)> = Vec::new();
        while let Some(after) = rest.strip_prefix(';') {
            rest = after.trim_start_matches(BLANK);
            if rest.is_empty() || rest.starts_with(';') {
                continue;
            }
            let (name, value, after) = parameter(rest)?;
            if name.contains('*') || params.iter().any(|(seen, _)| *seen == name) {
                return None;
            }
            params.push((name, value));
            rest = after.trim_start_matches(BLANK);
        }
        rest.is_empty().then_some(MediaType { essence, params })
    }

    /// A parameter's value, without its quotes.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(seen, _)| seen == name).map(|(_, value)| value.as_str())
    }

    /// Whether text of this type is UTF-8: it says so, or says nothing.
    pub(super) fn is_utf8(&self) -> bool {
        self.param("charset")
            .is_none_or(|charset| ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known)))
    }
}

const BLANK: [char; 2] = [' ', '\t'];

/// One `name=value` and what follows it.
fn parameter(text: &str) -> Option<(String, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    if !is_token(name) {
        return None;
    }
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').filter(|(value, _)| value.chars().all(is_quotable))?,
        None => {
            let end = rest.find([';', ' ', '\t']).unwrap_or(rest.len());
            let (value, rest) = rest.split_at(end);
            (is_token(value).then_some(value)?, rest)
        }
    };
    Some((name.to_ascii_lowercase(), value.to_owned(), rest))
}

fn is_quotable(c: char) -> bool {
    matches!(c, ' '..='~') && c != '\\'
}

/// RFC 9110, section 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_parameters_are_read_in_any_case() {
        let media = MediaType::parse(b" Multipart/Form-Data ; Boundary=\"a b:1\";Charset=UTF-8; ").unwrap();
        assert_eq!(media.essence, "multipart/form-data");
        assert_eq!((media.param("boundary"), media.param("charset")), (Some("a b:1"), Some("UTF-8")));
        assert!(media.is_utf8());
        assert!(!MediaType::parse(b"application/json; charset=utf-16").unwrap().is_utf8());
    }

    #[test]
    fn what_readers_take_differently_is_no_type() {
        for bad in [
            "",
            "json",
            "application/",
            "/json",
            "a/b/c",
            "application/json, text/plain",
            "a/b; c",
            "a/b; c=",
            "a/b; =d",
            "a/b; c=d e",
            "a/b; c=\"d",
            "a/b; c=\"d\"e",
            "a/b; c=d; C=e",
            "a/b; c*=utf-8''d",
            "a/b; c*0=d",
            "a/b; c = d",
            "a/b; c=\"d\\\"e\"",
            "a/b; c=d=e",
            "a/b; c=\u{e9}",
            "a/b c=d",
            "a/b;\nc=d",
        ] {
            assert_eq!(MediaType::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
