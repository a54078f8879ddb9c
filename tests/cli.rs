//! The commands that answer and end: what they print where, and their exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const ROUTES: &str = r#"
version: 1
providers:
  a: { dialect: openai, url: ['http://10.0.0.1/v1', 'http://10.0.0.2/v1'], key: 'plain:SECRET-A' }
  b: { dialect: openai, url: 'https://b.example/v1', key: ['plain:SECRET-B1', 'plain:SECRET-B2'] }
  c: { dialect: anthropic, url: 'https://c.example/v1', key: 'plain:SECRET-C' }
models:
  small: b/tiny
  smart: { to: [{ use: a/big, weight: 3 }, { use: c/claude, weight: 1 }], else: [b/backup] }
rules:
  - { when: 'tier == "free" && body_bytes > 5000', use: small }
  - { when: 'request.headers["x-region"] == "bd"', use: small }
tiers:
  free: ["smart"]
  pro: ["*"]
keys:
  - { name: alice, hash: "sha256:0000000000000000000000000000000000000000000000000000000000000000", tier: free }
"#;

/// Runs `forge` with these arguments in a folder that holds [`ROUTES`] as routes.yaml, and `stdin`.
fn forge(arguments: &str, stdin: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("routes.yaml"), ROUTES).unwrap();
    std::fs::write(folder.path().join("broken.yaml"), "version: 1\nmodls: {}\n").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_forge"))
        .args(arguments.split_whitespace())
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Runs `forge`; stdout and stderr, after the exit code was checked.
fn expect(code: i32, arguments: &str) -> (String, String) {
    let output = forge(arguments, "");
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(code), "forge {arguments}\n{out}\n{err}");
    assert!(!out.contains("SECRET") && !err.contains("SECRET"), "forge {arguments} shows a secret\n{out}\n{err}");
    (out, err)
}

#[test]
fn check_reports_every_fault_on_stderr() {
    let (out, _) = expect(0, "check");
    assert_eq!(out, "routes.yaml: valid: 3 providers, 2 models, 2 rules, 2 tiers, 1 key\n");
    let (out, err) = expect(1, "check broken.yaml");
    assert!(out.is_empty(), "{out}");
    assert!(err.contains("broken.yaml:2: modls: unknown key; did you mean 'models'?"), "{err}");
    assert!(err.ends_with("faults in broken.yaml\n"), "{err}");
    let (_, err) = expect(1, "check absent.yaml");
    assert!(err.contains("absent.yaml") && err.contains("No such file"), "{err}");
    expect(1, "run --routes broken.yaml");
    expect(1, "check --conf broken.yaml");
}

/// The attempts and what was passed over, as `provider/model` each.
fn explained(arguments: &str) -> (Value, Vec<String>, Vec<String>) {
    let (out, _) = expect(0, &format!("explain --json {arguments}"));
    let value: Value = serde_json::from_str(&out).unwrap();
    let names = |field: &str| {
        let name =
            |target: &Value| format!("{}/{}", target["provider"].as_str().unwrap(), target["model"].as_str().unwrap());
        value[field].as_array().unwrap().iter().map(name).collect()
    };
    let (attempts, passed_over) = (names("attempts"), names("passed_over"));
    (value, attempts, passed_over)
}

#[test]
fn explain_says_which_rule_and_which_targets() {
    let (value, attempts, passed_over) = explained("--model smart --key alice");
    assert_eq!((&value["rule"], value["model"].as_str()), (&Value::Null, Some("smart")));
    assert_eq!(attempts, ["a/big", "a/big", "b/backup"]);
    assert_eq!(passed_over, ["c/claude"]);
    assert_eq!(value["passed_over"][0]["why"], "does not serve chat_completions");

    let (value, attempts, _) = explained("--model smart --key alice --body-bytes 6000");
    assert_eq!((&value["rule"]["index"], attempts.as_slice()), (&0.into(), &["b/tiny".into(), "b/tiny".into()][..]));
    let (value, ..) = explained("--model smart --tier pro --header x-region=bd");
    assert_eq!(value["rule"]["index"], 1);
    let (_, attempts, _) = explained("--model smart --endpoint /v1/messages");
    assert_eq!(attempts, ["c/claude"]);
}

#[test]
fn explain_reads_like_text_too_and_refuses_as_the_gateway_would() {
    let (out, _) = expect(0, "explain --model smart --key alice");
    assert!(out.contains("rule      none of 2 matched") && out.contains("a/big  http://10.0.0.1/v1"), "{out}");
    for (arguments, status) in [("--model small --key alice", 403), ("--model nope", 404)] {
        let (out, err) = expect(1, &format!("explain {arguments}"));
        assert!(out.contains(&format!("refused   {status} ")), "{out}");
        assert!(err.contains(&status.to_string()), "{err}");
    }
}

#[test]
fn wrong_arguments_are_2() {
    for arguments in
        ["--bogus", "frobnicate", "explain", "explain --model m --tier none", "explain --model m --key nobody"]
    {
        expect(2, arguments);
    }
    let (_, err) = expect(2, "explain --model m --endpoint chat");
    assert!(err.contains("chat_completions, completions"), "{err}");
}

#[test]
fn hash_key_shows_a_key_once_and_hashes_the_same() {
    let (out, _) = expect(0, "hash-key --name bob --tier pro");
    let line = |name: &str| out.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let (key, hash) = (line("key:"), line("hash:"));
    assert!(out.contains(&format!("- {{ name: bob, hash: \"{hash}\", tier: pro }}")), "{out}");
    let again = String::from_utf8(forge("hash-key --stdin", &format!("{key}\n")).stdout).unwrap();
    assert!(again.contains(&hash) && !again.contains(&key), "{again}");
    assert_eq!(forge("hash-key --stdin", "two words").status.code(), Some(1));
}

#[test]
fn schema_is_json_and_help_and_version_are_0() {
    let (out, _) = expect(0, "schema");
    let schema: Value = serde_json::from_str(&out).unwrap();
    assert!(schema["properties"]["providers"].is_object(), "{out}");
    assert!(expect(0, "--help").0.contains("EXIT CODES"));
    assert!(expect(0, "help explain").0.contains("EXAMPLES"));
    assert!(expect(0, "--version").0.starts_with("forge "));
}
