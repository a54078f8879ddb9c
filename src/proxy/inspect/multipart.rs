//! One `multipart/form-data` body, read incrementally: its framing, and of its parts only `model`,
//! `stream` and `file`. RFC 2046, section 5.1; RFC 7578.
//!
//! Stricter than the RFCs wherever readers differ: lines end with CRLF; no preamble; no epilogue but CRLFs,
//! of which clients send none to two; no blanks behind a boundary; a boundary at the start of a line is one,
//! or a fault.

use memchr::memmem::Finder;

use super::Splice;
use super::fault::{BodyFault, Field, FieldFault, MultipartFault};
use super::fields::{MODEL_BYTES_MAX, ModelValue};
use super::form::Form;
use super::part_head::{PartHead, PartKind};

/// Parts of a form.
pub const PARTS_MAX: u32 = 100;
/// Bytes of one part's header block, its blank line included.
pub const PART_HEAD_BYTES_MAX: usize = 8 << 10;

/// How many `file` parts a form has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileParts {
    /// Any number.
    Any,
    /// Exactly one.
    One,
}

/// The scanner of a multipart body.
#[derive(Debug)]
pub struct MultipartScanner {
    /// Finds `--boundary`.
    boundary: Finder<'static>,
    file_parts: FileParts,
    state: State,
    /// Bytes of the body already scanned.
    scanned: u64,
    parts: u32,
    /// The header block under way.
    head: Vec<u8>,
    part: Part,
    /// The end of the content so far, in which a boundary may have begun; shorter than the boundary.
    held: Vec<u8>,
    /// The two bytes of content before `held`; `None` before the content's start.
    before: [Option<u8>; 2],
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// In the boundary that opens the body: bytes of it seen.
    Opening(usize),
    /// Behind a boundary.
    Behind(Behind),
    Head,
    Content,
}

/// What followed a boundary.
#[derive(Debug, Clone, Copy)]
enum Behind {
    Nothing,
    Cr,
    Dash,
    Closed,
    ClosedCr,
}

/// The part under way.
#[derive(Debug, Default)]
struct Part {
    /// The field whose text this is, of those Forge reads.
    field: Option<Field>,
    kind: PartKind,
    /// Where its content begins.
    content_at: u64,
    length: Option<u64>,
    /// The field's first bytes: enough to see that it is too long.
    text: Vec<u8>,
}

impl MultipartScanner {
    /// For a body whose parts are told apart by `boundary`, which [`is_boundary`] accepts.
    pub(super) fn new(boundary: &str, file_parts: FileParts) -> Self {
        Self {
            boundary: Finder::new(&format!("--{boundary}")).into_owned(),
            file_parts,
            state: State::Opening(0),
            scanned: 0,
            parts: 0,
            head: Vec::new(),
            part: Part::default(),
            held: Vec::new(),
            before: [None; 2],
            form: Form::default(),
        }
    }

    /// Scans the next bytes of the body. Not to be called again after a fault.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<(), BodyFault> {
        let mut rest = chunk;
        while let Some(&byte) = rest.first() {
            let taken = match self.state {
                State::Opening(seen) => self.opening(seen, byte)?,
                State::Behind(behind) => self.behind(behind, byte)?,
                State::Head => self.head(byte)?,
                State::Content => self.content(rest)?,
            };
            self.scanned += taken as u64;
            rest = &rest[taken..];
        }
        Ok(())
    }

    /// The body has ended. Not to be called after a fault.
    pub(super) fn finish(&self) -> Result<(), BodyFault> {
        match self.state {
            State::Behind(Behind::Closed) => {}
            State::Behind(_) | State::Opening(_) | State::Head | State::Content => {
                return Err(self.fault(MultipartFault::Incomplete));
            }
        }
        match (self.file_parts, self.form.files) {
            (FileParts::One, 0) => Err(self.fault(MultipartFault::NoFile)),
            (FileParts::One | FileParts::Any, _) => Ok(()),
        }
    }

    pub(super) fn model(&self) -> Option<&ModelValue> {
        self.form.model.as_ref()
    }

    pub(super) fn stream(&self) -> Option<bool> {
        self.form.stream
    }

    /// Puts `name` where the model's value stands, or a whole part first in the form.
    pub(super) fn splice(&self, name: &str) -> Splice {
        match &self.form.model {
            Some(model) => Splice { at: model.span.clone(), with: name.to_owned().into() },
            None => {
                let mut part = self.boundary.needle().to_vec();
                part.extend_from_slice(b"\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n");
                part.extend_from_slice(name.as_bytes());
                part.extend_from_slice(b"\r\n");
                Splice { at: 0..0, with: part.into() }
            }
        }
    }

    fn fault(&self, fault: MultipartFault) -> BodyFault {
        BodyFault::multipart(fault, self.scanned)
    }

    fn opening(&mut self, seen: usize, byte: u8) -> Result<usize, BodyFault> {
        let boundary = self.boundary.needle();
        if boundary[seen] != byte {
            return Err(self.fault(MultipartFault::Opening));
        }
        let whole = seen + 1 == boundary.len();
        self.state = if whole { State::Behind(Behind::Nothing) } else { State::Opening(seen + 1) };
        Ok(1)
    }

    fn behind(&mut self, behind: Behind, byte: u8) -> Result<usize, BodyFault> {
        let next = match (behind, byte) {
            (Behind::Nothing, b'\r') => Behind::Cr,
            (Behind::Nothing, b'-') => Behind::Dash,
            (Behind::Cr, b'\n') => {
                self.begin_head()?;
                return Ok(1);
            }
            (Behind::Dash, b'-') => Behind::Closed,
            (Behind::Closed, b'\r') => Behind::ClosedCr,
            (Behind::ClosedCr, b'\n') => Behind::Closed,
            (Behind::Nothing | Behind::Cr | Behind::Dash, _) => return Err(self.fault(MultipartFault::Boundary)),
            (Behind::Closed | Behind::ClosedCr, _) => return Err(self.fault(MultipartFault::Trailing)),
        };
        self.state = State::Behind(next);
        Ok(1)
    }

    fn begin_head(&mut self) -> Result<(), BodyFault> {
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return Err(self.fault(MultipartFault::TooManyParts));
        }
        self.head.clear();
        self.state = State::Head;
        Ok(())
    }

    fn head(&mut self, byte: u8) -> Result<usize, BodyFault> {
        if self.head.len() == PART_HEAD_BYTES_MAX {
            return Err(self.fault(MultipartFault::HeadTooLong));
        }
        self.head.push(byte);
        if self.head == b"\r\n" || self.head.ends_with(b"\r\n\r\n") {
            let head_at = self.scanned + 1 - self.head.len() as u64;
            let head = PartHead::parse(&self.head[..self.head.len() - 2]);
            self.begin_part(head.map_err(|fault| BodyFault::multipart(fault, head_at))?, head_at)?;
        }
        Ok(1)
    }

    fn begin_part(&mut self, head: PartHead, head_at: u64) -> Result<(), BodyFault> {
        let field = self.form.admit(&head, self.file_parts).map_err(|kind| kind.at(head_at))?;
        self.part =
            Part { field, kind: head.kind, content_at: self.scanned + 1, length: head.length, text: Vec::new() };
        self.held.clear();
        self.before = [None; 2];
        self.state = State::Content;
        Ok(())
    }

    /// Takes content up to behind the next boundary or the end of `fresh`, and returns how much it took.
    fn content(&mut self, fresh: &[u8]) -> Result<usize, BodyFault> {
        let found = self.find_boundary(fresh)?;
        let taken = found.map_or(fresh.len(), |found| found.taken);
        if self.part.field.is_some() {
            let room = (MODEL_BYTES_MAX + 1).saturating_sub(self.part.text.len());
            self.part.text.extend_from_slice(&fresh[..taken.min(room)]);
        }
        if let Some(end) = found.and_then(|found| found.content_end) {
            self.end_part(end)?;
            self.state = State::Behind(Behind::Nothing);
        }
        Ok(taken)
    }

    /// The next `--boundary`, also one that began in the bytes held. Each byte is searched once, but
    /// those of a boundary's length before and behind a cut between chunks.
    fn find_boundary(&mut self, fresh: &[u8]) -> Result<Option<Found>, BodyFault> {
        let boundary_len = self.boundary.needle().len();
        let held = self.held.len();
        if held > 0 {
            let mut window = std::mem::take(&mut self.held);
            window.extend_from_slice(&fresh[..fresh.len().min(boundary_len - 1)]);
            if let Some(hit) = self.boundary.find(&window) {
                let content_end = self.reach(&window, hit, self.scanned - held as u64)?;
                return Ok(Some(Found { taken: hit + boundary_len - held, content_end }));
            }
            if fresh.len() < boundary_len {
                self.hold(&window);
                return Ok(None);
            }
            self.pass(&window[..held]);
        }
        let Some(hit) = self.boundary.find(fresh) else {
            self.hold(fresh);
            return Ok(None);
        };
        let content_end = self.reach(fresh, hit, self.scanned)?;
        Ok(Some(Found { taken: hit + boundary_len, content_end }))
    }

    /// Judges the `--boundary` at `hit` of `bytes`, which stand at `offset` of the body. Returns where
    /// the content ends before it; `None` if it stands within a line, where no reader takes it for one.
    fn reach(&mut self, bytes: &[u8], hit: usize, offset: u64) -> Result<Option<u64>, BodyFault> {
        self.pass(&bytes[..hit]);
        let at = offset + hit as u64;
        match self.before {
            [Some(b'\r'), Some(b'\n')] => Ok(Some(at - 2)),
            [_, None | Some(b'\r' | b'\n')] => Err(BodyFault::multipart(MultipartFault::LineEnd, at)),
            [_, Some(_)] => {
                self.pass(&bytes[hit..hit + self.boundary.needle().len()]);
                Ok(None)
            }
        }
    }

    /// Keeps the end of `bytes`, in which a boundary may have begun.
    fn hold(&mut self, bytes: &[u8]) {
        let keep = bytes.len().min(self.boundary.needle().len() - 1);
        let (passed, kept) = bytes.split_at(bytes.len() - keep);
        self.pass(passed);
        self.held.clear();
        self.held.extend_from_slice(kept);
    }

    /// Notes the last two bytes of content that is behind us.
    fn pass(&mut self, content: &[u8]) {
        for &byte in &content[content.len().saturating_sub(2)..] {
            self.before = [self.before[1], Some(byte)];
        }
    }

    fn end_part(&mut self, end: u64) -> Result<(), BodyFault> {
        let part = std::mem::take(&mut self.part);
        let length = end - part.content_at;
        if part.length.is_some_and(|declared| declared != length) {
            return Err(BodyFault::multipart(MultipartFault::Length, part.content_at));
        }
        let text = &part.text[..part.text.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
        match part.field {
            Some(field) if part.kind == PartKind::Ascii && !text.is_ascii() => {
                Err(BodyFault::field(field, FieldFault::NotText, part.content_at))
            }
            Some(field) => self.form.read(field, text, part.content_at..end),
            None => Ok(()),
        }
    }
}

/// A boundary found.
#[derive(Clone, Copy)]
struct Found {
    /// Bytes of the fresh ones up to behind it.
    taken: usize,
    /// Where the content ended, unless it goes on.
    content_end: Option<u64>,
}

/// Whether parts can be told apart by `boundary`: 1 to 70 characters of RFC 2046's `bchars`, no blank last.
pub(super) fn is_boundary(boundary: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b);
    (1..=70).contains(&boundary.len()) && boundary.bytes().all(known) && !boundary.ends_with(' ')
}
