//! As much of HTTP/1.1 as the bench's own two ends need (RFC 9112), for messages they wrote themselves.

use anyhow::{Context, Result, bail};

const HEADERS_MAX: usize = 64;

/// The head of a request.
pub struct RequestHead {
    /// Length of the head.
    pub bytes: usize,
    /// Length of the body.
    pub content_length: usize,
}

/// Reads a request head; `None`: it is not complete.
pub fn request_head(buffer: &[u8]) -> Result<Option<RequestHead>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(bytes) = request.parse(buffer)? else { return Ok(None) };
    let content_length = content_length(request.headers)?.context("request without content-length")?;
    Ok(Some(RequestHead { bytes, content_length }))
}

/// The head of a response.
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// Length of the head.
    pub bytes: usize,
    /// Length of the body; `None`: chunked.
    pub content_length: Option<usize>,
}

/// Reads a response head; `None`: it is not complete.
pub fn response_head(buffer: &[u8]) -> Result<Option<ResponseHead>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(bytes) = response.parse(buffer)? else { return Ok(None) };
    let content_length = content_length(response.headers)?;
    Ok(Some(ResponseHead { status: response.code.context("response without status")?, bytes, content_length }))
}

fn content_length(headers: &[httparse::Header]) -> Result<Option<usize>> {
    let Some(header) = headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length")) else {
        return Ok(None);
    };
    Ok(Some(std::str::from_utf8(header.value)?.trim().parse()?))
}

/// The end of a chunked body whose chunks are known not to end in these bytes themselves.
pub const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// A chunked body without its framing.
pub fn unchunk(mut body: &[u8]) -> Result<Vec<u8>> {
    let mut data = Vec::with_capacity(body.len());
    loop {
        let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(body) else {
            bail!("broken chunk size");
        };
        let end = start + usize::try_from(size)?;
        data.extend_from_slice(body.get(start..end).context("chunk cut short")?);
        body = body.get(end + 2..).context("chunk without its end")?;
        if size == 0 {
            return Ok(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_chunks() {
        let head = request_head(b"POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\nabc").unwrap().unwrap();
        assert_eq!((head.bytes, head.content_length), (38, 7));
        assert!(response_head(b"HTTP/1.1 200 OK\r\ncontent-").unwrap().is_none());
        assert_eq!(unchunk(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").unwrap(), b"abcde");
    }
}
