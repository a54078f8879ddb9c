//! `Content-Type` and `Content-Disposition`: a word and its parameters, read so that no two readers differ.

/// `word; name=value; name="value"` (RFC 9110, section 5.6.6).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameterised {
    /// In lower case.
    pub(super) word: String,
    /// Names in lower case, each once; values without their quotes.
    params: Vec<(String, String)>,
}

impl Parameterised {
    /// `None` also for what readers take differently: a parameter given twice, or a backslash before a
    /// quote, which either ends the value or is part of it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches(BLANK);
        let (word, mut rest) = text.split_at(text.find(';').unwrap_or(text.len()));
        let word = word.trim_end_matches(BLANK).to_ascii_lowercase();
        let mut params: Vec<(String, String)> = Vec::new();
        while let Some(after) = rest.strip_prefix(';') {
            rest = after.trim_start_matches(BLANK);
            if rest.is_empty() || rest.starts_with(';') {
                continue;
            }
            let (name, value, after) = parameter(rest)?;
            if params.iter().any(|(seen, _)| *seen == name) {
                return None;
            }
            params.push((name, value));
            rest = after.trim_start_matches(BLANK);
        }
        rest.is_empty().then_some(Self { word, params })
    }

    /// The value of the parameter of that name.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(seen, _)| seen == name).map(|(_, value)| value.as_str())
    }

    /// Whether it has no parameters but these.
    pub(super) fn has_only(&self, names: &[&str]) -> bool {
        self.params.iter().all(|(name, _)| names.contains(&name.as_str()))
    }
}

/// A media type (RFC 9110, section 8.3.1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MediaType(Parameterised);

impl MediaType {
    /// Parses a `Content-Type`. `None` also for RFC 2231's extended parameters, backslashes and
    /// characters beyond ASCII, which few readers know.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let media = Parameterised::parse(text)?;
        let (kind, subtype) = media.word.split_once('/')?;
        let plain = |(name, value): &(String, String)| {
            !name.contains('*') && value.chars().all(|c| matches!(c, ' '..='~') && c != '\\')
        };
        (is_token(kind) && is_token(subtype) && media.params.iter().all(plain)).then_some(Self(media))
    }

    /// `type/subtype` in lower case.
    pub(super) fn essence(&self) -> &str {
        &self.0.word
    }

    /// The value of the parameter of that name.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.0.param(name)
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
        Some(quoted) => quoted.split_once('"').filter(|(value, _)| !value.ends_with('\\'))?,
        None => {
            let (value, rest) = rest.split_at(rest.find([';', ' ', '\t']).unwrap_or(rest.len()));
            (is_token(value).then_some(value)?, rest)
        }
    };
    let clean = !value.chars().any(|c| c.is_control());
    clean.then(|| (name.to_ascii_lowercase(), value.to_owned(), rest))
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
        let media = MediaType::parse(" Multipart/Form-Data ; Boundary=\"a b:1\";Charset=UTF-8; ").unwrap();
        assert_eq!(media.essence(), "multipart/form-data");
        assert_eq!((media.param("boundary"), media.param("charset")), (Some("a b:1"), Some("UTF-8")));
        assert!(media.is_utf8());
        assert!(!MediaType::parse("application/json; charset=utf-16").unwrap().is_utf8());
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
            "a/b; c=\"d\\e\"",
            "a/b; c=d=e",
            "a/b; c=\u{e9}",
            "a/b; c=\"\u{e9}\"",
            "a/b c=d",
            "a/b;\nc=d",
        ] {
            assert_eq!(MediaType::parse(bad), None, "{bad}");
        }
    }
}
