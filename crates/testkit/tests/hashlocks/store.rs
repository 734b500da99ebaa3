//! Preimages in shares.

use tinderbox_flows::refusal::Reason;
use tinderbox_flows::request::Request;
use tinderbox_flows::secret::Preimage;

use super::{OPERATORS, PREIMAGE, done, refused, scene};

#[tokio::test(start_paused = true)]
async fn shares_are_stored_everywhere_and_the_first_write_wins() {
    let mut scene = scene(30).await;
    let first = scene.deposit_preimage(1, &PREIMAGE, &PREIMAGE, 100);
    done(&scene, 0, Request::StorePreimage(Box::new(first))).await;
    let stored: Vec<_> = (0..OPERATORS)
        .map(|operator| scene.preimage_share(operator, &PREIMAGE).unwrap())
        .collect();
    assert!(stored.iter().all(|row| row.proofs == stored[0].proofs));
    assert!(stored.iter().all(|row| row.held.is_none()));
    // Whoever reads the hash in the invoice may not take it over.
    let second = scene.deposit_preimage(0, &PREIMAGE, &Preimage([3; 32]), 100);
    let refusal = refused(&scene, 1, Request::StorePreimage(Box::new(second))).await;
    assert_eq!(refusal.reason, Reason::DuplicateOperation);
    for (operator, row) in (0..OPERATORS).zip(stored) {
        assert_eq!(scene.preimage_share(operator, &PREIMAGE), Some(row));
    }
}

/// Case 20: shares that do not fit their proofs, or too few of either.
#[tokio::test(start_paused = true)]
async fn case_20_wrong_shares_of_a_preimage_are_refused_everywhere() {
    let mut scene = scene(31).await;
    for place in 0..6 {
        let mut bad = scene.deposit_preimage(1, &PREIMAGE, &PREIMAGE, 100);
        let other = scene.deposit_preimage(1, &PREIMAGE, &PREIMAGE, 100);
        let names: Vec<String> = bad.shares.keys().cloned().collect();
        match place {
            // Each operator's share fits its proofs; the polynomials differ.
            0 => {
                let theirs = other.shares[&names[1]].clone();
                bad.shares.insert(names[1].clone(), theirs);
            }
            // Another operator's share.
            1 => {
                let theirs = bad.shares[&names[0]].clone();
                bad.shares.insert(names[1].clone(), theirs);
            }
            2 => drop(bad.shares.remove(&names[2])),
            3 => bad.threshold = 1,
            4 => bad.payment_hash = [5; 32],
            _ => bad.invoice = "lnbcrt1nothing".into(),
        }
        let refusal = refused(&scene, 0, Request::StorePreimage(Box::new(bad))).await;
        assert_ne!(refusal.reason, Reason::Internal, "{place}: {refusal}");
        scene.heal().await;
        for operator in 0..OPERATORS {
            assert!(
                scene.preimage_share(operator, &PREIMAGE).is_none(),
                "{place}: operator {operator}"
            );
        }
    }
}
