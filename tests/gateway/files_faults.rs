//! `/v1/files` when something goes wrong: nothing stays behind, and the gateway goes on.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::files::{gateway, put, stored};
use crate::support::client::Request;
use crate::support::form::{Form, request, upload};
use crate::support::gateway::{Gateway, KEY, Setup, hash};
use crate::support::{eventually, within};

const MIB: usize = 1 << 20;

fn routes(tier: &str) -> String {
    format!(
        "version: 1\nproviders:\n  demo:\nmodels:\n  m: demo\ntiers:\n  all: {{ models: m, files: {{ {tier} }} }}\n\
         keys:\n  - {{ name: tester, hash: \"{}\", tier: all }}\n",
        hash(KEY)
    )
}

/// A file whose last bytes never come, as a client that crashes sends it.
async fn begin_upload(gateway: &Gateway, bytes: usize) -> crate::support::client::Client {
    let begun = Form::default().text("purpose", "user_data").so_far();
    let head = request("/v1/files").header("content-length", "100000000").head_bytes();
    let head = String::from_utf8(head).unwrap().replace("content-length: 0\r\n", "");
    let mut client = gateway.connect().await;
    client.send(head.as_bytes()).await.unwrap();
    client.send(&[begun, Form::file_head("a").into_bytes(), vec![7; bytes]].concat()).await.unwrap();
    let coming = || stored(gateway).iter().any(|name| name.ends_with("#1"));
    eventually("bytes on the disk", coming).await;
    client
}

#[tokio::test]
async fn what_is_wrong_with_a_form_is_said_and_nothing_stays() {
    let gateway = gateway().await;
    let form = Form::default;
    let cases = [
        (form().text("purpose", "user_data"), "invalid_value"),
        (form().file("a", b"x"), "invalid_value"),
        (form().text("purpose", "spying").file("a", b"x"), "invalid_value"),
        (form().text("purpose", "batch").text("purpose", "batch").file("a", b"x"), "invalid_value"),
        (form().text("purpose", "batch").file("a", b"x").file("b", b"x"), "invalid_value"),
        (form().text("purpose", "batch").file("a", b"x").text("model", "m"), "invalid_request"),
        (form().text("purpose", "batch").file("", b"x"), "invalid_value"),
        (form().text("purpose", "batch").text("file", "x"), "invalid_value"),
        (form().text("purpose", &"b".repeat(2000)).file("a", b"x"), "invalid_multipart"),
        (form().file("a", b"x").text("purpose", "batch").text("expires_after[seconds]", "3600"), "invalid_value"),
    ];
    for (form, code) in cases {
        let request = form.post("/v1/files");
        let refused = gateway.send(&request).await.expect(400);
        assert_eq!(refused.code(), code, "{}", String::from_utf8_lossy(&request.body));
        assert!(refused.header("x-request-id").is_some());
    }
    let cut = form().text("purpose", "batch").file("a", b"x").so_far();
    assert_eq!(gateway.send(&request("/v1/files").body(cut)).await.expect(400).code(), "invalid_multipart");
    eventually("nothing stays", || stored(&gateway).is_empty()).await;
    let accepted = form()
        .file("a", b"x")
        .text("expires_after[anchor]", "created_at")
        .text("expires_after[seconds]", "3600")
        .text("purpose", "batch");
    let file = gateway.send(&accepted.post("/v1/files")).await.expect(200).json();
    assert_eq!(file["expires_at"].as_i64().unwrap() - file["created_at"].as_i64().unwrap(), 3600);
}

#[tokio::test]
async fn an_upload_that_breaks_leaves_nothing() {
    let gateway = gateway().await;
    begin_upload(&gateway, 3 * MIB).await.reset();
    eventually("its bytes are gone", || stored(&gateway).is_empty()).await;
    assert_eq!(gateway.get("/v1/files").await.expect(200).json()["data"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn an_upload_that_a_crash_ended_is_swept_away() {
    let mut gateway = gateway().await;
    let kept = put(&gateway, "user_data", b"kept").await;
    let client = begin_upload(&gateway, 3 * MIB).await;
    gateway.crash();
    drop(client);
    assert_eq!(stored(&gateway).len(), 2);
    gateway.recover().await;
    within(Duration::from_secs(45), "its bytes are gone", || stored(&gateway) == [kept.clone()]).await;
    assert_eq!(gateway.get(&format!("/v1/files/{kept}/content")).await.expect(200).body, b"kept");
}

#[tokio::test]
async fn files_and_keys_have_bounds() {
    let conf = "files: { file_bytes_max: 3MiB }\n".to_owned();
    let tier = "file_bytes_max: 2MiB, key_bytes_max: 5MiB, key_files_max: 4";
    let gateway = Gateway::start_with(Setup { routes: routes(tier), conf, ..Setup::default() }).await;
    // What is announced is refused before a byte is read, what is not when it is over.
    let refused = gateway.send(&upload("user_data", "a", &vec![1; 4 * MIB])).await.expect(413);
    assert_eq!(refused.code(), "request_too_large");
    let refused = gateway.send(&upload("user_data", "a", &vec![1; 2 * MIB + 1])).await.expect(413);
    assert_eq!(refused.code(), "file_too_large");
    let first = put(&gateway, "user_data", &vec![1; 2 * MIB]).await;
    put(&gateway, "user_data", &vec![1; 2 * MIB]).await;
    let refused = gateway.send(&upload("user_data", "a", &vec![1; 2 * MIB])).await.expect(403);
    assert_eq!(refused.code(), "storage_quota_exceeded");
    put(&gateway, "user_data", &vec![1; MIB]).await;
    put(&gateway, "user_data", b"").await;
    gateway.send(&upload("user_data", "a", b"")).await.expect(403);
    gateway.send(&Request { method: "DELETE".into(), ..Request::get(&format!("/v1/files/{first}")) }).await.expect(200);
    put(&gateway, "user_data", &vec![1; 2 * MIB]).await;
    eventually("what was refused is gone", || stored(&gateway).len() == 4).await;
}

/// A file system of this size, unmounted when dropped. Needs root, as the machines that run the tests have it.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(bytes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tmpfs = Self(folder);
        tmpfs.run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]);
        tmpfs
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = Command::new(program).args(arguments).arg(self.path()).status().unwrap();
        assert!(status.success(), "{program} {arguments:?}: this test needs root");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

#[tokio::test]
async fn a_full_or_read_only_disk_is_said_and_survived() {
    let disk = Tmpfs::mount(4 * MIB);
    let conf = format!("files: {}\n", disk.path().display());
    let gateway = Gateway::start_with(Setup { routes: routes(""), conf, ..Setup::default() }).await;
    let count = || std::fs::read_dir(disk.path()).unwrap().count();
    let first = put(&gateway, "user_data", &vec![1; MIB]).await;
    let refused = gateway.send(&upload("user_data", "a", &vec![1; 8 * MIB])).await.expect(507);
    assert_eq!(
        (refused.code(), refused.json()["error"]["type"].clone()),
        ("storage_full".into(), "server_error".into())
    );
    eventually("nothing half-written stays", || count() == 1).await;
    put(&gateway, "user_data", &vec![1; MIB]).await;
    disk.run("mount", &["-o", "remount,ro"]);
    let refused = gateway.send(&upload("user_data", "a", b"x")).await.expect(503);
    assert_eq!(refused.code(), "storage_unavailable");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(gateway.get(&format!("/v1/files/{first}/content")).await.expect(200).body.len(), MIB);
    gateway
        .post("/v1/chat/completions", r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#)
        .await
        .expect(200);
    disk.run("mount", &["-o", "remount,rw"]);
    put(&gateway, "user_data", b"x").await;
    assert!(!gateway.output().contains("panicked"), "{}", gateway.output());
}
