//! What the kernel says about a gateway's process (proc(5)).

use std::fs;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};

/// CPU time of all threads so far, user and system, to the nanosecond: `/proc/PID/task/TID/schedstat`, field 1.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let schedstat = fs::read_to_string(task?.path().join("schedstat"))?;
        let nanos = schedstat.split_whitespace().next().context("empty schedstat")?.parse()?;
        total += Duration::from_nanos(nanos);
    }
    Ok(total)
}

/// Resident memory in KiB.
pub fn rss_kib(pid: u32) -> Result<u64> {
    status_kib(pid, "VmRSS:")
}

/// Highest resident memory in KiB since the start or `reset_rss_peak`.
pub fn rss_peak_kib(pid: u32) -> Result<u64> {
    status_kib(pid, "VmHWM:")
}

/// Sets the peak back to what is resident now.
pub fn reset_rss_peak(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    fs::OpenOptions::new().write(true).open(path)?.write_all(b"5").context("clear_refs")
}

/// How many descriptors are open.
pub fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

fn status_kib(pid: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}
