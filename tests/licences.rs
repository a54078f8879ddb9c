//! The lists of deny.toml, checked over `cargo metadata` without network and without another tool: every
//! crate that is built for this machine has an allowed licence, comes from the registry, and is not banned.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;

use serde_json::Value;

#[test]
fn every_crate_keeps_to_deny_toml() {
    let deny_toml = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml")).unwrap();
    let (allowed, banned) = (quoted_after(&deny_toml, "\nallow = ["), banned(&deny_toml));
    assert!(allowed.len() > 5 && banned.len() > 2, "deny.toml is not read as it was written");
    let packages = packages();
    // cargo-deny's default is cargo's own registry, which is where the first dependency comes from.
    let registry = packages.iter().map(|package| text(package, "source")).find(|source| !source.is_empty()).unwrap();
    assert!(registry.starts_with("registry+"), "{registry}");
    let mut faults = Vec::new();
    for package in &packages {
        let (name, version) = (text(package, "name"), text(package, "version"));
        let licence = text(package, "license");
        if !is_allowed(licence, &allowed) {
            faults.push(format!("{name} {version}: licence '{licence}'"));
        }
        if banned.iter().any(|banned| banned == name) {
            faults.push(format!("{name} {version}: banned"));
        }
        // Our own package has no source.
        let source = text(package, "source");
        if !source.is_empty() && source != registry {
            faults.push(format!("{name} {version}: from {source}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn spdx_expressions_are_read() {
    let allowed: Vec<String> = ["MIT", "Apache-2.0", "ISC", "Apache-2.0 WITH LLVM-exception"].map(String::from).into();
    for good in ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "(GPL-3.0 OR MIT) AND ISC", "Apache-2.0 WITH LLVM-exception"] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "GPL-3.0 WITH LLVM-exception", "MIT ISC"]
    {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}

/// The packages of the build for this machine. Those of other systems are not downloaded.
fn packages() -> Vec<Value> {
    let host = Command::new("rustc").args(["-vV"]).output().unwrap();
    let host = String::from_utf8(host.stdout).unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().clone();
    assert!(packages.len() > 100, "only {} packages", packages.len());
    packages
}

fn text<'a>(package: &'a Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or_default()
}

/// The strings of the array that `start` begins.
fn quoted_after(toml: &str, start: &str) -> Vec<String> {
    let array = toml.split_once(start).unwrap_or_else(|| panic!("no {start:?} in deny.toml")).1;
    let array = array.split_once(']').unwrap().0;
    array.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn banned(toml: &str) -> Vec<String> {
    toml.split("{ crate = \"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// SPDX annex D, with the `/` that old manifests write for OR; AND binds tighter than OR.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    any_of(&mut rest, allowed) && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &[String]) -> bool {
    let mut ok = all_of(rest, allowed);
    while rest.first() == Some(&"OR") {
        *rest = &rest[1..];
        ok |= all_of(rest, allowed);
    }
    ok
}

fn all_of(rest: &mut &[&str], allowed: &[String]) -> bool {
    let mut ok = one(rest, allowed);
    while rest.first() == Some(&"AND") {
        *rest = &rest[1..];
        ok &= one(rest, allowed);
    }
    ok
}

fn one(rest: &mut &[&str], allowed: &[String]) -> bool {
    let is = |name: &str| allowed.iter().any(|allowed| allowed == name);
    match **rest {
        ["(", ref inner @ ..] => {
            *rest = inner;
            let ok = any_of(rest, allowed);
            let closed = rest.first() == Some(&")");
            *rest = rest.get(1..).unwrap_or_default();
            ok && closed
        }
        [licence, "WITH", exception, ref after @ ..] => {
            *rest = after;
            is(&format!("{licence} WITH {exception}"))
        }
        [licence, ref after @ ..] => {
            *rest = after;
            is(licence)
        }
        [] => false,
    }
}
