//! JSON: a table of bodies, then generated ones against `serde_json`.

use forge::proxy::inspect::{BodyFault, Inspector};
use proptest::prelude::*;

use crate::reading::{Reading, read};
use crate::serde_reader::agrees_with_serde_json;

/// The reading of `body`, which no way to cut it may change.
fn at_every_split(body: &[u8]) -> Result<Reading, BodyFault> {
    let read = |chunks: &[&[u8]]| read(Inspector::json(), chunks);
    let expected = read(&[body]);
    assert_eq!(read(&body.chunks(1).collect::<Vec<_>>()), expected, "byte by byte: {}", String::from_utf8_lossy(body));
    for at in 0..=body.len() {
        let (head, tail) = body.split_at(at);
        assert_eq!(read(&[head, tail]), expected, "split at {at}: {}", String::from_utf8_lossy(body));
    }
    expected
}

fn model_of(body: &str) -> Option<String> {
    at_every_split(body.as_bytes()).unwrap_or_else(|fault| panic!("{body}: {fault}")).model.map(|(name, _)| name)
}

#[test]
fn the_model_is_found_wherever_it_stands() {
    for (body, model) in [
        (r#"{"model":"a"}"#, Some("a")),
        (r#" { "messages" : [ { "model" : "decoy" } ] , "model" : "a/b-1.5" } "#, Some("a/b-1.5")),
        (r#"{"metadata":{"model":"decoy","stream":1},"model":"a"}"#, Some("a")),
        (r#"{"x":["model",{"model":null}],"y":"\"model\":\"decoy\"","model":"a"}"#, Some("a")),
        (r#"{"mod\u0065l":"pri\u0079o-\u09b2\ud83d\ude00\/"}"#, Some("priyo-ল😀/")),
        (r#"{"model":"প্রিয়-লামা"}"#, Some("প্রিয়-লামা")),
        (r#"{"model":"\\\""}"#, Some("\\\"")),
        (r#"{"model":null,"stream":null}"#, None),
        ("{}", None),
        ("{\"modal\":1,\"models\":2,\"mode\":3,\"\":4,\"model \":5,\"streams\":6}\r\n\t ", None),
    ] {
        assert_eq!(model_of(body).as_deref(), model, "{body}");
    }
}

#[test]
fn the_span_is_the_value_with_its_quotes() {
    for body in [r#"{"model":"a"}"#, r#"{"ল":"ল","model"  :  "p\u0072iyo" ,"x":1}"#] {
        let span = at_every_split(body.as_bytes()).unwrap().model.unwrap().1;
        let value = &body[span.start as usize..span.end as usize];
        assert!(value.starts_with('"') && value.ends_with('"') && !value.contains("model"), "{value}");
    }
}

#[test]
fn stream_is_read() {
    for (body, stream) in [
        (r#"{"stream":true}"#, Some(true)),
        (r#"{"stream" : false , "x":{"stream":true}}"#, Some(false)),
        (r#"{"stream":null}"#, None),
        (r#"{"stream_options":{"stream":"x"}}"#, None),
        (r#"{"str\u0065am":true}"#, Some(true)),
    ] {
        assert_eq!(at_every_split(body.as_bytes()).unwrap().stream, stream, "{body}");
    }
}

#[test]
fn a_splice_yields_the_same_body_with_the_other_model() {
    for (body, expected) in [
        (r#"{"model":"a","n":1.10}"#, r#"{"model":"up","n":1.10}"#),
        (r#"{"n":12345678901234567890, "model" : "\u0061" }"#, r#"{"n":12345678901234567890, "model" : "up" }"#),
        (r#"{"model":null}"#, r#"{"model":"up"}"#),
        (r#" {}"#, r#" {"model":"up"}"#),
        (" {\n}", " {\"model\":\"up\"\n}"),
        (r#"{ "input":"x"}"#, r#"{"model":"up", "input":"x"}"#),
        (r#"{"model":"up"}"#, r#"{"model":"up"}"#),
    ] {
        let mut spliced = body.as_bytes().to_vec();
        if let Some((at, with)) = at_every_split(body.as_bytes()).unwrap().spliced {
            spliced.splice(at.start as usize..at.end as usize, with);
        }
        assert_eq!(String::from_utf8(spliced).unwrap(), expected);
    }
    let mut inspector = Inspector::json();
    inspector.feed(br#"{"model":"a"}"#).unwrap();
    assert_eq!(&inspector.splice("q\"\\\n").unwrap().with[..], br#""q\"\\\n""#);
}

#[test]
fn faults_say_what_and_where() {
    let deep = |levels: usize| format!("{{\"x\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    assert!(at_every_split(deep(128).as_bytes()).is_ok());
    let too_deep = deep(129);
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(257));
    for (body, offset, message) in [
        ("", 0, "empty"),
        ("  ", 2, "incomplete"),
        ("[]", 0, "must be a JSON object"),
        ("null", 0, "must be a JSON object"),
        ("\u{feff}{}", 0, "byte order mark"),
        ("\u{ff5b}{}", 0, "must be a JSON object"),
        ("{", 1, "incomplete"),
        ("{\"model\":\"a\"", 12, "incomplete"),
        ("{} x", 3, "nothing may follow"),
        ("{}{}", 2, "nothing may follow"),
        ("{\"a\":1,}", 7, "a name in quotes"),
        ("{,}", 1, "a name in quotes or '}'"),
        ("{a:1}", 1, "a name in quotes"),
        ("{\"a\" 1}", 5, "':'"),
        ("{\"a\":}", 5, "a value"),
        ("{\"a\":[1,]}", 8, "a value"),
        ("{\"a\":[1}", 7, "',' or ']'"),
        ("{\"a\":{]", 6, "a name in quotes or '}'"),
        ("{\"a\":1]", 6, "',' or '}'"),
        ("{\"a\":'x'}", 5, "a value"),
        ("{\"a\":/**/1}", 5, "a value"),
        ("{\"a\":01}", 6, "',' or '}'"),
        ("{\"a\":-}", 6, "number"),
        ("{\"a\":1.}", 7, "number"),
        ("{\"a\":1e}", 7, "number"),
        ("{\"a\":+1}", 5, "a value"),
        ("{\"a\":NaN}", 5, "a value"),
        ("{\"a\":nul}", 8, "literal"),
        ("{\"a\":tRue}", 6, "literal"),
        ("{\"a\":truee}", 9, "',' or '}'"),
        ("{\"a\":\"\n\"}", 6, "control characters"),
        ("{\"a\":\"\0\"}", 6, "control characters"),
        ("{\"a\":\"\\x41\"}", 7, "escape"),
        ("{\"a\":\"\\u12g4\"}", 10, "escape"),
        ("{\"a\":\"\\u00", 10, "incomplete"),
        ("{\"a\":1\u{a0}}", 6, "',' or '}'"),
        ("{\"a\\ud800\":1}", 9, "surrogate"),
        ("{\"a\\udc00b\":1}", 8, "surrogate"),
        ("{\"a\\ud800\\u0041\":1}", 14, "surrogate"),
        ("{\"model\\u0000\":1}", 1, "NUL"),
        (&too_deep, 132, "deeper than 128"),
        ("{\"model\":\"a\",\"model\":\"a\"}", 13, "'model' is given more than once"),
        ("{\"model\":null,\"mod\\u0065l\":\"a\"}", 14, "'model' is given more than once"),
        ("{\"stream\":true,\"stream\":true}", 15, "'stream' is given more than once"),
        ("{\"Model\":\"a\"}", 1, "the name as 'model'"),
        ("{\"model\":\"a\",\"MODEL\":\"b\"}", 13, "the name as 'model'"),
        ("{\"Stream\":true}", 1, "the name as 'stream'"),
        ("{\"\u{17f}tream\":true}", 1, "the name as 'stream'"),
        ("{\"model\":1}", 9, "'model' must be a string"),
        ("{\"model\":[\"a\"]}", 9, "'model' must be a string"),
        ("{\"model\":true}", 9, "'model' must be a string"),
        ("{\"model\":\"\"}", 9, "1 to 256 bytes"),
        (&long, 9, "1 to 256 bytes"),
        ("{\"model\":\"a\\u0007\"}", 9, "control characters"),
        ("{\"model\":\"\\ud83d\"}", 16, "surrogate"),
        ("{\"stream\":\"true\"}", 10, "true or false"),
        ("{\"stream\":1}", 10, "true or false"),
    ] {
        let fault = at_every_split(body.as_bytes()).expect_err(body);
        let text = fault.to_string();
        assert!(text.contains(message), "{body}: {text}");
        assert_eq!(fault.offset, offset, "{body}: {text}");
    }
}

#[test]
fn bytes_that_are_no_utf8_are_a_fault_where_they_begin() {
    for (body, offset) in [
        (&b"{\"a\":\"\xff\"}"[..], 6),
        (b"{\"a\":\"\xe0\xa6\"}", 6),
        (b"{\"a\":\"\xe0\xa6", 6),
        (b"{\"a\":\"\xc0\xaf\"}", 6),
        (b"{\"a\":\"\xed\xa0\x80\"}", 6),
        (b"{\"a\":\"\xf4\x90\x80\x80\"}", 6),
        (b"{\"a\":\"\xe0\xa6\xac\x80\"}", 9),
        (b"\xff\xfe{\0}\0", 0),
    ] {
        let fault = at_every_split(body).unwrap_err();
        assert!(fault.to_string().contains("UTF-8"), "{fault}");
        assert_eq!(fault.offset, offset, "{fault}");
    }
}

#[test]
fn a_lone_surrogate_passes_where_nothing_is_decided_on_it() {
    assert_eq!(model_of(r#"{"messages":"\ud83d","model":"a","x":{"\udc00":"\ud83dx"}}"#).as_deref(), Some("a"));
}

/// Pieces that generated bodies are made of: tokens, near misses, and what separates them.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    " ",
    "\n",
    "\"",
    "\\",
    "\"model\"",
    "\"stream\"",
    "\"model\":",
    "\"stream\":true",
    "\"mod\\u0065l\"",
    "\"Model\"",
    "\"a\"",
    "\"ল\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\\u0000",
    "\"\\n\"",
    "true",
    "false",
    "null",
    "nul",
    "0",
    "-1",
    "1.5e3",
    "01",
    "1.",
    "-",
    "{}",
    "[]",
    "{\"model\":\"x\"}",
    "\u{feff}",
    "\u{7f}",
    "é",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{0,12}",
        2 => any::<String>(),
        1 => "[ -~\u{980}-\u{9ff}]{60,200}",
        2 => proptest::sample::select(vec!["model", "stream", "Model", "STREAM", "ſtream", "model\0", "mod", ""])
            .prop_map(str::to_owned),
    ]
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        text().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::vec((text(), inner), 0..5)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The text of an object whose names may repeat, written compactly, widely, or in ASCII.
fn object() -> impl Strategy<Value = String> {
    (proptest::collection::vec((text(), value()), 0..6), 0..3).prop_map(|(members, style)| {
        let members: Vec<String> = members
            .iter()
            .map(|(name, value)| {
                let name = serde_json::Value::from(name.as_str());
                match style {
                    0 => format!("{name}:{value}"),
                    _ => format!("\n  {name} : {value:#}\t"),
                }
            })
            .collect();
        let body = format!("{{{}}}", members.join(","));
        if style < 2 {
            return body;
        }
        let mut units = [0; 2];
        body.chars().fold(String::new(), |ascii, c| match c.is_ascii() {
            true => ascii + &c.to_string(),
            false => c.encode_utf16(&mut units).iter().fold(ascii, |ascii, unit| ascii + &format!("\\u{unit:04X}")),
        })
    })
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<proptest::sample::Index>(), 0..3, any::<u8>(), proptest::sample::select(PIECES));
    (object(), proptest::collection::vec(edit, 1..4)).prop_map(|(body, edits)| {
        let mut body = body.into_bytes();
        for (at, what, byte, piece) in edits {
            let at = at.index(body.len() + 1);
            match what {
                0 if at < body.len() => body[at] = byte,
                1 => drop(body.splice(at..at, piece.bytes())),
                _ => body.truncate(at),
            }
        }
        body
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn valid_objects_read_as_serde_json_reads_them(body in object()) {
        at_every_split(body.as_bytes()).ok();
        agrees_with_serde_json(body.as_bytes());
    }

    #[test]
    fn damaged_objects_read_as_serde_json_reads_them(body in mutated()) {
        at_every_split(&body).ok();
        agrees_with_serde_json(&body);
    }

    #[test]
    fn token_soup_reads_as_serde_json_reads_it(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..14)) {
        let body = format!("{{{}}}", pieces.concat());
        at_every_split(body.as_bytes()).ok();
        agrees_with_serde_json(body.as_bytes());
    }
}
