//! Who may import whom. ARCHITECTURE.md explains the table; this test keeps it true.
//!
//! A room is a module right below the crate's root. Every path that begins in `crate::` or `forge::` is an
//! edge from the room of its file, wherever it stands: in a `use`, or inline. Tests below the code count too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Room and the rooms it may use. A room that is not here fails the test: it has no place yet.
const MAY_USE: [(&str, &[&str]); 21] = [
    ("endpoint", &[]),
    ("allowance", &[]),
    ("credential", &[]),
    ("error", &["endpoint"]),
    ("config", &["error", "endpoint"]),
    ("access", &["endpoint", "config", "metrics"]),
    ("metrics", &["endpoint", "access", "config"]),
    ("adapt", &["error", "endpoint", "config"]),
    ("demo", &["endpoint"]),
    ("edge", &["error", "endpoint", "config", "metrics", "access"]),
    ("store", &["config", "credential", "endpoint"]),
    ("limits", &["config", "metrics"]),
    ("usage", &["config", "metrics", "store"]),
    ("internal", &[]),
    ("blob", &["error", "config"]),
    ("jobs", &["error", "config", "credential", "endpoint", "internal", "store", "blob", "metrics"]),
    (
        "proxy",
        &[
            "allowance",
            "error",
            "endpoint",
            "config",
            "store",
            "adapt",
            "internal",
            "edge",
            "limits",
            "metrics",
            "access",
            "usage",
        ],
    ),
    ("admin", &["allowance", "config", "credential", "endpoint", "limits", "metrics", "store"]),
    // The wiring: these may use everything, and nothing may use them but main.
    ("server", &["*"]),
    ("cli", &["*"]),
    ("main", &["*"]),
];

/// Code lines a file may have, its tests left out; tables and wire types may be longer, with a reason.
const LINES_MAX: usize = 500;
const LONGER: [(&str, usize, &str); 0] = [];

#[test]
fn rooms_use_only_what_the_table_allows() {
    let table: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    let mut faults = Vec::new();
    for file in sources() {
        let room = room_of(&file);
        let Some(allowed) = table.get(room.as_str()) else {
            faults.push(format!("{}: the room '{room}' is not in the table", file.display()));
            continue;
        };
        for used in rooms_used(&std::fs::read_to_string(&file).unwrap()) {
            if !table.contains_key(used.as_str()) {
                faults.push(format!("{}: uses '{used}', which is no room of the table", file.display()));
            } else if used != room && !allowed.contains(&"*") && !allowed.contains(&used.as_str()) {
                faults.push(format!("{}: '{room}' may not use '{used}'", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn files_are_short() {
    let faults: Vec<String> = sources()
        .into_iter()
        .filter(|file| file.file_name().is_some_and(|name| name != "tests.rs"))
        .filter_map(|file| {
            let text = std::fs::read_to_string(&file).unwrap();
            let lines = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap().lines().count();
            let longer = LONGER.iter().find(|(name, _, _)| file.ends_with(name));
            let max = longer.map_or(LINES_MAX, |(_, max, _)| *max);
            (lines > max).then(|| format!("{}: {lines} lines, {max} at most", file.display()))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn paths_are_found_in_every_form() {
    let text = r#"
        //! [`crate::in_a_comment`] is no edge
        use crate::one::Thing; // nor is crate::trailing
        pub(crate) use crate::{two::{A, B}, three, self};
        pub use crate::{
            four::C,
            five::{self, D},
        };
        fn f() -> crate::six::E { let text = "crate::in_a_string \" crate::too"; crate::seven::g::<crate::eight::H>('"') }
    "#;
    let found: Vec<String> = rooms_used(text).into_iter().collect();
    assert_eq!(found, ["eight", "five", "four", "one", "seven", "six", "three", "two"]);
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && path != root().join("lib.rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 10, "only {} sources", found.len());
    found.sort();
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn room_of(file: &Path) -> String {
    let first = file.strip_prefix(root()).unwrap().components().next().unwrap();
    let first = first.as_os_str().to_str().unwrap();
    first.strip_suffix(".rs").unwrap_or(first).to_owned()
}

/// The first segment of every path that begins at the crate's root.
fn rooms_used(text: &str) -> BTreeSet<String> {
    let code = without_comments_and_strings(text);
    let starts = ["crate::", "forge::"].into_iter().flat_map(|root| code.match_indices(root));
    starts
        .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':')))
        .flat_map(|(at, root)| segments(&code[at + root.len()..]))
        .collect()
}

/// `one::Thing` gives `one`; `{two::{A, B}, three}` gives `two` and `three`.
fn segments(path: &str) -> Vec<String> {
    let Some(list) = path.strip_prefix('{') else { return segment(path).into_iter().collect() };
    let (mut depth, mut item, mut found) = (0, String::new(), Vec::new());
    for c in list.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => found.extend(segment(&std::mem::take(&mut item))),
            '{' => depth += 1,
            '}' => depth -= 1,
            c if depth == 0 => item.push(c),
            _ => {}
        }
    }
    found.extend(segment(&item));
    found
}

/// A module name. What begins in a capital is an item of the root, and `self` the root itself.
fn segment(path: &str) -> Option<String> {
    let name: String = path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let is_module = name.starts_with(|c: char| c.is_lowercase()) && name != "self";
    is_module.then_some(name)
}

/// The code with comments and strings left out, as far as this test has to know Rust's grammar.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        let mut chars = line.chars().peekable();
        let mut in_string = false;
        while let Some(c) = chars.next() {
            match c {
                '\\' if in_string => drop(chars.next()),
                '"' => in_string = !in_string,
                _ if in_string => {}
                '/' if chars.peek() == Some(&'/') => break,
                '\'' if chars.peek() == Some(&'"') => drop((chars.next(), chars.next())),
                c => code.push(c),
            }
        }
        code.push('\n');
    }
    code
}
