//! Messages that are lost, doubled, late, out of turn, or about something else.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::seq::SliceRandom;
use tinderbox_commit::{Certificate, Message, Reply, SignedVote};
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{FlowId, FlowRow, NodeStatus};
use tinderbox_frost::OperatorIndex;
use tinderbox_testkit::sim::{Fate, Scene};

use super::{
    OPERATORS, assert_is_claimed, assert_never_happened, claim, done, ends_well, payment, scene,
};

/// Messages of one payment and claim at most.
const MOST: usize = 40;

#[tokio::test(start_paused = true)]
async fn case_29_any_one_message_lost_doubled_or_late_changes_nothing_in_the_end() {
    let fates: [fn() -> Fate; 4] = [
        || Fate::LoseRequest,
        || Fate::LoseReply,
        || Fate::Double(Duration::from_secs(3)),
        || Fate::Late(Duration::from_secs(7)),
    ];
    for fate in fates {
        let mut places = 0;
        for place in 0..MOST {
            let mut scene = scene(3).await;
            let id = scene.transfer_id();
            let request = payment(&mut scene, id).await;
            let met = Arc::new(Mutex::new(false));
            let hit = Arc::clone(&met);
            scene.on_message(move |passing| {
                if passing.place == place {
                    *hit.lock().unwrap() = true;
                    return fate();
                }
                Fate::Carry
            });
            let _ = scene.run(0, request).await;
            let met = *met.lock().unwrap();
            scene.heal().await;
            ends_well(&mut scene, id).await;
            if !met {
                break;
            }
            places += 1;
        }
        assert!((6..MOST).contains(&places), "{places} messages");
    }
}

/// Everything that was ever said about a payment and its claim is said again, in any order, after
/// the leaf has moved on: not a byte changes.
#[tokio::test(start_paused = true)]
async fn case_29_old_messages_after_a_later_flow_change_nothing() {
    let mut scene = scene(4).await;
    let said: Arc<Mutex<Vec<(OperatorIndex, OperatorIndex, Message)>>> = Arc::default();
    let ears = Arc::clone(&said);
    scene.on_message(move |passing| {
        let copy = (passing.from, passing.to, passing.message.clone());
        ears.lock().unwrap().push(copy);
        Fate::Carry
    });
    let first = scene.transfer_id();
    let request = payment(&mut scene, first).await;
    done(&scene, 0, request).await;
    let request = claim(&mut scene, first).await;
    done(&scene, 1, request).await;
    scene.calm();
    // The later flow: the leaf goes back to wallet 0 and waits there.
    let leaf = scene.leaf(0);
    let back = scene.transfer_id();
    let request = Request::Send(Box::new(scene.payment(back, 1, 0, &[leaf]).await));
    done(&scene, 2, request).await;
    scene.heal().await;
    let before: Vec<[u8; 32]> = (0..OPERATORS).map(|index| scene.digest(index)).collect();
    let mut old = said.lock().unwrap().clone();
    assert!(old.len() >= 12, "{} messages", old.len());
    old.shuffle(scene.rng());
    for (from, to, message) in old {
        let text = format!("{message:?}");
        let reply = scene.say(from.0, to.0, message).await.expect("a reply");
        assert!(
            matches!(
                reply,
                Reply::Committed {
                    outcome: Some(_),
                    ..
                }
            ),
            "{text}: {reply:?}"
        );
    }
    let after: Vec<[u8; 32]> = (0..OPERATORS).map(|index| scene.digest(index)).collect();
    assert_eq!(before, after, "an old message changed something");
    let request = Request::Claim(Box::new(scene.claim(back, 0).await));
    done(&scene, 0, request).await;
    scene.check();
}

/// An operator's genuine no on a flow of which it has heard nothing else.
async fn no_of(scene: &Scene, operator: u16, flow: FlowId) -> (SignedVote, Refusal) {
    let asked = Message::Inquire { flow, decide: true };
    let asker = (operator + 1) % OPERATORS;
    match scene.say(asker, operator, asked).await {
        Ok(Reply::No { vote, refusal }) => (vote, refusal),
        other => panic!("{other:?}"),
    }
}

fn prepare(flow: FlowId, coordinator: u16, request: &Request) -> Message {
    Message::Prepare {
        flow,
        coordinator: OperatorIndex(coordinator),
        request: request.encode().expect("it encodes"),
    }
}

/// A yes, or a panic.
async fn yes(scene: &Scene, from: u16, to: u16, message: Message) -> SignedVote {
    match scene.say(from, to, message).await {
        Ok(Reply::Yes(vote)) => vote,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn case_30_prepare_that_comes_after_a_refusal_locks_nothing() {
    let mut scene = scene(5).await;
    let id = scene.transfer_id();
    let request = payment(&mut scene, id).await;
    let flow = scene.flow_id();
    let (vote, refusal) = no_of(&scene, 2, flow).await;
    let refuse = Message::Refuse {
        flow,
        vote,
        refusal,
    };
    // Operator 1 hears the no before it hears the question; operator 2 has said no itself.
    let burnt = scene.say(0, 1, refuse).await;
    assert!(matches!(burnt, Ok(Reply::No { .. })), "{burnt:?}");
    for peer in [1, 2] {
        let late = scene.say(0, peer, prepare(flow, 0, &request)).await;
        assert!(matches!(late, Ok(Reply::No { .. })), "{late:?}");
    }
    assert_never_happened(&scene, id);
    assert_eq!(scene.open_flows(), 0);
    ends_well(&mut scene, id).await;
}

#[tokio::test(start_paused = true)]
async fn case_31_certificate_of_another_flow_moves_nothing() {
    let mut scene = Scene::new(6, 3, 2, 4).await;
    let (one, other) = (scene.transfer_id(), scene.transfer_id());
    let (leaf, another) = (scene.leaf(0), scene.leaf(2));
    let requests = [
        Request::Send(Box::new(scene.payment(one, 0, 1, &[leaf]).await)),
        Request::Send(Box::new(scene.payment(other, 0, 1, &[another]).await)),
    ];
    let flows = [scene.flow_id(), scene.flow_id()];
    let mut votes = [Vec::new(), Vec::new()];
    for place in 0..2 {
        for peer in 0..3 {
            let message = prepare(flows[place], 0, &requests[place]);
            votes[place].push(yes(&scene, 0, peer, message).await);
        }
    }
    let before = scene.digest(1);
    // The decision on the first payment, shown for the second; and one of votes of both.
    let mixed = vec![
        votes[1][0].clone(),
        votes[1][1].clone(),
        votes[0][2].clone(),
    ];
    for wrong in [votes[0].clone(), mixed] {
        let message = Message::Commit {
            flow: flows[1],
            certificate: Certificate { votes: wrong },
        };
        let reply = scene.say(0, 1, message).await;
        match reply {
            Ok(Reply::Later(refusal)) => assert_eq!(refusal.reason, Reason::BadSignature),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(scene.digest(1), before, "something was written");
    // Each ends by its own votes.
    scene.heal().await;
    scene.check();
    for id in [one, other] {
        assert!(super::is_paid(&scene, id));
    }
}

#[tokio::test(start_paused = true)]
async fn case_32_forged_coordinators_and_flows_without_an_age_are_turned_away() {
    let mut scene = scene(7).await;
    let id = scene.transfer_id();
    let request = payment(&mut scene, id).await;
    let flow = scene.flow_id();
    let before = scene.digest(1);
    // Operator 0 speaks in operator 2's name, and in that of the operator that it asks, and in
    // that of one that does not exist.
    for coordinator in [2, 1, 77] {
        let reply = scene.say(0, 1, prepare(flow, coordinator, &request)).await;
        match reply {
            Ok(Reply::Later(refusal)) => assert_eq!(refusal.reason, Reason::NotOwner),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(scene.digest(1), before, "something was written");
    // An id of no time at all, and one of next year: a vote on it could be the second.
    let next_year = FlowId::new(
        tinderbox_flows::rows::Millis(flow.made().0 + 365 * 24 * 3600 * 1000),
        [7; 10],
    );
    for flow in [FlowId([0; 16]), next_year] {
        match scene.say(0, 1, prepare(flow, 0, &request)).await {
            Ok(Reply::No { refusal, .. }) => assert_eq!(refusal.reason, Reason::Expired),
            other => panic!("{other:?}"),
        }
    }
    assert_never_happened(&scene, id);
    ends_well(&mut scene, id).await;
}

/// A rollback needs somebody's signature.
#[tokio::test(start_paused = true)]
async fn case_29_refusal_without_a_signed_no_rolls_nothing_back() {
    let mut scene = scene(8).await;
    let id = scene.transfer_id();
    let request = payment(&mut scene, id).await;
    let flow = scene.flow_id();
    let own = yes(&scene, 0, 1, prepare(flow, 0, &request)).await;
    // A yes shown as a no, and a no on another flow.
    let other = scene.flow_id();
    let (elsewhere, _) = no_of(&scene, 2, other).await;
    let mut turned = own.clone();
    turned.vote.yes = false;
    for vote in [own, turned, elsewhere] {
        let refuse = Message::Refuse {
            flow,
            vote,
            refusal: Refusal::new(Reason::Internal, "made up"),
        };
        let reply = scene.say(0, 1, refuse).await;
        match reply {
            Ok(Reply::Later(refusal)) => assert_eq!(refusal.reason, Reason::BadSignature),
            other => panic!("{other:?}"),
        }
        let node = scene.node(1, &scene.leaf(0));
        assert_eq!(node.status, NodeStatus::TransferLocked);
        assert!(scene.rows::<FlowRow>(1).iter().any(FlowRow::is_open));
    }
    // Nobody coordinates it: the operators find out among themselves.
    scene.heal().await;
    ends_well(&mut scene, id).await;
    assert_is_claimed(&mut scene, id);
}
