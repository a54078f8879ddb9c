//! Inspection: what of a request's body Forge decides on, read while the body passes.
//!
//! Owns: the grammars of JSON and of `multipart/form-data`, the fields `model` and `stream`, the bytes
//! that name the model. Must not touch: sessions, buffers, routes. It keeps no body, reads each byte
//! once, and its findings do not depend on how the body is cut into chunks.
//!
//! What is authorised must be what the provider reads, whichever parser it has. So a body that two
//! parsers could read differently, where Forge decides on it, is refused: that is what every rule here
//! beyond the grammars is for.
//!
//! ```
//! use forge::proxy::inspect::Inspector;
//!
//! let mut inspector = Inspector::json();
//! for chunk in [&b"{\"messages\":[],\"mod"[..], b"el\":\"priyo-llama\"}"] {
//!     inspector.feed(chunk)?;
//! }
//! inspector.finish()?;
//! assert_eq!(inspector.model().map(|model| model.name.as_str()), Some("priyo-llama"));
//! let splice = inspector.splice("llama-3.3-70b").expect("another name");
//! assert_eq!((splice.at, &splice.with[..]), (23..36, &b"\"llama-3.3-70b\""[..]));
//! # Ok::<(), forge::proxy::inspect::BodyFault>(())
//! ```

mod fault;
mod fields;
mod form;
mod header_value;
mod json;
mod multipart;
mod number;
mod part_head;
mod text;
mod utf8;

use std::ops::Range;

use bytes::Bytes;

pub use fault::{BodyFault, FaultKind, Field, FieldFault, JsonFault, MultipartFault};
pub use fields::{MODEL_BYTES_MAX, ModelValue};
pub use json::DEPTH_MAX;
pub use multipart::{FileParts, PART_HEAD_BYTES_MAX, PARTS_MAX};

use crate::endpoint::{ModelIn, Row};
use crate::error::ApiError;
use header_value::MediaType;
use json::JsonScanner;
use multipart::MultipartScanner;

/// The scanner of one request's body.
///
/// Feed every chunk before passing it on, and call [`finish`](Self::finish) before passing on the last
/// one: then no provider holds a whole body that has a fault.
#[derive(Debug)]
pub struct Inspector {
    grammar: Grammar,
    fault: Option<BodyFault>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a JSON body, which is the usual one, costs no allocation")]
enum Grammar {
    Json(JsonScanner),
    /// Boxed, being twice the size of the other, which most requests use.
    Multipart(Box<MultipartScanner>),
    /// Forge decides on nothing of it.
    Opaque,
}

/// The bytes that give the upstream's name of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splice {
    /// What to take out of the body, in bytes; empty where the body names no model.
    pub at: Range<u64>,
    /// What to put there.
    pub with: Bytes,
}

impl Inspector {
    /// For a JSON object.
    pub fn json() -> Self {
        Self { grammar: Grammar::Json(JsonScanner::default()), fault: None }
    }

    /// For a body that Forge decides on nothing of: any bytes.
    pub fn nothing() -> Self {
        Self { grammar: Grammar::Opaque, fault: None }
    }

    /// For a form whose parts are told apart by `boundary`: 1 to 70 characters of RFC 2046's set, or 400.
    pub fn multipart(boundary: &str, file_parts: FileParts) -> Result<Self, ApiError> {
        if !multipart::is_boundary(boundary) {
            return Err(ApiError::bad_request("The Content-Type header has a malformed boundary."));
        }
        let scanner = MultipartScanner::new(boundary, file_parts);
        Ok(Self { grammar: Grammar::Multipart(Box::new(scanner)), fault: None })
    }

    /// For a request to `row` whose only `Content-Type` is `content_type`.
    ///
    /// JSON endpoints take `application/json`, a request that names no type, and the two types that curl
    /// (`application/x-www-form-urlencoded`) and fetch (`text/plain`) put in by themselves. The provider is
    /// always told `application/json`, so that nobody reads another `model` than Forge. Else 415.
    /// Text must be UTF-8 (`charset`), else 415. A malformed header or boundary is 400.
    pub fn for_request(row: &Row, content_type: Option<&[u8]>) -> Result<Self, ApiError> {
        let media = content_type.map(media_type).transpose()?;
        match (row.model_in, media.as_ref().map(MediaType::essence)) {
            (
                ModelIn::Json | ModelIn::JsonOrMultipart,
                None | Some("application/json" | "application/x-www-form-urlencoded" | "text/plain"),
            ) => Ok(Self::json()),
            (ModelIn::Multipart | ModelIn::JsonOrMultipart, Some("multipart/form-data")) => {
                let boundary = media.as_ref().and_then(|media| media.param("boundary")).unwrap_or_default();
                Self::multipart(boundary, if row.one_file { FileParts::One } else { FileParts::Any })
            }
            (ModelIn::Multipart, _) => Err(unsupported("This endpoint takes 'Content-Type: multipart/form-data'.")),
            (ModelIn::JsonOrMultipart, _) => {
                Err(unsupported("This endpoint takes 'Content-Type: application/json' or 'multipart/form-data'."))
            }
            (ModelIn::Json | ModelIn::Query | ModelIn::Nowhere, _) => {
                Err(unsupported("This endpoint takes 'Content-Type: application/json'."))
            }
        }
    }

    /// Scans the next bytes of the body; after a fault, only returns it again.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), BodyFault> {
        self.step(|grammar| match grammar {
            Grammar::Json(scanner) => scanner.feed(chunk),
            Grammar::Multipart(scanner) => scanner.feed(chunk),
            Grammar::Opaque => Ok(()),
        })
    }

    /// The body has ended. Returns the fault of [`feed`](Self::feed), or that the body is incomplete.
    pub fn finish(&mut self) -> Result<(), BodyFault> {
        self.step(|grammar| match grammar {
            Grammar::Json(scanner) => scanner.finish(),
            Grammar::Multipart(scanner) => scanner.finish(),
            Grammar::Opaque => Ok(()),
        })
    }

    fn step(&mut self, run: impl FnOnce(&mut Grammar) -> Result<(), BodyFault>) -> Result<(), BodyFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        run(&mut self.grammar).inspect_err(|fault| self.fault = Some(*fault))
    }

    /// The model the body names, as soon as its value has been read.
    pub fn model(&self) -> Option<&ModelValue> {
        match &self.grammar {
            Grammar::Json(scanner) => scanner.model(),
            Grammar::Multipart(scanner) => scanner.model(),
            Grammar::Opaque => None,
        }
    }

    /// The `stream` field, as soon as its value has been read. JSON's `null` counts as left out.
    pub fn stream(&self) -> Option<bool> {
        match &self.grammar {
            Grammar::Json(scanner) => scanner.stream(),
            Grammar::Multipart(scanner) => scanner.stream(),
            Grammar::Opaque => None,
        }
    }

    /// Where the value of the top-level `stream_options` of a JSON body begins, as soon as that is known.
    pub fn stream_options(&self) -> Option<u64> {
        match &self.grammar {
            Grammar::Json(scanner) => scanner.stream_options(),
            Grammar::Multipart(_) | Grammar::Opaque => None,
        }
    }

    /// Whether the object of a JSON body has ended: nothing but white space may follow.
    pub fn is_closed(&self) -> bool {
        match &self.grammar {
            Grammar::Json(scanner) => scanner.is_closed(),
            Grammar::Multipart(_) | Grammar::Opaque => false,
        }
    }

    /// How the body comes to name `upstream_model`; `None` when it does already.
    ///
    /// To be asked once the model is known or the body has ended without one: then the splice adds it.
    /// `upstream_model` comes from the configuration, whose check lets no control character pass.
    pub fn splice(&self, upstream_model: &str) -> Option<Splice> {
        if self.model().is_some_and(|model| model.name == upstream_model) {
            return None;
        }
        Some(match &self.grammar {
            Grammar::Json(scanner) => scanner.splice(upstream_model),
            Grammar::Multipart(scanner) => scanner.splice(upstream_model),
            Grammar::Opaque => return None,
        })
    }
}

fn media_type(value: &[u8]) -> Result<MediaType, ApiError> {
    let media = std::str::from_utf8(value).ok().and_then(MediaType::parse);
    let media = media.ok_or_else(|| ApiError::bad_request("The Content-Type header is malformed."))?;
    if media.is_utf8() { Ok(media) } else { Err(unsupported("The request body must be UTF-8.")) }
}

fn unsupported(message: &'static str) -> ApiError {
    ApiError::unsupported_media(message)
}
