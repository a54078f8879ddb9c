//! The check of a routes.yaml: any text ends in a snapshot or in faults.
#![no_main]

use std::path::PathBuf;
use std::sync::Arc;

use forge::config::{Surroundings, check};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let around = Surroundings {
        base_dir: PathBuf::from("/nonexistent"),
        env: Arc::new(|name| name.starts_with("SET").then(|| "sk-secret".to_owned())),
        ..Surroundings::offline()
    };
    let _ = check(text, "routes.yaml", &around);
});
