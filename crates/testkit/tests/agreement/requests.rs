//! Requests that no operator must take, whoever brings them.

use tinderbox_flows::refusal::Reason;
use tinderbox_flows::request::{Request, SendRequest};
use tinderbox_flows::start::MAX_LEAVES;
use tinderbox_protocol::LeafId;

use super::{assert_never_happened, ends_well, refused, scene};

/// A change to a good payment, and why it is refused.
type Case = (&'static str, fn(&mut SendRequest), &'static [Reason]);

#[tokio::test(start_paused = true)]
async fn case_37_duplicate_leaves_too_many_and_none_are_refused() {
    let cases: [Case; 6] = [
        (
            "a leaf twice",
            |send| send.package.cpfp.push(send.package.cpfp[0].clone()),
            &[Reason::DuplicateField],
        ),
        (
            "a leaf's direct refund twice",
            |send| {
                let again = send.package.direct_from_cpfp[0].clone();
                send.package.direct_from_cpfp.push(again);
            },
            &[Reason::DuplicateField],
        ),
        (
            "no leaves",
            |send| {
                send.package.cpfp.clear();
                send.package.direct.clear();
                send.package.direct_from_cpfp.clear();
                send.receivers.clear();
            },
            &[Reason::MissingField],
        ),
        (
            "no leaves, but receivers",
            |send| {
                send.package.cpfp.clear();
                send.package.direct.clear();
                send.package.direct_from_cpfp.clear();
            },
            &[Reason::MissingField],
        ),
        (
            "a receiver of a leaf that is not sent",
            |send| {
                let receiver = *send.receivers.values().next().unwrap();
                let stranger = LeafId(uuid::Uuid::from_bytes([9; 16]));
                send.receivers.insert(stranger, receiver);
            },
            &[Reason::MalformedField],
        ),
        (
            "more leaves than one transfer takes",
            |send| {
                let job = send.package.cpfp[0].clone();
                let receiver = *send.receivers.values().next().unwrap();
                for number in 0..MAX_LEAVES {
                    let mut bytes = [7; 16];
                    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
                    let leaf = LeafId(uuid::Uuid::from_bytes(bytes));
                    let mut job = job.clone();
                    job.leaf = Some(leaf);
                    send.package.cpfp.push(job);
                    send.receivers.insert(leaf, receiver);
                }
            },
            // Whether they exist or how many they are may be looked at first.
            &[Reason::LimitExceeded, Reason::MissingEntity],
        ),
    ];
    let mut scene = scene(130).await;
    let id = scene.transfer_id();
    let leaf = scene.leaf(0);
    let good = scene.payment(id, 0, 1, &[leaf]).await;
    for (what, change, reasons) in cases {
        let mut bad = good.clone();
        change(&mut bad);
        let refusal = refused(&scene, 0, Request::Send(Box::new(bad.clone()))).await;
        assert!(reasons.contains(&refusal.reason), "{what}: {refusal}");
        // An operator that asks a peer for a vote on it gets a no.
        let flow = scene.flow_id();
        let message = tinderbox_commit::Message::Prepare {
            flow,
            coordinator: tinderbox_frost::OperatorIndex(0),
            request: Request::Send(Box::new(bad)).encode().unwrap(),
        };
        let reply = scene.say(0, 1, message).await;
        match reply {
            Ok(tinderbox_commit::Reply::No { refusal, .. }) => {
                assert!(reasons.contains(&refusal.reason), "{what}: {refusal}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
    scene.heal().await;
    assert_never_happened(&scene, id);
    ends_well(&mut scene, id).await;
}
