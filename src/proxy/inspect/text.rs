//! The inside of JSON strings: finding what ends a plain run, and decoding escapes.

use fearless_simd::{Level, Simd, dispatch, prelude::*, u8x64};

/// Index of the first quote, backslash or control character (below 0x20) at or after `from`, or the length.
///
/// Blocks are fixed arrays so that the compiler turns each test into a few vector instructions. Two
/// words go first because most strings are short.
pub(super) fn plain_run_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    if let Some(offset) = special_in_words(bytes, at, 2) {
        return at + offset;
    }
    at = usize::min(at + 16, bytes.len());
    for block in bytes[at..].as_chunks::<64>().0 {
        if has_special(block) {
            break;
        }
        at += 64;
    }
    match special_in_words(bytes, at, 8) {
        Some(offset) => at + offset,
        None => bytes.len(),
    }
}

fn has_special(block: &[u8; 64]) -> bool {
    block.iter().fold(false, |found, &byte| found | is_special(byte))
}

/// `^ 2` brings the quote to 0x20, next to the control characters: one comparison for both.
fn is_special(byte: u8) -> bool {
    (byte ^ 2 <= 0x20) | (byte == b'\\')
}

/// Where, counted from `from`, the first special byte of the next `words` words of 8 bytes is.
fn special_in_words(bytes: &[u8], from: usize, words: usize) -> Option<usize> {
    let (whole, tail) = bytes[from..].as_chunks::<8>();
    for (index, word) in whole.iter().take(words).enumerate() {
        let marks = special_marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return Some(index * 8 + marks.trailing_zeros() as usize / 8);
        }
    }
    if whole.len() >= words {
        return None;
    }
    tail.iter().position(|&byte| is_special(byte)).map(|index| whole.len() * 8 + index)
}

/// The top bit of each special byte of `word`; exact for the lowest one, which is all the caller uses.
/// The test for zero and for less-than: <https://graphics.stanford.edu/~seander/bithacks.html>
fn special_marks(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let zero = |v: u64| v.wrapping_sub(ONES) & !v;
    let quote = zero(word ^ (ONES * b'"' as u64));
    let backslash = zero(word ^ (ONES * b'\\' as u64));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & (ONES << 7)
}

/// What a one-letter escape stands for (RFC 8259, section 7); `u` is not one.
pub(super) fn short_escape(letter: u8) -> Option<u8> {
    match letter {
        b'"' | b'\\' | b'/' => Some(letter),
        b'b' => Some(0x08),
        b'f' => Some(0x0c),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        _ => None,
    }
}

/// Index of what ends a string nobody decodes: its quote, a control character, an escape that is
/// malformed or cut off, or the length.
///
/// Most strings are short, and most bytes are in long ones. Those are read by the widest vectors the processor has.
pub(super) fn text_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    if let Some(offset) = special_in_words(bytes, at, 2) {
        at += offset;
        if bytes[at] != b'\\' {
            return at;
        }
    }
    if bytes.len() - at < BLOCK {
        return short_text_end(bytes, at);
    }
    dispatch!(Level::new(), simd => long_text_end(simd, bytes, at))
}

const BLOCK: usize = 64;

fn short_text_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    loop {
        at = plain_run_end(bytes, at);
        match escapes_run(&bytes[at..]) {
            0 => return at,
            length => at += length,
        }
    }
}

/// Looks at the quotes, backslashes and control characters of a block as bits, from which arithmetic tells the
/// escaped from the others. No closures, which would not be compiled for the vectors of `S`.
#[inline(always)]
fn long_text_end<S: Simd>(simd: S, bytes: &[u8], from: usize) -> usize {
    let (mut at, mut carry) = (from, 0);
    while let Some(block) = bytes[at..].first_chunk::<BLOCK>() {
        let block = u8x64::from_slice(simd, block);
        let backslashes = block.simd_eq(b'\\').to_bitmask();
        // See `is_special`.
        let mut stops = (block ^ 2).simd_le(0x20).to_bitmask();
        let mut odd = 0;
        if backslashes | carry != 0 {
            let escapes = Escapes::among(backslashes, carry);
            carry = escapes.carry;
            odd = escapes.escaped & !letters(block);
            stops = stops & !escapes.escaped | odd;
        }
        if stops == 0 {
            at += BLOCK;
            continue;
        }
        let stop = at + stops.trailing_zeros() as usize;
        if odd & stops & stops.wrapping_neg() == 0 {
            return stop;
        }
        // An escape that is not of one letter: `\u` or none.
        (at, carry) = match rare_escapes_end(bytes, stop - 1) {
            Ok(behind) => (behind, 0),
            Err(end) => return end,
        };
    }
    short_text_end(bytes, at - carry as usize)
}

/// Steps over escapes of any kind as long as one is near: where one is `\u`, most are. `Err`: the string ends.
fn rare_escapes_end(bytes: &[u8], from: usize) -> Result<usize, usize> {
    let mut at = from;
    loop {
        match escapes_run(&bytes[at..]) {
            0 => return Err(at),
            length => at += length,
        }
        match special_in_words(bytes, at, 1) {
            None => return Ok(at),
            Some(offset) => at += offset,
        }
    }
}

/// The bytes that make an escape of two when a backslash stands before them.
#[inline(always)]
fn letters<S: Simd>(block: u8x64<S>) -> u64 {
    let quoting = block.simd_eq(b'"') | block.simd_eq(b'\\') | block.simd_eq(b'/');
    let spaces = block.simd_eq(b'b') | block.simd_eq(b'f') | block.simd_eq(b't');
    (quoting | spaces | block.simd_eq(b'n') | block.simd_eq(b'r')).to_bitmask()
}

/// What is escaped in a block.
struct Escapes {
    /// The bytes behind the backslashes that escape.
    escaped: u64,
    /// 1 when the block's last byte escapes the next block's first, else 0.
    carry: u64,
}

impl Escapes {
    /// In a run of backslashes every second one is escaped; a subtraction finds the runs' ends by its carries.
    /// <https://github.com/simdjson/simdjson/blob/v3.10.1/src/generic/stage1/json_escape_scanner.h>
    #[inline(always)]
    fn among(backslashes: u64, carry: u64) -> Self {
        const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
        let leaders = backslashes & !carry;
        let codes = ((leaders << 1) | ODD).wrapping_sub(leaders) ^ ODD;
        Self { escaped: codes ^ (backslashes | carry), carry: (codes & backslashes) >> 63 }
    }
}

/// Length of the run of whole escapes that `bytes` begins with; 0 if there is none.
#[inline]
fn escapes_run(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    loop {
        rest = match rest {
            [b'\\', b'u', a, b, c, d, tail @ ..] if is_hex(*a) & is_hex(*b) & is_hex(*c) & is_hex(*d) => tail,
            [b'\\', letter, tail @ ..] if short_escape(*letter).is_some() => tail,
            _ => return bytes.len() - rest.len(),
        };
    }
}

fn is_hex(byte: u8) -> bool {
    HEX[byte as usize]
}

static HEX: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_hexdigit();
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_special_byte_is_found_wherever_it_is() {
        for special in (0..0x20).chain([b'"', b'\\']) {
            for len in 0..200 {
                let mut bytes = vec![b'a'; len];
                bytes.extend([special, b'"', 0x1f, 0xff]);
                bytes.extend([b'z'; 70]);
                assert_eq!(plain_run_end(&bytes, 0), len, "{special} after {len}");
                assert_eq!(plain_run_end(&bytes, len / 2), len);
            }
        }
    }

    #[test]
    fn every_other_byte_is_plain() {
        let plain: Vec<u8> = (0x20..=0xff).filter(|byte| ![b'"', b'\\'].contains(byte)).collect();
        for from in 0..plain.len() {
            assert_eq!(plain_run_end(&plain, from), plain.len());
        }
    }

    #[test]
    fn escapes_are_told_apart_however_many_backslashes_stand_together() {
        let mut state = 1u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bytes: Vec<u8> = (0..64).map(|bit| if state >> bit & 1 == 1 { b'\\' } else { b'n' }).collect();
            for carry in [0, 1] {
                let (mut escaped, mut at) = (carry, carry as usize);
                while at < 64 {
                    let leads = bytes[at] == b'\\';
                    escaped |= u64::from(leads).checked_shl(at as u32 + 1).unwrap_or(0);
                    at += 1 + usize::from(leads);
                }
                let found = Escapes::among(state, carry);
                assert_eq!((found.escaped, found.carry), (escaped, at as u64 - 64), "{state:b}");
            }
        }
    }

    #[test]
    fn text_ends_at_the_first_byte_that_is_no_whole_escape() {
        for filler in 0..150 {
            let filler = "x".repeat(filler);
            for (text, end) in [
                (r"", 0),
                (r"\", 0),
                (r"\u12", 0),
                (r"\u09ae\n\u09Afx", 15),
                (r"\n\q", 2),
                (r"\\\", 2),
                (r"\u123g", 0),
                (r#"\"\\""#, 4),
                ("a\\tb\nc", 4),
            ] {
                for behind in ["", &filler] {
                    let whole = format!("{filler}{text}{behind}");
                    let end = if end == text.len() { whole.len() } else { filler.len() + end };
                    if !behind.is_empty() && ["\\", "\\u12"].contains(&text) {
                        continue;
                    }
                    assert_eq!(text_end(whole.as_bytes(), 0), end, "{whole}");
                }
            }
        }
    }
}
