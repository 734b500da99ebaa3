use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::{NodeRow, NodeStatus, TransferRow};
use tinderbox_protocol::TransferId;
use tokio::time::sleep;

use super::super::check;
use super::super::path;
use super::*;
use crate::faults::Faults;

/// Runs `scenario` on three calm operators with one leaf per age.
fn play<T>(ages: &[Age], scenario: impl AsyncFnOnce(&mut Cluster, &mut ChaCha20Rng) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut rng = ChaCha20Rng::seed_from_u64(59);
        let mut cluster = Cluster::aged(&mut rng, 3, 2, 2, ages.len(), Faults::NONE, ages).await;
        scenario(&mut cluster, &mut rng).await
    })
}

async fn submit(cluster: &Cluster, operator: u16, request: Request) -> Result<(), Refusal> {
    let engine = cluster.network.engine(OperatorIndex(operator)).unwrap();
    engine.run(request).await.map(|_| ())
}

/// Waits until every operator has heard the end of every flow.
async fn quiet(cluster: &Cluster) {
    for _ in 0..60 {
        if check::open_flows(cluster) == 0 {
            return;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

fn leaf(cluster: &Cluster, place: usize) -> NodeRow {
    let id = NodeRow::id_of(&cluster.leaves[place]);
    cluster.row(0, &id).unwrap()
}

/// The age that a renewal of this kind leads to.
fn after(kind: RenewalKind, before: Age) -> Age {
    let node = match kind {
        RenewalKind::Refund => before.node - 100,
        RenewalKind::Node => 2000,
        RenewalKind::Zero => 0,
    };
    Age { node, refund: 2000 }
}

/// Case 59: node exhausted and refund healthy, both exhausted, node at zero, and all other pairs.
/// A leaf that cannot be sent any more can be renewed, and then it can be sent again.
#[test]
fn case_59_every_reachable_pair_of_timelocks_is_spendable_or_renews() {
    let ages: Vec<Age> = Age::reachable().collect();
    for age in &ages {
        let kinds = age.permitted();
        assert!(
            age.refund > 300 || !kinds.is_empty(),
            "{age:?} is stuck: no renewal is accepted"
        );
        for kind in kinds {
            let next = after(kind, *age);
            assert!(next.node <= 2000 && next.refund > 200, "{age:?} {kind}");
        }
    }
    // What differs in how it is renewed is renewed for real.
    let ages: Vec<Age> = [
        (100, 2000),
        (300, 1900),
        (100, 100),
        (200, 100),
        (200, 300),
        (300, 200),
        (2000, 100),
        (0, 100),
        (0, 300),
    ]
    .map(|(node, refund)| Age { node, refund })
    .to_vec();
    play(&ages, async |cluster, rng| {
        for (place, age) in ages.iter().enumerate() {
            for kind in age.permitted() {
                let before = leaf(cluster, place);
                if Age::of_leaf(&before) != *age {
                    // Renewed another way already.
                    continue;
                }
                let request = renewal_of(cluster, 0, &before, kind, rng).await.unwrap();
                submit(cluster, 1, request).await.unwrap();
                let renewed = leaf(cluster, place);
                assert_eq!(Age::of_leaf(&renewed), after(kind, *age), "{age:?} {kind}");
                assert_eq!(renewed.status, NodeStatus::Available);
                assert_eq!(renewed.id, before.id);
                assert_eq!(renewed.verifying_key, before.verifying_key);
                path::check(cluster, &renewed).unwrap();
            }
        }
        check::settled(0, cluster).unwrap();
        check::invariants(0, cluster, None, &[]).unwrap();
    });
}

#[test]
fn case_59_what_is_not_run_down_is_not_renewed_and_no_kind_stands_for_another() {
    let ages = [(0, 2000), (2000, 400), (400, 100), (0, 100), (100, 100)]
        .map(|(node, refund)| Age { node, refund });
    play(&ages, async |cluster, rng| {
        for (place, kind) in [
            (0, RenewalKind::Zero),
            (1, RenewalKind::Refund),
            (2, RenewalKind::Node),
        ] {
            let node = leaf(cluster, place);
            let request = renewal_of(cluster, 0, &node, kind, rng).await.unwrap();
            let refusal = submit(cluster, 0, request).await.unwrap_err();
            assert_eq!(refusal.reason, Reason::InvalidState, "{refusal}");
            assert_eq!(leaf(cluster, place).status, NodeStatus::Available);
        }
        // The transactions of another leaf, or of another kind, are not the expected ones.
        let node = leaf(cluster, 3);
        let Some(Request::Renew(mut request)) =
            renewal_of(cluster, 0, &node, RenewalKind::Zero, rng).await
        else {
            panic!("a renewal");
        };
        request.leaf = leaf(cluster, 4).id;
        let refusal = submit(cluster, 0, Request::Renew(request))
            .await
            .unwrap_err();
        assert!(
            matches!(refusal.reason, Reason::InvalidState | Reason::NotOwner),
            "{refusal}"
        );
        check::invariants(0, cluster, None, &[]).unwrap();
    });
}

#[test]
fn renewal_of_a_stranger_is_refused() {
    play(
        &[Age {
            node: 0,
            refund: 100,
        }],
        async |cluster, rng| {
            let node = leaf(cluster, 0);
            let Some(Request::Renew(mut request)) =
                renewal_of(cluster, 0, &node, RenewalKind::Zero, rng).await
            else {
                panic!("a renewal");
            };
            request.owner = cluster.owners[1].identity();
            let refusal = submit(cluster, 0, Request::Renew(request))
                .await
                .unwrap_err();
            assert_eq!(refusal.reason, Reason::NotOwner, "{refusal}");
            assert!(refusal.message.contains("not owned by"));
        },
    );
}

/// Case 59: renewal racing a payment. They take the same lease, so exactly one wins.
#[test]
fn case_59_renewal_and_payment_at_two_coordinators_exclude_each_other() {
    let mut won = [0, 0];
    for lead in [0, 1, 2, 3, 5, 8] {
        for renewal_first in [true, false] {
            play(
                &[Age {
                    node: 100,
                    refund: 200,
                }],
                async |cluster, rng| {
                    let node = leaf(cluster, 0);
                    let renewal = renewal_of(cluster, 0, &node, RenewalKind::Node, rng)
                        .await
                        .unwrap();
                    let payment = payment(cluster, &node, rng).await;
                    let wait = |mine: bool| Duration::from_millis(if mine { 0 } else { lead });
                    let (renewed, sent) = futures::join!(
                        async {
                            sleep(wait(renewal_first)).await;
                            submit(cluster, 0, renewal).await
                        },
                        async {
                            sleep(wait(!renewal_first)).await;
                            submit(cluster, 1, payment).await
                        }
                    );
                    assert!(
                        renewed.is_err() || sent.is_err(),
                        "both a renewal and a payment of one leaf were agreed on"
                    );
                    let after = leaf(cluster, 0);
                    match (renewed, sent) {
                        (Ok(()), _) => {
                            won[0] += 1;
                            assert_eq!(
                                Age::of_leaf(&after),
                                Age {
                                    node: 2000,
                                    refund: 2000
                                }
                            );
                            assert_eq!(cluster.rows::<TransferRow>(0).len(), 0);
                        }
                        (_, Ok(())) => {
                            won[1] += 1;
                            assert_eq!(after.status, NodeStatus::TransferLocked);
                            assert_eq!(after.parent, node.parent);
                        }
                        // Each was in the other's way: nothing has happened, and both can try again.
                        _ => assert_eq!(
                            after,
                            NodeRow {
                                updated: after.updated,
                                ..node
                            }
                        ),
                    }
                    quiet(cluster).await;
                    check::settled(0, cluster).unwrap();
                    check::invariants(0, cluster, None, &[]).unwrap();
                },
            );
        }
    }
    assert!(won[0] > 0 && won[1] > 0, "each wins sometimes: {won:?}");
}

async fn payment(cluster: &Cluster, node: &NodeRow, rng: &mut ChaCha20Rng) -> Request {
    let sender = cluster
        .owners
        .iter()
        .find(|owner| owner.identity() == node.owner)
        .unwrap();
    let receivers = [(node.id, cluster.owners[1].identity())].into();
    let id = TransferId(uuid::Builder::from_random_bytes(rng.r#gen()).into_uuid());
    let nonces = nonces(cluster, rng, 3).await;
    Request::Send(Box::new(sender.send(
        &cluster.site,
        id,
        now(cluster),
        std::slice::from_ref(node),
        &receivers,
        nonces,
        rng,
    )))
}

/// A leaf can be renewed again and again: its path grows, and stays whole.
#[test]
fn leaf_that_is_renewed_many_times_keeps_a_whole_path() {
    play(
        &[Age {
            node: 0,
            refund: 100,
        }],
        async |cluster, rng| {
            for round in 1..=4 {
                let node = leaf(cluster, 0);
                let request = renewal_of(cluster, 0, &node, RenewalKind::Zero, rng).await;
                let refusal = submit(cluster, 0, request.unwrap()).await.err();
                // Only the first time has its refund run down.
                assert_eq!(refusal.is_none(), round == 1, "{refusal:?}");
            }
            path::check(cluster, &leaf(cluster, 0)).unwrap();
            check::invariants(0, cluster, None, &[]).unwrap();
        },
    );
}
