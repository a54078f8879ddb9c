//! A chunk with some of its stretches replaced; copied only when there is one.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

/// Replacements of one chunk, given from its front to its back.
pub(super) struct Splice<'a> {
    chunk: &'a Bytes,
    /// The model's name as it shall be, behind its opening quote.
    name: &'a [u8],
    /// The chunk's bytes up to here are in `out`, or replaced.
    taken: usize,
    out: BytesMut,
    /// All from here on waits for the next chunk.
    end: usize,
}

impl<'a> Splice<'a> {
    pub(super) fn new(chunk: &'a Bytes, name: &'a [u8]) -> Self {
        Self { chunk, name, taken: 0, out: BytesMut::new(), end: chunk.len() }
    }

    /// Puts `with` in place of `range`, which lies behind every earlier one, and of what was withheld.
    pub(super) fn replace(&mut self, range: Range<usize>, with: &[u8]) {
        if self.out.is_empty() {
            self.out.reserve(self.chunk.len() + with.len());
        }
        self.out.put_slice(&self.chunk[self.taken..range.start.min(self.end)]);
        self.out.put_slice(with);
        self.taken = range.end;
        self.end = self.chunk.len();
    }

    /// Puts the name in place of `held` and `range` together, both without the opening quote; a name that
    /// is the same already stays where it is.
    pub(super) fn rename(&mut self, held: &[u8], range: Range<usize>) {
        if !held.is_empty() || &self.chunk[range.clone()] != self.name {
            self.replace(range, self.name);
        }
    }

    /// Keeps back all from `start` on, as far as nothing is put in its place.
    pub(super) fn withhold(&mut self, start: usize) {
        self.end = start;
    }

    /// What leaves. Uncopied when nothing was replaced.
    pub(super) fn finish(mut self) -> Bytes {
        if self.taken == 0 && self.out.is_empty() {
            return self.chunk.slice(..self.end);
        }
        self.out.put_slice(&self.chunk[self.taken..self.end.max(self.taken)]);
        self.out.freeze()
    }
}
