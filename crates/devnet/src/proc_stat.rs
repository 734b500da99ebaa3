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
