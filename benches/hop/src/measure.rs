//! One measurement: a fresh upstream, a fresh gateway, one case.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::case::{Arrival, Case, MODEL, StopRule};
use crate::client::{Client, Door, Prepared, Request};
use crate::gateway::{Gateway, Places, Running};
use crate::link::{Certificate, Link};
use crate::load::{Load, Pace, Stop};
use crate::process;
use crate::upstream::{Upstream, answer_body};

/// How to measure.
pub struct Settings {
    /// Where things are.
    pub places: Places,
    /// What TLS is spoken with.
    pub certificate: Certificate,
    /// How long the counted part takes.
    pub time: Duration,
    /// A program with arguments that looks at the gateway meanwhile; the process id is added as its last argument.
    pub attach: Option<String>,
}

/// What one measurement brought.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Requests completed.
    pub requests: usize,
    /// CPU time of the gateway, user and system, for each of them.
    pub cpu_us: f64,
    /// Requests completed in a second.
    pub requests_per_s: f64,
    /// Median latency.
    pub p50_us: f64,
    /// Latency that 99 of 100 requests stay under.
    pub p99_us: f64,
    /// The gateway's resident memory before the load.
    pub rss_idle_kib: u64,
    /// The gateway's highest resident memory.
    pub rss_kib: u64,
    /// How much of it came with the load, for each connection.
    pub rss_per_connection_kib: f64,
}

/// Runs `case` through `gateway`.
///
/// # Errors
/// A wrong answer, a failed request or a gateway that does not start: nothing was measured then.
pub async fn measure(gateway: Gateway, case: &Case, settings: &Settings) -> Result<Sample> {
    let pace = match case.arrival {
        Arrival::Closed => Pace::Closed,
        Arrival::HalfLoad => Pace::Every(half_load(case, settings).await?),
    };
    let (_upstream, running, mut load) = ready(gateway, case, settings).await?;
    if case.stop == StopRule::Time {
        load.run().await?;
    }
    (load.stop, load.pace) = (case.stop(settings.time), pace);
    let observer = settings.attach.as_deref().map(|command| Observer::start(command, running.pid())).transpose()?;
    let sample = count(&running, &load).await?;
    if let Some(observer) = observer {
        observer.finish()?;
    }
    Ok(sample)
}

const WARM_UP: Stop = Stop::After(Duration::from_millis(300));

/// A gateway that answers rightly, and the load to warm it up with.
async fn ready(gateway: Gateway, case: &Case, settings: &Settings) -> Result<(Upstream, Running, Load)> {
    let upstream = Upstream::start(case.mode, case.link, &settings.certificate).await?;
    let running = gateway.start(&settings.places, (case.link, &settings.certificate), upstream.addr)?;
    let tls = if case.link == Link::Tls { Some(settings.certificate.connector()?) } else { None };
    let door = Door { addr: running.addr, link: case.link, tls };
    let request = request(case, &running.key);
    verify((gateway, case), &request, (&upstream, &door)).await.context("the answer is wrong")?;
    let load = Load { stop: WARM_UP, ..Load::new(door, &request, case.connections)? };
    Ok((upstream, running, load))
}

/// The time between two requests at half of what bare Pingora does at most, here and now.
async fn half_load(case: &Case, settings: &Settings) -> Result<Duration> {
    let (_upstream, _running, mut load) = ready(Gateway::Bare, case, settings).await?;
    load.run().await?;
    load.stop = Stop::After(settings.time / 2);
    let outcome = load.run().await?;
    Ok(2 * outcome.elapsed / u32::try_from(outcome.latencies.len())?)
}

async fn count(gateway: &Running, load: &Load) -> Result<Sample> {
    let pid = gateway.pid();
    process::reset_rss_peak(pid)?;
    let (rss_before_kib, cpu_before) = (process::rss_kib(pid)?, process::cpu_time(pid)?);
    let outcome = load.run().await?;
    let cpu = process::cpu_time(pid)?.saturating_sub(cpu_before);
    let rss_kib = process::rss_peak_kib(pid)?;

    let requests = outcome.latencies.len();
    ensure!(requests > 0, "no request was completed");
    let percentile_us = |percent: usize| micros(outcome.latencies[(requests * percent / 100).min(requests - 1)]);
    Ok(Sample {
        requests,
        cpu_us: micros(cpu) / requests as f64,
        requests_per_s: requests as f64 / outcome.elapsed.as_secs_f64(),
        p50_us: percentile_us(50),
        p99_us: percentile_us(99),
        rss_idle_kib: rss_before_kib,
        rss_kib,
        rss_per_connection_kib: rss_kib.saturating_sub(rss_before_kib) as f64 / load.clients as f64,
    })
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// One request, looked at from both ends: what the upstream got and what the client got.
async fn verify((gateway, case): (Gateway, &Case), request: &Request, ends: (&Upstream, &Door)) -> Result<()> {
    let (upstream, door) = ends;
    upstream.capture();
    let mut clients = Client::connect(door, 1).await?;
    let client = clients.first_mut().context("no client")?;
    let answer = client.fetch(&Prepared::new(request, door.addr)?).await?;
    let seen = String::from_utf8(upstream.captured())?;

    let name = |model: &str| format!("\"model\":\"{model}\"");
    let sent = String::from_utf8(case.body())?.replace(&name(MODEL), &name(gateway.model_upstream()));
    ensure!(seen == sent, "the upstream got {} bytes instead of {}: {seen:.200}", seen.len(), sent.len());
    let answer = String::from_utf8(answer)?;
    ensure!(answer == answer_body(case.mode, gateway.model_answered()), "the client got {answer:.500}");
    Ok(())
}

/// A request with the headers an SDK sends.
pub fn request(case: &Case, key: &str) -> Request {
    let fields = vec![
        ("authorization", format!("Bearer {key}")),
        ("accept", "application/json".to_owned()),
        ("accept-encoding", "identity".to_owned()),
        ("content-type", "application/json".to_owned()),
        ("user-agent", "OpenAI/Python 2.8.0".to_owned()),
        ("x-stainless-lang", "python".to_owned()),
        ("x-stainless-package-version", "2.8.0".to_owned()),
    ];
    Request { fields, path: "/v1/chat/completions", body: case.body().into() }
}

/// A program that looks at the gateway while it is measured.
struct Observer(Child);

impl Observer {
    fn start(command: &str, pid: u32) -> Result<Self> {
        let mut words = command.split_whitespace();
        let program = words.next().context("--attach names no program")?;
        let child = Command::new(program).args(words).arg(pid.to_string()).stdin(Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_millis(500)); // it says nowhere when it is ready
        Ok(Self(child))
    }

    /// Ends it as Ctrl-C would, so that it writes its result.
    fn finish(mut self) -> Result<()> {
        Command::new("kill").args(["-INT", &self.0.id().to_string()]).status()?;
        self.0.wait()?;
        Ok(())
    }
}
