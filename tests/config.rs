//! routes.yaml from outside: fixtures with the faults they must yield, and what good ones mean.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use forge::config::{Loaded, Surroundings, check};

/// The files that fixtures refer to.
static FILES: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["vllm.internal".to_owned()]).unwrap();
    write("secret.txt", "sk-from-file\n");
    write("blank.txt", "\n");
    write("ca.pem", &made.cert.pem());
    write("client.pem", &made.cert.pem());
    write("client.key", &made.signing_key.serialize_pem());
    write("broken.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    dir
});

fn around() -> Surroundings {
    Surroundings {
        base_dir: FILES.path().to_owned(),
        env: Arc::new(|name| match name {
            "SET" => Some("sk-from-env".to_owned()),
            "EMPTY" => Some(String::new()),
            "CRLF" => Some("a\r\nb".to_owned()),
            _ => None,
        }),
        demo: Arc::new(|| Ok(SocketAddr::from(([127, 0, 0, 1], 4711)))),
        demo_key_sha256: [7; 32],
        generation: 3,
        now_unix: 1_767_225_600,
    }
}

fn fixtures(kind: &str) -> Vec<(PathBuf, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config").join(kind);
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(!files.is_empty());
    files.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// Each bad file stands beside a `.faults` file with exactly what is said about it.
/// `FORGE_ACCEPT=1` writes them anew, to be read as a diff.
#[test]
fn bad_files_yield_exactly_their_faults() {
    for (path, text) in fixtures("bad") {
        let faults = check(&text, "routes.yaml", &around()).expect_err(&path.display().to_string()).to_string();
        let beside = path.with_extension("faults");
        if std::env::var_os("FORGE_ACCEPT").is_some() {
            std::fs::write(&beside, format!("{faults}\n")).unwrap();
        }
        let expected = std::fs::read_to_string(&beside).unwrap_or_default();
        assert_eq!(faults.trim_end(), expected.trim_end(), "{}", path.display());
    }
}

#[test]
fn good_files_load() {
    for (path, text) in fixtures("good") {
        let loaded = check(&text, "routes.yaml", &around());
        assert!(loaded.is_ok(), "{}:\n{}", path.display(), loaded.unwrap_err());
    }
}

fn shipped() -> Loaded {
    check(forge::config::EMBEDDED_ROUTES, "routes.yaml", &around()).unwrap()
}

#[test]
fn the_shipped_file_serves_every_model_the_reference_names() {
    let Loaded { snapshot, warnings, .. } = shipped();
    assert!(warnings.is_empty(), "{warnings:?}");
    for model in [
        "priyo-llama",
        "priyo-qwen",
        "priyo-embed",
        "claude-sonnet-4-6",
        "gpt-5",
        "omni-moderation-latest",
        "tts-1",
        "whisper-1",
        "dall-e-3",
        "dall-e-2",
        "gpt-image-1",
        "rerank-english-v3.0",
    ] {
        assert!(snapshot.models.find(model).is_some(), "{model}");
    }
    for row in &forge::endpoint::ENDPOINTS {
        let default = row.default_model.map(|model| snapshot.models.find(model).is_some());
        assert_ne!(default, Some(false), "{}", row.name);
    }
    let key = &snapshot.keys[&[7; 32]];
    assert_eq!(snapshot.generated_key.as_deref(), Some("demo"));
    assert!(key.may_call("gpt-5") && snapshot.tiers["free"].models[0].matches("priyo-llama"));
    assert_eq!((snapshot.generation, snapshot.loaded_unix), (3, 1_767_225_600));
    assert_eq!(snapshot.providers[0].origins[0].port, 4711);
}
