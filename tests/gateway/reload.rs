//! routes.yaml changes while requests run.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use crate::support::client::Request;
use crate::support::gateway::{Gateway, KEY, Setup, hash, keys, routes};
use crate::support::upstream::{Gate, Reply, Step, Upstream};
use crate::support::{PATIENCE, eventually};
use crate::world::{CHAT, chat, provider};

/// Routes whose one model is called `name`.
fn naming(port: u16, name: &str) -> String {
    routes(&format!("providers:\n{}models:\n  steady: up/x\n  {name}: up/x\n", provider("up", "openai", port)))
}

async fn serves(gateway: &Gateway, model: &str) -> bool {
    gateway.post(CHAT, chat(model)).await.status == 200
}

async fn comes_to_serve(gateway: &Gateway, model: &str) {
    let start = Instant::now();
    while !serves(gateway, model).await {
        assert!(start.elapsed() < PATIENCE, "{model} is not served:\n{}", gateway.output());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn write_and_rename(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(&fresh, path).unwrap();
}

/// Swaps a directory of files as Kubernetes does: `routes.yaml` -> `..data/routes.yaml`, `..data` -> a directory.
fn swap_symlink(path: &Path, generation: usize, text: &str) {
    let dir = path.parent().unwrap();
    let data = dir.join(format!("..generation-{generation}"));
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("routes.yaml"), text).unwrap();
    symlink(&data, dir.join("..data_tmp")).unwrap();
    std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    if !path.is_symlink() {
        std::fs::remove_file(path).unwrap();
        symlink("..data/routes.yaml", path).unwrap();
    }
    if generation > 0 {
        std::fs::remove_dir_all(dir.join(format!("..generation-{}", generation - 1))).unwrap();
    }
}

#[tokio::test]
async fn every_way_of_writing_the_file_is_noticed_and_no_request_fails() {
    let upstream = Upstream::start().await;
    let gateway = Arc::new(Gateway::start(&naming(upstream.port(), "model-0")).await);
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4).map(|_| tokio::spawn(keep_asking(gateway.clone(), stop.clone()))).collect();
    let path = gateway.routes_path();
    comes_to_serve(&gateway, "model-0").await;

    let text = |name: &str| naming(upstream.port(), name);
    for round in 0..3 {
        write_and_rename(&path, &text(&format!("renamed-{round}")));
        comes_to_serve(&gateway, &format!("renamed-{round}")).await;
        std::fs::write(&path, text(&format!("in-place-{round}"))).unwrap();
        comes_to_serve(&gateway, &format!("in-place-{round}")).await;
        assert!(!serves(&gateway, &format!("renamed-{round}")).await, "the old name is gone");
    }
    for generation in 0..4 {
        swap_symlink(&path, generation, &text(&format!("swapped-{generation}")));
        comes_to_serve(&gateway, &format!("swapped-{generation}")).await;
    }
    stop.store(true, Relaxed);
    let mut asked = 0;
    for task in load {
        asked += task.await.expect("no request fails");
    }
    assert!(asked > 20, "only {asked} requests ran");
    assert!(gateway.metric("forge_config_reloads_total", &["result=\"loaded\""]).await >= 11.0);
}

/// Asks for the model every file has, on a connection that is kept; panics on anything but 200.
async fn keep_asking(gateway: Arc<Gateway>, stop: Arc<AtomicBool>) -> usize {
    let mut client = gateway.connect().await;
    let mut asked = 0;
    while !stop.load(Relaxed) {
        let answer = client.exchange(&Request::post(CHAT, chat("steady"))).await.expect(200);
        assert_ne!(answer.header("connection"), Some("close"), "the connection is kept");
        asked += 1;
    }
    asked
}

#[tokio::test]
async fn sighup_reads_the_file_and_its_secrets_again() {
    let upstream = Upstream::start().await;
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("key");
    std::fs::write(&secret, "old-secret\n").unwrap();
    let line = format!(
        "  up: {{ dialect: openai, url: \"http://{}/v1\", key: \"file:{}\" }}\n",
        upstream.addr,
        secret.display()
    );
    let gateway = Gateway::start(&routes(&format!("providers:\n{line}models:\n  m: up\n"))).await;
    gateway.post(CHAT, chat("m")).await.expect(200);
    assert_eq!(upstream.last().header("authorization"), Some("Bearer old-secret"));
    std::fs::write(&secret, "new-secret\n").unwrap();
    gateway.signal("HUP");
    let start = Instant::now();
    while upstream.last().header("authorization") != Some("Bearer new-secret") {
        assert!(start.elapsed() < PATIENCE, "the secret is not read again");
        gateway.post(CHAT, chat("m")).await.expect(200);
    }
}

#[tokio::test]
async fn a_broken_file_keeps_the_old_routes_and_says_so() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&naming(upstream.port(), "model-0")).await;
    let good = naming(upstream.port(), "model-1");
    let broken = [
        good.replace("version: 1", "version: 1\nbogus_key: 2"),
        good.replace("up/x", "nowhere/x"),
        good[..good.len() / 2].to_owned(),
        String::new(),
        "{ [ not yaml".to_owned(),
        good.replace("plain:provider", "env:NO_SUCH_VARIABLE_4711_"),
        format!("version: 1\n{}", keys()),
    ];
    for (index, text) in broken.iter().enumerate() {
        let rejected = || async { gateway.metric("forge_config_reloads_total", &["result=\"rejected\""]).await };
        let before = rejected().await;
        write_and_rename(&gateway.routes_path(), text);
        let start = Instant::now();
        while rejected().await <= before {
            assert!(start.elapsed() < PATIENCE, "broken file {index} was not rejected");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(gateway.metric("forge_config_last_reload_ok", &[]).await, 0.0);
        assert!(serves(&gateway, "model-0").await, "the old routes serve on");
        assert!(!serves(&gateway, "model-1").await, "nothing of a broken file is in force");
        assert_eq!(gateway.probe("/readyz").await, Some(200));
    }
    eventually("a log line", || gateway.output().contains("bogus_key") && gateway.output().contains("nowhere")).await;
    assert!(gateway.admin_get("/routes").await.text().contains("faults"));
    write_and_rename(&gateway.routes_path(), &good);
    comes_to_serve(&gateway, "model-1").await;
    assert_eq!(gateway.metric("forge_config_last_reload_ok", &[]).await, 1.0);
}

#[tokio::test]
async fn a_request_in_flight_ends_on_the_routes_it_began_with() {
    let (old, new) = (Upstream::start().await, Upstream::start().await);
    let gate = Gate::new();
    let mut waiting = Reply::error(503);
    waiting.steps.insert(1, Step::Wait(gate.clone()));
    old.script([waiting]);
    let before = format!(
        "providers:\n{}models:\n  m: {{ to: up/x, else: up/old-fallback }}\n",
        provider("up", "openai", old.port())
    );
    let gateway = Gateway::start_with(Setup { routes: routes(&before), ..Setup::default() }).await;
    let request = gateway.post(CHAT, chat("m"));
    let swap = async {
        eventually("the request at the old provider", || old.count() == 1).await;
        let after = format!("providers:\n{}models:\n  other: up/x\n", provider("up", "openai", new.port()));
        write_and_rename(&gateway.routes_path(), &routes(&after));
        comes_to_serve(&gateway, "other").await;
        assert_eq!(gateway.post(CHAT, chat("m")).await.status, 404, "gone for new requests");
        gate.open(1);
    };
    let (answer, ()) = tokio::join!(request, swap);
    answer.expect(200);
    assert_eq!(old.last().text(), chat("old-fallback"), "the fallback of the old file");
    assert_eq!(new.received().iter().filter(|received| !received.text().contains("\"x\"")).count(), 0);
}

#[tokio::test]
async fn a_key_taken_away_is_refused_on_open_connections_too() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&naming(upstream.port(), "model-0")).await;
    let mut client = gateway.connect().await;
    client.exchange(&Request::post(CHAT, chat("model-0"))).await.expect(200);
    let without = naming(upstream.port(), "model-1").replace(&hash(KEY), &hash("sk-another"));
    write_and_rename(&gateway.routes_path(), &without);
    let start = Instant::now();
    while client.exchange(&Request::get("/v1/models")).await.status == 200 {
        assert!(start.elapsed() < PATIENCE, "still admitted");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    client.exchange(&Request::post(CHAT, chat("steady"))).await.expect(401);
    let other = Request::post(CHAT, chat("steady")).without("authorization").bearer("sk-another");
    client.exchange(&other).await.expect(200);
}

#[tokio::test]
async fn a_gateway_does_not_start_on_a_broken_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("routes.yaml");
    std::fs::write(&path, "version: 1\nproviders: {}\nmodels:\n  m: nowhere/x\nbogus_key: 1\n").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_forge")).arg("check").arg(&path).output().unwrap();
    assert!(!output.status.success());
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for word in ["bogus_key", "nowhere", "routes.yaml"] {
        assert!(text.contains(word), "{word} is not mentioned: {text}");
    }
}
