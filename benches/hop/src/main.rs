//! The whole hop, measured: client -> gateway -> upstream on one machine, for Forge, bare Pingora and nginx.
//!
//! Client and upstream are ours and share one thread of this process; the gateway is a process of its own with one
//! data-plane thread. What counts is its CPU time per request, taken from the kernel: it holds on a small or busy
//! machine where latencies do not. Gateways take turns within a case and a round, every measurement in a fresh
//! process, and ratios compare measurements of the same round. A request that fails fails the bench.
//!
//! `scripts/bench.sh` builds and runs it; `scripts/profile.sh` attaches a profiler to one case.

mod case;
mod client;
mod gateway;
mod link;
mod load;
mod measure;
mod process;
mod report;
mod soak;
mod upstream;
mod wire;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::case::{CASES, Case};
use crate::gateway::{Gateway, Places};
use crate::link::Certificate;
use crate::measure::{Settings, measure};
use crate::report::{Machine, Report, Series};

/// Measures one hop through Forge, bare Pingora and nginx.
#[derive(Parser)]
struct Args {
    /// Where the built programs are.
    #[arg(long, default_value = "target/release")]
    bin: PathBuf,
    /// Where hop.json, hop.md, configurations and logs go.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds counted in each measurement.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// A few cases only.
    #[arg(long)]
    quick: bool,
    /// Only cases whose name holds this.
    #[arg(long, default_value = "")]
    case: String,
    /// Only these gateways.
    #[arg(long, value_enum, value_delimiter = ',')]
    gateways: Option<Vec<Gateway>>,
    /// A program that looks at each gateway while it is measured, such as `strace -cfp`; the process id is added.
    #[arg(long)]
    attach: Option<String>,
    /// Instead of measuring: so many minutes of mixed load on Forge, after which memory, descriptors and counters
    /// must be in order.
    #[arg(long, value_name = "MINUTES")]
    soak: Option<f64>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let machine = machine()?;
    fs::create_dir_all(&args.out)?;
    let work = args.out.canonicalize()?;
    let settings = Settings {
        certificate: Certificate::make(&work)?,
        places: Places { bin: args.bin.canonicalize()?, work },
        time: Duration::try_from_secs_f64(args.seconds)?,
        attach: args.attach.clone(),
    };
    // An open load keeps its thread busy: sockets are looked at between any few steps of it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(8).build()?;
    if let Some(minutes) = args.soak {
        return runtime.block_on(soak::soak(&settings, Duration::try_from_secs_f64(minutes * 60.0)?));
    }
    let mut all = plan(&args, &settings.places)?;
    for round in 1..=args.rounds {
        for series in &mut all {
            let what = format!("round {round}, {}, {}", series.case.name, series.gateway.name());
            let sample = runtime.block_on(measure(series.gateway, series.case, &settings)).context(what.clone())?;
            eprintln!("{what}: {:.1} µs CPU/request, {:.0} requests/s", sample.cpu_us, sample.requests_per_s);
            series.samples.push(sample);
        }
    }
    publish(&Report::new(machine, args.seconds, &all), &settings.places)
}

/// What is measured in each round, in this order.
fn plan(args: &Args, places: &Places) -> Result<Vec<Series>> {
    let wanted = |case: &&Case| case.name.contains(&args.case) && (case.quick || !args.quick);
    let gateways: Vec<Gateway> = args.gateways.clone().unwrap_or(Gateway::ALL.to_vec());
    let (installed, absent): (Vec<_>, Vec<_>) = gateways.into_iter().partition(|gateway| gateway.is_installed(places));
    for gateway in absent {
        eprintln!("SKIPPED: {} is not installed", gateway.name());
    }
    let series = |case, gateway: &Gateway| Series { case, gateway: *gateway, samples: Vec::new() };
    let all: Vec<_> = CASES
        .iter()
        .filter(wanted)
        .flat_map(|case| {
            installed.iter().filter(|gateway| gateway.takes_part(case)).map(move |gateway| series(case, gateway))
        })
        .collect();
    ensure!(!all.is_empty(), "nothing to measure");
    Ok(all)
}

fn publish(report: &Report, places: &Places) -> Result<()> {
    let table = report.table();
    fs::write(places.work.join("hop.json"), serde_json::to_string_pretty(report)?)?;
    fs::write(places.work.join("hop.md"), &table)?;
    println!("{table}");
    for excess in report.over_budget() {
        println!("OVER BUDGET: {excess}");
    }
    Ok(())
}

fn machine() -> Result<Machine> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(Machine {
        cpu: model.trim_start_matches([' ', '\t', ':']).to_owned(),
        cores: std::thread::available_parallelism()?.get(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        load_before: load.split_whitespace().next().unwrap_or_default().to_owned(),
    })
}
