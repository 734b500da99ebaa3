//! Operators that were given an old database.

use tinderbox_commit::{Message, Reply};
use tinderbox_flows::refusal::Reason;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{FlowRow, FlowState};

use super::{claim, done, payment, refused, scene};

/// Yesterday's tables beside today's signer: the shares in them were destroyed, and the leaf's
/// version has moved on elsewhere.
#[tokio::test(start_paused = true)]
async fn case_26_operator_restored_from_a_backup_refuses_leaves_that_moved_on() {
    for coordinator in 0..3 {
        let mut scene = scene(120).await;
        let id = scene.transfer_id();
        // What the old owner could sign yesterday, kept for today.
        let leaf = scene.leaf(0);
        let other = scene.transfer_id();
        let kept = Request::Send(Box::new(scene.payment(other, 0, 1, &[leaf]).await));
        let yesterday = scene.backup(2);
        let request = payment(&mut scene, id).await;
        done(&scene, 0, request).await;
        let request = claim(&mut scene, id).await;
        done(&scene, 1, request).await;
        scene.check();
        scene.restore(2, yesterday);
        let refusal = refused(&scene, coordinator, kept).await;
        assert!(!refusal.message.is_empty());
        for operator in [0, 1] {
            let node = scene.node(operator, &leaf);
            assert_eq!(node.owner, scene.owner(1).identity());
            assert_eq!(node.lock, None, "operator {operator}");
        }
        // The restored one gave nothing for it either.
        let gave = scene
            .rows::<FlowRow>(2)
            .into_iter()
            .any(|row| matches!(row.state, FlowState::Committed | FlowState::Done));
        assert!(!gave, "a share left the restored operator");
    }
}

/// A certificate that holds its own vote, which its database does not know.
#[tokio::test(start_paused = true)]
async fn case_26_restored_operator_that_is_shown_its_own_forgotten_vote_takes_no_part() {
    let mut scene = scene(121).await;
    let yesterday = scene.backup(2);
    let id = scene.transfer_id();
    let request = payment(&mut scene, id).await;
    done(&scene, 0, request).await;
    let flow = scene.rows::<FlowRow>(0).remove(0).id;
    let told = scene
        .say(
            2,
            0,
            Message::Inquire {
                flow,
                decide: false,
            },
        )
        .await;
    let Ok(Reply::Committed {
        certificate,
        outcome: Some(outcome),
        ..
    }) = told
    else {
        panic!("{told:?}");
    };
    scene.restore(2, yesterday);
    let before = scene.digest(2);
    let messages = [
        Message::Commit {
            flow,
            certificate: certificate.clone(),
        },
        Message::Finish {
            flow,
            certificate,
            outcome,
        },
    ];
    for message in messages {
        match scene.say(0, 2, message).await {
            Ok(Reply::Later(refusal)) => {
                assert_eq!(refusal.reason, Reason::InvalidState);
                assert!(
                    refusal.message.contains("older than its votes"),
                    "{refusal}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(scene.digest(2), before);
}
