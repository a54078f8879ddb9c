//! Bodies in multipart/form-data: the model before or after the file, everything else untouched.

use crate::support::client::{Request, Sending};
use crate::support::client_h2::exchange_h2c;
use crate::world::World;

const TRANSCRIPTIONS: &str = "/v1/audio/transcriptions";
const EDITS: &str = "/v1/images/edits";

const MODEL: &str = "Content-Disposition: form-data; name=\"model\"\r\n\r\nm";
const FILE_HEAD: &str = "Content-Disposition: form-data; name=\"file\"; \
    filename=\"gr\u{fc}\u{df}e \u{0986}.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n";

/// A part that is a file of 200 KB with bytes that look like boundaries.
fn file() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    bytes[1000..1012].copy_from_slice(b"\r\n--boundar\r");
    bytes[2000..2010].copy_from_slice(b"name=model");
    [FILE_HEAD.as_bytes(), &bytes].concat()
}

fn form(parts: &[&[u8]], boundary: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        body.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        body.extend_from_slice(part);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    body
}

fn upload(target: &str, content_type: &str, body: &[u8]) -> Request {
    Request::post(target, body).without("content-type").header("content-type", content_type)
}

/// The body with the one value of `model` replaced.
fn spliced(body: &[u8], model: &str) -> Vec<u8> {
    let at = body.windows(MODEL.len()).position(|window| window == MODEL.as_bytes()).unwrap() + MODEL.len();
    [&body[..at - 1], model.as_bytes(), &body[at..]].concat()
}

#[tokio::test]
async fn the_model_may_come_before_or_after_the_file() {
    let world = World::start().await;
    let file = file();
    let language: &[u8] = b"content-disposition: form-data; name=language\r\n\r\nbn";
    for parts in
        [[MODEL.as_bytes(), &file, language], [language, &file, MODEL.as_bytes()], [&file, MODEL.as_bytes(), language]]
    {
        let body = form(&parts, "boundary");
        let request = upload(TRANSCRIPTIONS, "multipart/form-data; boundary=boundary", &body);
        for request in [request.clone(), request.clone().sending(Sending::Chunked(7777))] {
            world.gateway.send(&request).await.expect(200);
            let received = world.upstream.last();
            assert!(received.complete && received.body == spliced(&body, "upstream-name"));
            assert_eq!(received.header("content-type"), Some("multipart/form-data; boundary=boundary"));
        }
        exchange_h2c(world.gateway.addr, &request).await.expect(200);
        assert!(world.upstream.last().body == spliced(&body, "upstream-name"));
    }
}

#[tokio::test]
async fn content_types_are_read_as_written() {
    let world = World::start().await;
    let file = file();
    let types = [
        ("multipart/form-data; boundary=\"a b:c\"", "a b:c"),
        ("Multipart/Form-Data; Boundary=----WebKitFormBoundary7MA4YWxk", "----WebKitFormBoundary7MA4YWxk"),
        ("multipart/form-data; charset=utf-8; boundary=x", "x"),
    ];
    for (content_type, boundary) in types {
        let body = form(&[&file, MODEL.as_bytes()], boundary);
        world.gateway.send(&upload(TRANSCRIPTIONS, content_type, &body)).await.expect(200);
        let received = world.upstream.last();
        assert!(received.body == spliced(&body, "upstream-name"), "{content_type}");
        assert_eq!(received.header("content-type"), Some(content_type));
    }
}

#[tokio::test]
async fn images_may_come_several_times() {
    let world = World::start().await;
    let image = b"Content-Disposition: form-data; name=\"image[]\"; filename=\"a.png\"\r\n\r\n\x89PNG";
    let body = form(&[image, image, MODEL.as_bytes(), image], "b");
    world.gateway.send(&upload(EDITS, "multipart/form-data; boundary=b", &body)).await.expect(200);
    assert!(world.upstream.only().body == spliced(&body, "upstream-name"));
}

#[tokio::test]
async fn image_edits_are_taken_in_json_too() {
    let world = World::start().await;
    world.gateway.post(EDITS, r#"{"prompt":"p","model":"m"}"#).await.expect(200);
    assert_eq!(world.upstream.only().text(), r#"{"prompt":"p","model":"upstream-name"}"#);
}

#[tokio::test]
async fn what_is_no_clean_form_is_refused() {
    let world = World::start().await;
    let file = file();
    let model = MODEL.as_bytes();
    let whole = form(&[model, &file], "b");
    let other: &[u8] = b"Content-Disposition: form-data; name=\"model\"\r\n\r\nfree-m";
    let from_file: &[u8] = b"Content-Disposition: form-data; name=\"model\"; filename=\"m\"\r\n\r\nm";
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("two models", form(&[model, &file, other], "b")),
        ("the same model twice", form(&[model, model, &file], "b")),
        ("two files", form(&[model, &file, &file], "b")),
        ("no model", form(&[&file], "b")),
        ("a file as model", form(&[from_file, &file], "b")),
        ("no final boundary", whole[..whole.len() - 7].to_vec()),
        ("nothing", Vec::new()),
        ("another boundary", form(&[model, &file], "c")),
        ("a part without name", form(&[model, b"X-Y: z\r\n\r\nv", &file], "b")),
        ("bytes behind the end", [&whole[..], &form(&[other], "b")].concat()),
        ("a long part header", form(&[model, format!("X-Y: {}\r\n\r\nv", "z".repeat(9000)).as_bytes(), &file], "b")),
        (
            "101 parts",
            form(
                &std::iter::once(model)
                    .chain(std::iter::repeat_n(&b"Content-Disposition: form-data; name=\"x\"\r\n\r\nv"[..], 101))
                    .collect::<Vec<_>>(),
                "b",
            ),
        ),
    ];
    for (what, body) in bodies {
        let request = upload(TRANSCRIPTIONS, "multipart/form-data; boundary=b", &body);
        for request in [request.clone(), request.sending(Sending::Chunked(1000))] {
            let answer = world.gateway.send(&request).await;
            assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        }
        assert!(world.upstream.received().iter().all(|received| !received.complete), "{what}");
    }
}

#[tokio::test]
async fn another_media_type_is_refused() {
    let world = World::start().await;
    let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
    let cases = [
        ("application/json", 415),
        ("text/plain", 415),
        ("multipart/mixed; boundary=b", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        (&long, 400),
    ];
    for (content_type, status) in cases {
        let answer = world.gateway.send(&upload(TRANSCRIPTIONS, content_type, &form(&[MODEL.as_bytes()], "b"))).await;
        assert_eq!(answer.status, status, "{content_type}: {}", answer.text());
    }
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test]
async fn a_default_model_is_put_in_where_the_reference_allows_none() {
    let world = World::start().await;
    let cases = [
        ("/v1/moderations", r#"{"input":"x","n":1.10}"#, "omni-moderation-latest"),
        ("/v1/images/generations", r#"{"prompt":"p","big":9007199254740993}"#, "gpt-image-1"),
        (EDITS, r#"{ "prompt" : "p" }"#, "gpt-image-1"),
    ];
    for (target, body, model) in cases {
        world.gateway.post(target, body).await.expect(200);
        let text = world.upstream.last().text();
        let received: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut expected: serde_json::Value = serde_json::from_str(body).unwrap();
        expected["model"] = model.into();
        assert_eq!(received, expected, "{target}");
        let fields = body.trim_matches(['{', '}', ' ']);
        assert!(text.contains(fields), "the rest is untouched: {text}");
    }
    let image = b"Content-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\r\n\x89PNG";
    for (target, model) in [(EDITS, "gpt-image-1"), ("/v1/images/variations", "dall-e-2")] {
        let body = form(&[image], "b");
        for sending in [Sending::Length, Sending::Chunked(11)] {
            world
                .gateway
                .send(&upload(target, "multipart/form-data; boundary=b", &body).sending(sending))
                .await
                .expect(200);
            let received = world.upstream.last();
            assert!(received.complete && received.faults.is_empty(), "{target}");
            let text = String::from_utf8_lossy(&received.body).into_owned();
            let parts: Vec<&str> = text.split("--b").filter(|part| part.contains("name=\"model\"")).collect();
            assert_eq!(parts.len(), 1, "{target}: {text}");
            assert!(parts[0].trim_end().ends_with(&format!("\r\n\r\n{model}")), "{target}: {text}");
            assert!(text.contains("\u{fffd}PNG\r\n--b") && text.ends_with("--b--\r\n"), "{target}: {text}");
        }
    }
}
