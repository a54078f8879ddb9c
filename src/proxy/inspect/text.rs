//! The inside of JSON strings: finding what ends a plain run, and decoding escapes.

use wide::u8x16;

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
/// A block's special bytes are found together, as bits, and the escapes among them stepped over.
pub(super) fn text_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    if let Some(offset) = special_in_words(bytes, at, 2) {
        at += offset;
        match bytes[at] {
            b'\\' => {}
            _ => return at,
        }
    }
    while let Some(block) = bytes[at..].first_chunk::<64>() {
        match escapes_in(bytes, at, marks_of(block)) {
            Ok(taken) => at += taken,
            Err(end) => return end,
        }
    }
    loop {
        at = plain_run_end(bytes, at);
        match escapes_run(&bytes[at..]) {
            0 => return at,
            length => at += length,
        }
    }
}

/// Steps over the escapes of the 64 bytes at `from`, whose special ones are `marks`. Returns the bytes
/// taken, which are more if an escape goes beyond; or the index of what ends the string.
#[inline]
fn escapes_in(bytes: &[u8], from: usize, marks: u64) -> Result<usize, usize> {
    let mut marks = marks;
    while marks != 0 {
        let index = marks.trailing_zeros() as usize;
        let length = match bytes[from + index..] {
            [b'\\', letter, ..] if SHORT[letter as usize] => 2,
            ref rest => escapes_run(rest),
        };
        let behind = index + length;
        match (length, behind) {
            (0, _) => return Err(from + index),
            (_, 64..) => return Ok(behind),
            // What escapes are made of may itself be special.
            _ => marks &= u64::MAX << behind,
        }
    }
    Ok(64)
}

/// One bit for each special byte of `block`, the first lowest.
fn marks_of(block: &[u8; 64]) -> u64 {
    let part = |bytes: &[u8; 16]| {
        let bytes = u8x16::from(*bytes);
        // See `is_special`.
        let near = bytes ^ u8x16::splat(2);
        let special = bytes.simd_eq(u8x16::splat(b'\\')) | near.min(u8x16::splat(0x20)).simd_eq(near);
        u64::from(special.to_bitmask())
    };
    let [a, b, c, d] = block.as_chunks::<16>().0 else { return 0 };
    part(a) | part(b) << 16 | part(c) << 32 | part(d) << 48
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

/// Whether a letter behind a backslash makes a whole escape.
static SHORT: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't');
        byte += 1;
    }
    table
};

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
