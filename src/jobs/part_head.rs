//! The head of one part of a form. RFC 7578 section 4.

use percent_encoding::percent_decode_str;

/// What a part says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartHead {
    /// The field's name.
    pub name: String,
    /// The file's name, where the part is a file. Data only: never a path of ours.
    pub filename: Option<String>,
    /// The type the client says the file is of: `type/subtype`, without parameters.
    pub content_type: Option<String>,
}

impl PartHead {
    /// Reads header lines without the empty one that ends them.
    ///
    /// # Errors
    /// What is wrong, to stand after "The multipart form is malformed: ".
    pub fn parse(head: &[u8]) -> Result<Self, &'static str> {
        let head = std::str::from_utf8(head).map_err(|_| "the head of a part is not UTF-8")?;
        let (mut disposition, mut content_type) = (None, None);
        for line in head.split("\r\n") {
            let (name, value) = line.split_once(':').ok_or("a part's header has no colon")?;
            if line.contains(['\r', '\n', '\0']) {
                return Err("a part's header holds a control character");
            }
            match name.to_ascii_lowercase().as_str() {
                "content-disposition" if disposition.is_some() => return Err("a part has two dispositions"),
                "content-disposition" => disposition = Some(Disposition::parse(value)?),
                "content-type" => content_type = Some(value),
                "content-transfer-encoding" if !is_identity(value) => return Err("a part is encoded"),
                _ => {}
            }
        }
        let disposition = disposition.ok_or("a part has no Content-Disposition")?;
        let name = disposition.name.ok_or("a part has no name")?;
        Ok(Self { name, filename: disposition.filename, content_type: content_type.and_then(media_type) })
    }
}

fn is_identity(encoding: &str) -> bool {
    ["binary", "8bit", "7bit"].iter().any(|identity| encoding.trim().eq_ignore_ascii_case(identity))
}

/// `type/subtype` of a media type, if it is well formed. RFC 9110 section 8.3.1.
fn media_type(value: &str) -> Option<String> {
    const BYTES_MAX: usize = 127;
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let token = |text: &str| {
        let of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        !text.is_empty() && text.bytes().all(of_token)
    };
    let (kind, subtype) = essence.split_once('/')?;
    (essence.len() <= BYTES_MAX && token(kind) && token(subtype)).then(|| essence.clone())
}

#[derive(Default)]
struct Disposition {
    name: Option<String>,
    filename: Option<String>,
}

impl Disposition {
    fn parse(value: &str) -> Result<Self, &'static str> {
        let (kind, mut rest) = value.split_once(';').unwrap_or((value, ""));
        if !kind.trim().eq_ignore_ascii_case("form-data") {
            return Err("a part's disposition is not form-data");
        }
        let mut found = Self::default();
        let mut extended = None;
        while !rest.trim().is_empty() {
            let (name, value, after) = parameter(rest)?;
            rest = after;
            let place = match name.to_ascii_lowercase().as_str() {
                "name" => &mut found.name,
                "filename" => &mut found.filename,
                "filename*" => &mut extended,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err("a part's disposition says something twice");
            }
        }
        if let Some(extended) = extended {
            found.filename = Some(decoded(&extended).ok_or("a part's filename* is malformed")?);
        }
        Ok(found)
    }
}

/// The next `name=value` of a disposition, and what follows it.
fn parameter(text: &str) -> Result<(&str, String, &str), &'static str> {
    const MALFORMED: &str = "a part's disposition is malformed";
    let (name, value) = text.split_once('=').ok_or(MALFORMED)?;
    let value = value.trim_start();
    let Some(quoted) = value.strip_prefix('"') else {
        let (value, after) = value.split_once(';').unwrap_or((value, ""));
        return Ok((name.trim(), value.trim().to_owned(), after));
    };
    let (value, after) = unquoted(quoted).ok_or(MALFORMED)?;
    let after = after.trim_start();
    match after.strip_prefix(';') {
        Some(after) => Ok((name.trim(), value, after)),
        None if after.is_empty() => Ok((name.trim(), value, after)),
        None => Err(MALFORMED),
    }
}

/// The text up to the closing quote. curl escapes `"` and `\` by a backslash; browsers write `%22`, `%0D`, `%0A` and
/// nothing else in that way. A backslash before anything else is one: Windows' paths hold them.
/// <https://html.spec.whatwg.org/#multipart-form-data>
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match (c, chars.peek()) {
            ('"', _) => {
                let value = value.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n");
                return Some((value, &text[at + 1..]));
            }
            ('\\', Some((_, escaped @ ('"' | '\\')))) => {
                value.push(*escaped);
                chars.next();
            }
            _ => value.push(c),
        }
    }
    None
}

/// RFC 8187's `UTF-8''percent-encoded`.
fn decoded(extended: &str) -> Option<String> {
    let mut pieces = extended.splitn(3, '\'');
    let (charset, _language, value) = (pieces.next()?, pieces.next()?, pieces.next()?);
    let value = percent_decode_str(value).decode_utf8().ok()?;
    charset.eq_ignore_ascii_case("utf-8").then(|| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(disposition: &str) -> Result<(String, Option<String>), &'static str> {
        let head = PartHead::parse(format!("Content-Disposition: {disposition}").as_bytes())?;
        Ok((head.name, head.filename))
    }

    #[test]
    fn names_as_clients_write_them() {
        let file = |name: &str| Ok(("file".to_owned(), Some(name.to_owned())));
        for (disposition, expected) in [
            (r#"form-data; name="file"; filename="a b.jsonl""#, file("a b.jsonl")),
            (r"form-data; name=file; filename=a.jsonl", file("a.jsonl")),
            (r#"form-data; name="file"; filename="a\"b\\c""#, file(r#"a"b\c"#)),
            (r#"form-data; name="file"; filename="a%22b""#, file(r#"a"b"#)),
            (r#"form-data; name="file"; filename="C:\dir\x""#, file(r"C:\dir\x")),
            (r#"form-data; name="file"; filename="../../etc/passwd""#, file("../../etc/passwd")),
            (r#"form-data; name="file"; filename="na;me=1""#, file("na;me=1")),
            (r#"form-data; name="file"; filename="x"; filename*=UTF-8''na%C3%AFve"#, file("naïve")),
            (r#"FORM-DATA; Name="file";FileName="দেশ""#, file("দেশ")),
            (r#"form-data; name="purpose""#, Ok(("purpose".to_owned(), None))),
        ] {
            assert_eq!(named(disposition), expected, "{disposition}");
        }
        for refused in [
            "attachment; name=a",
            "form-data",
            "form-data; name=a; name=b",
            r#"form-data; name="a"#,
            r#"form-data; name="a" x"#,
            "form-data; name=a; filename*=latin1''x",
            "form-data; name=a; filename*=UTF-8''%ff",
            "form-data; name",
        ] {
            assert!(named(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn types_are_kept_when_they_are_types() {
        for (value, expected) in [
            ("application/JSONL; charset=utf-8", Some("application/jsonl")),
            ("text", None),
            ("text/", None),
            ("text/html\u{e9}", None),
            ("", None),
        ] {
            assert_eq!(media_type(value).as_deref(), expected, "{value}");
        }
        let encoded = b"Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64";
        assert!(PartHead::parse(encoded).is_err());
    }
}
