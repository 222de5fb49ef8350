//! What a case takes: time, this process' share of the processors, memory.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Runs from its start.
pub(crate) struct Meter {
    begun: Instant,
    used: Duration,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { begun: Instant::now(), used: used() }
    }

    /// Tasks a second, and microseconds of the processor for each.
    pub(crate) fn stop(&self, tasks: usize) -> [f64; 2] {
        let (took, used) = (self.begun.elapsed(), used() - self.used);
        let tasks = tasks as f64;
        [tasks / took.as_secs_f64(), used.as_secs_f64() * 1e6 / tasks]
    }
}

/// What this process has used of the processors.
fn used() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// What this process holds in memory now, as Linux says.
pub(crate) fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1024.0
}
