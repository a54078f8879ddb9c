//! routes.yaml from outside: fixtures with the faults they must yield, and what good ones mean.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

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

/// `to` as `provider/upstream-name weight`.
fn targets(list: &[forge::config::Target]) -> Vec<String> {
    let name = |target: &forge::config::Target| target.model.clone().unwrap_or_else(|| "(as sent)".to_owned());
    list.iter().map(|target| format!("{}/{} {}", target.provider.name, name(target), target.weight)).collect()
}

fn full() -> Loaded {
    let (_, text) = fixtures("good").into_iter().find(|(path, _)| path.ends_with("full.yaml")).unwrap();
    check(&text, "routes.yaml", &around()).unwrap()
}

#[test]
fn models_lead_where_the_file_says() {
    let models = full().snapshot.models;
    let to = |name: &str| targets(&models.find(name).unwrap().to);
    assert_eq!(to("priyo-llama"), ["dhaka/llama-3.3-70b 1"]);
    assert_eq!(to("claude-sonnet-4-6"), ["anthropic/claude-sonnet-4-6 1"]);
    assert_eq!(to("meta"), ["together/meta-llama/Llama-3 1"], "split at the first slash only");
    assert_eq!(to("priyo-smart"), ["anthropic/claude-sonnet-4-6 8", "openai/gpt-5 2"]);
    assert_eq!(to("alias"), to("priyo-smart"));
    assert_eq!(targets(&models.find("alias").unwrap().fallback), ["dhaka/llama-3.3-70b 1"]);
    // Half to the model (8 of 10 and 2 of 10 of it), half to the target beside it.
    assert_eq!(to("half"), ["anthropic/claude-sonnet-4-6 8", "openai/gpt-5 2", "openai/gpt-5 10"]);
    assert_eq!(to("gpt-3"), ["openai/(as sent) 1"]);
    assert_eq!(to("gpt-4x"), ["azure/(as sent) 1"], "the longest pattern wins");
    assert!(models.find("claude").is_none());
    let order: Vec<_> = models.exact.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(order[..3], ["priyo-llama", "claude-sonnet-4-6", "meta"], "file order");
}

#[test]
fn settings_of_a_model_are_read() {
    use forge::config::{EchoModel, Pick};
    let models = full().snapshot.models;
    let smart = models.find("priyo-smart").unwrap();
    let millis = [smart.timeouts.connect, smart.timeouts.first_byte, smart.timeouts.idle, smart.timeouts.total];
    assert_eq!(millis.map(|limit| limit.as_millis()), [2_000, 8_000, 500, 600_000]);
    assert_eq!((smart.retry.attempts, smart.echo_model, smart.owned_by.as_str()), (2, EchoModel::Upstream, "priyo"));
    let on = smart.retry.on;
    assert!(on.connect && on.rate_limited && on.server_error && on.first_byte && !on.request_timeout);
    let cheap = models.find("priyo-cheap").unwrap();
    assert_eq!((cheap.pick, models.find("half").unwrap().pick), (Pick::Cheapest, Pick::P2c));
    assert_eq!((smart.retry.budget_percent, cheap.retry.budget_percent), (5, 20));
    let prices: Vec<_> = cheap.to.iter().map(|target| target.price.as_ref().unwrap().at(0).unwrap()).collect();
    assert_eq!((prices[0].input_microusd, prices[0].cached_input_microusd), (3_000_000, 300_000));
    assert_eq!((prices[1].input_microusd, prices[1].output_microusd), (100_000, 200_000));
    assert_eq!((prices[1].cached_input_microusd, prices[1].reasoning_microusd), (100_000, 200_000));
    assert_eq!(models.find("meta").unwrap().owned_by, "together");
}

#[test]
fn prices_have_dates_and_stable_versions() {
    let price = "price: [{ input: 1, output: 2 }, { from: 2026-11-01, input: 3, output: 4, image: 0.04 }]";
    let load = |models: &str| {
        let text = format!("version: 1\nproviders: {{ demo: }}\nmodels:\n{models}\n");
        check(&text, "routes.yaml", &around())
    };
    let loaded = load(&format!("  a: {{ to: demo, {price} }}\n  b: {{ to: demo, {price} }}")).unwrap();
    let prices = |name: &str| loaded.snapshot.models.find(name).unwrap().to[0].price.clone().unwrap();
    let day = 1_793_491_200; // 2026-11-01
    let (old, new) = (prices("a").at(day - 1).cloned().unwrap(), prices("b").at(day).cloned().unwrap());
    assert_eq!((old.input_microusd, new.input_microusd, new.image_microusd), (1_000_000, 3_000_000, 40_000));
    assert!(new.version.starts_with("2026-11-01/") && !old.version.contains('/'), "{old:?} {new:?}");
    assert_eq!(prices("a"), prices("b"));
    let faults = |models: &str| load(models).err().map(|faults| faults.to_string()).unwrap_or_default();
    assert!(faults("  a: { to: demo, price: { output: 1 } }").contains("'input' is missing"));
    assert!(faults("  a: { to: demo, price: [{ image: 1 }, { image: 2 }] }").contains("two prices from the same day"));
    assert!(faults("  a: { to: demo, price: { from: 2026-11-01 } }").contains("a price without an amount"));
    assert!(faults("  a: { to: demo, price: { from: tomorrow, image: 1 } }").contains("is not a date"));
}

#[test]
fn providers_stand_on_their_catalogue_row() {
    use forge::config::{Auth, Flavor, HttpVersions};
    use forge::endpoint::Endpoint;
    let Loaded { snapshot, files, .. } = full();
    let provider = |name: &str| snapshot.providers.iter().find(|provider| provider.name == name).unwrap();
    let openai = provider("openai");
    assert_eq!((openai.origins[0].host.as_str(), openai.origins[0].base_path.as_str()), ("api.openai.com", "/v1"));
    assert_eq!(openai.keys[0].header, "Bearer sk-from-env");
    assert!(openai.keys[0].header.is_sensitive() && !format!("{openai:?}").contains("sk-from-env"));
    assert_eq!(openai.http, HttpVersions::Auto);
    let anthropic = provider("anthropic");
    assert_eq!((anthropic.auth, anthropic.keys.len()), (Auth::XApiKey, 2));
    assert_eq!(anthropic.keys[1].header, "sk-from-file");
    assert!(anthropic.serves.contains(Endpoint::Messages) && !anthropic.serves.contains(Endpoint::ChatCompletions));
    let dhaka = provider("dhaka");
    assert_eq!((dhaka.origins.len(), dhaka.http), (2, HttpVersions::Http1));
    assert_eq!(dhaka.origins[1].authority, "10.0.0.8:8000");
    assert_eq!(dhaka.headers[1].1, "sk-from-env", "a header's value may be a reference");
    assert!(!format!("{dhaka:?}").contains("sk-from-env"));
    let private = provider("private");
    assert_eq!((private.auth, private.http), (Auth::None, HttpVersions::Http2));
    assert_eq!(private.paths[&Endpoint::Rerank], "/rerank");
    assert_eq!(private.tls.server_name.as_deref(), Some("vllm.internal"));
    assert!(private.tls.ca.is_some() && private.tls.client.is_some());
    let azure = provider("azure");
    assert_eq!((azure.flavor, azure.api_version.as_deref()), (Flavor::AzureDeployments, Some("2025-01-01-preview")));
    assert_eq!(provider("ollama").origins[0].port, 11_434);
    let named: Vec<_> = files.keys().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(named, ["ca.pem", "client.key", "client.pem", "secret.txt"]);
}

#[test]
fn rules_and_keys_are_read() {
    let snapshot = full().snapshot;
    assert!(snapshot.rules.reads_body_bytes && !snapshot.rules.reads_stream);
    let uses: Vec<_> = snapshot.rules.iter().map(|rule| rule.model.name.as_str()).collect();
    assert_eq!(uses, ["priyo-llama", "priyo-llama", "dhaka/llama", "alias", "priyo-smart"]);
    let core = snapshot.keys.values().find(|key| key.name == "core").unwrap();
    assert_eq!(core.metadata["level"], "3");
    assert!(core.may_call("priyo-llama") && !core.may_call("priyo-smart") && !core.may_call("meta"));
}

#[test]
fn line_ends_marks_and_aliases_make_no_difference() {
    let targets_of = |text: &str| {
        let loaded = check(text, "routes.yaml", &around()).unwrap();
        targets(&loaded.snapshot.models.find("priyo-smart").unwrap().to)
    };
    let (_, text) = fixtures("good").into_iter().find(|(path, _)| path.ends_with("full.yaml")).unwrap();
    assert_eq!(targets_of(&text.replace('\n', "\r\n")), targets_of(&text));
    assert_eq!(targets_of(&format!("\u{feff}{text}")), targets_of(&text));
    let aliased = "version: 1\nproviders: { openai: env:SET }\nmodels: { a: &to [openai/gpt-5], priyo-smart: *to }\n";
    assert_eq!(targets_of(aliased), ["openai/gpt-5 1"]);
}

#[test]
fn doubtful_things_are_warned_about() {
    let text = "version: 1\nproviders: { openai: plain:sk-x }\nmodels: { a: openai }\ntiers: { free: [\"b-*\"] }\n";
    let loaded = check(text, "routes.yaml", &around()).unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.starts_with("2: providers.openai: a secret in plain sight")));
    assert!(warnings.iter().all(|warning| !warning.contains("sk-x")));
}

/// The schema is made from the checker's tables; here an independent reader walks it along each good file.
mod schema {
    use super::*;
    use serde_json::Value;

    /// Whether `value` fits: the part of JSON Schema that ours uses.
    fn fits(schema: &Value, value: &Value) -> bool {
        let Some(schema) = schema.as_object() else { return schema == &Value::Bool(true) };
        schema.iter().all(|(keyword, rule)| match keyword.as_str() {
            "anyOf" => rule.as_array().unwrap().iter().any(|schema| fits(schema, value)),
            "enum" => rule.as_array().unwrap().contains(value),
            "type" => match rule {
                Value::Array(kinds) => kinds.iter().any(|kind| is(kind, value)),
                kind => is(kind, value),
            },
            "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
            "pattern" => value.as_str().is_none_or(|text| regex_fits(rule.as_str().unwrap(), text)),
            "required" => {
                let names = rule.as_array().unwrap();
                value.as_object().is_none_or(|map| names.iter().all(|name| map.contains_key(name.as_str().unwrap())))
            }
            "items" => value.as_array().is_none_or(|items| items.iter().all(|item| fits(rule, item))),
            "propertyNames" => {
                value.as_object().is_none_or(|map| map.keys().all(|name| fits(rule, &Value::String(name.clone()))))
            }
            "additionalProperties" => value.as_object().is_none_or(|map| {
                let own = schema.get("properties").and_then(Value::as_object);
                map.iter()
                    .filter(|(name, _)| own.is_none_or(|own| !own.contains_key(*name)))
                    .all(|(_, value)| fits(rule, value))
            }),
            "properties" => value.as_object().is_none_or(|map| {
                map.iter().all(|(name, value)| rule.get(name).is_none_or(|schema| fits(schema, value)))
            }),
            "$schema" | "title" | "description" | "examples" => true,
            other => panic!("a keyword this test does not know: {other}"),
        })
    }

    fn is(kind: &Value, value: &Value) -> bool {
        match kind.as_str().unwrap() {
            "string" => value.is_string(),
            "number" => value.is_number(),
            "integer" => value.is_u64(),
            "boolean" => value.is_boolean(),
            "object" => value.is_object(),
            "array" => value.is_array(),
            "null" => value.is_null(),
            other => panic!("{other}"),
        }
    }

    fn regex_fits(pattern: &str, text: &str) -> bool {
        let when = format!("{text:?}.matches({pattern:?})");
        let program = cel::Program::compile(&when).unwrap();
        program.execute(&cel::Context::default()) == Ok(cel::Value::Bool(true))
    }

    #[test]
    fn good_files_fit_and_files_of_a_wrong_shape_do_not() {
        let schema = forge::config::routes_schema();
        let value = |text: &str| serde_yaml::from_str::<Value>(text);
        assert!(fits(&schema, &value(forge::config::EMBEDDED_ROUTES).unwrap()));
        for (path, text) in fixtures("good") {
            assert!(fits(&schema, &value(&text).unwrap()), "{}", path.display());
        }
        for (path, text) in fixtures("bad") {
            let wrong_shape = ["unknown-keys", "wrong-types", "missing", "empty"];
            if wrong_shape.iter().any(|name| path.file_stem().unwrap() == *name) {
                assert!(!fits(&schema, &value(&text).unwrap()), "{}", path.display());
            }
        }
    }
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    /// Pieces that a routes.yaml is made of, in any order.
    fn scrap() -> impl Strategy<Value = String> {
        let words = [
            "version: 1",
            "providers:",
            "models:",
            "rules:",
            "tiers:",
            "keys:",
            "openai",
            "to:",
            "else:",
            "use:",
            "when:",
            "key: env:SET",
            "url: http://a",
            "weight: 3",
            "a: b",
            "b: a",
            "*",
            "&x",
            "*x",
            "- ",
            "  ",
            "\n",
            ": ",
            "{",
            "}",
            "[",
            "]",
            "\"",
            "'",
            "|",
            ">",
            "#",
            "<<: *x",
            "~",
            "\t",
            "pick: cheapest",
            "price: {input: 1, output: 2}",
        ];
        let piece = prop_oneof![4 => prop::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => ".{0,6}"];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_the_checker_panic(text in scrap()) {
            let _ = check(&text, "routes.yaml", &around());
        }

        #[test]
        fn a_file_cut_anywhere_never_loads_as_something_else(cut in 0usize..2_000) {
            let (_, text) = fixtures("good").remove(0);
            let end = (0..=cut.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap();
            if let Ok(loaded) = check(&text[..end], "routes.yaml", &around()) {
                // What is left is whole: everything it names exists.
                prop_assert!(!loaded.snapshot.providers.is_empty() && !loaded.snapshot.models.by_name.is_empty());
            }
        }

        #[test]
        fn no_expression_makes_the_checker_panic(
            when in prop::collection::vec(prop::sample::select(vec![
                "model", "stream", "request.headers", "key", ".", "(", ")", "[", "]", "{", "}", "\"x\"", "1", "-", "+",
                "==", "&&", "||", "!", "?", ":", "in", ".exists(", "x", ",", "has(", "true", "null", ".matches(", "time",
                "1.5", "b\"x\"", "duration(\"1s\")", ".map(", "int(", "<", "%", "/", "9223372036854775807",
            ]), 0..24)
        ) {
            let when = when.concat().replace('\'', "''");
            let text = format!(
                "version: 1\nproviders: {{openai: env:SET}}\nmodels: {{a: openai}}\nrules: [{{when: '{when}', use: a}}]\n"
            );
            if let Ok(loaded) = check(&text, "routes.yaml", &around()) {
                let headers = http::HeaderMap::new();
                let metadata = std::collections::HashMap::new();
                let facts = forge::config::Facts {
                    model: "a", endpoint: forge::endpoint::Endpoint::Messages, stream: true, tier: "", key_name: "",
                    key_metadata: &metadata, headers: &headers, path: "/", client_ip: None, body_bytes: 1, time_unix: 1,
                };
                let _ = loaded.snapshot.rules.first_match(&facts);
            }
        }
    }
}

#[test]
fn limits_are_read_where_they_stand() {
    use forge::config::{Limit, LimitKind, LimitSet};
    let (_, text) = fixtures("good").into_iter().find(|(path, _)| path.ends_with("limits.yaml")).unwrap();
    let snapshot = check(&text, "routes.yaml", &around()).unwrap().snapshot;
    let of = |limits: &[(LimitKind, u64)]| LimitSet::new(limits.iter().map(|&(kind, amount)| Limit { kind, amount }));
    assert_eq!(snapshot.limits, of(&[(LimitKind::Concurrent, 10_000), (LimitKind::SpendDay, 1_000_000_000)]));
    let model = snapshot.models.find("m").unwrap();
    assert_eq!(model.limits, of(&[(LimitKind::Rpm, 6_000), (LimitKind::Concurrent, 100)]));
    let free = &snapshot.tiers["free"];
    assert_eq!(
        free.limits,
        of(&[(LimitKind::Rpm, 20), (LimitKind::Tpm, 40_000), (LimitKind::Rpd, 1_000), (LimitKind::Concurrent, 2)])
    );
    assert_eq!(free.shared, of(&[(LimitKind::Tpm, 2_000_000)]));
    let budgets =
        [(LimitKind::SpendMonth, 50_000_000), (LimitKind::SpendDay, 2_500_000), (LimitKind::TokensMonth, 10_000_000)];
    let pro = [(LimitKind::Itpm, 1_000_000), (LimitKind::Otpm, 100_000)];
    assert_eq!(snapshot.tiers["pro"].limits, of(&[&pro[..], &budgets].concat()));
    assert!(snapshot.tiers["none"].limits.is_empty() && snapshot.tiers["none"].shared.is_empty());
}
