//! Multipart forms as SDKs write them.

use super::client::Request;
use super::gateway::KEY;

/// Between the parts.
pub const BOUNDARY: &str = "forge-test-boundary";

/// A form that grows.
#[derive(Debug, Clone, Default)]
pub struct Form(Vec<u8>);

impl Form {
    /// With a text field.
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.0.extend_from_slice(
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").as_bytes(),
        );
        self
    }

    /// With a file, the name as it stands in quotes.
    pub fn file(mut self, filename: &str, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(Self::file_head(filename).as_bytes());
        self.0.extend_from_slice(bytes);
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// What stands before a file's bytes.
    pub fn file_head(filename: &str) -> String {
        format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{filename}\"\r\n\
             Content-Type: application/jsonl\r\n\r\n"
        )
    }

    /// The whole body.
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        self.0
    }

    /// What was written so far.
    pub fn so_far(self) -> Vec<u8> {
        self.0
    }

    /// A POST of it with the usual key.
    pub fn post(self, target: &str) -> Request {
        request(target).body(self.end())
    }
}

/// A POST of a form without its body.
pub fn request(target: &str) -> Request {
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    Request::new("POST", target).bearer(KEY).header("content-type", &kind)
}

/// An upload of `bytes` for `purpose`.
pub fn upload(purpose: &str, filename: &str, bytes: &[u8]) -> Request {
    Form::default().text("purpose", purpose).file(filename, bytes).post("/v1/files")
}
