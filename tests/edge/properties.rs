//! What must hold of the edge's reading of any bytes whatsoever: the same at every cut, and nothing accepted that a
//! plain reading by the RFC's words would take for something else.

use forge::config::ClientConf;
use forge::edge::Fault;
use forge::edge::chunked::Chunked;
use forge::edge::head::{Framing, Head, HeadLimits, Scan};

/// Checks a connection's bytes: a head, and its body where it is chunked. `cuts` are ways to deliver them.
pub fn check<'a>(bytes: &'a [u8], cuts: impl IntoIterator<Item = Vec<&'a [u8]>>) {
    let limits = HeadLimits::of(&ClientConf::default());
    let verdict = Scan::default().advance(bytes, &limits);
    let body = match &verdict {
        Ok(Some(head)) => {
            read_plainly(&bytes[..head.bytes], head);
            (head.framing == Framing::Chunked).then(|| &bytes[head.bytes..])
        }
        Ok(None) | Err(_) => None,
    };
    let chunked = body.map(read_chunked);
    for pieces in cuts {
        assert_eq!(scan(&pieces, &limits), verdict, "cut into {:?}", lengths(&pieces));
        if let (Some(body), Some(expected)) = (body, &chunked) {
            assert_eq!(&read_in_pieces(behind(&pieces, bytes.len() - body.len())), expected);
        }
    }
}

fn lengths(pieces: &[&[u8]]) -> Vec<usize> {
    pieces.iter().map(|piece| piece.len()).collect()
}

/// The verdict on a head that comes in pieces.
fn scan(pieces: &[&[u8]], limits: &HeadLimits) -> Result<Option<Head>, Fault> {
    let (mut scan, mut all) = (Scan::default(), Vec::new());
    for piece in pieces {
        all.extend_from_slice(piece);
        match scan.advance(&all, limits) {
            Ok(None) => {}
            decided => return decided,
        }
    }
    Ok(None)
}

/// Reads an accepted head by lines and colons, and compares.
fn read_plainly(bytes: &[u8], head: &Head) {
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let sole = text.trim_start_matches("\r\n").strip_suffix("\r\n\r\n").expect("an empty line ends it");
    assert!(!sole.replace("\r\n", "").contains(['\r', '\n', '\0']), "a line that another reader may end: {sole:?}");
    let mut lines = sole.split("\r\n");
    let line: Vec<&str> = lines.next().unwrap().split(' ').collect();
    assert_eq!(line.len(), 3, "{line:?}");
    assert!(line[1].starts_with('/') && line[1].bytes().all(|byte| byte.is_ascii_graphic()), "{line:?}");
    assert!(["HTTP/1.1", "HTTP/1.0"].contains(&line[2]), "{line:?}");
    let fields: Vec<(String, &str)> = lines
        .map(|line| line.split_once(':').expect("a colon"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])))
        .collect();
    let all =
        |wanted: &str| fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| *value).collect::<Vec<_>>();
    assert!(fields.iter().all(|(name, _)| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())));
    assert!(all("host").len() <= 1 && (line[2] == "HTTP/1.0" || all("host").len() == 1));
    match (all("content-length")[..].to_vec(), all("transfer-encoding")[..].to_vec(), head.framing) {
        (lengths, codings, Framing::Length(0)) if lengths.is_empty() && codings.is_empty() => {}
        (lengths, codings, Framing::Length(length)) => {
            assert!(codings.is_empty() && lengths.len() == 1, "{lengths:?} {codings:?}");
            assert_eq!(lengths[0].parse(), Ok(length));
        }
        (lengths, codings, Framing::Chunked) => {
            assert!(lengths.is_empty() && codings.len() == 1, "{lengths:?} {codings:?}");
            assert!(codings[0].eq_ignore_ascii_case("chunked") && line[2] == "HTTP/1.1");
        }
    }
}

/// How far a chunked body was taken, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Taken {
    bytes: usize,
    done: bool,
    broken: bool,
}

fn read_in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Taken {
    let (mut chunked, mut bytes) = (Chunked::default(), 0);
    for piece in pieces {
        let taken = chunked.advance(piece);
        bytes += taken;
        if taken < piece.len() {
            break;
        }
    }
    Taken { bytes, done: chunked.done(), broken: chunked.fault().is_some() }
}

fn read_chunked(body: &[u8]) -> Taken {
    let taken = read_in_pieces([body]);
    assert!(taken.done || taken.broken || taken.bytes == body.len(), "{taken:?}");
    if taken.done {
        decode_plainly(&body[..taken.bytes]);
    }
    taken
}

/// Decodes a whole chunked body by lines; panics where it is not one.
fn decode_plainly(mut body: &[u8]) {
    loop {
        let end = body.windows(2).position(|pair| pair == b"\r\n").expect("a size line");
        let line = std::str::from_utf8(&body[..end]).expect("a size line is text");
        assert!(!line.contains(['\r', '\n']));
        let digits = line.split(';').next().unwrap().trim_end_matches([' ', '\t']);
        assert!(!digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{line:?}");
        let size = usize::from_str_radix(digits, 16).expect("a size");
        body = &body[end + 2..];
        if size == 0 {
            break;
        }
        assert_eq!(&body[size..size + 2], b"\r\n", "data as long as its size says");
        body = &body[size + 2..];
    }
    while !body.starts_with(b"\r\n") {
        let end = body.windows(2).position(|pair| pair == b"\r\n").expect("a trailer line");
        assert!(body[..end].contains(&b':'));
        body = &body[end + 2..];
    }
    assert_eq!(body, b"\r\n", "nothing behind the last line");
}

/// The pieces without their first `skip` bytes.
fn behind<'a>(pieces: &[&'a [u8]], mut skip: usize) -> Vec<&'a [u8]> {
    let mut left = Vec::new();
    for piece in pieces {
        let skipped = skip.min(piece.len());
        skip -= skipped;
        left.push(&piece[skipped..]);
    }
    left
}
