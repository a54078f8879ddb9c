//! Forms: tables of bodies, then generated ones against a reader as lenient as any in use.

use forge::error::ApiError;
use forge::proxy::inspect::{BodyFault, FileParts, Inspector};
use proptest::prelude::*;

use crate::lenient_reader::every_reader_agrees;
use crate::reading::{Reading, read};

/// The reading of `body`, which no way to cut it may change.
fn at_every_split(boundary: &str, files: FileParts, body: &[u8]) -> Result<Reading, BodyFault> {
    let shown = body.escape_ascii();
    let read = |chunks: &[&[u8]]| read(Inspector::multipart(boundary, files).expect("a boundary"), chunks);
    let expected = read(&[body]);
    for size in [1, 2, 3, 7] {
        assert_eq!(read(&body.chunks(size).collect::<Vec<_>>()), expected, "in chunks of {size}: {shown}");
    }
    for at in 0..=body.len() {
        let (head, tail) = body.split_at(at);
        assert_eq!(read(&[head, tail]), expected, "split at {at}: {shown}");
    }
    expected
}

/// A part with nothing but a name.
fn field(name: &str, content: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
}

fn file(content: &str) -> String {
    format!(
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\
         Content-Type: audio/mpeg\r\n\r\n{content}\r\n"
    )
}

fn form(parts: &[String]) -> String {
    parts.concat() + "--b--\r\n"
}

#[test]
fn the_model_is_found_before_and_behind_the_file() {
    let decoys = "ID3\0\r\n--\r\n--c\r\n-\r--\r\nx--b\r\n--\u{20}b\n\nContent-Disposition: form-data; name=\"model\"\r\n\r\ndecoy";
    for parts in [
        [field("model", "whisper-1"), file(decoys), field("stream", "true")],
        [file(decoys), field("stream", "true"), field("model", "whisper-1")],
        [field("stream", "true"), field("model", "whisper-1"), file("")],
    ] {
        let body = form(&parts);
        for body in [body.as_str(), body.trim_end(), &format!("{body}\r\n")] {
            let reading = at_every_split("b", FileParts::One, body.as_bytes()).unwrap();
            let (name, span) = reading.model.unwrap();
            assert_eq!((name.as_str(), reading.stream), ("whisper-1", Some(true)));
            assert_eq!(&body[span.start as usize..span.end as usize], "whisper-1");
        }
    }
}

#[test]
fn forms_without_a_model_are_read_too() {
    for body in ["--b--".to_owned(), form(&[field("prompt", "model"), field("image[]", "x"), field("image[]", "y")])] {
        let reading = at_every_split("b", FileParts::Any, body.as_bytes()).unwrap();
        assert_eq!((reading.model, reading.stream), (None, None));
    }
}

#[test]
fn a_splice_yields_the_same_form_with_the_other_model() {
    for (parts, expected) in [
        (vec![file("x"), field("model", "a")], form(&[file("x"), field("model", "up")])),
        (vec![file("x")], form(&[field("model", "up"), file("x")])),
        (vec![], form(&[field("model", "up")])),
        (vec![field("model", "up")], form(&[field("model", "up")])),
    ] {
        let mut body = form(&parts).into_bytes();
        if let Some((at, with)) = at_every_split("b", FileParts::Any, &body).unwrap().spliced {
            body.splice(at.start as usize..at.end as usize, with);
        }
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }
}

#[test]
fn faults_of_the_framing() {
    let many = form(&vec![field("x", ""); 101]);
    assert!(at_every_split("b", FileParts::Any, form(&vec![field("x", ""); 100]).as_bytes()).is_ok());
    let head = |bytes: usize| {
        let head = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\nX: ";
        format!("{head}{}\r\n\r\n\r\n--b--", "x".repeat(bytes - (head.len() - 5) - 4))
    };
    assert!(at_every_split("b", FileParts::Any, head(8192).as_bytes()).is_ok());
    let opened = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n";
    for (body, message) in [
        (String::new(), "closing boundary is missing"),
        ("--".into(), "closing boundary is missing"),
        ("\r\n--b--".into(), "must begin with"),
        ("preamble\r\n--b--".into(), "must begin with"),
        ("--c--".into(), "must begin with"),
        ("--b".into(), "closing boundary is missing"),
        ("--b-".into(), "closing boundary is missing"),
        ("--b--\r".into(), "closing boundary is missing"),
        ("--b--\n".into(), "nothing may follow"),
        ("--b-- \r\n".into(), "nothing may follow"),
        ("--b--\r\n\r".into(), "closing boundary is missing"),
        (form(&[]) + "epilogue", "nothing may follow"),
        (form(&[]) + &form(&[field("model", "b")]), "nothing may follow"),
        ("--bc--".into(), "followed by CRLF"),
        ("--b\n".into(), "followed by CRLF"),
        ("--b \r\n".into(), "followed by CRLF"),
        ("--b-\r\n".into(), "followed by CRLF"),
        (format!("{opened}x"), "closing boundary is missing"),
        (format!("{opened}x\r\n--b"), "closing boundary is missing"),
        (format!("{opened}x\r\n--bX\r\n--b--"), "followed by CRLF"),
        (format!("{opened}x\r\n--b \t\r\n--b--"), "followed by CRLF"),
        (format!("{opened}x\n--b--"), "preceded by CRLF"),
        (format!("{opened}x\r--b--"), "preceded by CRLF"),
        (format!("{opened}--b--"), "preceded by CRLF"),
        (format!("{opened}\n--b--"), "preceded by CRLF"),
        (many, "more than 100 parts"),
        (head(8193), "longer than 8192"),
        ("--b\r\n\r\nx\r\n--b--".into(), "no Content-Disposition"),
        ("--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--".into(), "no Content-Disposition"),
        (form(&[field("a", "x")]).replace("name=", "name ="), "malformed or ambiguous"),
        (form(&[field("a", "x")]).replace("\r\n\r\nx", "\r\nContent-Length: 2\r\n\r\nx"), "Content-Length is wrong"),
    ] {
        let fault = at_every_split("b", FileParts::Any, body.as_bytes()).expect_err(&body);
        assert!(fault.to_string().contains(message), "{body:?}: {fault}");
        assert_eq!(ApiError::from(fault).code, "invalid_multipart");
    }
    let sized = form(&[field("a", "x")]).replace("\r\n\r\nx", "\r\nContent-Length: 1\r\n\r\nx");
    assert!(at_every_split("b", FileParts::Any, sized.as_bytes()).is_ok());
}

#[test]
fn faults_of_the_fields() {
    let model = || field("model", "a");
    let with_header = |header: &str| model().replace("\r\n\r\n", &format!("\r\n{header}\r\n\r\n"));
    for (parts, param, message) in [
        (vec![model(), model()], "model", "more than once"),
        (vec![field("Model", "a")], "model", "the name as 'model'"),
        (vec![field(" model", "a")], "model", "the name as 'model'"),
        (vec![field("model[]", "a")], "model", "the name as 'model'"),
        (vec![field("model", "")], "model", "1 to 256 bytes"),
        (vec![field("model", &"m".repeat(257))], "model", "1 to 256 bytes"),
        (vec![field("model", "a\r\n")], "model", "control characters"),
        (vec![field("model", "a\0")], "model", "control characters"),
        (vec![model().replace("\"model\"", "\"model\"; filename=\"a\"")], "model", "not a file"),
        (vec![model().replace("\"model\"", "\"model\"; filename*=utf-8''a")], "model", "not a file"),
        (vec![with_header("Content-Type: text/plain; charset=utf-16")], "model", "plain text in UTF-8"),
        (
            vec![with_header("Content-Type: text/plain; charset=iso-8859-1").replace("a\r\n", "é\r\n")],
            "model",
            "plain text",
        ),
        (vec![with_header("Content-Type: application/json")], "model", "plain text in UTF-8"),
        (vec![field("stream", "true"), field("stream", "true")], "stream", "more than once"),
        (vec![field("stream", "True")], "stream", "true or false"),
        (vec![field("stream", "")], "stream", "true or false"),
        (vec![file("x"), file("y")], "file", "more than once"),
        (vec![model()], "file", "missing"),
    ] {
        let body = form(&parts);
        let fault = at_every_split("b", FileParts::One, body.as_bytes()).expect_err(&body);
        assert!(fault.to_string().contains(message), "{body:?}: {fault}");
        let error = ApiError::from(fault);
        assert_eq!((error.status, error.param), (400, Some(param)), "{body:?}");
    }
    let mut body = form(&[field("model", "a?")]).into_bytes();
    let at = body.iter().position(|&byte| byte == b'?').unwrap();
    body[at] = 0xff;
    let fault = at_every_split("b", FileParts::Any, &body).unwrap_err();
    assert!(fault.to_string().contains("must be UTF-8"), "{fault}");
    assert!(at_every_split("b", FileParts::Any, form(&[field("model", &"m".repeat(256))]).as_bytes()).is_ok());
    let latin = form(&[with_header("Content-Type: text/plain; charset=ISO-8859-1")]);
    assert!(at_every_split("b", FileParts::Any, latin.as_bytes()).unwrap().model.is_some());
    assert!(at_every_split("b", FileParts::Any, form(&[field("_charset_", "utf-16")]).as_bytes()).is_err());
}

/// Pieces of content and of damage.
const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "--",
    "-",
    "--b",
    "--b--",
    "\r\n--b",
    "\n--b",
    "\r--b",
    "\r\n--b\r\n",
    "\r\n--b--\r\n",
    "\r\n--bX",
    "b",
    "Content-Disposition: form-data; name=\"model\"\r\n\r\nx",
    "\r\n\r\n",
    "name=\"model\"",
    "; name=model",
    "\"",
    "\\",
    "\0",
    "model",
    "filename=\"",
    ";",
    "\t",
    " ",
    "Content-Length: 3\r\n",
    ":",
    "text",
];

const NAMES: &[&str] = &["model", "stream", "file", "prompt", "image[]", "Model", "নাম", "model ", ""];

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => proptest::collection::vec(any::<u8>(), 0..40),
        2 => Just(b"true".to_vec()),
        1 => proptest::collection::vec(proptest::sample::select(PIECES), 0..5).prop_map(|p| p.concat().into_bytes()),
    ]
}

/// A form of parts whose names and contents may be anything, with this boundary.
fn forms() -> impl Strategy<Value = (String, Vec<u8>)> {
    let part = (proptest::sample::select(NAMES), 0..4, content());
    let boundary = proptest::sample::select(vec!["b", "-b", "--", "b b", "----WebKitFormBoundary7MA4YWxkTrZu0gW"]);
    (boundary, proptest::collection::vec(part, 0..5)).prop_map(|(boundary, parts)| {
        let mut body = Vec::new();
        for (name, style, content) in parts {
            let head = match style {
                0 => format!("Content-Disposition: form-data; name=\"{name}\""),
                1 => format!("content-disposition:form-data;name={name}\r\nContent-Type: text/plain"),
                2 => format!("X-A: b\r\nContent-Disposition: Form-Data; filename=\"a;b\"; Name=\"{name}\""),
                _ => format!("Content-Disposition: form-data; name=\"{name}\"\r\nContent-Length: {}", content.len()),
            };
            body.extend_from_slice(format!("--{boundary}\r\n{head}\r\n\r\n").as_bytes());
            body.extend_from_slice(&content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        (boundary.to_owned(), body)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn forms_read_as_they_were_written(model in "[!-~]{1,40}", stream in any::<bool>(), data in any::<Vec<u8>>(), last in any::<bool>()) {
        let mut upload = file("").into_bytes();
        let at = upload.len() - 2;
        upload.splice(at..at, data.iter().copied());
        let fields = field("model", &model) + &field("stream", &stream.to_string());
        let body = match last {
            true => [upload.as_slice(), fields.as_bytes(), b"--b--\r\n"].concat(),
            false => [fields.as_bytes(), upload.as_slice(), b"--b--\r\n"].concat(),
        };
        prop_assume!(!data.windows(3).any(|three| three == b"--b") && !model.starts_with("--b"));
        let reading = at_every_split("b", FileParts::One, &body).unwrap();
        prop_assert_eq!(reading.stream, Some(stream));
        prop_assert_eq!(reading.model.as_ref().map(|(name, _)| name.as_str()), Some(model.as_str()));
        every_reader_agrees("b", &body, &reading);
    }

    #[test]
    fn no_reader_sees_another_model((boundary, body) in forms()) {
        if let Ok(reading) = at_every_split(&boundary, FileParts::Any, &body) {
            every_reader_agrees(&boundary, &body, &reading);
        }
    }

    #[test]
    fn no_reader_sees_another_model_in_a_damaged_form(
        (boundary, body) in forms(),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), 0..3, proptest::sample::select(PIECES)), 1..4),
    ) {
        let mut body = body;
        for (at, what, piece) in edits {
            let at = at.index(body.len() + 1);
            match what {
                0 => drop(body.splice(at..at, piece.bytes())),
                1 => drop(body.splice(at..usize::min(at + piece.len(), body.len()), piece.bytes())),
                _ => drop(body.drain(at..usize::min(at + piece.len(), body.len()))),
            }
        }
        if let Ok(reading) = at_every_split(&boundary, FileParts::Any, &body) {
            every_reader_agrees(&boundary, &body, &reading);
        }
    }
}
