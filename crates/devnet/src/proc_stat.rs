//! CPU time of processes, as the operating system counts it.

use std::time::Duration;

/// Clock ticks per second in the process table; fixed at 100 on Linux.
const TICKS: u64 = 100;

/// CPU time, user and system, that process `pid` has used. Zero if it cannot be read.
pub(crate) fn cpu(pid: u32) -> Duration {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return Duration::ZERO;
    };
    // The name is in brackets and may hold anything; what follows is made of numbers.
    let Some((_, fields)) = text.rsplit_once(')') else {
        return Duration::ZERO;
    };
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Memory of process `pid` that is in use, in bytes; none if it does not run.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
