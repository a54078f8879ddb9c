//! Chunked framing (RFC 9112 section 7.1), read strictly: bytes in, how many of them are sound out. Pure.
//!
//! The engine's own reader forgives what another server behind it may not: an empty size, a bare LF in an
//! extension, data shorter than its size. Nothing of that gets past this one, which passes the framing on
//! as it is and changes nothing.

use super::fault::Fault;
use super::grammar::{is_text, is_token};

/// Hex digits of a chunk's size.
const SIZE_DIGITS_MAX: u8 = 15;
/// Of the extensions of all chunks of a body together: nobody needs them, and they cost the reader.
const EXTENSION_BYTES_MAX: u32 = 16 << 10;
/// Of the trailer section. Trailers are read and dropped.
const TRAILER_BYTES_MAX: u32 = 16 << 10;

/// The state of reading one chunked body; starts as the default.
#[derive(Debug, Clone, Default)]
pub struct Chunked {
    state: State,
    extension_bytes: u32,
    trailer_bytes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size {
        digits: u8,
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// At the start of a trailer line, or of the last line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
    Broken,
}

impl Default for State {
    fn default() -> Self {
        Self::Size { digits: 0, size: 0 }
    }
}

impl Chunked {
    /// Reads on, and returns how many of `bytes` are sound and belong to this body. Fewer than all: the body is
    /// over ([`Chunked::done`]) or broken ([`Chunked::fault`]) there.
    pub fn advance(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if let State::Data { left } = self.state {
                let step = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += step;
                let left = left - step as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                continue;
            }
            if matches!(self.state, State::Done | State::Broken) {
                break;
            }
            self.state = self.after(bytes[at]);
            if self.state == State::Broken {
                break;
            }
            at += 1;
        }
        at
    }

    /// Whether the last byte of the body was read.
    pub fn done(&self) -> bool {
        self.state == State::Done
    }

    /// What broke the framing, if something did.
    pub fn fault(&self) -> Option<Fault> {
        (self.state == State::Broken).then_some(Fault::Chunk)
    }

    fn after(&mut self, byte: u8) -> State {
        match (self.state, byte) {
            (State::Size { digits, size }, _) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS_MAX => {
                State::Size { digits: digits + 1, size: size << 4 | u64::from(hex(byte)) }
            }
            (State::Size { digits: 1.., size } | State::Extension { size }, b'\r') => State::SizeLf { size },
            (State::Size { digits: 1.., size }, b';') => State::Extension { size },
            (State::Extension { size }, _)
                if is_text(byte) && count(&mut self.extension_bytes, EXTENSION_BYTES_MAX) =>
            {
                State::Extension { size }
            }
            (State::SizeLf { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeLf { size }, b'\n') => State::Data { left: size },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::default(),
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::LastLf, b'\n') => State::Done,
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) && self.count_trailer() => {
                State::TrailerName
            }
            (State::TrailerName, b':') if self.count_trailer() => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if is_text(byte) && self.count_trailer() => State::TrailerValue,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            _ => State::Broken,
        }
    }

    fn count_trailer(&mut self) -> bool {
        count(&mut self.trailer_bytes, TRAILER_BYTES_MAX)
    }
}

/// Counts a byte; false beyond the limit.
fn count(counter: &mut u32, max: u32) -> bool {
    *counter += 1;
    *counter <= max
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes consumed and how it ended, fed in pieces that end at `cuts`.
    fn read(body: &[u8], cuts: &[usize]) -> (usize, bool, bool) {
        let (mut chunked, mut consumed, mut start) = (Chunked::default(), 0, 0);
        for end in cuts.iter().copied().chain([body.len()]) {
            let piece = &body[start..end];
            let taken = chunked.advance(piece);
            consumed += taken;
            start = end;
            if taken < piece.len() {
                break;
            }
        }
        (consumed, chunked.done(), chunked.fault().is_some())
    }

    #[test]
    fn sound_bodies_end_where_they_end() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "00005;a=b; c=\"d;e\"\r\nhello\r\nA\r\n0123456789\r\n000\r\n\r\n",
            "1\r\n\n\r\n0\r\nX-Checksum: abc\r\nY:\r\n\r\n",
        ] {
            let all = format!("{body}GET / HTTP/1.1\r\n");
            for cut in 0..all.len() {
                assert_eq!(read(all.as_bytes(), &[cut]), (body.len(), true, false), "{body:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn rule_8_malformed_chunks_are_found_at_the_same_byte_however_cut() {
        let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(17 << 10));
        let long_trailer = format!("0\r\nx: {}\r\n\r\n", "a".repeat(17 << 10));
        for (body, at) in [
            ("\r\nhello\r\n0\r\n\r\n", 0),                  // empty size
            (";a=b\r\nhello\r\n0\r\n\r\n", 0),              // an extension without a size
            ("5;a\nb\r\nhello\r\n0\r\n\r\n", 3),            // LF in an extension
            ("5\nhello\r\n0\r\n\r\n", 1),                   // bare LF
            ("5\rhello\r\n0\r\n\r\n", 2),                   // bare CR
            ("5\r\nhell\r\n0\r\n\r\n", 8),                  // data shorter than its size
            ("5\r\nhelloo\r\n0\r\n\r\n", 8),                // data longer than its size
            ("5\r\nhello\r\n\r\n0\r\n\r\n", 10),            // CRLF before the last chunk
            ("5\r\nhello\n0\r\n\r\n", 8),                   // LF after data
            ("0x5\r\nhello\r\n0\r\n\r\n", 1),               // prefix
            ("-5\r\nhello\r\n0\r\n\r\n", 0),                // sign
            ("+5\r\nhello\r\n0\r\n\r\n", 0),                // sign
            (" 5\r\nhello\r\n0\r\n\r\n", 0),                // space before
            ("5 \r\nhello\r\n0\r\n\r\n", 1),                // space after
            ("5_0\r\nhello\r\n0\r\n\r\n", 1),               // digit separator
            ("g\r\nhello\r\n0\r\n\r\n", 0),                 // no digit
            ("0000000000000005\r\nhello\r\n0\r\n\r\n", 15), // too many digits
            ("ffffffffffffffff5\r\nx", 15),                 // overflow
            ("0\r\n\n", 3),                                 // LF as the last line
            ("0\r\nx\r\n\r\n", 4),                          // a trailer without a colon
            ("0\r\n x: y\r\n\r\n", 3),                      // a folded trailer
            ("0\r\nx : y\r\n\r\n", 4),                      // space before the colon
            ("0\r\nx: \0\r\n\r\n", 6),                      // NUL in a trailer
            ("0\r\nx: y\n\r\n", 7),                         // LF ends a trailer
            (&long_extension, 2 + (16 << 10)),
            (&long_trailer, 3 + (16 << 10)),
        ] {
            for cut in 0..body.len().min(64) {
                assert_eq!(
                    read(body.as_bytes(), &[cut]),
                    (at, false, true),
                    "{:?} cut at {cut}",
                    &body[..body.len().min(40)]
                );
            }
        }
    }
}
