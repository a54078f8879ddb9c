//! Short audio files, made from nothing: a tone in WAV and PCM, silence in the compressed formats, whose
//! frames of silence are constants of their standards.

/// What speech can be wrapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Mp3,
    Opus,
    Aac,
    Flac,
    Wav,
    Pcm,
}

impl Container {
    /// By the names `response_format` uses.
    pub(super) const NAMES: [(&str, Self); 6] = [
        ("mp3", Self::Mp3),
        ("opus", Self::Opus),
        ("aac", Self::Aac),
        ("flac", Self::Flac),
        ("wav", Self::Wav),
        ("pcm", Self::Pcm),
    ];

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Mp3 => "audio/mpeg",
            Self::Opus => "audio/ogg",
            Self::Aac => "audio/aac",
            Self::Flac => "audio/flac",
            Self::Wav => "audio/wav",
            Self::Pcm => "audio/pcm",
        }
    }
}

/// Of WAV, PCM and FLAC: 24 kHz, 16 bits, one channel, as OpenAI's `pcm` has it.
const RATE_HZ: u32 = 24_000;

/// Audio as long as it takes to say so many characters: 50 ms each, at least 0.2 s, at most 2 s.
pub(super) fn speech(container: Container, chars: usize) -> Vec<u8> {
    let ms = u32::try_from(chars.saturating_mul(50)).unwrap_or(u32::MAX).clamp(200, 2000);
    match container {
        Container::Mp3 => mp3(ms),
        Container::Opus => opus(ms),
        Container::Aac => aac(ms),
        Container::Flac => flac(ms),
        Container::Wav => wav(&tone(ms)),
        Container::Pcm => tone(ms),
    }
}

/// A 440 Hz sine at a quarter of full scale, little-endian samples.
fn tone(ms: u32) -> Vec<u8> {
    let step = std::f32::consts::TAU * 440.0 / RATE_HZ as f32;
    let sample = |index: u32| ((index as f32 * step).sin() * 8192.0) as i16;
    (0..RATE_HZ * ms / 1000).flat_map(|index| sample(index).to_le_bytes()).collect()
}

/// RIFF WAVE with the 16-byte `fmt ` chunk of PCM.
fn wav(samples: &[u8]) -> Vec<u8> {
    let length = samples.len() as u32;
    let mut file = Vec::with_capacity(44 + samples.len());
    file.extend(b"RIFF");
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    file.extend([1, 0, 1, 0]); // PCM, one channel
    file.extend(RATE_HZ.to_le_bytes());
    file.extend((RATE_HZ * 2).to_le_bytes());
    file.extend([2, 0, 16, 0]); // bytes a frame, bits a sample
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.extend(samples);
    file
}

/// MPEG-1 layer III (ISO 11172-3), 32 kbit/s, 44.1 kHz, mono: 104 bytes a frame of 1152 samples. A frame
/// whose side information is all zero holds no coded data and sounds as silence.
fn mp3(ms: u32) -> Vec<u8> {
    let mut frame = [0; 104];
    frame[..4].copy_from_slice(&[0xff, 0xfb, 0x10, 0xc0]);
    frame.repeat((44_100 * ms / 1000).div_ceil(1152) as usize)
}

/// AAC-LC in ADTS (ISO 13818-7), 24 kHz, mono: a 7-byte head and one coded frame of 1024 silent samples.
fn aac(ms: u32) -> Vec<u8> {
    const FRAME: [u8; 13] = [0xff, 0xf1, 0x58, 0x40, 0x01, 0xbf, 0xfc, 0x00, 0xc8, 0x00, 0x80, 0x23, 0x80];
    FRAME.repeat((RATE_HZ * ms / 1000).div_ceil(1024) as usize)
}

/// FLAC (RFC 9639): STREAMINFO, then frames of 256 samples in one CONSTANT subframe of zero.
fn flac(ms: u32) -> Vec<u8> {
    let frames = (RATE_HZ * ms / 1000).div_ceil(256);
    let mut file = b"fLaC".to_vec();
    file.extend([0x80, 0, 0, 34]); // last metadata block, STREAMINFO, 34 bytes
    file.extend([1, 0, 1, 0]); // block size 256, at least and at most
    file.extend([0; 6]); // frame sizes unknown
    let layout = u64::from(RATE_HZ) << 44 | 15 << 36 | u64::from(frames * 256); // rate, channels-1, bits-1, samples
    file.extend(layout.to_be_bytes());
    file.extend([0; 16]); // no MD5
    for number in 0..frames {
        let mut frame = vec![0xff, 0xf8, 0x87, 0x08]; // 256 samples at 24 kHz, one channel of 16 bits
        frame.extend(char::from_u32(number).unwrap_or_default().to_string().bytes());
        frame.push(crc(&frame, Crc { width: 8, polynomial: 0x07 }) as u8);
        frame.extend([0, 0, 0]); // CONSTANT, no wasted bits, the 16-bit value 0
        let checksum = crc(&frame, Crc { width: 16, polynomial: 0x8005 }) as u16;
        frame.extend(checksum.to_be_bytes());
        file.extend(frame);
    }
    file
}

/// Opus in Ogg (RFC 7845, RFC 3533), 48 kHz, mono: two head pages, then a page of 20 ms packets of silence.
fn opus(ms: u32) -> Vec<u8> {
    /// CELT-only, full band, 20 ms, one frame (RFC 6716, section 3.1), and the shortest silence.
    const SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];
    let head = b"OpusHead\x01\x01\x00\x00\x80\xbb\x00\x00\x00\x00\x00";
    let tags = b"OpusTags\x05\x00\x00\x00forge\x00\x00\x00\x00";
    let packets = ms.div_ceil(20) as usize;
    let mut file = ogg_page(Page { flags: 2, granule: 0, number: 0 }, &[head]);
    file.extend(ogg_page(Page { flags: 0, granule: 0, number: 1 }, &[tags]));
    let last = Page { flags: 4, granule: packets as u64 * 960, number: 2 };
    file.extend(ogg_page(last, &vec![&SILENCE[..]; packets]));
    file
}

struct Page {
    /// 2 begins the stream, 4 ends it.
    flags: u8,
    /// Samples at 48 kHz up to the end of this page.
    granule: u64,
    number: u32,
}

/// A page of whole packets, each shorter than 255 bytes and at most 255 of them.
fn ogg_page(page: Page, packets: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"OggS\x00".to_vec();
    bytes.push(page.flags);
    bytes.extend(page.granule.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes()); // serial number
    bytes.extend(page.number.to_le_bytes());
    bytes.extend([0; 4]); // checksum, filled in below
    bytes.push(packets.len() as u8);
    bytes.extend(packets.iter().map(|packet| packet.len() as u8));
    packets.iter().for_each(|packet| bytes.extend(*packet));
    let checksum = crc(&bytes, Crc { width: 32, polynomial: 0x04c1_1db7 });
    bytes[22..26].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// A cyclic redundancy check, most significant bit first, from 0, not inverted.
#[derive(Clone, Copy)]
struct Crc {
    width: u32,
    polynomial: u32,
}

fn crc(bytes: &[u8], kind: Crc) -> u32 {
    let top = 1 << (kind.width - 1);
    let mask = u32::MAX >> (32 - kind.width);
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << (kind.width - 8), |sum, _| {
            let shifted = sum << 1;
            (if sum & top == 0 { shifted } else { shifted ^ kind.polynomial }) & mask
        })
    })
}
