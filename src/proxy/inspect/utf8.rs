//! UTF-8 over chunks: hands on whole characters only, so that what follows never sees half of one.

/// The start of a character that the end of a chunk cut off.
#[derive(Debug, Default)]
pub(super) struct Cut {
    bytes: [u8; 4],
    len: usize,
}

/// What became of a cut character.
pub(super) enum Joined {
    /// Whole now: these bytes, this many of them.
    Whole([u8; 4], usize),
    /// More bytes are needed.
    Short,
    /// No character begins like this.
    Invalid,
}

impl Cut {
    /// Length of the part kept, 0 to 3.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.bytes[..bytes.len()].copy_from_slice(bytes);
        self.len = bytes.len();
    }

    /// Takes one more byte of the character that is being joined.
    pub(super) fn join(&mut self, byte: u8) -> Joined {
        self.bytes[self.len] = byte;
        self.len += 1;
        match std::str::from_utf8(&self.bytes[..self.len]) {
            Ok(_) => Joined::Whole(self.bytes, std::mem::take(&mut self.len)),
            Err(error) if error.error_len().is_none() => Joined::Short,
            Err(_) => Joined::Invalid,
        }
    }

    /// The leading part of `chunk` that is whole and valid, and whether a bad byte follows it; a
    /// character cut off by the chunk's end is kept instead.
    pub(super) fn split<'a>(&mut self, chunk: &'a [u8]) -> (&'a [u8], bool) {
        match simdutf8::compat::from_utf8(chunk) {
            Ok(_) => (chunk, false),
            Err(error) => {
                let (valid, rest) = chunk.split_at(error.valid_up_to());
                if error.error_len().is_none() {
                    self.keep(rest);
                }
                (valid, error.error_len().is_some())
            }
        }
    }
}
