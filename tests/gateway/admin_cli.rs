//! `forge key`, `holder`, `usage`, `apply`, `admin`: on the store itself, and through a running gateway.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::gateway::{ADMIN_TOKEN, Gateway, Setup, routes};
use crate::world::World;

const ROUTES: &str =
    "providers:\n  up: { dialect: openai, url: 'http://127.0.0.1:9/v1', key: none }\nmodels:\n  m: up\n";

/// A command line, and where it works.
struct Line {
    settings: Vec<String>,
    env: Vec<(&'static str, String)>,
}

impl Line {
    /// On the store of the forge.yaml in this folder.
    fn on_store(dir: &Path) -> Self {
        Self { settings: vec!["--conf".into(), dir.join("forge.yaml").display().to_string()], env: Vec::new() }
    }

    /// Through the admin API of a gateway.
    fn remote(gateway: &Gateway) -> Self {
        let settings = vec!["--admin".into(), format!("http://{}", gateway.admin)];
        Self { settings, env: vec![("FORGE_ADMIN_TOKEN", ADMIN_TOKEN.into())] }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forge"));
        command.args(arguments).args(&self.settings).env_remove("FORGE_ADMIN_URL").env("USER", "tester");
        command.envs(self.env.iter().map(|(name, value)| (name, value))).output().unwrap()
    }

    /// stdout and stderr, after the exit code was checked.
    #[track_caller]
    fn expect(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let output = self.run(arguments);
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
        (out, err)
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.expect(0, &[arguments, &["--json"]].concat()).0).unwrap()
    }
}

/// A folder with settings and routes, and no gateway.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let conf =
        format!("store: sqlite:{}\nroutes: {}\napply: {{ tier: free }}\n", path("forge.db"), path("routes.yaml"));
    std::fs::write(dir.path().join("forge.yaml"), conf).unwrap();
    std::fs::write(dir.path().join("routes.yaml"), routes(ROUTES).replace("[\"free-*\"]", "[\"*\"]")).unwrap();
    dir
}

/// What both ways of working must do alike.
fn lives(line: &Line) {
    let owner = line.json(&["holder", "create", "owner", "--name", "ada", "--email", "ada@acme.example"]);
    let owner = owner["id"].as_str().unwrap();
    let limits = ["--limit", "rpm=20", "--limit", "budget=5 USD/day", "--metadata", "a=b"];
    let create = ["key", "create", "--name", "alice", "--tier", "all", "--owner", owner];
    let (out, err) = line.expect(0, &[&create[..], &limits].concat());
    assert!(out.starts_with("secret:       sk-") && err.contains("shown this once"), "{out}{err}");
    let listed = line.json(&["key", "list", "--owner", owner]);
    let key = &listed[0];
    assert_eq!((&key["limits"]["rpm"], &key["metadata"]["a"]), (&20.into(), &"b".into()));
    let id = key["id"].as_str().unwrap();
    let (table, _) = line.expect(0, &["key", "list"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[1].contains("alice") && lines[1].contains(owner), "{table}");
    let updated = line.json(&["key", "update", id, "--owner", "", "--limit", "", "--expires", "2100-01-01"]);
    assert_eq!((&updated["owner"], &updated["limits"]), (&Value::Null, &serde_json::json!({})));
    assert_eq!(updated["expires_unix_ms"], 4_102_444_800_000_i64);
    let rotated = line.json(&["key", "rotate", id, "--grace", "0s"]);
    assert!(rotated["secret"].as_str().unwrap().starts_with("sk-"));
    let (shown, _) = line.expect(0, &["key", "show", id]);
    assert!(shown.contains("name:         alice") && !shown.contains(rotated["secret"].as_str().unwrap()), "{shown}");
    line.expect(0, &["key", "revoke", id]);
    assert_eq!(line.json(&["key", "list", "--state", "active"]), serde_json::json!([]));
    line.expect(0, &["holder", "delete", "owner", owner]);

    let (_, err) = line.expect(1, &["key", "create", "--name", "x", "--tier", "al"]);
    assert!(err.contains("no tier 'al'") && err.contains("did you mean 'all'?"), "{err}");
    let (_, err) = line.expect(1, &["key", "show", "key_none"]);
    assert!(err.contains("no key of that id"), "{err}");
    line.expect(2, &["key", "create", "--name", "x"]);
    line.expect(2, &["usage", "--period", "week"]);
    let (table, _) = line.expect(0, &["usage", "--by", "model"]);
    assert!(table.starts_with("MODEL  REQUESTS  INPUT"), "{table}");
    let (csv, _) = line.expect(0, &["usage", "--by", "key,model", "--period", "day", "--csv"]);
    assert!(csv.starts_with("period,key,model,requests,"), "{csv}");
}

#[tokio::test]
async fn the_store_itself_is_worked_on() {
    let dir = folder();
    let line = Line::on_store(dir.path());
    lives(&line);
    let log = line.json(&["admin", "audit"]);
    assert!(log.as_array().unwrap().iter().all(|entry| entry["actor"] == "tester" && entry["via"] == "cli"), "{log}");
    let absent = Line { settings: vec!["--conf".into(), "absent.yaml".into()], env: vec![] };
    let (_, err) = absent.expect(1, &["key", "list"]);
    assert!(err.contains("absent.yaml"), "{err}");
    let named =
        Line { settings: vec!["--store".into(), format!("sqlite:{}/forge.db", dir.path().display())], env: vec![] };
    assert_eq!(named.json(&["key", "list"])[0]["name"], "alice");
}

#[tokio::test]
async fn a_running_gateway_is_asked() {
    let world = World::start().await;
    let line = Line::remote(&world.gateway);
    lives(&line);
    let log = line.json(&["admin", "audit"]);
    assert_eq!((&log[0]["actor"], &log[0]["via"]), (&"config:tests".into(), &"admin-api".into()));
    let wrong = Line { env: vec![("FORGE_ADMIN_TOKEN", "adm-wrong-one".into())], ..Line::remote(&world.gateway) };
    let (_, err) = wrong.expect(1, &["key", "list"]);
    assert!(err.contains("not valid") && !err.contains("adm-wrong-one"), "{err}");
    let none = Line { env: vec![("FORGE_ADMIN_TOKEN", String::new())], ..Line::remote(&world.gateway) };
    none.expect(1, &["key", "list"]);
    let nobody = Line { settings: vec!["--admin".into(), "http://127.0.0.1:9".into()], ..Line::remote(&world.gateway) };
    let (_, err) = nobody.expect(1, &["key", "list"]);
    assert!(err.contains("127.0.0.1:9"), "{err}");
    let no_url = Line { settings: vec!["--admin".into(), "here".into()], ..Line::remote(&world.gateway) };
    no_url.expect(2, &["key", "list"]);
}

#[tokio::test]
async fn the_first_token_needs_nothing_but_the_store() {
    let setup = Setup { routes: routes(ROUTES).replace("free-*", "*"), ..Setup::default() };
    let gateway = Gateway::start_with(setup).await;
    let line = Line::on_store(gateway.dir.path());
    let made = line.json(&["admin", "token", "create", "--name", "me", "--role", "operate"]);
    let token = made["secret"].as_str().unwrap().to_owned();
    let remote = Line { env: vec![("FORGE_ADMIN_TOKEN", token.clone())], ..Line::remote(&gateway) };
    remote.json(&["key", "create", "--name", "k", "--tier", "all"]);
    let (_, err) = remote.expect(1, &["admin", "token", "list"]);
    assert!(err.contains("role 'own'"), "{err}");
    line.expect(0, &["admin", "token", "revoke", made["id"].as_str().unwrap()]);
    remote.expect(1, &["key", "list"]);
    assert!(!gateway.output().contains(&token));
}

#[test]
fn a_token_for_the_settings_is_made_with_its_line() {
    let arguments = ["hash-key", "--admin", "--name", "ci", "--role", "operate"];
    let output = Command::new(env!("CARGO_BIN_EXE_forge")).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let token = text.lines().find_map(|line| line.strip_prefix("key:   ")).unwrap();
    let hash = crate::support::gateway::hash(token);
    assert!(token.starts_with("adm-") && text.contains(&format!("- {{ name: ci, hash: \"{hash}\", role: operate }}")));
}

#[test]
fn help_reads_like_a_manual() {
    for command in ["key", "holder", "usage", "apply", "admin"] {
        let output = Command::new(env!("CARGO_BIN_EXE_forge")).args([command, "--help"]).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        for part in ["EXAMPLES", "WHERE IT WORKS", "EXIT CODES", "FORGE_ADMIN_TOKEN"] {
            assert!(help.contains(part), "{part} in {help}");
        }
    }
}
