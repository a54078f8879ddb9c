//! Framing of an event stream: what is data, where a line ends, where an event ends. Nothing is copied and
//! nothing is held back; the pieces of a stream, put together, are the stream, however it was cut.
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>
//!
//! ```
//! use forge::adapt::sse::{Piece, Splitter};
//!
//! let mut splitter = Splitter::default();
//! let mut rest: &[u8] = b"event: ping\ndata: {}\n\n";
//! let mut data = Vec::new();
//! while let Some(piece) = splitter.next(&mut rest) {
//!     if let Piece::Data(bytes) = piece {
//!         data.extend_from_slice(bytes);
//!     }
//! }
//! assert_eq!(data, b"{}");
//! assert!(!splitter.is_inside_event());
//! ```

use memchr::memchr2;

/// A stretch of the stream; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of the value of a `data` field; a long value comes in several.
    Data(&'a [u8]),
    /// Any other bytes of a line: byte order mark, field names, colons, other fields, comments.
    Other(&'a [u8]),
    /// The end of a line that is not blank: CR, LF or CRLF. A LF that completes the CR of an earlier chunk
    /// comes by itself as one of these, after whatever that CR ended.
    LineEnd(&'a [u8]),
    /// The end of a blank line, which ends the event.
    EventEnd(&'a [u8]),
}

impl<'a> Piece<'a> {
    /// Its bytes.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Piece::Data(bytes) | Piece::Other(bytes) | Piece::LineEnd(bytes) | Piece::EventEnd(bytes) => bytes,
        }
    }
}

/// Splits a stream, chunk by chunk.
#[derive(Debug, Clone, Default)]
pub struct Splitter {
    at: At,
    /// The last byte was a CR, so a LF that follows belongs to it.
    after_cr: bool,
    /// A byte of the event was seen that its end has not followed.
    inside_event: bool,
    /// Past the place where a byte order mark may stand.
    begun: bool,
}

/// Where in a line the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    /// At its first byte.
    #[default]
    Start,
    /// Behind so many bytes of a byte order mark.
    Mark(usize),
    /// Behind so many bytes of `data:`.
    Name(usize),
    /// Behind `data:`, where one space is not of the value.
    Colon,
    /// In the value of a `data` field.
    Value,
    /// Anywhere else.
    Other,
}

const NAME: &[u8] = b"data:";
const MARK: &[u8] = b"\xEF\xBB\xBF";

impl Splitter {
    /// Takes the next piece off `rest`; `None` when `rest` is empty.
    pub fn next<'a>(&mut self, rest: &mut &'a [u8]) -> Option<Piece<'a>> {
        let first = *rest.first()?;
        let completes_cr = std::mem::take(&mut self.after_cr) && first == b'\n';
        if completes_cr {
            return Some(Piece::LineEnd(take(rest, 1)));
        }
        match first {
            b'\n' | b'\r' => Some(self.end_line(rest)),
            _ => Some(self.line(rest)),
        }
    }

    /// Whether the stream stands inside an event: a client would still wait for its end.
    pub fn is_inside_event(&self) -> bool {
        self.inside_event
    }

    /// Whether the stream stands at the start of a line.
    pub fn is_at_line_start(&self) -> bool {
        self.at == At::Start
    }

    fn end_line<'a>(&mut self, rest: &mut &'a [u8]) -> Piece<'a> {
        let crlf = rest.starts_with(b"\r\n");
        self.after_cr = !crlf && rest.first() == Some(&b'\r');
        let bytes = take(rest, if crlf { 2 } else { 1 });
        // A byte order mark is not of the line it stands before.
        let blank = matches!(self.at, At::Start) || self.at == At::Mark(MARK.len());
        self.at = At::Start;
        self.begun = true;
        if blank {
            self.inside_event = false;
            Piece::EventEnd(bytes)
        } else {
            Piece::LineEnd(bytes)
        }
    }

    /// A stretch of a line that is of one kind.
    fn line<'a>(&mut self, rest: &mut &'a [u8]) -> Piece<'a> {
        if matches!(self.at, At::Start | At::Mark(_) | At::Name(_) | At::Colon) {
            let prefix = self.prefix(rest);
            if prefix > 0 {
                return Piece::Other(take(rest, prefix));
            }
        }
        let length = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let bytes = take(rest, length);
        if self.at == At::Value { Piece::Data(bytes) } else { Piece::Other(bytes) }
    }

    /// Moves over what stands before a line's value as far as it is here; says how many bytes that is.
    fn prefix(&mut self, rest: &[u8]) -> usize {
        let mut length = 0;
        if self.at == At::Start && rest.starts_with(b"data: ") {
            self.at = At::Value;
            self.open();
            return b"data: ".len();
        }
        while let Some(byte) = rest.get(length).filter(|byte| !matches!(**byte, b'\n' | b'\r')) {
            self.at = match self.at {
                At::Start if !self.begun && *byte == MARK[0] => At::Mark(1),
                At::Mark(seen) if MARK.get(seen) == Some(byte) => At::Mark(seen + 1),
                At::Start if *byte == NAME[0] => At::Name(1),
                At::Mark(seen) if seen == MARK.len() && *byte == NAME[0] => At::Name(1),
                At::Name(seen) if NAME.get(seen) == Some(byte) && seen + 1 == NAME.len() => At::Colon,
                At::Name(seen) if NAME.get(seen) == Some(byte) => At::Name(seen + 1),
                At::Colon if *byte == b' ' => At::Value,
                At::Colon => {
                    self.at = At::Value;
                    return length;
                }
                At::Start | At::Mark(_) | At::Name(_) | At::Value | At::Other => {
                    self.at = At::Other;
                    self.open();
                    return length;
                }
            };
            self.open();
            length += 1;
            if self.at == At::Value {
                return length;
            }
        }
        length
    }

    /// Notes that a byte was seen. A byte order mark opens no event.
    fn open(&mut self) {
        if !matches!(self.at, At::Mark(_)) {
            self.begun = true;
            self.inside_event = true;
        }
    }
}

/// Cuts the first `length` bytes off `rest`; `length` is at most its length.
fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (bytes, behind) = rest.split_at_checked(length).unwrap_or((*rest, &[]));
    *rest = behind;
    bytes
}
