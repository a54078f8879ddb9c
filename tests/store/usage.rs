//! Usage: recorded once, summed by hour.

use forge::store::*;

use super::AnyStore;

const HOUR: i64 = 3_600_000;
const NOON: i64 = 20_000 * 24 * HOUR + 12 * HOUR;

fn record(id: &str, at_unix_ms: i64) -> UsageRecord {
    UsageRecord {
        id: id.into(),
        request_id: format!("req_{id}"),
        at_unix_ms,
        attempt: Attempt::Answer,
        status: 200,
        key: "key_a".into(),
        tier: "pro".into(),
        owner: Some("own_a".into()),
        team: None,
        organisation: None,
        model: "gpt-5".into(),
        provider: "openai".into(),
        upstream_model: "gpt-5-2025".into(),
        endpoint: "chat_completions".into(),
        units: Units { input_tokens: 10, output_tokens: 3, reasoning_tokens: 1, ..Units::default() },
        estimated: false,
        price_version: "2026-01-01".into(),
        cost_microusd: 42,
    }
}

fn query(by: &[GroupBy], period: Period) -> UsageQuery {
    UsageQuery { filter: UsageFilter::default(), by: by.to_vec(), period, rows_max: 1000 }
}

pub async fn records_count_once(store: AnyStore) {
    let records = [record("a", NOON), record("b", NOON + 1), record("a", NOON)];
    assert_eq!(store.record_usage(&records).await.unwrap(), 2);
    assert_eq!(store.record_usage(&records).await.unwrap(), 0);
    assert_eq!(store.record_usage(&[record("b", NOON), record("c", NOON)]).await.unwrap(), 1);
    let sums = store.usage(&query(&[], Period::All)).await.unwrap();
    assert_eq!(sums.len(), 1);
    assert_eq!((sums[0].requests, sums[0].cost_microusd, sums[0].units.input_tokens), (3, 126, 30));
    assert_eq!((sums[0].period_unix_ms, sums[0].by.len()), (None, 0));
    let page = store.usage_records(&UsageFilter::default(), &PageRequest::first(2)).await.unwrap();
    assert_eq!(page.items[0], record("b", NOON + 1));
    let rest = PageRequest { limit: 2, after: page.next };
    let rest = store.usage_records(&UsageFilter::default(), &rest).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));
    assert_eq!(store.record_usage(&[]).await.unwrap(), 0);
}

pub async fn sums_are_by_what_was_asked(store: AnyStore) {
    let other = UsageRecord {
        key: "key_b".into(),
        owner: None,
        team: Some("team_x".into()),
        model: "claude".into(),
        estimated: true,
        cost_microusd: 1_000,
        ..record("b", NOON + HOUR)
    };
    let replaced =
        UsageRecord { attempt: Attempt::Replaced, provider: "azure".into(), ..record("c", NOON + 25 * HOUR) };
    assert_eq!(store.usage(&query(&[], Period::Hour)).await.unwrap(), []);
    store.record_usage(&[record("a", NOON), other, replaced]).await.unwrap();

    let by_key = store.usage(&query(&[GroupBy::Key, GroupBy::Owner], Period::All)).await.unwrap();
    let by: Vec<Vec<&str>> = by_key.iter().map(|row| row.by.iter().map(String::as_str).collect()).collect();
    assert_eq!(by, [["key_b", ""], ["key_a", "own_a"]], "the dearest first");
    assert_eq!((by_key[1].requests, by_key[1].replaced_attempts, by_key[1].estimated), (1, 1, 0));
    assert_eq!((by_key[0].estimated, by_key[0].units.output_tokens), (1, 3));

    let by_hour = store.usage(&query(&[], Period::Hour)).await.unwrap();
    let hours: Vec<Option<i64>> = by_hour.iter().map(|row| row.period_unix_ms).collect();
    assert_eq!(hours, [Some(NOON), Some(NOON + HOUR), Some(NOON + 25 * HOUR)]);
    let by_day = store.usage(&query(&[GroupBy::Provider], Period::Day)).await.unwrap();
    let midnight = NOON - 12 * HOUR;
    assert_eq!(by_day[0].period_unix_ms, Some(midnight));
    assert_eq!((by_day[1].period_unix_ms, by_day[1].by[0].as_str()), (Some(midnight + 24 * HOUR), "azure"));

    for by in GroupBy::ALL {
        let rows = store.usage(&query(&[by], Period::All)).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.cost_microusd).sum::<u64>(), 1_084, "{by:?}");
    }
    let filter = UsageFilter {
        from_unix_ms: Some(NOON + HOUR / 2),
        until_unix_ms: Some(NOON + HOUR + 1),
        only: vec![(GroupBy::Team, "team_x".into()), (GroupBy::Model, "claude".into())],
    };
    let narrowed = UsageQuery { filter: filter.clone(), ..query(&[], Period::All) };
    assert_eq!(store.usage(&narrowed).await.unwrap()[0].requests, 1);
    assert_eq!(store.usage_records(&filter, &PageRequest::default()).await.unwrap().items.len(), 1);
    let twice = store.usage(&query(&[GroupBy::Key, GroupBy::Key], Period::All)).await;
    assert!(matches!(twice, Err(StoreError::Invalid(_))), "{twice:?}");
}

pub async fn large_batches(store: AnyStore) {
    let records: Vec<UsageRecord> = (0..1234).map(|index| record(&format!("r{index}"), NOON + index)).collect();
    assert_eq!(store.record_usage(&records).await.unwrap(), 1234);
    assert_eq!(store.usage(&query(&[], Period::All)).await.unwrap()[0].units.input_tokens, 12_340);
}

pub async fn old_records_go_and_sums_stay(store: AnyStore) {
    store.record_usage(&[record("a", NOON), record("b", NOON + 100 * 24 * HOUR)]).await.unwrap();
    store.prune(NOON + 100 * 24 * HOUR, &Retention::default()).await.unwrap();
    let kept = store.usage_records(&UsageFilter::default(), &PageRequest::default()).await.unwrap();
    assert_eq!(kept.items.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(store.usage(&query(&[], Period::All)).await.unwrap()[0].requests, 2);
}
