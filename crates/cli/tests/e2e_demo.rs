//! `tinderbox demo`, as a person runs it: a coin goes in, moves twice, and comes out although all
//! operators were killed.

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;

/// What the demo may take, on a busy machine too.
const BOUND: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_demo_holds_every_step_within_a_minute() {
    let begun = Instant::now();
    let demo = Command::new(common::program())
        .arg("demo")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(BOUND, demo)
        .await
        .expect("the demo is over within a minute")
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{told}\n{errors}",
        output.status
    );
    assert!(!errors.contains("panicked"), "{errors}");
    // Steps are numbered; each is told with what happened.
    for step in 1..=7 {
        assert!(
            told.contains(&format!(" s] {step}. ")),
            "step {step}:\n{told}"
        );
    }
    assert_eq!(told.matches(": killed").count(), 3, "{told}");
    assert!(told.contains("Every step held."), "{told}");
    println!("{:.1} s", begun.elapsed().as_secs_f64());
}

#[tokio::test]
async fn a_demo_that_cannot_run_ends_with_an_error_that_says_why() {
    let output = Command::new(common::program())
        .args(["demo", "--operators", "9"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(BOUND, output)
        .await
        .expect("it ends")
        .expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("2 to 5 operators"), "{errors}");
}
