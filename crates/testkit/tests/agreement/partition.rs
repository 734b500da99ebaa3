//! Operators that are down, and networks that fall apart.

use std::sync::{Arc, Mutex};

use tinderbox_flows::refusal::Reason;
use tinderbox_testkit::sim::Fate;

use super::{assert_never_happened, done, ends_well, payment, refused, scene};

/// Which payments work with an operator down: none, because every operator's share of a key that
/// moves must move. Nothing is locked by the attempt, and the same payment goes on when it is back.
#[tokio::test(start_paused = true)]
async fn case_40_with_one_operator_down_a_payment_is_refused_and_locks_nothing() {
    let mut scene = scene(110).await;
    let id = scene.transfer_id();
    scene.crash(2);
    let request = payment(&mut scene, id).await;
    for coordinator in [0, 1] {
        let refusal = refused(&scene, coordinator, request.clone()).await;
        assert_eq!(refusal.reason, Reason::OperatorUnavailable, "{refusal}");
        assert!(refusal.is_transient());
        assert!(refusal.message.contains("try again"), "{refusal}");
    }
    // Those that are up have let go of the leaf at once, before anybody is repaired.
    for operator in [0, 1] {
        let node = scene.node(operator, &scene.leaf(0));
        assert_eq!(node.lock, None);
    }
    scene.revive();
    scene.heal().await;
    assert_never_happened(&scene, id);
    let again = payment(&mut scene, id).await;
    done(&scene, 0, again).await;
    ends_well(&mut scene, id).await;
}

/// The coordinator is cut off from the others after each of its messages, in both directions.
#[tokio::test(start_paused = true)]
async fn case_40_partition_at_any_moment_heals_without_a_manual_step() {
    let mut place = 0;
    loop {
        let mut scene = scene(111).await;
        let id = scene.transfer_id();
        let request = payment(&mut scene, id).await;
        let cut = Arc::new(Mutex::new(false));
        let is_cut = Arc::clone(&cut);
        scene.on_message(move |passing| {
            let mut cut = is_cut.lock().unwrap();
            *cut |= passing.place >= place;
            if *cut && (passing.from.0 == 0) != (passing.to.0 == 0) {
                Fate::LoseRequest
            } else {
                Fate::Carry
            }
        });
        let _ = scene.run(0, request).await;
        // Both sides try for a while on their own.
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        let cut = *cut.lock().unwrap();
        scene.heal().await;
        ends_well(&mut scene, id).await;
        if !cut {
            break;
        }
        place += 1;
        assert!(place < 40, "a payment does not have so many messages");
    }
    assert!(place >= 6, "only {place} messages");
}

/// Nobody reaches anybody.
#[tokio::test(start_paused = true)]
async fn case_40_full_partition_heals_without_a_manual_step() {
    for place in 0..8 {
        let mut scene = scene(112).await;
        let id = scene.transfer_id();
        let request = payment(&mut scene, id).await;
        scene.on_message(move |passing| {
            if passing.place >= place {
                Fate::LoseRequest
            } else {
                Fate::Carry
            }
        });
        let _ = scene.run(1, request).await;
        tokio::time::sleep(std::time::Duration::from_secs(120)).await;
        scene.heal().await;
        ends_well(&mut scene, id).await;
    }
}
