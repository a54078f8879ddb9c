//! What each part of a head may be made of. Pure.

use std::ops::Range;

/// A method longer than this is none.
pub(super) const METHOD_BYTES_MAX: usize = 32;
/// Digits of a Content-Length: enough for 10^18 bytes, too few to overflow.
const LENGTH_DIGITS_MAX: usize = 18;
/// Names with `_` that may pass: agents send them (Codex CLI), and no other header is spelled so with `-`.
const UNDERSCORED: [&[u8]; 2] = [b"session_id", b"conversation_id"];

/// `^[0-9]{1,18}$`
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    if !(1..=LENGTH_DIGITS_MAX).contains(&value.len()) {
        return None;
    }
    value.iter().try_fold(0, |length, byte| byte.is_ascii_digit().then(|| length * 10 + u64::from(byte - b'0')))
}

/// A host name or address, and maybe a port. RFC 9110 section 7.2, without what no host has: user
/// information, percent-encoding, sub-delimiters.
pub(super) fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
            let address = &rest[..end];
            if !address.contains(&b':') || !address.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')) {
                return false;
            }
            (address, &rest[end + 1..])
        }
        None => {
            let end = value.iter().position(|byte| *byte == b':').unwrap_or(value.len());
            let (name, port) = value.split_at(end);
            if !name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')) {
                return false;
            }
            (name, port)
        }
    };
    !host.is_empty() && (port.is_empty() || is_port(&port[1..]) && port[0] == b':')
}

fn is_port(digits: &[u8]) -> bool {
    std::str::from_utf8(digits).is_ok_and(|digits| !digits.starts_with('+') && digits.parse::<u16>().is_ok())
}

/// Whether every byte of a decoded target is one of `/[!-~]*` without `#`, `\` and `%00`.
pub(super) fn is_target(target: &[u8]) -> bool {
    target.first() == Some(&b'/') && target.iter().all(|byte| is(*byte, TARGET)) && !has_encoded_nul(target)
}

/// Whether every byte may stand in a field's name.
pub(super) fn is_field_name(name: &[u8]) -> bool {
    let plain = name.iter().all(|byte| is(*byte, TOKEN));
    !name.is_empty() && (plain || is_underscored(name))
}

pub(super) fn is_underscored(name: &[u8]) -> bool {
    UNDERSCORED.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether every byte may stand in a field's value.
pub(super) fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|byte| is(*byte, VALUE))
}

/// Whether this byte may stand in a token, `_` apart.
pub(super) fn is_token(byte: u8) -> bool {
    is(byte, TOKEN)
}

/// Whether this byte may stand in a field's value.
pub(super) fn is_text(byte: u8) -> bool {
    is(byte, VALUE)
}

/// Whether this may be a method.
pub(super) fn is_method(method: &[u8]) -> bool {
    (1..=METHOD_BYTES_MAX).contains(&method.len()) && method.iter().all(|byte| is_token(*byte))
}

pub(super) fn has_encoded_nul(target: &[u8]) -> bool {
    memchr::memchr_iter(b'%', target).any(|at| target[at + 1..].starts_with(b"00"))
}

pub(super) const TOKEN: u8 = 1;
pub(super) const TARGET: u8 = 2;
pub(super) const VALUE: u8 = 4;
pub(super) const UNDERSCORE: u8 = 8;

/// What each byte may be part of.
static CLASSES: [u8; 256] = classes();

/// Tokens are RFC 9110's (section 5.6.2), but `_`, which some servers take for `-`, has a class of its own.
const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'`' | b'|' | b'~'
            )
        {
            table[byte] |= TOKEN;
        }
        if b.is_ascii_graphic() && b != b'#' && b != b'\\' {
            table[byte] |= TARGET;
        }
        if b == b'_' {
            table[byte] |= UNDERSCORE;
        }
        if b == b'\t' || (b >= b' ' && b != 0x7f) {
            table[byte] |= VALUE;
        }
        byte += 1;
    }
    table
}

#[inline]
pub(super) fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// The first index in `range` whose byte is not of `class`, else the range's end.
#[inline]
pub(super) fn skip(bytes: &[u8], range: Range<usize>, class: u8) -> usize {
    let end = range.end;
    if range.start >= end {
        return range.start;
    }
    bytes[range.clone()].iter().position(|byte| !is(*byte, class)).map_or(end, |offset| range.start + offset)
}

/// [`skip`] for [`VALUE`], which most bytes of a head are: eight at a time.
#[inline]
pub(super) fn skip_text(bytes: &[u8], range: Range<usize>) -> usize {
    let (mut at, end) = (range.start, range.end);
    while let Some(block) = bytes.get(at..end).and_then(|rest| rest.first_chunk()) {
        let first = first_control(u64::from_le_bytes(*block));
        at += first;
        match bytes.get(at) {
            _ if first == 8 => {}
            Some(b'\t') => at += 1,
            _ => return at,
        }
    }
    skip(bytes, at..end, VALUE)
}

/// The index of the first of eight bytes that is below 0x20 or 0x7f; 8: none is. A borrow can only make a hit of
/// a byte above a true one.
#[inline]
fn first_control(block: u64) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let low = block.wrapping_sub(ONES * 0x20) & !block;
    let delete = block ^ (ONES * 0x7f);
    let delete = delete.wrapping_sub(ONES) & !delete;
    (((low | delete) & HIGH).trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_classed_alike_one_by_one_and_by_eight() {
        for byte in 0..=255 {
            for at in 0..20 {
                let mut text = [b'a'; 20];
                text[at] = byte;
                assert_eq!(skip_text(&text, 0..20), skip(&text, 0..20, VALUE), "{byte:#x} at {at}");
                text[19 - at] = 0x7f;
                assert_eq!(skip_text(&text, 0..20), skip(&text, 0..20, VALUE), "{byte:#x} at {at}, then another");
            }
        }
    }
}
