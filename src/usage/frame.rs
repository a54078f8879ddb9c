//! How a record stands in the journal: its length, a checksum, its fields one after the other.
//!
//! A process may die in the middle of a write, so what does not check is taken for the end of its file.

use crate::store::{Attempt, Units, UsageRecord};

/// A record as the data plane has it: nothing is copied but into the journal.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "as in UsageRecord")]
pub struct Entry<'a> {
    pub id: &'a str,
    pub request_id: &'a str,
    pub at_unix_ms: i64,
    pub attempt: Attempt,
    pub status: u16,
    pub key: &'a str,
    pub tier: &'a str,
    pub owner: Option<&'a str>,
    pub team: Option<&'a str>,
    pub organisation: Option<&'a str>,
    pub model: &'a str,
    pub provider: &'a str,
    pub upstream_model: &'a str,
    pub endpoint: &'a str,
    pub units: &'a Units,
    pub estimated: bool,
    pub price_version: &'a str,
    pub cost_microusd: u64,
}

/// Length and checksum, 4 bytes each, little end first.
const HEAD_BYTES: usize = 8;
/// The form of what follows; another one is another number.
const FORM: u8 = 1;
/// No record is longer: names are bounded where they come from.
const RECORD_BYTES_MAX: usize = 64 << 10;
/// Of one text; what is longer was cut when it was written.
const TEXT_BYTES_MAX: usize = 4096;

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// A record, and the bytes it took.
    Record(Box<UsageRecord>, usize),
    /// The beginning of one: more bytes are needed.
    Cut,
    /// No record.
    Damaged,
}

/// Appends the frame of `entry` to `out`.
pub(super) fn write(entry: &Entry<'_>, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    out.push(FORM);
    out.push(match entry.attempt {
        Attempt::Answer => 0,
        Attempt::Replaced => 1,
    });
    out.push(u8::from(entry.estimated));
    out.extend_from_slice(&entry.status.to_le_bytes());
    out.extend_from_slice(&entry.at_unix_ms.to_le_bytes());
    out.extend_from_slice(&entry.cost_microusd.to_le_bytes());
    for amount in entry.units.amounts() {
        number(amount, out);
    }
    let texts = [
        entry.id,
        entry.request_id,
        entry.key,
        entry.tier,
        entry.owner.unwrap_or_default(),
        entry.team.unwrap_or_default(),
        entry.organisation.unwrap_or_default(),
        entry.model,
        entry.provider,
        entry.upstream_model,
        entry.endpoint,
        entry.price_version,
    ];
    for value in texts {
        let value = &value[..value.floor_char_boundary(TEXT_BYTES_MAX)];
        number(value.len() as u64, out);
        out.extend_from_slice(value.as_bytes());
    }
    let (length, sum) = ((out.len() - begin - HEAD_BYTES) as u32, crc32fast::hash(&out[begin + HEAD_BYTES..]));
    out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
    out[begin + 4..begin + HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
}

/// Reads the record that `bytes` begin with.
pub(super) fn read(bytes: &[u8]) -> Read {
    let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) else { return Read::Cut };
    let word = |at: usize| head[at..at + 4].iter().rev().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
    let (length, sum) = (word(0) as usize, word(4));
    if length > RECORD_BYTES_MAX {
        return Read::Damaged;
    }
    let Some(payload) = rest.get(..length) else { return Read::Cut };
    if length == 0 || crc32fast::hash(payload) != sum {
        return Read::Damaged;
    }
    match Fields(payload).record() {
        Some(record) => Read::Record(Box::new(record), HEAD_BYTES + length),
        None => Read::Damaged,
    }
}

/// Seven bits a byte, the lowest first; most amounts are zero.
fn number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What of a payload was not read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn record(mut self) -> Option<UsageRecord> {
        if self.byte()? != FORM {
            return None;
        }
        let attempt = match self.byte()? {
            0 => Attempt::Answer,
            1 => Attempt::Replaced,
            _ => return None,
        };
        let estimated = self.byte()? != 0;
        let status = u16::from_le_bytes(self.array()?);
        let at_unix_ms = i64::from_le_bytes(self.array()?);
        let cost_microusd = u64::from_le_bytes(self.array()?);
        let mut amounts = [0; Units::NAMES.len()];
        for amount in &mut amounts {
            *amount = self.number()?;
        }
        let optional = |text: String| (!text.is_empty()).then_some(text);
        Some(UsageRecord {
            id: self.text()?,
            request_id: self.text()?,
            at_unix_ms,
            attempt,
            status,
            key: self.text()?,
            tier: self.text()?,
            owner: optional(self.text()?),
            team: optional(self.text()?),
            organisation: optional(self.text()?),
            model: self.text()?,
            provider: self.text()?,
            upstream_model: self.text()?,
            endpoint: self.text()?,
            units: Units::of(amounts),
            estimated,
            price_version: self.text()?,
            cost_microusd,
        })
    }

    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::usage) fn entry<'a>(id: &'a str, units: &'a Units) -> Entry<'a> {
        Entry {
            id,
            request_id: "req_1",
            at_unix_ms: 1_793_491_200_123,
            attempt: Attempt::Answer,
            status: 200,
            key: "static:demo",
            tier: "pro",
            owner: Some("own_1"),
            team: None,
            organisation: Some("org_1"),
            model: "gpt-*",
            provider: "openai",
            upstream_model: "gpt-5",
            endpoint: "chat_completions",
            units,
            estimated: true,
            price_version: "2026-11-01/abc",
            cost_microusd: u64::MAX >> 1,
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let units = Units { input_tokens: u64::MAX, output_tokens: 300, documents: 1, ..Units::default() };
        let mut bytes = Vec::new();
        write(&entry("a", &units), &mut bytes);
        let first = bytes.len();
        write(&Entry { attempt: Attempt::Replaced, ..entry("b", &Units::default()) }, &mut bytes);
        let Read::Record(record, taken) = read(&bytes) else { panic!("no record") };
        assert_eq!((taken, record.id.as_str(), record.units), (first, "a", units));
        assert_eq!((record.owner.as_deref(), record.team.as_deref()), (Some("own_1"), None));
        assert_eq!(
            (record.cost_microusd, record.estimated, record.at_unix_ms),
            (u64::MAX >> 1, true, 1_793_491_200_123)
        );
        let Read::Record(record, _) = read(&bytes[first..]) else { panic!("no record") };
        assert_eq!((record.id.as_str(), record.attempt), ("b", Attempt::Replaced));
    }

    #[test]
    fn a_torn_or_damaged_frame_is_no_record() {
        let mut bytes = Vec::new();
        write(&entry("a", &Units::default()), &mut bytes);
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]), Read::Cut, "{length}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            assert!(!matches!(read(&damaged), Read::Record(..)), "{at}");
        }
        assert_eq!(read(&[0; 64]), Read::Damaged, "what a disk leaves behind a crash");
    }
}
