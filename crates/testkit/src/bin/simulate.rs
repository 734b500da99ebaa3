//! Plays simulator seeds: `simulate FROM COUNT`. Prints progress; stops at the first broken
//! invariant with its seed and what happened before.

use std::process::ExitCode;

use tinderbox_testkit::sim::{Plan, Report, run};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let (Some(Ok(from)), Some(Ok(count)), None) = (args.next(), args.next(), args.next()) else {
        eprintln!("usage: simulate FROM COUNT (both numbers)");
        return ExitCode::from(2);
    };
    let mut total = Report::default();
    for seed in from..from.saturating_add(count) {
        match run(seed, Plan::of(seed)) {
            Ok(report) => {
                total.add(&report);
            }
            Err(broken) => {
                eprintln!("{broken}\n\nplay it again: simulate {seed} 1");
                return ExitCode::FAILURE;
            }
        }
        if (seed - from + 1) % 100 == 0 {
            println!("{} seeds: {total}", seed - from + 1);
        }
    }
    println!("{count} seeds from {from}, no broken invariant: {total}");
    ExitCode::SUCCESS
}
