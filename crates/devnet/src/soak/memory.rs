//! The operators' memory over time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{DevNet, proc_stat};

/// How much an operator that is left alone may grow, beside a quarter of what it has.
const SLACK: u64 = 32 * 1024 * 1024;

struct Sample {
    at: Duration,
    index: u16,
    pid: u32,
    bytes: u64,
}

/// Samples of resident memory.
pub(super) struct Memory {
    begun: Instant,
    samples: Mutex<Vec<Sample>>,
}

impl Memory {
    pub(super) const fn new(begun: Instant) -> Self {
        Self {
            begun,
            samples: Mutex::new(Vec::new()),
        }
    }

    /// Looks at every operator that runs.
    pub(super) fn look(&self, net: &DevNet) {
        let at = self.begun.elapsed();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, pid) in net.pids() {
            let index = name
                .strip_prefix("operator ")
                .and_then(|rest| rest.parse().ok());
            let (Some(index), Some(bytes)) = (index, proc_stat::resident(pid)) else {
                continue;
            };
            samples.push(Sample {
                at,
                index,
                pid,
                bytes,
            });
        }
    }

    /// The most that each operator ever had in MiB, and who grew. An operator is judged by the
    /// process that lived longest: between the middle of its life, when its caches are full, and
    /// the end it must stay what it is.
    pub(super) fn verdict(&self, operators: u16) -> (Vec<u64>, Vec<String>) {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let mut most = Vec::new();
        let mut grown = Vec::new();
        for index in 0..operators {
            let own: Vec<&Sample> = samples
                .iter()
                .filter(|sample| sample.index == index)
                .collect();
            most.push(own.iter().map(|sample| sample.bytes).max().unwrap_or(0) >> 20);
            let lives = own.chunk_by(|one, other| one.pid == other.pid);
            let Some(longest) = lives.max_by_key(|life| span(life)) else {
                continue;
            };
            let middle =
                longest.first().map_or(Duration::ZERO, |first| first.at) + span(longest) / 2;
            let (before, after): (Vec<&Sample>, Vec<&Sample>) = longest
                .iter()
                .copied()
                .partition(|sample| sample.at < middle);
            let peak = |part: &[&Sample]| part.iter().map(|sample| sample.bytes).max().unwrap_or(0);
            let (before, after) = (peak(&before), peak(&after));
            if after > before + before / 4 + SLACK {
                grown.push(format!(
                    "operator {index} grew from {} to {} MiB in {} s",
                    before >> 20,
                    after >> 20,
                    span(longest).as_secs() / 2
                ));
            }
        }
        (most, grown)
    }
}

fn span(life: &[&Sample]) -> Duration {
    match (life.first(), life.last()) {
        (Some(first), Some(last)) => last.at.saturating_sub(first.at),
        _ => Duration::ZERO,
    }
}
