//! `/v1/files` in a bucket: a real S3 server, which checks signatures and speaks multipart.

use std::time::Duration;

use serde_json::json;

use crate::files::put;
use crate::support::client::Request;
use crate::support::form::{Form, request, upload};
use crate::support::gateway::{Gateway, Setup, routes};
use crate::support::s3::S3Server;
use crate::support::{PATIENCE, within};

const MIB: usize = 1 << 20;

async fn gateway(conf: String) -> Gateway {
    let routes = routes("providers:\n  demo:\nmodels:\n  m: demo\n");
    Gateway::start_with(Setup { routes, conf, ..Setup::default() }).await
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

#[tokio::test]
async fn files_live_in_a_bucket() {
    let mut s3 = S3Server::start();
    let gateway = gateway(s3.conf("a/prefix", "encryption: aes256")).await;
    // One request for what fits one part; more of them is a multipart upload.
    for length in [0, 10, 20 * MIB + 5] {
        let bytes = pattern(length);
        let id = put(&gateway, "user_data", &bytes).await;
        let held = s3.held();
        assert_eq!(held, json!({"objects": {format!("a/prefix/{id}"): "AES256"}, "uploads": []}));
        let target = format!("/v1/files/{id}/content");
        assert!(gateway.get(&target).await.expect(200).body == bytes, "{length}");
        if length > 9 * MIB {
            let part = Request::get(&target).header("range", &format!("bytes={}-{}", 8 * MIB - 2, 8 * MIB + 1));
            assert!(gateway.send(&part).await.expect(206).body == bytes[8 * MIB - 2..8 * MIB + 2]);
        }
        gateway
            .send(&Request { method: "DELETE".into(), ..Request::get(&format!("/v1/files/{id}")) })
            .await
            .expect(200);
        within(PATIENCE, "the object is gone", || s3.held()["objects"] == json!({})).await;
    }
    assert_eq!(gateway.access_log().matches("status=5").count(), 0);
}

#[tokio::test]
async fn unfinished_uploads_are_taken_back_after_a_fault_and_after_a_crash() {
    let mut s3 = S3Server::start();
    let mut gateway = gateway(s3.conf("", "file_bytes_max: 12MiB")).await;
    let chunked = upload("user_data", "a", &pattern(12 * MIB + (32 << 10)));
    let refused = gateway.send(&chunked.sending(crate::support::client::Sending::Chunked(MIB))).await.expect(413);
    assert_eq!(refused.code(), "file_too_large");
    within(PATIENCE, "the parts are gone", || s3.held() == json!({"objects": {}, "uploads": []})).await;

    let begun = Form::default().text("purpose", "user_data").so_far();
    let head = request("/v1/files").header("content-length", "12000000").head_bytes();
    let head = String::from_utf8(head).unwrap().replace("content-length: 0\r\n", "");
    let mut client = gateway.connect().await;
    client.send(head.as_bytes()).await.unwrap();
    client.send(&[begun, Form::file_head("a").into_bytes(), pattern(10 * MIB)].concat()).await.unwrap();
    within(PATIENCE, "parts in the bucket", || s3.held()["uploads"].as_array().unwrap().len() == 1).await;
    // The bucket knows the upload a moment before its id is noted in the store; a crash in between is a bucket rule's.
    tokio::time::sleep(Duration::from_secs(2)).await;
    gateway.crash();
    drop(client);
    assert_eq!(s3.held()["uploads"].as_array().unwrap().len(), 1);
    gateway.recover().await;
    let swept = || s3.held() == json!({"objects": {}, "uploads": []});
    within(Duration::from_secs(45), "the sweeper took them back", swept).await;
}

#[tokio::test]
async fn a_bucket_that_refuses_or_is_gone_is_said_and_survived() {
    let mut s3 = S3Server::start();
    let conf = s3.conf("", "").replace("secret_key: \"plain:", "secret_key: \"plain:wrong");
    let refused = gateway(conf).await.send(&upload("user_data", "a", b"x")).await.expect(503);
    assert_eq!(refused.code(), "storage_unavailable");
    assert!(!refused.text().contains("forge-test"), "{}", refused.text());

    let gateway = gateway(s3.conf("", "")).await;
    let id = put(&gateway, "user_data", b"x").await;
    s3.stop();
    gateway.get(&format!("/v1/files/{id}/content")).await.expect(503);
    gateway.send(&upload("user_data", "a", b"x")).await.expect(503);
    gateway.get(&format!("/v1/files/{id}")).await.expect(200);
    gateway
        .post("/v1/chat/completions", r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#)
        .await
        .expect(200);
}
