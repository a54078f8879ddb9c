use std::time::Instant;

use super::*;
use crate::endpoint::Endpoint;

fn page() -> String {
    String::from_utf8(render().unwrap()).unwrap()
}

fn value(series: &str) -> Option<f64> {
    page().lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

fn record(model: &'static str) -> Record<'static> {
    Record {
        endpoint: Some(Endpoint::Embeddings),
        model: Some(model),
        status: 200,
        first_byte: Some(Duration::from_millis(3)),
        total: Duration::from_millis(4),
        bytes_in: 7,
        ..Record::default()
    }
}

#[test]
fn a_request_is_counted_under_its_configured_model() {
    let sent_by_client = "unconfigured\nforge_evil 1";
    request(&Record { requested_model: Some(sent_by_client), ..record("m-count") });
    request(&Record { status: 503, error_code: Some("overloaded"), aborted_by_client: true, ..record("m-count") });
    let labels = r#"{endpoint="embeddings",model="m-count""#;
    assert_eq!(value(&format!(r#"forge_requests_total{labels},status="2xx"}}"#)), Some(1.0));
    assert_eq!(value(&format!(r#"forge_requests_total{labels},status="5xx"}}"#)), Some(1.0));
    assert_eq!(value(&format!("forge_request_duration_seconds_count{labels}}}")), Some(2.0));
    assert_eq!(value(r#"forge_errors_total{code="overloaded",endpoint="embeddings"}"#), Some(1.0));
    assert!(value(r#"forge_client_aborts_total{endpoint="embeddings"}"#).unwrap() >= 1.0);
    assert!(!page().contains("unconfigured"));
}

#[test]
fn requests_without_endpoint_or_model_share_one_series() {
    request(&Record { requested_model: Some("nobody-knows"), status: 404, ..Record::default() });
    assert!(value(r#"forge_requests_total{endpoint="none",model="none",status="4xx"}"#).unwrap() >= 1.0);
}

#[test]
fn every_outcome_has_its_own_counter() {
    for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
        assert_eq!(outcome as usize, index);
        attempt("p-outcome", outcome);
        let series = format!(r#"forge_upstream_attempts_total{{outcome="{}",provider="p-outcome"}}"#, outcome.name());
        assert_eq!(value(&series), Some(1.0), "{series}");
    }
}

#[test]
fn guards_count_down_when_dropped() {
    let held = (hold_request(), hold_stream());
    assert!(in_flight() >= 1);
    drop(held);
    assert_eq!(value("forge_open_streams "), Some(0.0));
}

#[test]
fn an_ejection_keeps_its_latest_end() {
    ejection("p-eject", Ejection::RateLimited, Duration::from_secs(100));
    ejection("p-eject", Ejection::Failing, Duration::from_secs(1));
    let until = value(r#"forge_upstream_ejected_until_timestamp_seconds{provider="p-eject"}"#).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((98.0..=101.0).contains(&(until - now)), "{until} {now}");
    for (index, reason) in Ejection::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, index);
        let series = format!(r#"forge_upstream_ejections_total{{provider="p-eject",reason="{}"}}"#, reason.name());
        let expected = matches!(reason, Ejection::RateLimited | Ejection::Failing);
        assert_eq!(value(&series), Some(f64::from(u8::from(expected))), "{series}");
    }
}

#[test]
fn what_is_configured_no_more_is_forgotten() {
    // The other tests' names stay: they run beside this one.
    request(&record("m-old"));
    attempt("p-old", Outcome::Success);
    let models = HashSet::from(["m-count", "m-bench"]);
    let providers = HashSet::from(["p-outcome", "p-eject", "p-bench"]);
    retain(&models, &providers);
    let page = page();
    assert!(!page.contains("m-old") && !page.contains("p-old"), "{page}");
    assert!(page.contains("forge_build_info"));
}

#[test]
fn process_metrics_are_read() {
    assert!(value("process_resident_memory_bytes ").unwrap() > 1e6);
    assert!(value("process_open_fds ").unwrap() >= 3.0);
    assert!(value("process_max_fds ").unwrap() >= 3.0);
}

/// Prints the cost of one observation: `cargo test --release metrics -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn cost_of_an_observation() {
    const ROUNDS: u32 = 1_000_000;
    let observed = record("m-bench");
    let start = Instant::now();
    for _ in 0..ROUNDS {
        request(&observed);
    }
    println!("request: {} ns", start.elapsed().as_nanos() / u128::from(ROUNDS));
    let start = Instant::now();
    for _ in 0..ROUNDS {
        attempt("p-bench", Outcome::Success);
    }
    println!("attempt: {} ns", start.elapsed().as_nanos() / u128::from(ROUNDS));
    let mut line = String::new();
    let start = Instant::now();
    for _ in 0..ROUNDS {
        line.clear();
        crate::access::write_line(&mut line, &observed, SystemTime::UNIX_EPOCH, crate::config::LogFormat::Text);
    }
    println!("access line: {} ns", start.elapsed().as_nanos() / u128::from(ROUNDS));
}

/// The dashboard and the alerts ask for metrics that exist.
#[test]
fn what_is_drawn_and_alerted_on_exists() {
    request(&Record { error_code: Some("drawn"), ..record("m-count") });
    attempt("p-outcome", Outcome::Success);
    let page = page();
    for file in [include_str!("../../conf/grafana.json"), include_str!("../../conf/alerts.yml")] {
        let words = file.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let names: HashSet<&str> = words.filter(|w| w.starts_with("forge_") || w.starts_with("process_")).collect();
        assert!(names.len() >= 5, "{names:?}");
        for name in names {
            assert!(page.contains(&format!("\n{name}{{")) || page.contains(&format!("\n{name} ")), "no metric {name}");
        }
    }
}
