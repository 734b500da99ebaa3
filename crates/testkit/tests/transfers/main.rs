//! Transfers beyond plain payments: invoices, and transfers that wait for something and go back to
//! their sender. Cases are numbered in `docs/cases.md`.

mod finalize;
mod invoices;
mod returns;
mod staged;

use tinderbox_flows::flow::Outcome;
use tinderbox_flows::refusal::Refusal;
use tinderbox_flows::request::Request;
use tinderbox_testkit::sim::Scene;

/// Three operators of which two sign; wallets 0 and 1; `leaves` leaves, dealt in turn.
async fn scene(seed: u64, leaves: usize) -> Scene {
    Scene::new(seed, 3, 2, leaves).await
}

/// Runs a request at an operator that stays up, to a good end.
async fn done(scene: &Scene, operator: u16, request: Request) -> Outcome {
    let answer = scene.run(operator, request).await;
    answer
        .expect("the operator stays up")
        .unwrap_or_else(|refusal| panic!("{refusal}\n{}", scene.log().join("\n")))
}

/// Runs a request that must be refused.
async fn refused(scene: &Scene, operator: u16, request: Request) -> Refusal {
    let answer = scene.run(operator, request).await;
    match answer.expect("the operator stays up") {
        Ok(_) => panic!("it was not refused"),
        Err(refusal) => refusal,
    }
}
