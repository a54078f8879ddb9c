//! Hot reload on real files: the ways editors, `kubectl` and configuration tools write.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use forge::config::{EMBEDDED_ROUTES, First, Live, ReloadStatus, Surroundings, Watch, check, load};

/// Far above the debounce, far below the slow poll: what passes was seen by an event.
const SOON: Duration = Duration::from_secs(5);

fn routes(model: &str) -> String {
    format!(
        "version: 1\nproviders: {{ a: {{ dialect: openai, url: http://a, key: file:key }} }}\nmodels: {{ {model}: a }}\n"
    )
}

fn around() -> Surroundings {
    Surroundings { demo: Arc::new(|| Ok(SocketAddr::from(([127, 0, 0, 1], 1)))), ..Surroundings::offline() }
}

struct Rig {
    dir: tempfile::TempDir,
    live: Arc<Live>,
    watch: Watch,
    tries: Receiver<ReloadStatus>,
}

impl Rig {
    /// `prepare` lays the files out and says where routes.yaml is.
    fn new(prepare: impl FnOnce(&Path) -> PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = prepare(dir.path());
        let first = First::new(load(&path, &around()).unwrap());
        let live = Arc::clone(&first.live);
        let (sender, tries) = mpsc::channel();
        let watch = Watch::start(path, around(), first, move |status| sender.send(status.clone()).unwrap()).unwrap();
        Self { dir, live, watch, tries }
    }

    fn plain() -> Self {
        Self::new(|dir| {
            fs::write(dir.join("key"), "one").unwrap();
            fs::write(dir.join("routes.yaml"), routes("first")).unwrap();
            dir.join("routes.yaml")
        })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn next(&self) -> ReloadStatus {
        self.tries.recv_timeout(SOON).expect("a change that nobody noticed")
    }

    fn serves(&self, model: &str) -> bool {
        self.live.load().models.find(model).is_some()
    }

    fn fingerprint(&self) -> u64 {
        self.live.load().providers[0].keys[0].fingerprint
    }
}

#[test]
fn in_place_writes_are_seen() {
    let rig = Rig::plain();
    fs::write(rig.at("routes.yaml"), routes("second")).unwrap();
    let status = rig.next();
    assert!(status.outcome.is_ok() && status.generation == 2 && rig.serves("second") && !rig.serves("first"));
    assert_eq!(rig.live.load().generation, 2);
}

#[test]
fn a_rename_over_the_file_is_seen_again_and_again() {
    let rig = Rig::plain();
    for round in 0..3 {
        let model = format!("round-{round}");
        fs::write(rig.at(".routes.tmp"), routes(&model)).unwrap();
        fs::rename(rig.at(".routes.tmp"), rig.at("routes.yaml")).unwrap();
        assert!(rig.next().outcome.is_ok() && rig.serves(&model), "{model}");
    }
}

/// routes.yaml -> ..data/routes.yaml, ..data -> ..1; an update swaps ..data to ..2 and removes ..1.
#[test]
fn the_symlink_swap_of_kubernetes_is_seen() {
    let rig = Rig::new(|dir| {
        let mount = dir.join("mount");
        fs::create_dir_all(mount.join("..1")).unwrap();
        fs::create_dir_all(dir.join("etc")).unwrap();
        fs::write(mount.join("..1/routes.yaml"), routes("first").replace("file:key", "plain:k")).unwrap();
        symlink("..1", mount.join("..data")).unwrap();
        symlink("..data/routes.yaml", mount.join("routes.yaml")).unwrap();
        symlink(mount.join("routes.yaml"), dir.join("etc/routes.yaml")).unwrap();
        dir.join("etc/routes.yaml")
    });
    for (old, new) in [("..1", "..2"), ("..2", "..3")] {
        let mount = rig.at("mount");
        fs::create_dir(mount.join(new)).unwrap();
        fs::write(mount.join(new).join("routes.yaml"), routes(&format!("m{new}")).replace("file:key", "plain:k"))
            .unwrap();
        symlink(new, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        fs::remove_dir_all(mount.join(old)).unwrap();
        assert!(rig.next().outcome.is_ok() && rig.serves(&format!("m{new}")), "{new}");
    }
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let rig = Rig::plain();
    fs::write(rig.at("routes.yaml"), "version: 1\nprovidres: {}\n").unwrap();
    let status = rig.next();
    let why = status.outcome.unwrap_err().to_string();
    assert!(why.contains("routes.yaml:2: providres: unknown key; did you mean 'providers'?"), "{why}");
    assert_eq!((status.generation, status.taken, status.refused), (1, 1, 1));
    assert!(rig.serves("first") && rig.live.load().generation == 1);
    fs::write(rig.at("routes.yaml"), routes("mended")).unwrap();
    assert!(rig.next().outcome.is_ok() && rig.serves("mended"));
    assert_eq!(rig.watch.status().refused, 1);
}

#[test]
fn a_file_that_is_not_text_is_refused_once() {
    let rig = Rig::plain();
    fs::write(rig.at("routes.yaml"), b"\xff\xfe").unwrap();
    assert!(rig.next().outcome.is_err());
    fs::remove_file(rig.at("routes.yaml")).unwrap();
    assert_eq!(rig.next().refused, 2);
    assert!(rig.serves("first"));
}

#[test]
fn embedded_routes_serve_until_there_is_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("routes.yaml");
    let first = First::new(check(EMBEDDED_ROUTES, "embedded", &around()).unwrap());
    let live = Arc::clone(&first.live);
    let (sender, tries) = mpsc::channel();
    let _watch =
        Watch::start(path.clone(), around(), first, move |status| sender.send(status.clone()).unwrap()).unwrap();
    fs::write(dir.path().join("key"), "k").unwrap();
    fs::write(path, routes("mine")).unwrap();
    assert!(tries.recv_timeout(SOON).unwrap().outcome.is_ok());
    assert!(live.load().models.find("mine").is_some());
}

#[test]
fn secret_files_are_read_again() {
    let rig = Rig::plain();
    let before = rig.fingerprint();
    fs::write(rig.at("key"), "two").unwrap();
    assert!(rig.next().outcome.is_ok());
    assert_ne!(rig.fingerprint(), before);
    fs::remove_file(rig.at("key")).unwrap();
    assert!(rig.next().outcome.is_err());
    fs::write(rig.at("key"), "one").unwrap();
    assert!(rig.next().outcome.is_ok());
    assert_eq!(rig.fingerprint(), before, "the same secret has the same fingerprint");
}

#[test]
fn a_missing_secret_that_comes_later_mends_the_load() {
    let rig = Rig::plain();
    fs::write(rig.at("routes.yaml"), routes("second").replace("file:key", "file:later")).unwrap();
    assert!(rig.next().outcome.is_err() && !rig.serves("second"));
    fs::write(rig.at("later"), "three").unwrap();
    assert!(rig.next().outcome.is_ok() && rig.serves("second"));
}

#[test]
fn reload_loads_without_a_change_and_neighbours_wake_nobody() {
    let rig = Rig::plain();
    fs::write(rig.at("neighbour"), "x").unwrap();
    rig.watch.reload();
    let status = rig.next();
    assert_eq!((status.generation, status.taken), (2, 2));
    assert!(rig.tries.try_recv().is_err());
}

#[test]
fn dropping_the_watch_ends_its_thread() {
    let rig = Rig::plain();
    let Rig { watch, tries, .. } = rig;
    drop(watch);
    // The callback, and with it the sender, lived on that thread.
    assert!(matches!(tries.recv_timeout(SOON), Err(mpsc::RecvTimeoutError::Disconnected)));
}
