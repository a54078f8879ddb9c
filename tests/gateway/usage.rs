//! Usage: read from every endpoint's answer, asked for in streams, priced, recorded once, never lost.

use std::time::Duration;

use forge::store::{Attempt, PageRequest, SqliteStore, Store, UsageFilter, UsageRecord};

use crate::support::client::{Request, Sending};
use crate::support::client_h2::H2Stream;
use crate::support::gateway::{Gateway, Setup, routes};
use crate::support::upstream::{Gate, Reply, Step, Upstream, sse_event};
use crate::support::{PATIENCE, eventually};
use crate::world::{CHAT, MESSAGES, chat, chat_stream, provider};

const ASKED: &str = r#""stream_options":{"include_usage":true}"#;

struct Metered {
    gateway: Gateway,
    upstream: Upstream,
}

impl Metered {
    async fn start() -> Self {
        Self::with_conf("", "").await
    }

    /// With these keys of provider `up`, and these lines of forge.yaml.
    async fn with_conf(keys: &str, conf: &str) -> Self {
        let upstream = Upstream::start().await;
        let up = provider("up", "openai", upstream.port()).replace(" }", &format!("{keys} }}"));
        let text = format!(
            "providers:\n{up}{}  spare: {{ dialect: openai, url: \"http://127.0.0.1:{}/v1\" }}\nmodels:\n  \
             m: {{ to: up/upstream-name, else: spare, price: {{ input: 3.00, cached_input: 0.30, output: 15.00 }} }}\n  \
             claude-m: claude/claude-upstream\n  \
             sound: {{ to: up, price: {{ characters: 15, minute: 0.006 }} }}\n  \
             pictures: {{ to: up, price: {{ image: 0.04 }} }}\n",
            provider("claude", "anthropic", upstream.port()),
            upstream.port(),
        );
        let setup = Setup { routes: routes(&text), conf: conf.to_owned(), ..Setup::default() };
        Self { gateway: Gateway::start_with(setup).await, upstream }
    }

    /// All records in the store.
    async fn all(&self) -> Vec<UsageRecord> {
        let store = SqliteStore::open(&self.gateway.dir.path().join("forge.db")).await.unwrap();
        let (mut records, mut page) = (Vec::new(), PageRequest::first(PageRequest::LIMIT_MAX));
        loop {
            let found = store.usage_records(&UsageFilter::default(), &page).await.unwrap();
            records.extend(found.items);
            match found.next {
                Some(cursor) => page.after = Some(cursor),
                None => return records,
            }
        }
    }

    /// The records in the store once there are so many, the oldest first.
    async fn records(&self, count: usize) -> Vec<UsageRecord> {
        let store = SqliteStore::open(&self.gateway.dir.path().join("forge.db")).await.unwrap();
        let begun = std::time::Instant::now();
        loop {
            let page = PageRequest { limit: 500, ..PageRequest::default() };
            let mut records = store.usage_records(&UsageFilter::default(), &page).await.unwrap().items;
            records.sort_by(|one, two| one.id.cmp(&two.id));
            if records.len() >= count {
                assert_eq!(records.len(), count, "{records:?}");
                return records;
            }
            assert!(begun.elapsed() < PATIENCE, "{count} records, not {records:?}\n{}", self.gateway.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn only(&self) -> UsageRecord {
        self.records(1).await.remove(0)
    }
}

fn usage(prompt: u64, completion: u64) -> String {
    format!(
        r#""usage":{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{}}}"#,
        prompt + completion
    )
}

fn delta(text: &str) -> String {
    sse_event(&format!(r#"{{"id":"1","model":"x","choices":[{{"delta":{{"content":"{text}"}}}}],"usage":null}}"#))
}

fn stream(usage: &str) -> Vec<String> {
    let last = sse_event(&format!(r#"{{"id":"1","model":"x","choices":[],{usage}}}"#));
    vec![delta("one"), delta(" two"), last, "data: [DONE]\n\n".into()]
}

/// Tokens in and out, and whether they were estimated.
fn tokens(record: &UsageRecord) -> (u64, u64, bool) {
    (record.units.input_tokens, record.units.output_tokens, record.estimated)
}

#[tokio::test]
async fn a_plain_answer_is_recorded_and_priced() {
    let world = Metered::start().await;
    let body = r#"{"id":"1","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":7,"total_tokens":1007,"prompt_tokens_details":{"cached_tokens":600}}}"#;
    world.upstream.script([Reply::json(200, body)]);
    let answer = world.gateway.post(CHAT, chat("m")).await.expect(200);
    let record = world.only().await;
    assert_eq!(tokens(&record), (1000, 7, false));
    assert_eq!((record.cost_microusd, record.units.cached_input_tokens), (400 * 3 + 180 + 105, 600));
    assert_eq!((record.attempt, record.status, record.price_version.len()), (Attempt::Answer, 200, 12));
    assert_eq!((record.key.as_str(), record.tier.as_str()), ("static:tester", "all"));
    let names = (record.model.as_str(), record.provider.as_str(), record.upstream_model.as_str());
    assert_eq!((names, record.endpoint.as_str()), (("m", "up", "upstream-name"), "chat_completions"));
    assert_eq!(Some(record.request_id.as_str()), answer.header("x-request-id"));
    world.gateway.access_line("input_tokens=1000 output_tokens=7").await;
    let labels = ["model=\"m\"", "provider=\"up\""];
    let of = |kind: &'static str| [labels[0], labels[1], kind];
    assert_eq!(world.gateway.metric("forge_usage_units_total", &of("kind=\"input_tokens\"")).await, 1000.0);
    assert_eq!(world.gateway.metric("forge_usage_cost_microusd_total", &labels).await, 1485.0);
    assert_eq!(world.gateway.metric("forge_usage_records_total", &of("estimated=\"false\"")).await, 1.0);
    assert_eq!(world.gateway.metric("forge_usage_journal_records", &[]).await, 0.0);
}

#[tokio::test]
async fn streams_are_asked_for_usage_and_the_client_does_not_notice() {
    let world = Metered::start().await;
    let body = chat_stream("m");
    let chunked = Request::post(CHAT, &body).sending(Sending::Chunked(7));
    for (index, request) in [Request::post(CHAT, &body), chunked].into_iter().enumerate() {
        world.upstream.script([Reply::sse(stream(&usage(9, 3)))]);
        let text = world.gateway.send(&request).await.expect(200).text();
        assert!(
            text.contains("one") && text.ends_with("data: [DONE]\n\n") && !text.contains("prompt_tokens"),
            "{text}"
        );
        let sent = world.upstream.last();
        assert!(sent.text().contains(ASKED) && sent.faults.is_empty() && sent.complete, "{}", sent.text());
        serde_json::from_str::<serde_json::Value>(&sent.text()).unwrap();
        assert_eq!(tokens(&world.records(index + 1).await[index]), (9, 3, false));
    }
    world.upstream.script([Reply::sse(stream(&usage(9, 3)))]);
    let mut h2 = H2Stream::open(world.gateway.addr, &Request::post(CHAT, &body)).await.unwrap();
    let mut text = String::new();
    while let Some(piece) = h2.next_piece().await.unwrap() {
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    assert!(!text.contains("prompt_tokens") && text.ends_with("[DONE]\n\n"), "{text}");
    assert_eq!(tokens(&world.records(3).await[2]), (9, 3, false));
}

#[tokio::test]
async fn a_body_that_comes_slowly_is_asked_within_the_length_announced() {
    let world = Metered::with_conf("", "bounds: { body_memory_bytes_max: 8 }").await;
    for (body, asks) in [
        (r#"{"stream":true,"model":"m","messages":[{"role":"user","content":"hi"}]}"#, true),
        (r#"{"stream":true,"model":"m","messages":[],"stream_options":{"include_usage":true}}"#, true),
        (r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":false}"#, false),
        (r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"n":1}  "#, false),
        (r#"{"stream":true,"model":"m","stream_options":{"include_usage":false},"messages":[]}"#, true),
        (r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}"#, false),
    ] {
        let answer =
            if asks { Reply::sse(stream(&usage(1, 1))) } else { Reply::json(200, &format!("{{{}}}", usage(1, 1))) };
        world.upstream.script([answer]);
        let request = Request::post(CHAT, body);
        let mut client = world.gateway.connect().await;
        client.send(&request.head_bytes()).await.unwrap();
        for piece in [&body.as_bytes()[..30], &body.as_bytes()[30..45], &body.as_bytes()[45..]] {
            client.send(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        client.read().await.unwrap().expect(200);
        let sent = world.upstream.last();
        assert!(sent.complete && sent.faults.is_empty(), "{sent:?}");
        let read: serde_json::Value = serde_json::from_str(&sent.text()).unwrap();
        assert_eq!(read["stream_options"]["include_usage"] == true, asks, "{}", sent.text());
        if !asks {
            assert_eq!(sent.text(), body.replace("\"m\"", "\"upstream-name\""));
        }
    }
    assert_eq!(world.records(6).await.len(), 6);
}

#[tokio::test]
async fn a_client_that_asks_itself_gets_its_chunk() {
    let world = Metered::start().await;
    let body = chat_stream("m").replace("\"stream\":true", &format!("\"stream\":true,{ASKED}"));
    world.upstream.script([Reply::sse(stream(&usage(9, 3)))]);
    let text = world.gateway.post(CHAT, &body).await.expect(200).text();
    assert!(text.contains("prompt_tokens"), "{text}");
    assert_eq!(world.upstream.last().text(), body.replace("\"m\"", "\"upstream-name\""));
    assert_eq!(tokens(&world.only().await), (9, 3, false));
}

#[tokio::test]
async fn a_provider_can_be_left_alone() {
    let world = Metered::with_conf(", stream_usage: leave", "").await;
    world.upstream.script([Reply::sse(stream(&usage(9, 3)))]);
    let text = world.gateway.post(CHAT, chat_stream("m")).await.expect(200).text();
    assert!(text.contains("prompt_tokens"), "what it says by itself passes: {text}");
    assert!(!world.upstream.last().text().contains("stream_options"));
    assert_eq!(tokens(&world.only().await), (9, 3, false));
}

#[tokio::test]
async fn nothing_is_asked_where_nothing_is_recorded() {
    let world = crate::world::World::with_conf("store: none").await;
    world.upstream.script([Reply::sse(stream(&usage(9, 3)))]);
    world.gateway.post(CHAT, chat_stream("m")).await.expect(200);
    assert!(!world.upstream.last().text().contains("stream_options"));
    assert!(!world.gateway.access_line("stream=true").await.contains("input_tokens"));
}

#[tokio::test]
async fn every_endpoint_is_read() {
    let world = Metered::start().await;
    let start = r#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":25,"cache_read_input_tokens":5,"output_tokens":1}}}"#;
    let end = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}"#;
    let events =
        [sse_event(start), sse_event(r#"{"type":"content_block_delta","delta":{"text":"a"}}"#), sse_event(end)];
    let completed = r#"{"type":"response.completed","response":{"usage":{"input_tokens":37,"output_tokens":11,"total_tokens":48}}}"#;
    let responses = [sse_event(r#"{"type":"response.output_text.delta","delta":"a"}"#), sse_event(completed)];
    let rerank = r#"{"results":[{"index":0},{"index":1}],"meta":{"billed_units":{"search_units":1}}}"#;
    let cases: Vec<(&str, String, Reply)> = vec![
        (MESSAGES, chat_stream("claude-m"), Reply::sse(&events)),
        (
            MESSAGES,
            chat("claude-m"),
            Reply::json(200, r#"{"content":[],"usage":{"input_tokens":4,"output_tokens":2}}"#),
        ),
        ("/v1/responses", r#"{"model":"m","stream":true,"input":"x"}"#.into(), Reply::sse(&responses)),
        ("/v1/completions", r#"{"model":"m","prompt":"x"}"#.into(), Reply::json(200, &format!("{{{}}}", usage(5, 6)))),
        (
            "/v1/embeddings",
            r#"{"model":"m","input":"x"}"#.into(),
            Reply::json(200, r#"{"data":[{"embedding":[1,2]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#),
        ),
        (
            "/v1/audio/speech",
            r#"{"model":"sound","input":"Hello, \u09b8","voice":"x"}"#.into(),
            Reply::body(200, "audio/mpeg", [0xFF; 99]),
        ),
        (
            "/v1/images/generations",
            r#"{"model":"pictures","prompt":"x"}"#.into(),
            Reply::json(200, r#"{"created":1,"data":[{"url":"a"},{"url":"b"}]}"#),
        ),
        ("/v1/rerank", r#"{"model":"m","query":"x","documents":["a","b"]}"#.into(), Reply::json(200, rerank)),
        ("/v1/moderations", r#"{"model":"m","input":"x"}"#.into(), Reply::json(200, r#"{"results":[]}"#)),
    ];
    let count = cases.len();
    for (path, body, reply) in cases {
        world.upstream.script([reply]);
        world.gateway.post(path, body).await.expect(200);
    }
    let form = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nsound\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n--b--\r\n";
    let upload = Request::post("/v1/audio/transcriptions", form).without("content-type");
    let upload = upload.header("content-type", "multipart/form-data; boundary=b");
    world.upstream.script([Reply::json(200, r#"{"text":"hi","usage":{"type":"duration","seconds":90}}"#)]);
    world.gateway.send(&upload).await.expect(200);
    let records = world.records(count + 1).await;
    let amounts: Vec<[u64; 6]> = records
        .iter()
        .map(|record| {
            let units = &record.units;
            [units.input_tokens, units.output_tokens, units.images, units.characters, units.audio_ms, units.searches]
        })
        .collect();
    // Tokens in and out, pictures, characters, milliseconds, searches.
    let expected = [
        [30, 15, 0, 0, 0, 0],
        [4, 2, 0, 0, 0, 0],
        [37, 11, 0, 0, 0, 0],
        [5, 6, 0, 0, 0, 0],
        [8, 0, 0, 0, 0, 0],
        [0, 0, 0, 8, 0, 0],
        [0, 0, 2, 0, 0, 0],
        [0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 90_000, 0],
    ];
    assert_eq!(amounts, expected);
    let costs = [records[5].cost_microusd, records[6].cost_microusd, records[9].cost_microusd];
    assert_eq!(costs, [120, 80_000, 9_000]);
    assert!(records.iter().all(|record| !record.estimated));
}

#[tokio::test]
async fn what_nobody_reports_is_estimated() {
    let world = Metered::start().await;
    let said = "The quick brown fox jumps over the lazy dog. ".repeat(20);
    let body = format!(r#"{{"choices":[{{"message":{{"role":"assistant","content":"{said}"}}}}]}}"#);
    let events: Vec<String> = said.split_inclusive(' ').map(delta).collect();
    world.upstream.script([Reply::json(200, &body), Reply::sse(&events)]);
    world.gateway.post(CHAT, chat("m")).await.expect(200);
    world.gateway.post(CHAT, chat_stream("m")).await.expect(200);
    for record in world.records(2).await {
        let (input, output, estimated) = tokens(&record);
        // o200k has 10 tokens for the sentence, of which bytes alone would make 12.
        assert!(estimated && (195..=205).contains(&output) && (10..40).contains(&input), "{record:?}");
        assert_eq!(record.cost_microusd, input * 3 + output * 15);
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_billed_for_what_was_said_so_far() {
    let world = Metered::start().await;
    let gate = Gate::new();
    let mut reply = Reply::sse_head();
    for _ in 0..10 {
        reply = reply.then(Step::Data(delta("four words in each ").into()));
    }
    world.upstream.script([reply.then(Step::Wait(gate.clone())).then(Step::Hang)]);
    let mut client = world.gateway.connect().await;
    client.send(&Request::post(CHAT, chat_stream("m")).wire()).await.unwrap();
    let mut reading = client.read_head().await.unwrap();
    client.read_until(&mut reading, "four").await;
    gate.open(1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.reset();
    let record = world.only().await;
    let (input, output, estimated) = tokens(&record);
    assert!(estimated && (35..=50).contains(&output) && input > 5, "{record:?}");
    world.gateway.access_line("aborted=true").await;
}

#[tokio::test]
async fn an_attempt_that_was_billed_and_replaced_has_a_record_of_its_own() {
    let world = Metered::start().await;
    let billed = sse_event(&format!(r#"{{"choices":[],{}}}"#, usage(50, 1)));
    let error = sse_event(r#"{"error":{"message":"overloaded"}}"#);
    world.upstream.script([Reply::sse([billed, error]), Reply::sse(stream(&usage(9, 3)))]);
    let text = world.gateway.post(CHAT, chat_stream("m")).await.expect(200).text();
    assert!(!text.contains("prompt_tokens") && !text.contains("overloaded"), "{text}");
    assert!(world.upstream.received().iter().all(|request| request.text().contains(ASKED)));
    let records = world.records(2).await;
    let of = |record: &UsageRecord| (record.attempt, record.provider.clone(), tokens(record));
    assert_eq!(of(&records[0]), (Attempt::Replaced, "up".to_owned(), (50, 1, false)));
    assert_eq!(of(&records[1]), (Attempt::Answer, "spare".to_owned(), (9, 3, false)));
    assert_eq!(records[0].request_id, records[1].request_id);
}

#[tokio::test]
async fn refusals_and_failures_cost_nothing() {
    let world = Metered::start().await;
    world.upstream.script([Reply::error(400)]);
    world.gateway.post(CHAT, chat("m")).await.expect(400);
    world.upstream.script([Reply::error(500), Reply::error(500)]);
    assert!(world.gateway.post(CHAT, chat("m")).await.status >= 500);
    world.gateway.post(CHAT, chat("unknown")).await.expect(404);
    world.upstream.script([Reply::json(200, r#"{"usage":{"input_tokens":1,"output_tokens":1}}"#)]);
    world.gateway.post(MESSAGES, chat("claude-m")).await.expect(200);
    assert_eq!(tokens(&world.only().await), (1, 1, false));
}

#[tokio::test]
async fn a_full_journal_is_counted_and_requests_go_on() {
    let upstream = Upstream::start().await;
    upstream.otherwise(Reply::json(200, &format!("{{{}}}", usage(1, 1))));
    let text = format!("providers:\n{}models:\n  m: up\n", provider("up", "openai", upstream.port()));
    let dir = tempfile::tempdir().unwrap();
    let conf = format!("usage: {{ journal: {}, journal_bytes_max: 10 }}\n", dir.path().display());
    let gateway = Gateway::start_with(Setup { routes: routes(&text), conf, ..Setup::default() }).await;
    gateway.post(CHAT, chat("m")).await.expect(200);
    gateway.post(CHAT, chat("m")).await.expect(200);
    assert_eq!(gateway.metric("forge_usage_dropped_total", &[]).await, 2.0);
    eventually("a line about it", || gateway.output().contains("the usage journal is full")).await;
}

/// Request ids of answers that came whole, as long as the gateway lives.
async fn load(addr: std::net::SocketAddr, number: usize) -> Vec<String> {
    let mut whole = Vec::new();
    let Ok(stream) = tokio::net::TcpStream::connect(addr).await else { return whole };
    drop(stream);
    let mut client = crate::support::client::Client::connect(addr).await;
    for turn in 0.. {
        let body = if usize::is_multiple_of(turn + number, 2) { chat("m") } else { chat_stream("m") };
        if client.send(&Request::post(CHAT, body).wire()).await.is_err() {
            break;
        }
        match client.read().await {
            Ok(answer) if answer.status == 200 && answer.faults.is_empty() => {
                whole.push(answer.header("x-request-id").unwrap().to_owned());
            }
            Ok(_) | Err(_) => break,
        }
    }
    whole
}

#[tokio::test]
async fn a_gateway_killed_at_any_moment_loses_no_usage_that_a_client_has_whole() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 5;
    let mut world = Metered::start().await;
    world.upstream.otherwise(Reply::sse(stream(&usage(7, 3))));
    let mut whole = Vec::new();
    for _ in 0..ROUNDS {
        let addr = world.gateway.addr;
        let clients: Vec<_> = (0..CLIENTS).map(|number| tokio::spawn(load(addr, number))).collect();
        tokio::time::sleep(Duration::from_millis(fastrand::u64(100..600))).await;
        world.gateway.signal("KILL");
        world.gateway.exited_within(PATIENCE).await;
        for client in clients {
            whole.extend(client.await.unwrap());
        }
        world.gateway.restart();
        let begun = std::time::Instant::now();
        while world.gateway.probe("/readyz").await != Some(200) {
            assert!(begun.elapsed() < PATIENCE, "{}", world.gateway.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert!(whole.len() > ROUNDS * CLIENTS, "only {} answers", whole.len());
    let begun = std::time::Instant::now();
    loop {
        let records = world.all().await;
        let recorded = |id: &String| records.iter().filter(|record| record.request_id == *id).count();
        if whole.iter().all(|id| recorded(id) == 1) {
            // What more there is was under way when it was killed.
            assert!(records.len() <= whole.len() + ROUNDS * CLIENTS, "{} for {}", records.len(), whole.len());
            let of_whole = records.iter().filter(|record| whole.contains(&record.request_id));
            let sums = of_whole.fold((0, 0), |sums, record| {
                assert!(!record.estimated, "{record:?}");
                (sums.0 + record.units.input_tokens, sums.1 + record.units.output_tokens)
            });
            assert_eq!(sums, (7 * whole.len() as u64, 3 * whole.len() as u64));
            return;
        }
        let missing = whole.iter().filter(|id| recorded(id) != 1).count();
        assert!(begun.elapsed() < PATIENCE, "{missing} of {} are missing or twice there", whole.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_store_that_is_away_gets_all_of_it_later() {
    use sqlx::{Connection, SqliteConnection};
    let world = Metered::start().await;
    world.upstream.otherwise(Reply::json(200, &format!("{{{}}}", usage(7, 3))));
    world.gateway.post(CHAT, chat("m")).await.expect(200);
    world.only().await;
    let path = world.gateway.dir.path().join("forge.db");
    let mut other = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    for _ in 0..50 {
        world.gateway.post(CHAT, chat("m")).await.expect(200);
    }
    eventually("a line about it", || world.gateway.output().contains("usage stays in the journal")).await;
    assert!(world.gateway.metric("forge_usage_journal_records", &[]).await >= 50.0);
    assert!(world.gateway.metric("forge_usage_journal_bytes", &[]).await > 5000.0);
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    let records = world.records(51).await;
    assert!(records.iter().all(|record| tokens(record) == (7, 3, false)));
}
