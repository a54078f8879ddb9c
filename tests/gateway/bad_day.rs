//! A day on which most providers misbehave: the clients hardly notice, and the providers are not made worse.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::client::{Client, Request};
use crate::support::gateway::{Gateway, PROVIDER_KEY, routes};
use crate::support::upstream::{Reply, Upstream};
use crate::world::{CHAT, chat, provider};

/// What a good provider takes for an answer.
const SERVICE: Duration = Duration::from_millis(50);
/// How long the day is.
const DAY: Duration = Duration::from_secs(22);
/// When everything that is to be learnt is learnt.
const LEARNT: Duration = Duration::from_secs(10);
const WORKERS: usize = 14;
/// Of the workers, those that only ask the good provider: what a request takes on this machine now.
const CONTROLS: usize = 4;

fn good() -> Reply {
    Reply::ok().delayed(SERVICE)
}

/// Three of ten answers are errors.
fn unreliable() -> Vec<Reply> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..3000).map(|_| if random.u8(0..10) < 3 { Reply::error(500) } else { good() }).collect()
}

struct Day {
    good: Upstream,
    unreliable: Upstream,
    hanging: Upstream,
    slow: Upstream,
    flapping: Upstream,
    limited: Upstream,
}

impl Day {
    async fn begin() -> Self {
        let day = Self {
            good: Upstream::start().await,
            unreliable: Upstream::start().await,
            hanging: Upstream::start().await,
            slow: Upstream::start().await,
            flapping: Upstream::start().await,
            limited: Upstream::start().await,
        };
        for upstream in [&day.good, &day.unreliable, &day.flapping, &day.limited] {
            upstream.otherwise(good());
        }
        day.unreliable.script(unreliable());
        day.hanging.otherwise(Reply::hang());
        day.slow.otherwise(Reply::ok().delayed(12 * SERVICE));
        day
    }

    fn routes(&self) -> String {
        let all = [
            ("good", &self.good),
            ("unreliable", &self.unreliable),
            ("hanging", &self.hanging),
            ("slow", &self.slow),
            ("flapping", &self.flapping),
            ("limited", &self.limited),
        ];
        let providers: String = all.iter().map(|(name, at)| provider(name, "openai", at.port())).collect();
        let keys: Vec<String> = (0..4).map(|number| format!("\"plain:key-{number}\"")).collect();
        let (one_key, four_keys) = (format!("\"plain:{PROVIDER_KEY}\""), format!("[{}]", keys.join(", ")));
        let providers = match providers.rsplit_once(&one_key) {
            Some((before, after)) => format!("{before}{four_keys}{after}"),
            None => panic!("no key to replace in {providers}"),
        };
        let to: Vec<String> = all.iter().map(|(name, _)| format!("{name}/x")).collect();
        routes(&format!(
            "providers:\n{providers}models:\n  m: {{ to: [{}], pick: p2c, timeouts: {{ first_byte: 1s }} }}\n  control: good/y\n",
            to.join(", ")
        ))
    }

    /// Turns the flapping provider over and over, and lets one key after another run into its limit.
    async fn go_on(&self, until: Instant) {
        let mut turns = 0;
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(400)).await;
            turns += 1;
            self.limited.script([Reply::error(429).header("retry-after", "1")]);
            self.flapping.otherwise(if turns / 2 % 2 == 0 { good() } else { Reply::reset() });
        }
    }
}

/// One request as its client saw it.
struct Seen {
    began: Instant,
    took: Duration,
    status: u16,
}

/// Asks for `model` again and again.
async fn work(gateway: Arc<Gateway>, model: &'static str, until: Instant) -> Vec<Seen> {
    let request = Request::post(CHAT, chat(model));
    let mut client = Client::connect(gateway.addr).await;
    let mut seen = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        let answer = client.send_then_read(&request).await;
        seen.push(Seen { began, took: began.elapsed(), status: answer.status });
        if answer.header("connection") == Some("close") {
            client = Client::connect(gateway.addr).await;
        }
        tokio::time::sleep(SERVICE).await;
    }
    seen
}

fn p99(seen: &[Seen], from: Instant) -> Duration {
    let mut took: Vec<Duration> = seen.iter().filter(|seen| seen.began >= from).map(|seen| seen.took).collect();
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_hardly_notice_a_bad_day() {
    let day = Day::begin().await;
    let gateway = Arc::new(Gateway::start(&day.routes()).await);
    let began = Instant::now();
    let until = began + DAY;
    let worker = |model| tokio::spawn(work(Arc::clone(&gateway), model, until));
    let workers: Vec<_> = (CONTROLS..WORKERS).map(|_| worker("m")).collect();
    let controls: Vec<_> = (0..CONTROLS).map(|_| worker("control")).collect();
    day.go_on(until).await;
    let (mut seen, mut control) = (Vec::new(), Vec::new());
    for worker in workers {
        seen.extend(worker.await.unwrap());
    }
    for worker in controls {
        control.extend(worker.await.unwrap());
    }

    let failed: Vec<u16> = seen.iter().map(|seen| seen.status).filter(|status| *status != 200).collect();
    assert!(seen.len() > 500, "too slow to tell: {}", seen.len());
    assert!(failed.len() * 1000 <= seen.len(), "{} of {} failed: {failed:?}", failed.len(), seen.len());

    let (p99, usual) = (p99(&seen, began + LEARNT), p99(&control, began + LEARNT));
    assert!(p99 <= 2 * usual, "p99 {p99:?} where a good provider's is {usual:?}");

    let page = gateway.metrics().await;
    let attempts = crate::support::gateway::sum_samples(&page, "forge_upstream_attempts_total", &[]);
    let per_request = (attempts - control.len() as f64) / seen.len() as f64;
    assert!(per_request <= 1.2, "{per_request} attempts per request");
    for (provider, reason) in
        [("hanging", "failing"), ("unreliable", "failing"), ("flapping", "failing"), ("limited", "rate_limited")]
    {
        let labels = [format!("provider=\"{provider}\""), format!("reason=\"{reason}\"")];
        let ejections = [&*labels[0], &*labels[1]];
        let ejections = crate::support::gateway::sum_samples(&page, "forge_upstream_ejections_total", &ejections);
        assert!(ejections >= 1.0, "{provider} was put out");
    }
    println!("{} requests, {per_request:.3} attempts each, p99 {p99:?} against {usual:?}", seen.len());
}
