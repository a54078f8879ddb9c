//! From samples to a report: medians, spreads, and ratios to the yardstick of the same round.

use std::fmt::Write;

use serde::Serialize;

use crate::case::{Case, StopRule};
use crate::gateway::Gateway;
use crate::measure::Sample;

/// The samples of one case through one gateway, one a round.
pub struct Series {
    /// What was measured.
    pub case: &'static Case,
    /// Through whom.
    pub gateway: Gateway,
    /// In the order of the rounds.
    pub samples: Vec<Sample>,
}

/// The whole report; its JSON form is what is kept.
#[derive(Serialize)]
pub struct Report {
    /// Where it was measured.
    pub machine: Machine,
    /// Rounds, and seconds counted in each.
    pub rounds: usize,
    /// Of each measurement that goes by time.
    pub seconds: f64,
    /// Case by case, gateway by gateway.
    pub rows: Vec<Row>,
}

/// Where it was measured.
#[derive(Serialize)]
pub struct Machine {
    /// The processor's name for itself.
    pub cpu: String,
    /// Processors the bench may use.
    pub cores: usize,
    /// Version of Linux.
    pub kernel: String,
    /// Mean number of runnable tasks in the minute before: 0 on a quiet machine.
    pub load_before: String,
}

/// One gateway in one case.
#[derive(Serialize)]
pub struct Row {
    case: &'static str,
    gateway: &'static str,
    /// User and system time of the gateway's process for each request.
    cpu_us: Spread,
    /// `cpu_us` over that of bare Pingora in the same round.
    cpu_ratio: Option<Spread>,
    /// The bound the project sets itself on the ratio's median; only Forge has one.
    cpu_ratio_max: Option<f64>,
    requests_per_s: Spread,
    p50_us: Spread,
    p99_us: Spread,
    /// Before the load.
    rss_idle_kib: Spread,
    rss_kib: Spread,
    /// What each of many open streams adds; only where that is the question.
    rss_per_stream_kib: Option<Spread>,
    /// In all rounds together; each was answered rightly.
    requests: usize,
}

/// A figure over the rounds.
#[derive(Serialize, Clone, Copy)]
pub struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// `None` when there are no figures.
    fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let median = (figures[(figures.len() - 1) / 2] + figures[figures.len() / 2]) / 2.0;
        Some(Self { median, min, max })
    }
}

impl Report {
    /// Sums up the samples.
    pub fn new(machine: Machine, seconds: f64, all: &[Series]) -> Self {
        let rounds = all.iter().map(|series| series.samples.len()).max().unwrap_or(0);
        let rows = all.iter().filter_map(|series| Row::new(series, all)).collect();
        Self { machine, rounds, seconds, rows }
    }

    /// A Markdown table, with a line on what it means.
    pub fn table(&self) -> String {
        let Machine { cpu, cores, kernel, load_before } = &self.machine;
        let mut text = format!(
            "{cpu}, {cores} cores, Linux {kernel}, load {load_before} before; {} rounds of {} s each. Median (min..max).\n\n\
             | case | gateway | CPU µs/request | x bare | requests/s | p50 ms | p99 ms | RSS MiB | KiB/stream |\n\
             |---|---|---|---|---|---|---|---|---|\n",
            self.rounds, self.seconds
        );
        for row in &self.rows {
            let _ = writeln!(text, "{}", row.line()); // writing to a String does not fail
        }
        text
    }

    /// Forge's rows over their bound.
    pub fn over_budget(&self) -> Vec<String> {
        let over = |row: &Row| Some(row.cpu_ratio?.median).zip(row.cpu_ratio_max).filter(|(ratio, max)| ratio > max);
        let words = |row: &Row| over(row).map(|(ratio, max)| format!("{}: {ratio:.2}x, bound {max}x", row.case));
        self.rows.iter().filter_map(words).collect()
    }
}

impl Row {
    fn new(series: &Series, all: &[Series]) -> Option<Self> {
        let figure = |get: fn(&Sample) -> f64| Spread::of(series.samples.iter().map(get));
        Some(Self {
            case: series.case.name,
            gateway: series.gateway.name(),
            cpu_us: figure(|sample| sample.cpu_us)?,
            cpu_ratio: ratio_to_bare(series, all),
            cpu_ratio_max: series.case.ratio_max.filter(|_| series.gateway == Gateway::Forge),
            requests_per_s: figure(|sample| sample.requests_per_s)?,
            p50_us: figure(|sample| sample.p50_us)?,
            p99_us: figure(|sample| sample.p99_us)?,
            rss_idle_kib: figure(|sample| sample.rss_idle_kib as f64)?,
            rss_kib: figure(|sample| sample.rss_kib as f64)?,
            rss_per_stream_kib: figure(|sample| sample.rss_per_connection_kib)
                .filter(|_| series.case.stop == StopRule::OnePerConnection),
            requests: series.samples.iter().map(|sample| sample.requests).sum(),
        })
    }

    fn line(&self) -> String {
        let ratio = self.cpu_ratio.map_or("-".to_owned(), |ratio| spread(ratio, 2));
        let stream = self.rss_per_stream_kib.map_or("-".to_owned(), |kib| format!("{:.0}", kib.median));
        format!(
            "| {} | {} | {} | {ratio} | {:.0} | {:.2} | {:.2} | {:.1} | {stream} |",
            self.case,
            self.gateway,
            spread(self.cpu_us, 1),
            self.requests_per_s.median,
            self.p50_us.median / 1e3,
            self.p99_us.median / 1e3,
            self.rss_kib.median / 1024.0,
        )
    }
}

/// Each round's ratio by itself: what disturbs a round disturbs both sides of it.
fn ratio_to_bare(series: &Series, all: &[Series]) -> Option<Spread> {
    let bare = all.iter().find(|other| other.case.name == series.case.name && other.gateway == Gateway::Bare)?;
    Spread::of(series.samples.iter().zip(&bare.samples).map(|(sample, bare)| sample.cpu_us / bare.cpu_us))
}

fn spread(figure: Spread, digits: usize) -> String {
    format!("{:.digits$} ({:.digits$}..{:.digits$})", figure.median, figure.min, figure.max)
}
