//! conf/ against the program: what the systemd unit and the container file call must be there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

const UNIT: &str = include_str!("../conf/forge.service");
const CONTAINER: &str = include_str!("../conf/Containerfile");

/// The values of `key=` in the unit.
fn unit(key: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// What `forge COMMAND --help` says.
fn help(command: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_forge")).args([command, "--help"]).output().unwrap();
    assert!(output.status.success(), "forge {command} --help");
    String::from_utf8(output.stdout).unwrap()
}

/// Checks that `forge` knows the command and the options of these words.
fn known(words: &[&str]) {
    let help = help(words[0]);
    for option in words.iter().filter(|word| word.starts_with("--")) {
        assert!(help.contains(option), "{option} of {words:?} in\n{help}");
    }
}

#[test]
fn the_unit_calls_what_there_is() {
    for command in [unit("ExecStart"), unit("ExecStartPre")].concat() {
        let words: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(words[0], "/usr/local/bin/forge");
        known(&words[1..]);
    }
    assert_eq!(unit("ExecReload"), ["/bin/kill -HUP $MAINPID"]);
    // A successor is started by the process before it, and tells who is the main one.
    assert_eq!((unit("Type"), unit("NotifyAccess")), (vec!["notify"], vec!["all"]));
    assert!(UNIT.contains("--signal=USR2"));
    let stop: u64 = unit("TimeoutStopSec")[0].strip_suffix('s').unwrap().parse().unwrap();
    let grace = include_str!("../conf/forge.yaml").lines().find_map(|line| line.strip_prefix("#grace: 5m"));
    assert!(grace.is_some() && stop > 300, "systemd must wait for longer than `grace`");
    for comment in UNIT.lines().filter_map(|line| line.strip_prefix("#   install ")) {
        let call = comment.split('#').next().unwrap_or_default();
        let source = call.split_whitespace().rev().nth(1).unwrap_or_default();
        let from_nowhere = source.starts_with('/') || source.starts_with("target/");
        assert!(from_nowhere || Path::new(env!("CARGO_MANIFEST_DIR")).join(source).exists(), "{comment}");
    }
}

#[test]
fn the_container_file_copies_and_calls_what_there_is() {
    let lines = CONTAINER.replace("\\\n", "");
    let with = |instruction: &str| -> Vec<Vec<String>> {
        let of = |line: &str| {
            line.strip_prefix(instruction).map(|rest| rest.split_whitespace().map(str::to_owned).collect())
        };
        lines.lines().filter_map(of).collect()
    };
    for copied in with("COPY --from=build ") {
        let source = copied[0].strip_prefix("/src/").unwrap();
        let built = source == "target/release/forge";
        assert!(built || Path::new(env!("CARGO_MANIFEST_DIR")).join(source).exists(), "{source}");
    }
    let list = |instruction: &str| -> Vec<String> {
        let line = lines.lines().find_map(|line| line.strip_prefix(instruction)).unwrap();
        serde_json::from_str(line.trim()).expect("the exec form: a JSON list, so that signals reach forge")
    };
    assert_eq!(list("ENTRYPOINT"), ["forge"]);
    let call = list("CMD ");
    let call: Vec<&str> = call.iter().map(String::as_str).collect();
    known(&call);
    let copied: Vec<String> = with("COPY --from=build ").into_iter().map(|words| words[1].clone()).collect();
    for file in call.iter().filter(|word| word.starts_with('/')) {
        assert!(copied.iter().any(|to| to == file), "{file} is in the image");
    }
    let toolchain =
        include_str!("../Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap();
    assert!(
        lines.contains(&format!("library/rust:{}-", toolchain.trim_matches('"'))),
        "the image builds with {toolchain}"
    );
    let user = with("USER ");
    assert!(user[0][0].parse::<u32>().unwrap() > 0, "not root, and a number, which runAsNonRoot can check");
    assert!(lines.contains("STOPSIGNAL SIGTERM"));
}
