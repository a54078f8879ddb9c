//! The process itself, read from /proc when asked: proc(5). Names are those of Prometheus' client libraries.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Counter, IntGauge, Opts};

use super::maker::Maker;
use super::signed;

/// Ticks per second in /proc/self/stat: USER_HZ, 100 in the kernel's ABI on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;
/// /proc/self/status says kB and means KiB.
const BYTES_PER_KIB: i64 = 1024;

pub(super) struct ProcessMetrics {
    cpu_seconds: Counter,
    resident_bytes: IntGauge,
    virtual_bytes: IntGauge,
    threads: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    pub(super) took_over: IntGauge,
}

impl ProcessMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        make.build_info();
        let started_at = make.gauge("process_start_time_seconds", "When this process started.");
        started_at.set(signed(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()));
        let metrics = Self {
            cpu_seconds: make.seconds("process_cpu_seconds_total", "User and system CPU time."),
            resident_bytes: make.gauge("process_resident_memory_bytes", "Resident memory."),
            virtual_bytes: make.gauge("process_virtual_memory_bytes", "Virtual memory."),
            threads: make.gauge("process_threads", "Threads."),
            open_fds: make.gauge("process_open_fds", "Open file descriptors."),
            max_fds: make.gauge("process_max_fds", "Soft limit of open file descriptors."),
            took_over: make.gauge(
                "forge_took_over",
                "1: the listeners came from another process, which finishes its requests uncounted here.",
            ),
        };
        metrics.refresh();
        metrics
    }

    /// Reads /proc; what cannot be read keeps its last value.
    pub(super) fn refresh(&self) {
        if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
            let cpu_seconds = cpu_seconds(&stat).unwrap_or(0.0);
            self.cpu_seconds.inc_by((cpu_seconds - self.cpu_seconds.get()).max(0.0));
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            set(&self.resident_bytes, field(&status, "VmRSS:").map(|kib| kib * BYTES_PER_KIB));
            set(&self.virtual_bytes, field(&status, "VmSize:").map(|kib| kib * BYTES_PER_KIB));
            set(&self.threads, field(&status, "Threads:"));
        }
        if let Ok(limits) = fs::read_to_string("/proc/self/limits") {
            set(&self.max_fds, field(&limits, "Max open files"));
        }
        // The folder being read is itself one descriptor.
        set(&self.open_fds, fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as i64 - 1));
    }
}

impl Maker {
    fn seconds(&self, name: &str, help: &str) -> Counter {
        self.registered(Counter::new(name, help))
    }

    fn build_info(&self) {
        let labels =
            Opts::new("forge_build_info", "The build: always 1.").const_label("version", env!("CARGO_PKG_VERSION"));
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        self.registered(IntGauge::with_opts(labels.const_label("profile", profile))).set(1);
    }
}

fn set(gauge: &IntGauge, value: Option<i64>) {
    if let Some(value) = value {
        gauge.set(value);
    }
}

/// utime and stime, the 14th and 15th field; the second may hold spaces, but ends in the last `)`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    let utime: f64 = fields.next()?.parse().ok()?;
    let stime: f64 = fields.next()?.parse().ok()?;
    Some((utime + stime) / TICKS_PER_SECOND)
}

/// The first number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_a_hostile_command_name() {
        let stat = "7 (a) b) 1 (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 100 0 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (a"), None);
    }

    #[test]
    fn fields_are_found_by_line() {
        let text = "Name:\tx\nVmRSS:\t  1234 kB\nMax open files            1024   4096  files\n";
        assert_eq!(field(text, "VmRSS:"), Some(1234));
        assert_eq!(field(text, "Max open files"), Some(1024));
        assert_eq!(field(text, "Threads:"), None);
    }
}
