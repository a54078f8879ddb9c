//! HTTP/1.1 on the wire, read strictly (RFC 9112): whatever a lenient reader would forgive is a fault.

use bytes::{Buf, BytesMut};

/// A request or response head as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// Every byte, the empty line included.
    pub raw: Vec<u8>,
    /// The request or status line.
    pub start: String,
    /// The fields in order, names as sent.
    pub fields: Vec<(String, String)>,
    /// What breaks the grammar.
    pub faults: Vec<String>,
}

impl Head {
    /// Takes a whole head off the front of `buf`, if one is there.
    pub fn take(buf: &mut BytesMut) -> Option<Head> {
        let end = buf.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        Some(Head::parse(&buf.split_to(end)))
    }

    /// Reads a head that ends in an empty line.
    pub fn parse(raw: &[u8]) -> Head {
        let mut head = Head { raw: raw.to_vec(), ..Head::default() };
        let text = String::from_utf8_lossy(raw).into_owned();
        let mut lines = text.strip_suffix("\r\n\r\n").unwrap_or(&text).split("\r\n");
        head.start = lines.next().unwrap_or_default().to_owned();
        for line in lines {
            head.field(line);
        }
        if raw.iter().any(|byte| matches!(byte, 0..=8 | 11 | 12 | 14..=31 | 127))
            || text.replace("\r\n", "").contains(['\r', '\n'])
        {
            head.faults.push("control character or lone CR or LF in head".into());
        }
        head.check_framing();
        head
    }

    fn field(&mut self, line: &str) {
        let Some((name, value)) = line.split_once(':') else {
            self.faults.push(format!("no colon in field line {line:?}"));
            return;
        };
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            self.faults.push(format!("field name {name:?}"));
        }
        self.fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }

    fn check_framing(&mut self) {
        let lengths: Vec<String> = self.all("content-length").into_iter().map(str::to_owned).collect();
        let codings = self.all("transfer-encoding").len();
        if lengths.len() > 1 || lengths.iter().any(|text| text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()))
        {
            self.faults.push(format!("content-length {lengths:?}"));
        }
        if codings > 1 || self.get("transfer-encoding").is_some_and(|coding| coding != "chunked") {
            self.faults.push(format!("transfer-encoding {:?}", self.all("transfer-encoding")));
        }
        if !lengths.is_empty() && codings > 0 {
            self.faults.push("content-length and transfer-encoding".into());
        }
    }

    /// The first value of a field, by any case of its name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Every value of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// How the body of this message is framed; `none` when nothing says so.
    pub fn framing(&self, none: Framing) -> Framing {
        if self.get("transfer-encoding").is_some() {
            return Framing::Chunked;
        }
        self.get("content-length").and_then(|text| text.parse().ok()).map_or(none, Framing::Length)
    }
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// There is none.
    #[default]
    Empty,
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
    /// By an HTTP/2 frame.
    Stream,
}

/// Takes the framing off a body, strictly, in whatever pieces it comes.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Left(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    LastLine,
    ToClose,
    Done,
}

impl BodyDecoder {
    /// A decoder at the start of a body.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Left(length),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose | Framing::Stream => State::ToClose,
        };
        Self { state }
    }

    /// Whether the body's last byte was seen.
    pub fn done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether a close at this point is a regular end.
    pub fn may_close(&self) -> bool {
        matches!(self.state, State::Done | State::ToClose)
    }

    /// Moves what `buf` holds of the body to `out`; an error names the broken rule.
    pub fn decode(&mut self, buf: &mut BytesMut, out: &mut Vec<u8>) -> Result<(), String> {
        loop {
            match self.state {
                State::Done => return Ok(()),
                State::ToClose => {
                    out.extend_from_slice(buf);
                    buf.clear();
                    return Ok(());
                }
                State::Left(left) => match take(buf, left, out) {
                    0 => self.state = State::Done,
                    rest => return self.wait(State::Left(rest)),
                },
                State::ChunkData(left) => match take(buf, left, out) {
                    0 => self.state = State::ChunkEnd,
                    rest => return self.wait(State::ChunkData(rest)),
                },
                State::ChunkSize | State::ChunkEnd | State::LastLine => match line(buf)? {
                    Some(text) => self.state = self.state.after_line(&text)?,
                    None => return Ok(()),
                },
            }
        }
    }

    fn wait(&mut self, state: State) -> Result<(), String> {
        self.state = state;
        Ok(())
    }
}

impl State {
    fn after_line(self, text: &str) -> Result<State, String> {
        match self {
            State::ChunkEnd if text.is_empty() => Ok(State::ChunkSize),
            State::LastLine if text.is_empty() => Ok(State::Done),
            State::ChunkSize if !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit()) => {
                match u64::from_str_radix(text, 16) {
                    Ok(0) => Ok(State::LastLine),
                    Ok(size) => Ok(State::ChunkData(size)),
                    Err(error) => Err(format!("chunk size {text:?}: {error}")),
                }
            }
            state => Err(format!("{state:?} reads {text:?}")),
        }
    }
}

/// Moves up to `left` bytes; returns how many are still missing.
fn take(buf: &mut BytesMut, left: u64, out: &mut Vec<u8>) -> u64 {
    let length = (left as usize).min(buf.len());
    out.extend_from_slice(&buf[..length]);
    buf.advance(length);
    left - length as u64
}

/// The next line without its CRLF, if it is whole.
fn line(buf: &mut BytesMut) -> Result<Option<String>, String> {
    let Some(end) = buf.iter().position(|byte| *byte == b'\n') else {
        return if buf.len() > 64 { Err("chunk line without end".into()) } else { Ok(None) };
    };
    let line = buf.split_to(end + 1);
    let text = line.strip_suffix(b"\r\n").ok_or("lone LF in chunked framing")?;
    Ok(Some(String::from_utf8_lossy(text).into_owned()))
}
