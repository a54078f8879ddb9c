//! `/v1/files`: what is uploaded comes back, to its owner, whole or in part.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::support::client::{Client, Request, Sending};
use crate::support::client_h2::exchange_h2c;
use crate::support::form::{Form, upload};
use crate::support::gateway::{FREE_KEY, Gateway, routes};

const ROUTES: &str = "providers:\n  demo:\nmodels:\n  free-a: demo\n";

pub async fn gateway() -> Gateway {
    Gateway::start(&routes(ROUTES)).await
}

/// The names in the folder of files.
pub fn stored(gateway: &Gateway) -> Vec<String> {
    let folder: PathBuf = gateway.dir.path().join("data/files");
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Uploads for `purpose`; the id.
pub async fn put(gateway: &Gateway, purpose: &str, bytes: &[u8]) -> String {
    let file = gateway.send(&upload(purpose, "a.jsonl", bytes)).await.expect(200).json();
    file["id"].as_str().unwrap().to_owned()
}

fn delete(id: &str) -> Request {
    Request { method: "DELETE".into(), ..Request::get(&format!("/v1/files/{id}")) }
}

fn ids(list: &serde_json::Value) -> Vec<String> {
    list["data"].as_array().unwrap().iter().map(|file| file["id"].as_str().unwrap().to_owned()).collect()
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(length).collect()
}

#[tokio::test]
async fn a_file_lives_from_upload_to_deletion() {
    let gateway = gateway().await;
    let bytes = noise(3_000_000);
    let answer = gateway.send(&upload("user_data", "notes \u{9a6}.txt", &bytes)).await.expect(200);
    assert!(answer.header("x-request-id").is_some());
    let file = answer.json();
    let id = file["id"].as_str().unwrap();
    assert!(id.starts_with("file-") && id.len() >= 29, "{id}");
    assert_eq!(
        (&file["object"], &file["status"], &file["purpose"]),
        (&"file".into(), &"processed".into(), &"user_data".into())
    );
    assert_eq!((&file["bytes"], &file["filename"]), (&3_000_000.into(), &"notes \u{9a6}.txt".into()));
    assert!(file["expires_at"].is_null() && file["created_at"].as_i64().unwrap() > 1_700_000_000);
    assert_eq!(gateway.get(&format!("/v1/files/{id}")).await.expect(200).json(), file);
    let list = gateway.get("/v1/files").await.expect(200).json();
    assert_eq!((&list["object"], &list["data"][0], &list["has_more"]), (&"list".into(), &file, &false.into()));
    let content = gateway.get(&format!("/v1/files/{id}/content")).await.expect(200);
    assert!(content.body == bytes);
    assert_eq!(content.header("content-type"), Some("application/jsonl"));
    assert_eq!(content.header("content-length"), Some("3000000"));
    let disposition = content.header("content-disposition").unwrap();
    assert_eq!(disposition, "attachment; filename=\"notes _.txt\"; filename*=UTF-8''notes%20%E0%A6%A6.txt");
    assert_eq!(stored(&gateway), [id]);
    let deleted = gateway.send(&delete(id)).await.expect(200).json();
    assert_eq!(deleted, serde_json::json!({"id": id, "object": "file", "deleted": true}));
    for target in [format!("/v1/files/{id}"), format!("/v1/files/{id}/content")] {
        assert_eq!(gateway.get(&target).await.expect(404).code(), "not_found");
    }
    gateway.send(&delete(id)).await.expect(404);
    crate::support::eventually("its bytes are gone", || stored(&gateway).is_empty()).await;
}

#[tokio::test]
async fn uploads_come_in_every_framing() {
    let gateway = gateway().await;
    let bytes = noise(300_000);
    let request = upload("user_data", "a.bin", &bytes);
    let mut found = Vec::new();
    for sending in [Sending::Length, Sending::Chunked(1_000), Sending::Chunked(100_000)] {
        found.push(gateway.send(&request.clone().sending(sending)).await.expect(200).json());
    }
    found.push(exchange_h2c(gateway.addr, &request).await.expect(200).json());
    for file in &found {
        let target = format!("/v1/files/{}/content", file["id"].as_str().unwrap());
        assert!(gateway.get(&target).await.expect(200).body == bytes);
        assert!(exchange_h2c(gateway.addr, &Request::get(&target)).await.expect(200).body == bytes);
    }
    let empty = put(&gateway, "user_data", b"").await;
    let content = gateway.get(&format!("/v1/files/{empty}/content")).await.expect(200);
    assert_eq!((content.body.len(), content.header("content-length")), (0, Some("0")));
}

#[tokio::test]
async fn expect_continue_is_answered_before_the_body() {
    let gateway = gateway().await;
    let request = upload("user_data", "a.bin", b"abc").header("expect", "100-continue");
    let mut client = gateway.connect().await;
    client.send(&request.head_bytes()).await.unwrap();
    assert_eq!(client.read_head().await.unwrap().status, 100);
    client.send(&request.body_bytes()).await.unwrap();
    client.read().await.unwrap().expect(200);
    // The connection goes on.
    client.exchange(&Request::get("/v1/files")).await.expect(200);
}

#[tokio::test]
async fn lists_are_paged_ordered_and_filtered() {
    let gateway = gateway().await;
    let mut all = Vec::new();
    for index in 0..5 {
        let purpose = if index % 2 == 0 { "batch" } else { "fine-tune" };
        all.push(put(&gateway, purpose, b"{}").await);
    }
    let list = async |query: &str| {
        let list = gateway.get(&format!("/v1/files{query}")).await.expect(200).json();
        (ids(&list), list["has_more"].as_bool().unwrap())
    };
    let newest_first: Vec<String> = all.iter().rev().cloned().collect();
    assert_eq!(list("").await, (newest_first.clone(), false));
    assert_eq!(list("?order=asc").await, (all.clone(), false));
    assert_eq!(list("?limit=2").await, (newest_first[..2].to_vec(), true));
    assert_eq!(list(&format!("?limit=2&after={}", newest_first[1])).await, (newest_first[2..4].to_vec(), true));
    assert_eq!(list(&format!("?limit=2&after={}", newest_first[3])).await, (newest_first[4..].to_vec(), false));
    assert_eq!(list(&format!("?order=asc&limit=3&after={}", all[1])).await, (all[2..].to_vec(), false));
    let batch = [4, 2, 0].map(|index| all[index].clone()).to_vec();
    assert_eq!(list("?purpose=batch").await, (batch, false));
    assert_eq!(list("?purpose=vision").await, (vec![], false));
    for query in ["?limit=0", "?limit=10001", "?order=up", "?after=file-0"] {
        gateway.get(&format!("/v1/files{query}")).await.expect(400);
    }
    let batch = gateway.get(&format!("/v1/files/{}", all[0])).await.json();
    assert_eq!(batch["expires_at"].as_i64().unwrap() - batch["created_at"].as_i64().unwrap(), 30 * 24 * 3600);
}

#[tokio::test]
async fn parts_of_a_file_are_served() {
    let gateway = gateway().await;
    let bytes = noise(700_000);
    let target = format!("/v1/files/{}/content", put(&gateway, "user_data", &bytes).await);
    let whole = gateway.get(&target).await.expect(200);
    let etag = whole.header("etag").unwrap().to_owned();
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let ask = async |fields: &[(&str, &str)]| {
        let request = fields.iter().fold(Request::get(&target), |request, (name, value)| request.header(name, value));
        gateway.send(&request).await
    };
    for (range, expected) in
        [("0-0", 0..1), ("262140-262150", 262_140..262_151), ("-5", 699_995..700_000), ("9-", 9..700_000)]
    {
        let part = ask(&[("range", &format!("bytes={range}"))]).await.expect(206);
        assert!(part.body == bytes[expected.clone()], "{range}");
        let said = format!("bytes {}-{}/700000", expected.start, expected.end - 1);
        assert_eq!(part.header("content-range"), Some(said.as_str()));
    }
    let beyond = ask(&[("range", "bytes=700000-")]).await.expect(416);
    assert_eq!((beyond.header("content-range"), beyond.body.len()), (Some("bytes */700000"), 0));
    assert_eq!(ask(&[("range", "bytes=5-1")]).await.expect(200).body.len(), 700_000);
    let known = ask(&[("if-none-match", &etag)]).await.expect(304);
    assert_eq!((known.body.len(), known.header("etag")), (0, Some(etag.as_str())));
    assert_eq!(ask(&[("if-range", &etag), ("range", "bytes=0-9")]).await.expect(206).body.len(), 10);
    assert_eq!(ask(&[("if-range", "\"other\""), ("range", "bytes=0-9")]).await.expect(200).body.len(), 700_000);
}

#[tokio::test]
async fn a_file_is_its_key_s_alone() {
    let gateway = gateway().await;
    let id = put(&gateway, "user_data", b"secret").await;
    let guest = |request: Request| request.without("authorization").bearer(FREE_KEY);
    for request in [
        Request::get(&format!("/v1/files/{id}")),
        Request::get(&format!("/v1/files/{id}/content")),
        delete(&id),
        // What the data plane says to the service, nobody else can.
        Request::get(&format!("/v1/files/{id}")).header("forge-caller", "{\"key\":\"static:tester\",\"tier\":\"all\"}"),
    ] {
        let refused = gateway.send(&guest(request)).await.expect(404);
        let absent =
            gateway.send(&guest(Request::get("/v1/files/file-0123456789abcdef0123456789abcdef"))).await.expect(404);
        assert_eq!(refused.text(), absent.text(), "what is another's looks like what is not there");
    }
    let list = gateway.send(&guest(Request::get("/v1/files"))).await.expect(200).json();
    assert_eq!((ids(&list), &list["first_id"]), (vec![], &serde_json::Value::Null));
    gateway.send(&guest(Request::get(&format!("/v1/files?after={id}")))).await.expect(400);
    gateway.send(&Request::new("GET", "/v1/files")).await.expect(401);
    gateway.get(&format!("/v1/files/{id}")).await.expect(200);
}

#[tokio::test]
async fn names_are_data() {
    let gateway = gateway().await;
    for name in ["../../../etc/passwd", "..", "/abs", "C:\\\\x", "a%00b", "CON"] {
        let file = gateway.send(&upload("user_data", name, b"x")).await.expect(200).json();
        assert_eq!(file["filename"].as_str().unwrap(), name.replace("\\\\", "\\"));
    }
    assert_eq!(stored(&gateway).len(), 6);
    assert!(stored(&gateway).iter().all(|name| name.starts_with("file-")));
    for target in
        ["/v1/files/..%2f..%2fforge.db", "/v1/files/../forge.db", "/v1/files/a/b/content", "/v1/files/%2e%2e/content"]
    {
        let status = gateway.get(target).await.status;
        assert!(matches!(status, 400 | 404), "{target}: {status}");
    }
}

#[tokio::test]
async fn methods_and_bodies_are_those_of_the_endpoint() {
    let gateway = gateway().await;
    for (method, target, allow) in [
        ("PUT", "/v1/files", "GET, POST"),
        ("POST", "/v1/files/file-1", "GET, DELETE"),
        ("DELETE", "/v1/files/f/content", "GET"),
    ] {
        let answer = gateway.send(&Request { method: method.into(), ..Request::get(target) }).await.expect(405);
        assert_eq!(answer.header("allow"), Some(allow));
    }
    gateway.send(&delete("file-1").body("{}")).await.expect(413);
    assert_eq!(gateway.post("/v1/files", "{}").await.expect(415).code(), "unsupported_media_type");
    let form = Form::default().text("purpose", "user_data").file("a", b"x");
    let compressed = form.post("/v1/files").header("content-encoding", "gzip");
    gateway.send(&compressed).await.expect(415);
}

#[tokio::test]
async fn a_gigabyte_passes_in_constant_memory() {
    const BYTES: usize = 1 << 30;
    const EXTRA_BYTES_MAX: u64 = 32 << 20;
    let conf = "files: { file_bytes_max: 2GiB }\n".to_owned();
    let setup = crate::support::gateway::Setup { routes: routes(ROUTES), conf, ..Default::default() };
    let gateway = Gateway::start_with(setup).await;
    // What is allocated once is no cost of the file.
    let warm = put(&gateway, "user_data", &noise(4 << 20)).await;
    gateway.get(&format!("/v1/files/{warm}/content")).await.expect(200);
    let before = gateway.resident_bytes();
    let piece = noise(1 << 20);
    let (start, end) = (Form::default().text("purpose", "user_data").so_far(), Form::default().end());
    let head = Form::file_head("big.bin");
    let length = start.len() + head.len() + BYTES + 2 + end.len();
    let request = crate::support::form::request("/v1/files").header("content-length", &length.to_string());
    let text = String::from_utf8(request.head_bytes()).unwrap().replace("content-length: 0\r\n", "");
    let mut client = gateway.connect().await;
    client.send(text.as_bytes()).await.unwrap();
    client.send(&[start, head.into_bytes()].concat()).await.unwrap();
    let mut peak = before;
    let mut hash = Sha256::new();
    for index in 0..BYTES / piece.len() {
        client.send(&piece).await.unwrap();
        hash.update(&piece);
        if index % 64 == 0 {
            peak = peak.max(gateway.resident_bytes());
        }
    }
    client.send(&[b"\r\n".to_vec(), end].concat()).await.unwrap();
    let file = client.read().await.unwrap().expect(200).json();
    assert_eq!(file["bytes"], BYTES);
    peak = peak.max(gateway.resident_bytes());
    let (mut taken, mut returned) = (0, Sha256::new());
    let mut client = Client::connect(gateway.addr).await;
    let get = Request::get(&format!("/v1/files/{}/content", file["id"].as_str().unwrap()));
    client.send(&get.wire()).await.unwrap();
    let mut reading = client.read_head().await.unwrap();
    while let Some(piece) = client.next_piece(&mut reading).await.unwrap() {
        taken += piece.len();
        returned.update(&piece);
    }
    peak = peak.max(gateway.resident_bytes());
    assert!(taken == BYTES && returned.finalize() == hash.finalize());
    let extra = peak.saturating_sub(before);
    println!("1 GiB up and down: {} KiB of extra resident memory", extra >> 10);
    assert!(extra <= EXTRA_BYTES_MAX, "{} KiB of extra resident memory", extra >> 10);
}
