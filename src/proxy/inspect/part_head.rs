//! The header block of one part of a form (RFC 7578, section 4).

use super::fault::MultipartFault;
use super::header_value::{MediaType, Parameterised, is_token};

/// What a part says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PartHead {
    /// The form field's name.
    pub(super) name: String,
    /// Whether a reader takes the content for a file.
    pub(super) kind: PartKind,
    /// `Content-Length`, which some readers believe.
    pub(super) length: Option<u64>,
}

/// What the content of a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum PartKind {
    /// `text/plain` in UTF-8, without a file name.
    Text,
    /// The same in Latin-1, as Apache's HttpClient labels all text: alike to every reader if it is ASCII.
    Ascii,
    /// Anything else.
    #[default]
    File,
}

impl PartHead {
    /// Parses the lines of a header block, its blank line left out.
    pub(super) fn parse(block: &[u8]) -> Result<PartHead, MultipartFault> {
        let block = std::str::from_utf8(block).map_err(|_| MultipartFault::HeaderNotUtf8)?;
        let headers = Headers::parse(block)?;
        let disposition = headers.disposition.ok_or(MultipartFault::NoDisposition)?;
        let (name, named_file) = form_data(disposition)?;
        let kind = headers.media_type.map_or(Ok(PartKind::Text), kind_of)?;
        match headers.transfer_encoding.map(str::to_ascii_lowercase).as_deref() {
            None | Some("7bit" | "8bit" | "binary") => {}
            Some(_) => return Err(MultipartFault::TransferEncoding),
        }
        let length = headers.length.map(|text| text.parse().map_err(|_| MultipartFault::Length)).transpose()?;
        let kind = if named_file { PartKind::File } else { kind };
        Ok(PartHead { name, kind, length })
    }
}

/// The headers that matter, each at most once.
#[derive(Default)]
struct Headers<'a> {
    disposition: Option<&'a str>,
    media_type: Option<&'a str>,
    transfer_encoding: Option<&'a str>,
    length: Option<&'a str>,
}

impl<'a> Headers<'a> {
    fn parse(block: &'a str) -> Result<Self, MultipartFault> {
        let mut headers = Headers::default();
        for line in block.split_terminator("\r\n") {
            let (name, value) = header(line).ok_or(MultipartFault::Header)?;
            let slot = match name.to_ascii_lowercase().as_str() {
                "content-disposition" => &mut headers.disposition,
                "content-type" => &mut headers.media_type,
                "content-transfer-encoding" => &mut headers.transfer_encoding,
                "content-length" => &mut headers.length,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(MultipartFault::RepeatedHeader);
            }
        }
        Ok(headers)
    }
}

/// `name: value`. A folded line, a bare CR or LF, and a line that looks like a boundary are none.
fn header(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let clean = !value.chars().any(|c| c.is_control() && c != '\t');
    (clean && is_token(name) && !name.starts_with("--")).then(|| (name, value.trim_matches([' ', '\t'])))
}

/// The field's name, and whether the disposition names a file.
fn form_data(disposition: &str) -> Result<(String, bool), MultipartFault> {
    let disposition = Parameterised::parse(disposition).ok_or(MultipartFault::Disposition)?;
    let name = disposition.param("name").ok_or(MultipartFault::Disposition)?;
    let files = [disposition.param("filename"), disposition.param("filename*")];
    // Some readers decode these in a name, some do not; some look for `name=` in other parameters too.
    let ambiguous = name.contains(['\\', '%'])
        || !disposition.has_only(&["name", "filename", "filename*"])
        || files.iter().flatten().any(|file| file.to_ascii_lowercase().contains("name="));
    if disposition.word != "form-data" || ambiguous {
        return Err(MultipartFault::Disposition);
    }
    Ok((name.to_owned(), files.iter().any(Option::is_some)))
}

/// What a part's `Content-Type` makes it. A multipart within the form is a fault: RFC 7578, section 4.3
/// deprecates it, and the readers that know it find further fields inside.
fn kind_of(media_type: &str) -> Result<PartKind, MultipartFault> {
    let media = MediaType::parse(media_type).ok_or(MultipartFault::Header)?;
    let latin = media.param("charset").is_some_and(|charset| charset.eq_ignore_ascii_case("iso-8859-1"));
    match media.essence() {
        essence if essence.starts_with("multipart/") => Err(MultipartFault::Nested),
        "text/plain" if media.is_utf8() => Ok(PartKind::Text),
        "text/plain" if latin => Ok(PartKind::Ascii),
        _ => Ok(PartKind::File),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(disposition: &str) -> Result<(String, PartKind), MultipartFault> {
        PartHead::parse(format!("Content-Disposition: {disposition}\r\n").as_bytes()).map(|head| (head.name, head.kind))
    }

    #[test]
    fn names_are_read_as_clients_write_them() {
        for (disposition, name, kind) in [
            ("form-data; name=\"model\"", "model", PartKind::Text),
            ("Form-Data;Name=model", "model", PartKind::Text),
            ("form-data; name=\"image[]\"; filename=\"a b.png\"", "image[]", PartKind::File),
            ("form-data; name=\"file\"; filename=\"C:\\dir\\গান; 1.mp3\"", "file", PartKind::File),
            ("form-data; filename*=utf-8''%e0%a6%97.mp3; name=\"file\"", "file", PartKind::File),
            ("form-data; name=\"নাম\"", "নাম", PartKind::Text),
            ("form-data; name=\"\"", "", PartKind::Text),
        ] {
            assert_eq!(named(disposition), Ok((name.to_owned(), kind)), "{disposition}");
        }
    }

    #[test]
    fn what_readers_take_differently_is_refused() {
        for disposition in [
            "form-data",
            "attachment; name=\"model\"",
            "form-data; name=\"a\"; name=\"model\"",
            "form-data; name=\"a\"; NAME=model",
            "form-data; name*=utf-8''model",
            "form-data; name=\"a\"; name*=utf-8''model",
            "form-data; name=\"a\"; nickname=\"model\"",
            "form-data; name=\"mod\\el\"",
            "form-data; name=\"a\\\"; name=\"model\"",
            "form-data; name=\"%6dodel\"",
            "form-data; name=\"model",
            "form-data; name=mo del",
            "form-data; name=",
            "form-data; name = model",
            "form-data name=\"model\"",
            "form-data; name=\"file\"; filename=\"a; name=model\"",
            "form-data; name=\"file\"; filename=\"a\\\"b\"",
            "form-data; name=\"a\u{1}\"",
        ] {
            assert!(named(disposition).is_err(), "{disposition}");
        }
    }

    #[test]
    fn header_blocks_are_strict() {
        const OK: &str = "Content-Disposition: form-data; name=\"a\"\r\n";
        for (more, expected) in [
            ("Content-Type: text/plain; charset=utf-8\r\n", Ok(PartKind::Text)),
            ("content-type: audio/mpeg\r\ncontent-transfer-encoding: Binary\r\nX-Other: 1\r\n", Ok(PartKind::File)),
            ("Content-Type: text/plain; charset=utf-16\r\n", Ok(PartKind::File)),
            ("Content-Type: text/plain; charset=ISO-8859-1\r\n", Ok(PartKind::Ascii)),
            ("Content-Transfer-Encoding: base64\r\n", Err(MultipartFault::TransferEncoding)),
            ("Content-Transfer-Encoding: quoted-printable\r\n", Err(MultipartFault::TransferEncoding)),
            ("Content-Type: multipart/mixed; boundary=x\r\n", Err(MultipartFault::Nested)),
            ("Content-Type: text\r\n", Err(MultipartFault::Header)),
            ("content-disposition: form-data; name=\"model\"\r\n", Err(MultipartFault::RepeatedHeader)),
            ("Content-Length: x\r\n", Err(MultipartFault::Length)),
            ("X: a\r\n b\r\n", Err(MultipartFault::Header)),
            ("X: a\nY: b\r\n", Err(MultipartFault::Header)),
            ("X: a\rY: b\r\n", Err(MultipartFault::Header)),
            ("X: \0\r\n", Err(MultipartFault::Header)),
            ("X : a\r\n", Err(MultipartFault::Header)),
            ("no colon\r\n", Err(MultipartFault::Header)),
            ("--b:c\r\n", Err(MultipartFault::Header)),
            ("\r\n", Err(MultipartFault::Header)),
        ] {
            let block = format!("{OK}{more}");
            assert_eq!(PartHead::parse(block.as_bytes()).map(|head| head.kind), expected, "{more:?}");
        }
        assert_eq!(PartHead::parse(b""), Err(MultipartFault::NoDisposition));
        assert_eq!(PartHead::parse(b"X: \xff\r\n"), Err(MultipartFault::HeaderNotUtf8));
        let with_length = format!("{OK}Content-Length: 12\r\n");
        assert_eq!(PartHead::parse(with_length.as_bytes()).unwrap().length, Some(12));
    }
}
