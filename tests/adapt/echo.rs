//! The model's name in answers, and the framing of event streams.

use bytes::Bytes;
use forge::adapt::echo::Echo;
use forge::adapt::sse::{Piece, Splitter};
use proptest::prelude::*;
use serde_json::Value;

use crate::data;

/// What `echo` makes of `input`, cut at these places.
fn spliced(mut echo: Echo, input: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut start = 0;
    for cut in cuts.iter().copied().chain([input.len()]) {
        out.extend(echo.feed(Bytes::copy_from_slice(&input[start..cut])));
        start = cut;
    }
    out.extend(echo.finish());
    out
}

/// Every cut in two, and every byte by itself.
fn assert_spliced(echo: fn(&str) -> Echo, input: &[u8], expected: &[u8]) {
    let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for cut in 0..=input.len() {
        let out = spliced(echo("mine"), input, &[cut]);
        assert_eq!(show(&out), show(expected), "cut at {cut}");
    }
    let out = spliced(echo("mine"), input, &(0..input.len()).collect::<Vec<_>>());
    assert_eq!(show(&out), show(expected), "byte by byte");
}

#[test]
fn json_names() {
    let cases: &[(&str, &str)] = &[
        (r#"{"model":"gpt-5"}"#, r#"{"model":"mine"}"#),
        (r#"{"model":"mine"}"#, r#"{"model":"mine"}"#),
        (r#"{"model":""}"#, r#"{"model":"mine"}"#),
        (
            r#" { "n" : 1.10 , "model" : "a\"b\\" , "x":[{"model":"no"}] } "#,
            r#" { "n" : 1.10 , "model" : "mine" , "x":[{"model":"no"}] } "#,
        ),
        (
            r#"{"a":"\"model\":\"x\"","b":{"model":"x"},"c":["model","x"],"model":"y"}"#,
            r#"{"a":"\"model\":\"x\"","b":{"model":"x"},"c":["model","x"],"model":"mine"}"#,
        ),
        (r#"{"a":[[1,2,{"}]":"]}"}],[]],"e":{},"model":"y"}"#, r#"{"a":[[1,2,{"}]":"]}"}],[]],"e":{},"model":"mine"}"#),
        (
            r#"{"message":{"model":"x"},"response":{"model":"x"},"t":true,"u":null,"v":-1e5,"model":"y"}"#,
            r#"{"message":{"model":"x"},"response":{"model":"x"},"t":true,"u":null,"v":-1e5,"model":"mine"}"#,
        ),
        (
            r#"{"models":"x","mode":"x","modell":"x","amodel":"x"}"#,
            r#"{"models":"x","mode":"x","modell":"x","amodel":"x"}"#,
        ),
        (r#"{"model":"first","model":"second"}"#, r#"{"model":"mine","model":"second"}"#),
        (
            r#"{"id":12345678901234567890,"model":"y"}{"model":"z"}"#,
            r#"{"id":12345678901234567890,"model":"mine"}{"model":"z"}"#,
        ),
    ];
    for (input, expected) in cases {
        assert_spliced(Echo::json, input.as_bytes(), expected.as_bytes());
    }
}

#[test]
fn what_is_no_name_or_no_json_stays() {
    let long = format!(r#"{{"model":"{}","x":1}}"#, "m".repeat(1023));
    let deep = format!("{}{}", r#"{"a":"#.repeat(129), r#""x","model":"y"}"#);
    let cases: &[&str] = &[
        "",
        r#"{"model":null}"#,
        r#"{"model":{"model":"x"}}"#,
        r#"{"model":["x"]}"#,
        r#"[{"model":"x"}]"#,
        r#""model""#,
        r#"{"a":[},"model":"x"}"#,
        r#"{"a":{"b":]},"model":"x"}"#,
        r#"{,"model":"x"}"#,
        r#"{"a" "b","model":"x"}"#,
        r#"{"a":1 2,"model":"x"}"#,
        r#"{"a":,"model":"x"}"#,
        r#"{a:1,"model":"x"}"#,
        r#"{"a":1}"model":"x"}"#,
        "{\"model\":\"a\nb\"}",
        r#"{"model":"unended"#,
        r#"{"model":"unended\"#,
        "<html>{\"model\":\"x\"}",
        &long,
        &deep,
    ];
    for input in cases {
        assert_spliced(Echo::json, input.as_bytes(), input.as_bytes());
    }
}

#[test]
fn event_names() {
    let cases: &[(&str, &str)] = &[
        (
            "data: {\"model\":\"x\"}\n\ndata:{\"model\":\"x\"}\r\n\r\ndata: {\"model\":\"x\"}\r\r",
            "data: {\"model\":\"mine\"}\n\ndata:{\"model\":\"mine\"}\r\n\r\ndata: {\"model\":\"mine\"}\r\r",
        ),
        ("\u{feff}\n\u{feff}data: {\"model\":\"x\"}\n\n", "\u{feff}\n\u{feff}data: {\"model\":\"x\"}\n\n"),
        ("\u{feff}data: {\"model\":\"x\"}\n\n", "\u{feff}data: {\"model\":\"mine\"}\n\n"),
        (
            "data: {\"response\":{\"a\":{\"model\":\"no\"},\"model\":\"x\"},\"model\":\"y\"}\n\n",
            "data: {\"response\":{\"a\":{\"model\":\"no\"},\"model\":\"mine\"},\"model\":\"y\"}\n\n",
        ),
        (
            "data: {\"message\":{\"id\":1},\"other\":{\"model\":\"no\"},\"model\":\"x\"}\n\n",
            "data: {\"message\":{\"id\":1},\"other\":{\"model\":\"no\"},\"model\":\"mine\"}\n\n",
        ),
        (
            "data: {\"a\":\ndata: 1,\ndata: \"model\":\ndata: \"x\"}\n\n",
            "data: {\"a\":\ndata: 1,\ndata: \"model\":\ndata: \"mine\"}\n\n",
        ),
        (
            "event: e\nid: 1\n: {\"model\":\"c\"}\ndata: {\"model\":\"x\"}\nretry: 1\n\n",
            "event: e\nid: 1\n: {\"model\":\"c\"}\ndata: {\"model\":\"mine\"}\nretry: 1\n\n",
        ),
        // Cut inside a name by a line's end, then sound again.
        (
            "data: {\"model\":\"x\ndata: y\"}\n\ndata: {\"model\":\"x\"}\n\n",
            "data: {\"model\":\"x\ndata: y\"}\n\ndata: {\"model\":\"mine\"}\n\n",
        ),
        (
            "data: {\"model\":\"x\n\ndata: {\"model\":\"x\"}\n\n",
            "data: {\"model\":\"x\n\ndata: {\"model\":\"mine\"}\n\n",
        ),
        ("data: [DONE]\n\n", "data: [DONE]\n\n"),
        (
            "dat: {\"model\":\"x\"}\n\ndata {\"model\":\"x\"}\n\n data: {\"model\":\"x\"}\n\n",
            "dat: {\"model\":\"x\"}\n\ndata {\"model\":\"x\"}\n\n data: {\"model\":\"x\"}\n\n",
        ),
        ("{\"model\":\"x\"}", "{\"model\":\"x\"}"),
    ];
    for (input, expected) in cases {
        assert_spliced(Echo::sse, input.as_bytes(), expected.as_bytes());
    }
}

#[test]
fn a_chunk_without_change_is_not_copied() {
    let chunk = Bytes::from_static(b"data: {\"model\":\"mine\",\"x\":1}\n\n");
    assert_eq!(Echo::sse("mine").feed(chunk.clone()).as_ptr(), chunk.as_ptr());
}

#[test]
fn only_a_cut_name_waits() {
    let mut echo = Echo::sse("mine");
    let mut out = |chunk: &'static str| echo.feed(Bytes::from_static(chunk.as_bytes()));
    assert_eq!(out("data: {\"mod"), "data: {\"mod");
    assert_eq!(out("el\":\"g"), "el\":\"");
    assert_eq!(out("pt-5"), "");
    assert_eq!(out("\","), "mine\",");
    assert_eq!(out("\"x\":"), "\"x\":");
}

/// Data of each event, read the plain way: by whole lines.
fn events(stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut splitter, mut rest) = (Splitter::default(), stream);
    let (mut events, mut data) = (Vec::new(), Vec::new());
    while let Some(piece) = splitter.next(&mut rest) {
        match piece {
            Piece::Data(bytes) => data.extend_from_slice(bytes),
            Piece::EventEnd(_) if !data.is_empty() => events.push(std::mem::take(&mut data)),
            Piece::EventEnd(_) | Piece::Other(_) | Piece::LineEnd(_) => {}
        }
    }
    events
}

#[test]
fn events_are_told_apart() {
    let stream = b"\xEF\xBB\xBF: hi\r\rdata:a\ndata:  b\r\n\r\n\n\ndata\nevent: data: x\r\rdata:c";
    assert_eq!(events(stream), [b"a b".to_vec()]);
}

#[test]
fn real_answers() {
    type Form = fn(&str) -> Echo;
    let cases: &[(&str, &str, Form)] = &[
        ("openai_chat", "sse", Echo::sse),
        ("azure_chat", "sse", Echo::sse),
        ("openai_responses", "sse", Echo::sse),
        ("anthropic_messages", "sse", Echo::sse),
        ("crlf_comments", "sse", Echo::sse),
        ("chat", "json", Echo::json),
        ("embeddings", "json", Echo::json),
        ("anthropic_message", "json", Echo::json),
    ];
    for (name, extension, form) in cases {
        let input = data(&format!("echo/{name}.in.{extension}"));
        assert_spliced(*form, &input, &data(&format!("echo/{name}.out.{extension}")));
    }
}

#[test]
fn names_are_json_strings() {
    let out = Echo::json("a\"b\\c\n").feed(Bytes::from_static(b"{\"model\":\"x\"}"));
    assert_eq!(out, r#"{"model":"a\"b\\c\n"}"#);
}

/// A stream of all sorts of things, sound and broken.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop::sample::select(vec![
        "data: ",
        "data:",
        "event: x",
        "id: 1",
        ":",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        "\u{feff}",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"model\":\"x\"",
        "\"model\":",
        "\"model",
        "\"response\":{",
        "\"message\":{",
        "\"",
        "\\",
        "\\\"",
        "null",
        "1.10",
        "হ",
        "{\"model\":\"x\"}\n\n",
    ]);
    prop::collection::vec(parts, 0..24).prop_map(|parts| parts.concat().into_bytes())
}

proptest! {
    #[test]
    fn cuts_change_nothing(stream in streams(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(spliced(Echo::sse("mine"), &stream, &cuts), spliced(Echo::sse("mine"), &stream, &[]));
        prop_assert_eq!(spliced(Echo::json("mine"), &stream, &cuts), spliced(Echo::json("mine"), &stream, &[]));
        prop_assert_eq!(framed(&stream, &cuts), framed(&stream, &[]));
    }

    #[test]
    fn documents_are_changed_in_their_model_only(before in values(), after in values(), model in "\\PC{0,20}") {
        let document = |model: &Value| {
            let mut map = serde_json::Map::new();
            map.insert("a".into(), before.clone());
            map.insert("model".into(), model.clone());
            map.insert("z".into(), after.clone());
            Value::from(map)
        };
        let input = document(&model.into()).to_string();
        let out = spliced(Echo::json("mine"), input.as_bytes(), &[]);
        prop_assert_eq!(String::from_utf8(out).unwrap(), document(&"mine".into()).to_string());
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}|model|[\\\\\"{}\\[\\]]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("model|message|response|\\PC{0,3}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The pieces of a stream with neighbours of a kind joined; a LF behind a CR is of the CR's line end.
fn framed(stream: &[u8], cuts: &[usize]) -> Vec<(u8, Vec<u8>)> {
    let mut splitter = Splitter::default();
    let mut pieces: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut start = 0;
    for cut in cuts.iter().copied().chain([stream.len()]) {
        let mut rest = &stream[start..cut];
        start = cut;
        while let Some(piece) = splitter.next(&mut rest) {
            let kind = match piece {
                Piece::Data(_) => 0,
                Piece::Other(_) => 1,
                Piece::LineEnd(_) => 2,
                Piece::EventEnd(_) => 3,
            };
            match pieces.last_mut() {
                Some((last, bytes)) if *last == kind && kind < 2 => bytes.extend_from_slice(piece.bytes()),
                Some((2 | 3, bytes)) if bytes == b"\r" && piece.bytes() == b"\n" => bytes.push(b'\n'),
                _ => pieces.push((kind, piece.bytes().to_vec())),
            }
        }
    }
    pieces
}
