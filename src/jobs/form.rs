//! `multipart/form-data`, read as it comes. RFC 7578, RFC 2046 section 5.1.
//!
//! Of our own, because what a form may make us hold is bounded here: a part's head to [`HEAD_BYTES_MAX`], a text to
//! what its reader allows, a file to what one read of the connection brings. Strict: nothing before the first
//! boundary, `CRLF` only, each part with one name.

use axum::body::{Body, BodyDataStream};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use memchr::memmem;

use super::part_head::PartHead;
use crate::error::ApiError;

/// Of one part's head.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// RFC 2046 section 5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;

/// A form whose parts are taken one after another.
pub(super) struct Form {
    body: BodyDataStream,
    /// Read, and not taken yet.
    buffer: BytesMut,
    /// `CRLF--boundary`, which ends every part.
    delimiter: Vec<u8>,
    in_part: bool,
}

impl Form {
    /// The form in `body`, by the boundary that the head names.
    ///
    /// # Errors
    /// 415 for another media type, 400 for a malformed one.
    pub fn new(headers: &HeaderMap, body: Body) -> Result<Self, ApiError> {
        let boundary = boundary(headers)?;
        // The first boundary has no line before it; this makes it like the others.
        let buffer = BytesMut::from(&b"\r\n"[..]);
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        Ok(Self { body: body.into_data_stream(), buffer, delimiter, in_part: false })
    }

    /// The head of the next part; `None` after the last. What is left of the part before is passed over.
    ///
    /// # Errors
    /// 400 for what is no form, or ends early.
    pub async fn next_part(&mut self) -> Result<Option<PartHead>, ApiError> {
        if self.in_part {
            while self.piece().await?.is_some() {}
        }
        self.take_delimiter().await?;
        while self.buffer.len() < 2 {
            self.more().await?;
        }
        let ending = self.buffer.split_to(2);
        match &ending[..] {
            b"--" => {
                self.finish().await?;
                Ok(None)
            }
            b"\r\n" => {
                let head = self.head().await?;
                self.in_part = true;
                Ok(Some(head))
            }
            _ => Err(malformed("a boundary is not followed by a line end")),
        }
    }

    /// The next bytes of this part; `None` at its end.
    ///
    /// # Errors
    /// 400 when the body ends before the part does.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            match memmem::find(&self.buffer, &self.delimiter) {
                Some(0) => {
                    self.in_part = false;
                    return Ok(None);
                }
                Some(end) => return Ok(Some(self.buffer.split_to(end).freeze())),
                None => {
                    // The last bytes may be the beginning of a delimiter.
                    let certain = (self.buffer.len() + 1).saturating_sub(self.delimiter.len());
                    if certain > 0 {
                        return Ok(Some(self.buffer.split_to(certain).freeze()));
                    }
                }
            }
            self.more().await?;
        }
    }

    /// All of this part, which must be UTF-8 of at most `bytes_max`.
    ///
    /// # Errors
    /// 400 otherwise.
    pub async fn text(&mut self, bytes_max: usize) -> Result<String, ApiError> {
        let mut text = Vec::new();
        while let Some(piece) = self.piece().await? {
            if text.len() + piece.len() > bytes_max {
                return Err(malformed("a field is too long"));
            }
            text.extend_from_slice(&piece);
        }
        String::from_utf8(text).map_err(|_| malformed("a field is not UTF-8"))
    }

    async fn take_delimiter(&mut self) -> Result<(), ApiError> {
        while self.buffer.len() < self.delimiter.len() {
            self.more().await?;
        }
        if !self.buffer.starts_with(&self.delimiter) {
            return Err(malformed("it does not begin with its boundary"));
        }
        self.buffer.advance(self.delimiter.len());
        Ok(())
    }

    async fn head(&mut self) -> Result<PartHead, ApiError> {
        const END: &[u8] = b"\r\n\r\n";
        let end = loop {
            let within = &self.buffer[..self.buffer.len().min(HEAD_BYTES_MAX)];
            if let Some(end) = memmem::find(within, END) {
                break end;
            }
            if self.buffer.len() >= HEAD_BYTES_MAX {
                return Err(malformed("the head of a part is too long"));
            }
            self.more().await?;
        };
        let head = self.buffer.split_to(end);
        // The last two bytes of the end stay: a part without bytes ends where its delimiter begins.
        self.buffer.advance(END.len());
        let head = PartHead::parse(&head).map_err(malformed)?;
        Ok(head)
    }

    /// Reads what follows the last boundary, which means nothing.
    async fn finish(&mut self) -> Result<(), ApiError> {
        self.buffer.clear();
        while let Some(chunk) = self.body.next().await {
            chunk.map_err(|_| cut_short())?;
        }
        Ok(())
    }

    async fn more(&mut self) -> Result<(), ApiError> {
        match self.body.next().await {
            Some(Ok(chunk)) => {
                self.buffer.extend_from_slice(&chunk);
                Ok(())
            }
            Some(Err(_)) => Err(cut_short()),
            None => Err(malformed("it ends before its last boundary")),
        }
    }
}

fn malformed(what: &'static str) -> ApiError {
    ApiError::invalid_multipart(format!("The multipart form is malformed: {what}."))
}

/// Read by nobody: the connection is gone.
fn cut_short() -> ApiError {
    ApiError::bad_request("The request body was cut short.")
}

fn boundary(headers: &HeaderMap) -> Result<String, ApiError> {
    let value = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let value = std::str::from_utf8(value).unwrap_or_default();
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Err(ApiError::unsupported_media("This endpoint takes 'Content-Type: multipart/form-data'."));
    }
    let mut named = parameters.split(';').filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    });
    match (named.next(), named.next()) {
        (Some(boundary), None) if is_boundary(boundary) => Ok(boundary.to_owned()),
        _ => Err(ApiError::bad_request("The Content-Type header has a malformed boundary.")),
    }
}

/// RFC 2046 section 5.1.1, without the space, which nobody sends.
fn is_boundary(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    (1..=BOUNDARY_BYTES_MAX).contains(&text.len()) && text.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "multipart/form-data; boundary=X";

    fn form(body: &[u8], cut: usize) -> Form {
        let chunks: Vec<_> =
            body.chunks(cut).map(|chunk| Ok::<_, std::io::Error>(Bytes::copy_from_slice(chunk))).collect();
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(HEAD))]);
        Form::new(&headers, Body::from_stream(futures::stream::iter(chunks))).unwrap()
    }

    async fn parts(mut form: Form) -> Result<Vec<(String, Vec<u8>)>, ApiError> {
        let mut parts = Vec::new();
        while let Some(head) = form.next_part().await? {
            let mut bytes = Vec::new();
            while let Some(piece) = form.piece().await? {
                bytes.extend_from_slice(&piece);
            }
            parts.push((head.name, bytes));
        }
        Ok(parts)
    }

    const BODY: &[u8] = b"--X\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--X\r\n\
        content-disposition: form-data; name=file; filename=\"a\"\r\nContent-Type: text/plain\r\n\r\n\r\n--\r\n--Y\r\n\r\n\r\n--X\r\n\
        Content-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n--X--\r\nepilogue";

    #[tokio::test]
    async fn parts_are_the_same_however_the_body_is_cut() {
        let expected = [("purpose", &b"batch"[..]), ("file", b"\r\n--\r\n--Y\r\n\r\n"), ("empty", b"")];
        for cut in 1..BODY.len() {
            let found = parts(form(BODY, cut)).await.unwrap();
            let found: Vec<_> = found.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
            assert_eq!(found, expected, "in chunks of {cut}");
        }
    }

    #[tokio::test]
    async fn what_is_no_form_is_refused_wherever_it_is_cut() {
        for length in 0..BODY.len() - b"\r\nepilogue".len() {
            let error = parts(form(&BODY[..length], 7)).await.unwrap_err();
            assert_eq!(error.code, "invalid_multipart", "{length} bytes");
        }
        let head = "Content-Disposition: form-data; name=\"a\"";
        for body in [
            "preamble\r\n--X--".to_owned(),
            format!("--X\n{head}\r\n\r\n\r\n--X--"),
            format!("--X \r\n{head}\r\n\r\n\r\n--X--"),
            "--X\r\n\r\n\r\n--X--".to_owned(),
            format!("--X\r\n{}\r\n\r\n\r\n--X--", "a".repeat(HEAD_BYTES_MAX)),
        ] {
            assert!(parts(form(body.as_bytes(), 1000)).await.is_err(), "{body}");
        }
    }

    #[tokio::test]
    async fn a_text_is_bounded() {
        let mut form = form(BODY, 5);
        form.next_part().await.unwrap();
        assert!(form.text(4).await.is_err());
    }

    #[test]
    fn media_types() {
        let of = |value: &'static str| {
            boundary(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))])).map_err(|e| e.status)
        };
        assert_eq!(of("Multipart/Form-Data; charset=utf-8; boundary=\"a:b\""), Ok("a:b".into()));
        assert_eq!(of("application/json"), Err(415));
        for bad in
            ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=a; boundary=b"]
        {
            assert_eq!(of(bad), Err(400), "{bad}");
        }
    }
}
