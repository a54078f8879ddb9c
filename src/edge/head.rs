//! The head of an HTTP/1 request: bytes in, verdict out. Pure.
//!
//! Stricter than RFC 9112 wherever leniency has been abused: lines end in CRLF only, nothing is folded,
//! framing is said once and plainly, a target is a path. A head is scanned once, however it is cut; the first
//! byte that breaks a rule decides the verdict, so the verdict never depends on the cuts.
//!
//! ```
//! # use forge::edge::head::{Framing, HeadLimits, Scan};
//! let head = b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
//! let found = Scan::default().advance(head, &HeadLimits::default()).unwrap().unwrap();
//! assert_eq!((found.bytes, found.framing), (head.len() - 2, Framing::Length(2)));
//! ```

use std::ops::Range;

use super::fault::Fault;
use super::grammar::{
    METHOD_BYTES_MAX, TARGET, TOKEN, UNDERSCORE, VALUE, content_length, has_encoded_nul, is, is_host, is_underscored,
    skip, skip_text,
};
use crate::config::ClientConf;

/// What the engine itself takes, less room for the request line's other parts.
const ENGINE_HEAD_BYTES_MAX: u64 = 960 << 10;

/// What bounds a head.
#[derive(Debug, Clone)]
pub struct HeadLimits {
    /// Of a request target.
    pub target_bytes_max: usize,
    /// Fields.
    pub fields_max: usize,
    /// Of one field line, its end not counted.
    pub field_bytes_max: usize,
    /// Of all field lines together.
    pub fields_bytes_max: usize,
}

/// How the body that follows is framed. RFC 9112 section 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes, 0 included.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// Whether another request may follow on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It may.
    Allowed,
    /// The client said `Connection: close`.
    Closed,
}

/// What a sound head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its length, the empty line included.
    pub bytes: usize,
    /// The body.
    pub framing: Framing,
    /// Whether an answer of 101 would change the protocol.
    pub upgrade: bool,
    /// What may follow.
    pub next: Next,
}

/// The state of scanning one head; starts as the default.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    part: Part,
    /// The first byte not scanned yet.
    at: usize,
    /// Where the part being scanned begins.
    start: usize,
    /// Where the field lines begin.
    fields_start: usize,
    fields: usize,
    name: Range<usize>,
    /// The name being scanned holds `_`.
    underscored: bool,
    target: Range<usize>,
    seen: Seen,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Method,
    Target,
    Version,
    Name,
    Value,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    trace: bool,
    http_1_0: bool,
    host: bool,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    upgrade: bool,
}

/// Whether a part is whole.
enum Step {
    /// It is; scanning goes on with this one.
    Part(Part),
    /// The empty line was read.
    End,
    /// More bytes are needed.
    More,
}

impl Scan {
    /// Scans on; `bytes` is everything since the head's first byte, so it only ever grows. `None`: more bytes
    /// are needed.
    ///
    /// # Errors
    /// The first rule that the head breaks.
    pub fn advance(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<Head>, Fault> {
        loop {
            let step = match self.part {
                Part::Method => self.method(bytes)?,
                Part::Target => self.target(bytes, limits.target_bytes_max)?,
                Part::Version => self.version(bytes)?,
                Part::Name => self.name(bytes, limits)?,
                Part::Value => self.value(bytes, limits)?,
            };
            match step {
                Step::Part(part) => (self.part, self.start) = (part, self.at),
                Step::More => return Ok(None),
                Step::End => return self.seen.verdict(self.at).map(Some),
            }
        }
    }

    /// The path of the target, once the target was scanned.
    pub fn path<'a>(&self, bytes: &'a [u8]) -> Option<&'a str> {
        let target = bytes.get(self.target.clone()).filter(|target| !target.is_empty())?;
        let path = target.split(|byte| *byte == b'?').next()?;
        std::str::from_utf8(path).ok()
    }

    fn method(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        if self.start == 0 && bytes.first() == Some(&b'\r') {
            // One empty line before a request is forgiven. RFC 9112 section 2.2.
            match bytes.get(1) {
                None => return Ok(Step::More),
                Some(b'\n') => (self.start, self.at) = (2, self.at.max(2)),
                Some(_) => return Err(Fault::RequestLine),
            }
        }
        let end = bytes.len().min(self.start + METHOD_BYTES_MAX);
        self.at += bytes[self.at.min(end)..end].iter().take_while(|byte| is(**byte, TOKEN)).count();
        match bytes.get(self.at) {
            None => Ok(Step::More),
            Some(b' ') if self.at > self.start => {
                let method = &bytes[self.start..self.at];
                self.seen.trace = method == b"TRACE";
                if method == b"CONNECT" {
                    return Err(Fault::Method);
                }
                self.at += 1;
                Ok(Step::Part(Part::Target))
            }
            Some(_) => Err(Fault::RequestLine),
        }
    }

    fn target(&mut self, bytes: &[u8], bytes_max: usize) -> Result<Step, Fault> {
        if self.at == self.start && bytes.get(self.at).is_some_and(|byte| *byte != b'/') {
            return Err(Fault::Target);
        }
        let end = bytes.len().min(self.start.saturating_add(bytes_max));
        self.at = skip(bytes, self.at..end, TARGET);
        match bytes.get(self.at) {
            None => Ok(Step::More),
            Some(b' ') => {
                self.target = self.start..self.at;
                if has_encoded_nul(&bytes[self.target.clone()]) {
                    return Err(Fault::Target);
                }
                if self.seen.trace {
                    return Err(Fault::Method);
                }
                self.at += 1;
                Ok(Step::Part(Part::Version))
            }
            Some(byte) if self.at == end && is(*byte, TARGET) => Err(Fault::TargetTooLong),
            Some(_) => Err(Fault::Target),
        }
    }

    fn version(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        const EXPECTED: &[u8; 10] = b"HTTP/1.1\r\n";
        const MINOR: usize = 7;
        while let Some(byte) = bytes.get(self.at) {
            let index = self.at - self.start;
            match (index, *byte) {
                (MINOR, b'0') => self.seen.http_1_0 = true,
                (_, byte) if byte == EXPECTED[index] => {}
                _ => return Err(Fault::RequestLine),
            }
            self.at += 1;
            if index == EXPECTED.len() - 1 {
                self.fields_start = self.at;
                return Ok(Step::Part(Part::Name));
            }
        }
        Ok(Step::More)
    }

    fn name(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Step, Fault> {
        let first = self.at == self.start;
        match bytes.get(self.start) {
            None => return Ok(Step::More),
            Some(b'\r') => {
                return match bytes.get(self.start + 1) {
                    None => Ok(Step::More),
                    Some(b'\n') => {
                        self.at = self.start + 2;
                        Ok(Step::End)
                    }
                    Some(_) => Err(Fault::LineEnd),
                };
            }
            Some(b' ' | b'\t') if first => return Err(Fault::Folded),
            Some(_) if first && self.fields == limits.fields_max => return Err(Fault::TooManyFields),
            Some(_) => {}
        }
        let end = self.line_end_max(self.start, limits).min(bytes.len());
        self.at = skip(bytes, self.at..end, TOKEN);
        if bytes[..end].get(self.at) == Some(&b'_') {
            self.underscored = true;
            self.at = skip(bytes, self.at..end, TOKEN | UNDERSCORE);
        }
        match bytes.get(self.at) {
            None => Ok(Step::More),
            Some(_) if self.at == self.line_end_max(self.start, limits) => Err(Fault::FieldsTooLarge),
            Some(b':') if self.underscored && !is_underscored(&bytes[self.start..self.at]) => Err(Fault::FieldName),
            Some(b':') if self.at > self.start => {
                self.underscored = false;
                self.name = self.start..self.at;
                self.fields += 1;
                self.at += 1;
                Ok(Step::Part(Part::Value))
            }
            Some(b'\r' | b'\n') => Err(Fault::LineEnd),
            Some(_) => Err(Fault::FieldName),
        }
    }

    fn value(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Step, Fault> {
        let end_max = self.line_end_max(self.name.start, limits);
        self.at = skip_text(bytes, self.at..end_max.min(bytes.len()));
        match (bytes.get(self.at), bytes.get(self.at + 1)) {
            (None, _) | (Some(b'\r'), None) => Ok(Step::More),
            (Some(b'\r'), Some(b'\n')) => {
                let value = bytes[self.start..self.at].trim_ascii();
                self.seen.field(&bytes[self.name.clone()], value)?;
                self.at += 2;
                Ok(Step::Part(Part::Name))
            }
            (Some(byte), _) if self.at == end_max && is(*byte, VALUE) => Err(Fault::FieldsTooLarge),
            (Some(b'\r' | b'\n'), _) => Err(Fault::LineEnd),
            (Some(_), _) => Err(Fault::FieldValue),
        }
    }

    /// Where the line that begins at `line` must end, at the latest.
    fn line_end_max(&self, line: usize, limits: &HeadLimits) -> usize {
        (line.saturating_add(limits.field_bytes_max)).min(self.fields_start.saturating_add(limits.fields_bytes_max))
    }
}

impl Seen {
    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        // Most names are told apart by their length.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade = true;
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                let mut options = value.split(|byte| *byte == b',');
                self.close |= options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value),
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &[u8]) -> Result<(), Fault> {
        let repeated = std::mem::replace(&mut self.host, true);
        if repeated || !is_host(value) { Err(Fault::Host) } else { Ok(()) }
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        let length = content_length(value).filter(|_| !self.chunked).ok_or(Fault::Framing)?;
        if self.length.replace(length).is_some() { Err(Fault::Framing) } else { Ok(()) }
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Fault> {
        let repeated = std::mem::replace(&mut self.chunked, true);
        let sound = value.eq_ignore_ascii_case(b"chunked") && self.length.is_none() && !self.http_1_0;
        if repeated || !sound { Err(Fault::Framing) } else { Ok(()) }
    }

    fn verdict(&self, bytes: usize) -> Result<Head, Fault> {
        if !self.host && !self.http_1_0 {
            return Err(Fault::Host);
        }
        let framing = if self.chunked { Framing::Chunked } else { Framing::Length(self.length.unwrap_or(0)) };
        let next = if self.close { Next::Closed } else { Next::Allowed };
        Ok(Head { bytes, framing, upgrade: self.upgrade && !self.http_1_0, next })
    }
}

impl HeadLimits {
    /// The limits of conf/forge.yaml, no wider than the engine's own.
    pub fn of(conf: &ClientConf) -> Self {
        let bytes = |value: u64| usize::try_from(value.min(ENGINE_HEAD_BYTES_MAX)).unwrap_or(usize::MAX);
        Self {
            target_bytes_max: bytes(conf.target_bytes_max),
            fields_max: bytes(conf.header_fields_max),
            field_bytes_max: bytes(conf.header_field_bytes_max),
            fields_bytes_max: bytes(conf.header_bytes_max),
        }
    }
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self::of(&ClientConf::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "POST /v1/x HTTP/1.1\r\nHost: a.test\r\n";

    fn verdict(head: &str) -> Result<Option<Head>, Fault> {
        Scan::default().advance(head.as_bytes(), &HeadLimits::default())
    }

    /// The verdict on a sound first part with these field lines.
    fn fields(lines: &str) -> Result<Option<Head>, Fault> {
        verdict(&format!("{FIRST}{lines}\r\n\r\n"))
    }

    fn request_line(line: &str) -> Result<Option<Head>, Fault> {
        verdict(&format!("{line}\r\nHost: a\r\n\r\n"))
    }

    #[test]
    fn sound_heads_pass() {
        for (lines, framing) in [
            ("content-length: 0", Framing::Length(0)),
            ("Content-Length:\t 999999999999999999 \t", Framing::Length(999_999_999_999_999_999)),
            ("TRANSFER-ENCODING: Chunked", Framing::Chunked),
            ("x: \u{e4}\u{f6} \t z", Framing::Length(0)),
            ("Session_ID: 1\r\nconversation_id: 2", Framing::Length(0)),
            ("x:\r\n!#$%&'*+-.^`|~09aZ: y", Framing::Length(0)),
        ] {
            assert_eq!(fields(lines).unwrap().unwrap().framing, framing, "{lines:?}");
        }
        assert_eq!(verdict("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().bytes, 18);
        assert_eq!(verdict("\r\nGET / HTTP/1.0\r\n\r\nrest").unwrap().unwrap().bytes, 20);
        assert_eq!(fields("Connection: a, CLOSE ,b").unwrap().unwrap().next, Next::Closed);
        assert_eq!(fields("Connection: closed").unwrap().unwrap().next, Next::Allowed);
        assert!(fields("Upgrade: websocket").unwrap().unwrap().upgrade);
    }

    #[test]
    fn rule_1_framing_is_said_once_and_plainly() {
        for lines in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 1",
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1, 1",
            "Content-Length: +1",
            "Content-Length: -1",
            "Content-Length: 0x1",
            "Content-Length: 1 1",
            "Content-Length: 1_0",
            "Content-Length:",
            "Content-Length: 1000000000000000000",
            "Content-Length: \u{661}",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding: chunked;q=1",
            "Transfer-Encoding: ,chunked",
            "Transfer-Encoding:",
        ] {
            assert_eq!(fields(lines), Err(Fault::Framing), "{lines:?}");
        }
        let http_1_0 = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(verdict(http_1_0), Err(Fault::Framing));
    }

    #[test]
    fn rule_3_a_target_is_a_path_of_printable_ascii() {
        let exactly = format!("GET /{} HTTP/1.1", "a".repeat((8 << 10) - 1));
        assert!(request_line(&exactly).is_ok());
        let over = format!("GET /{} HTTP/1.1", "a".repeat(8 << 10));
        assert_eq!(request_line(&over), Err(Fault::TargetTooLong));
        for target in
            ["http://a/v1", "*", "a", "?a", "/a#b", "/a\\b", "/%00", "/a?b=%00", "/\u{7f}", "/\u{e4}", "/\t", "#"]
        {
            assert_eq!(request_line(&format!("GET {target} HTTP/1.1")), Err(Fault::Target), "{target:?}");
        }
        for line in [
            "",
            "GET",
            "GET  / HTTP/1.1",
            " GET / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET /  HTTP/1.1",
            "GET / HTTP/1.2",
            "GET / HTTP/2.0",
            "GET / http/1.1",
            "GET / HTTP/1.10",
            "GET /",
            "GET / HTTP/1.1\rX: y",
            "G\u{e4}T / HTTP/1.1",
            "GE:T / HTTP/1.1",
            "\r\n\r\nGET / HTTP/1.1",
            &format!("{} / HTTP/1.1", "A".repeat(33)),
        ] {
            let fault = request_line(line);
            assert!(matches!(fault, Err(Fault::RequestLine | Fault::Target)), "{line:?}: {fault:?}");
        }
        assert!(request_line(&format!("{} / HTTP/1.1", "A".repeat(32))).is_ok());
        for line in ["CONNECT a:443 HTTP/1.1", "TRACE / HTTP/1.1"] {
            assert_eq!(request_line(line), Err(Fault::Method));
        }
    }

    #[test]
    fn rule_4_one_valid_host() {
        let host = |host: &str| verdict(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        for sound in ["a", "a.test:8080", "my_service", "127.0.0.1", "[::1]", "[2001:db8::1.2.3.4]:443"] {
            assert!(host(sound).is_ok(), "{sound}");
        }
        for bad in [
            "", "a b", "a,b", "a@b", "a/b", "a:", "a:b", "a:65536", "a:+1", ":80", "[::1", "[]", "[a]x", "::1", "a%41",
            "http://a",
        ] {
            assert_eq!(host(bad), Err(Fault::Host), "{bad}");
        }
        assert_eq!(verdict("GET / HTTP/1.1\r\n\r\n"), Err(Fault::Host));
        assert_eq!(verdict("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), Err(Fault::Host));
        assert_eq!(verdict("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n"), Err(Fault::Host));
    }

    #[test]
    fn rule_5_fields_are_bounded_and_clean() {
        for (lines, fault) in [
            ("a_b: c", Fault::FieldName),
            ("content_length: 1", Fault::FieldName),
            ("_", Fault::LineEnd),
            ("a : b", Fault::FieldName),
            ("\u{e4}: b", Fault::FieldName),
            (": b", Fault::FieldName),
            ("a\u{0}: b", Fault::FieldName),
            ("a: b\u{0}c", Fault::FieldValue),
            ("a: b\u{7f}", Fault::FieldValue),
            ("a: b\u{b}", Fault::FieldValue),
            ("a: b\r\n c", Fault::Folded),
            ("a: b\r\n\tc", Fault::Folded),
            (" a: b", Fault::Folded),
            ("a: b\nc: d", Fault::LineEnd),
            ("a: b\rc: d", Fault::LineEnd),
            ("a: b\r\r\nc: d", Fault::LineEnd),
            ("a: b\n", Fault::LineEnd),
            ("a", Fault::LineEnd),
            ("a\nb: c", Fault::LineEnd),
        ] {
            assert_eq!(fields(lines), Err(fault), "{lines:?}");
        }
        let line = |bytes: usize| format!("a: {}", "b".repeat(bytes - 3));
        assert!(fields(&line(32 << 10)).is_ok());
        assert_eq!(fields(&line((32 << 10) + 1)), Err(Fault::FieldsTooLarge));
        assert_eq!(fields(&"a".repeat(33 << 10)), Err(Fault::FieldsTooLarge));
        assert_eq!(fields(&[line(30 << 10), line(30 << 10), line(5 << 10)].join("\r\n")), Err(Fault::FieldsTooLarge));
        assert!(fields(&["a: b"; 99].join("\r\n")).is_ok());
        assert_eq!(fields(&["a: b"; 100].join("\r\n")), Err(Fault::TooManyFields));
    }

    #[test]
    fn a_head_gets_the_same_verdict_however_it_is_cut() {
        let sound =
            "POST /v1/chat?x=1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 12\r\nAuthorization: Bearer k\r\n\r\n";
        for (index, byte) in
            (0..sound.len()).flat_map(|index| [0, b'\r', b'\n', b' ', b':', b'_'].map(|byte| (index, byte)))
        {
            let mut head = sound.as_bytes().to_vec();
            head[index] = byte;
            let limits = HeadLimits { field_bytes_max: 40, fields_bytes_max: 70, ..HeadLimits::default() };
            let whole = Scan::default().advance(&head, &limits);
            let mut scan = Scan::default();
            let mut byte_wise = Ok(None);
            for end in 0..=head.len() {
                byte_wise = scan.advance(&head[..end], &limits);
                if byte_wise != Ok(None) {
                    break;
                }
            }
            assert_eq!(whole, byte_wise, "{:?}", String::from_utf8_lossy(&head));
        }
    }
}
