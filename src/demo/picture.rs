//! A PNG made from a text: coloured squares, the same for the same text.
//!
//! Format: <https://www.w3.org/TR/png-3/>

use std::io::{self, Write};

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use sha2::{Digest, Sha256};

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub width: u32,
    pub height: u32,
}

impl Size {
    /// The longest side made.
    pub(super) const SIDE_MAX: u32 = 4096;

    /// Reads `1024x768`; sides from 16 pixels.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (width, height) = text.split_once('x')?;
        let size = Self { width: width.parse().ok()?, height: height.parse().ok()? };
        let fits = |side| (16..=Self::SIDE_MAX).contains(&side);
        (fits(size.width) && fits(size.height)).then_some(size)
    }
}

/// The picture of `text` as a PNG file: four colours, two bits a pixel, in squares an eighth of the width.
///
/// # Errors
/// Never in practice: it writes to memory.
pub(super) fn png(text: &str, size: Size) -> io::Result<Vec<u8>> {
    let seed = Sha256::digest(text.as_bytes());
    let mut head = Vec::new();
    head.extend(size.width.to_be_bytes());
    head.extend(size.height.to_be_bytes());
    head.extend([2, 3, 0, 0, 0]); // two bits, palette, deflate, plain filters, not interlaced

    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, b"IHDR", &head);
    chunk(&mut file, b"PLTE", &seed[..12]);
    chunk(&mut file, b"IDAT", &pixels(&seed, size)?);
    chunk(&mut file, b"IEND", &[]);
    Ok(file)
}

/// The compressed rows. A byte holds four pixels of one colour.
fn pixels(seed: &[u8], size: Size) -> io::Result<Vec<u8>> {
    const FOUR_PIXELS: [u8; 4] = [0x00, 0x55, 0xaa, 0xff];
    let square = (size.width / 8).max(4);
    let mut out = ZlibEncoder::new(Vec::new(), Compression::fast());
    for y in 0..size.height {
        let colour = |x: u32| {
            let cell = (y / square) * 8 + x * 4 / square;
            FOUR_PIXELS[usize::from(seed[cell as usize % seed.len()] >> (cell % 4)) % 4]
        };
        out.write_all(&[0])?; // this row is not filtered
        out.write_all(&(0..size.width.div_ceil(4)).map(colour).collect::<Vec<u8>>())?;
    }
    out.finish()
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(data);
    file.extend((data.len() as u32).to_be_bytes());
    file.extend(kind);
    file.extend(data);
    file.extend(crc.sum().to_be_bytes());
}
