//! `exit_single_node_trees`: trees of one leaf each leave together, in one transaction of their owner's
//! making. Wallet 0 owns leaves 0, 2 and 4, wallet 1 the others; each leaf is a tree.

use std::collections::BTreeMap;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::SECP256K1;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};
use tinderbox_commit::Message;
use tinderbox_flows::exit_trees::{ExitTreesRequest, LeavingTree, MAX_TREES};
use tinderbox_flows::flow::{JobOutcome, Outcome};
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{
    FlowId, FlowRow, FlowState, KeyshareRow, NodeRow, NodeStatus, TreeRow, TreeStatus, UtxoRow,
};
use tinderbox_frost::{Nonces, OperatorIndex, SecretScalar, SigningPackage};
use tinderbox_protocol::tx::{TxKind, p2tr, sighash, verify_input};
use tinderbox_protocol::{BlockHeight, LeafId, TreeId};
use tinderbox_testkit::sim::{Fate, Scene, WriteFate};

const OPERATORS: u16 = 3;

/// What the owner asks for, with what it needs to complete it.
struct Exit {
    request: ExitTreesRequest,
    tx: Transaction,
    prevouts: Vec<TxOut>,
    nonces: Vec<Nonces>,
    leaves: Vec<LeafId>,
}

impl Exit {
    fn request(&self) -> Request {
        leave(&self.request)
    }
}

fn leave(request: &ExitTreesRequest) -> Request {
    Request::ExitTrees(Box::new(request.clone()))
}

/// Trees and confirmed deposits for the leaves that a scene has.
async fn scene(seed: u64) -> Scene {
    let scene = Scene::new(seed, OPERATORS, 2, 6).await;
    for place in 0..6 {
        let node = scene.node(0, &scene.leaf(place));
        scene
            .plant(&TreeRow {
                id: node.tree,
                owner: node.owner,
                network: node.network,
                base: node.deposits[0],
                root: node.id,
                status: TreeStatus::Available,
                created: node.created,
            })
            .await;
        scene
            .plant(&UtxoRow {
                outpoint: node.deposits[0],
                network: node.network,
                value: node.value,
                script: p2tr(&node.verifying_key),
                block: Some((BlockHeight(100), BlockHash::all_zeros())),
                tree: Some(node.tree),
                of_tree: false,
            })
            .await;
    }
    scene
}

async fn done(scene: &Scene, operator: u16, request: Request) -> Outcome {
    let answer = scene.run(operator, request).await;
    answer
        .expect("the operator stays up")
        .unwrap_or_else(|refusal| panic!("{refusal}\n{}", scene.log().join("\n")))
}

async fn refused(scene: &Scene, operator: u16, request: Request) -> Refusal {
    let answer = scene.run(operator, request).await;
    match answer.expect("it stays up") {
        Ok(_) => panic!("it was not refused"),
        Err(refusal) => refusal,
    }
}

/// A transaction that spends the deposits of wallet 0's leaves, and a coin of somebody else's first.
async fn exit(scene: &mut Scene, places: &[usize], fee: u64) -> Exit {
    let nodes: Vec<NodeRow> = places
        .iter()
        .map(|place| scene.node(0, &scene.leaf(*place)))
        .collect();
    let input = |outpoint| TxIn {
        previous_output: outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let foreign = OutPoint::new(Txid::from_byte_array([9; 32]), 3);
    let script = |byte: u8| ScriptBuf::from_bytes([vec![0x51, 0x20], vec![byte; 32]].concat());
    let output = |sats, script| TxOut {
        value: Amount::from_sat(sats),
        script_pubkey: script,
    };
    let mut prevouts = vec![output(5_000, script(3))];
    prevouts.extend(
        nodes
            .iter()
            .map(|node| output(node.value.0, p2tr(&node.verifying_key))),
    );
    let total: u64 = nodes.iter().map(|node| node.value.0).sum();
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: std::iter::once(input(foreign))
            .chain(nodes.iter().map(|node| input(node.deposits[0])))
            .collect(),
        output: vec![output(total + 5_000 - fee, script(7))],
    };
    let sets = scene.nonces(nodes.len()).await;
    let own: Vec<Nonces> = nodes
        .iter()
        .map(|_| Nonces::generate(scene.rng()))
        .collect();
    let trees = nodes.iter().zip(sets).zip(&own).zip(1u32..);
    let trees = trees
        .map(|(((node, operators), nonces), input)| LeavingTree {
            tree: node.tree,
            input,
            commitment: nonces.commitment(),
            operators,
        })
        .collect();
    Exit {
        request: ExitTreesRequest {
            now: scene.now(),
            owner: scene.owner(0).identity(),
            trees,
            tx: serialize(&tx),
            prevouts: prevouts
                .iter()
                .map(|out| (out.value.to_sat(), out.script_pubkey.to_bytes()))
                .collect(),
        },
        tx,
        prevouts,
        nonces: own,
        leaves: nodes.iter().map(|node| node.id).collect(),
    }
}

/// The owner completes every signature; each is valid.
fn complete(scene: &mut Scene, exit: Exit, outcome: &Outcome) -> Transaction {
    let mut signed = exit.tx.clone();
    let trees = exit.request.trees.iter().zip(&exit.leaves);
    let jobs = outcome.jobs.iter().zip(exit.nonces);
    for ((leaving, leaf), (made, nonces)) in trees.zip(jobs) {
        let JobOutcome::Shares(shares) = made else {
            panic!("{made:?}");
        };
        let node = scene.node(0, leaf);
        let keyshare: KeyshareRow = scene.row(0, &node.keyshare.0).expect("its key share");
        let input = usize::try_from(leaving.input).expect("small");
        let prepared = SigningPackage {
            verifying_key: node.verifying_key,
            message: sighash(&exit.tx, input, &exit.prevouts).expect("it has one"),
            operators: leaving.operators.clone(),
            user: Some(leaving.commitment),
            adaptor: None,
            threshold: 2,
        }
        .prepare()
        .expect("a package");
        let key = scene.owner(0).leaf_key(leaf);
        let secret = SecretScalar::try_from_be_bytes(&key.secret_bytes()).expect("a key");
        let own = prepared.sign_user(&secret, nonces).expect("own nonces");
        let public: BTreeMap<OperatorIndex, _> = (0u16..)
            .map(OperatorIndex)
            .zip(keyshare.public_shares.iter().copied())
            .collect();
        let user = key.public_key(SECP256K1);
        let signature = prepared
            .aggregate(shares, Some(&own), &public, Some(&user))
            .expect("the shares fit");
        signed.input[input].witness = Witness::from_slice(&[signature.as_slice()]);
        verify_input(&signed, input, &exit.prevouts, TxKind::Other).expect("a valid signature");
    }
    signed
}

/// Tree and leaf are like this at every operator, and held by nothing.
fn assert_are(scene: &Scene, leaves: &[LeafId], leaf: NodeStatus, tree: TreeStatus) {
    for operator in 0..OPERATORS {
        for id in leaves {
            let node = scene.node(operator, id);
            assert_eq!((node.status, node.lock), (leaf, None), "{id} at {operator}");
            let row: TreeRow = scene.row(operator, &node.tree.bytes16()).expect("a tree");
            assert_eq!(row.status, tree, "{id} at {operator}");
        }
    }
}

fn assert_untouched(scene: &Scene, exit: &Exit) {
    scene.check();
    let leaves = &exit.leaves;
    assert_are(scene, leaves, NodeStatus::Available, TreeStatus::Available);
}

fn assert_gone(scene: &Scene, leaves: &[LeafId]) {
    assert_are(scene, leaves, NodeStatus::Exited, TreeStatus::Exited);
}

#[tokio::test(start_paused = true)]
async fn trees_leave_together_and_their_owner_completes_the_transaction() {
    let mut scene = scene(1).await;
    let exit = exit(&mut scene, &[0, 2], 500).await;
    let leaves = exit.leaves.clone();
    let outcome = done(&scene, 1, exit.request()).await;
    assert_gone(&scene, &leaves);
    let signed = complete(&mut scene, exit, &outcome);
    assert!(signed.input[0].witness.is_empty(), "that one is not ours");
    // The third leaf is not concerned, the first two are no leaves any more.
    let status = |place| scene.node(2, &scene.leaf(place)).status;
    assert_eq!(
        (status(0), status(4)),
        (NodeStatus::Exited, NodeStatus::Available)
    );
    let (id, gone) = (scene.transfer_id(), leaves[0]);
    let send = scene.payment(id, 0, 1, &[gone]).await;
    let refusal = refused(&scene, 0, Request::Send(Box::new(send))).await;
    assert_eq!(refusal.reason, Reason::InvalidState, "{refusal}");
}

/// Another fee, or a transaction that was lost: the owner asks again, and gets signatures for that.
#[tokio::test(start_paused = true)]
async fn owner_may_ask_again_for_another_transaction() {
    let mut scene = scene(2).await;
    let first = exit(&mut scene, &[0, 2], 500).await;
    let outcome = done(&scene, 0, first.request()).await;
    complete(&mut scene, first, &outcome);
    let second = exit(&mut scene, &[2, 0], 900).await;
    let leaves = second.leaves.clone();
    let outcome = done(&scene, 2, second.request()).await;
    complete(&mut scene, second, &outcome);
    assert_gone(&scene, &leaves);
    // Nobody else may, now that they are gone.
    let mut other = exit(&mut scene, &[0], 900).await;
    other.request.owner = scene.owner(1).identity();
    let refusal = refused(&scene, 0, other.request()).await;
    assert_eq!(refusal.reason, Reason::NotOwner, "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn requests_that_do_not_fit_are_refused() {
    let mut scene = scene(3).await;
    let good = exit(&mut scene, &[0, 2], 500).await;
    let base = &good.request;
    let with = |change: &dyn Fn(&mut ExitTreesRequest)| {
        let mut request = base.clone();
        change(&mut request);
        request
    };
    let stranger = scene.owner(1).identity();
    let theirs = scene.node(0, &scene.leaf(1)).tree;
    let wrong: Vec<(&str, Reason, ExitTreesRequest)> = vec![
        ("none", Reason::MissingField, with(&|all| all.trees.clear())),
        (
            "too many",
            Reason::LimitExceeded,
            with(&|all| all.trees = vec![all.trees[0].clone(); MAX_TREES + 1]),
        ),
        (
            "a tree twice",
            Reason::DuplicateField,
            with(&|all| all.trees[1].tree = all.trees[0].tree),
        ),
        (
            "an input twice",
            Reason::DuplicateField,
            with(&|all| all.trees[1].input = all.trees[0].input),
        ),
        (
            "an unknown tree",
            Reason::MissingEntity,
            with(&|all| all.trees[0].tree = TreeId::from_bytes16([1; 16])),
        ),
        (
            "somebody else's tree",
            Reason::NotOwner,
            with(&|all| all.trees[0].tree = theirs),
        ),
        (
            "another owner",
            Reason::NotOwner,
            with(&|all| all.owner = stranger),
        ),
        (
            "inputs swapped",
            Reason::MalformedField,
            with(&|all| {
                all.trees[0].input = 2;
                all.trees[1].input = 1;
            }),
        ),
        (
            "an input that is not ours",
            Reason::MalformedField,
            with(&|all| all.trees[0].input = 0),
        ),
        (
            "an input that is not there",
            Reason::MalformedField,
            with(&|all| all.trees[0].input = 7),
        ),
        (
            "another value",
            Reason::MalformedField,
            with(&|all| all.prevouts[1].0 += 1),
        ),
        (
            "another script",
            Reason::MalformedField,
            with(&|all| all.prevouts[2].1[5] ^= 1),
        ),
        (
            "an output too few",
            Reason::MalformedField,
            with(&|all| {
                all.prevouts.pop();
            }),
        ),
        (
            "no transaction",
            Reason::MalformedField,
            with(&|all| all.tx.truncate(20)),
        ),
        (
            "a signer too few",
            Reason::MalformedField,
            with(&|all| {
                all.trees[0].operators.pop_first();
            }),
        ),
    ];
    for (what, reason, request) in wrong {
        let refusal = refused(&scene, 0, leave(&request)).await;
        assert_eq!(refusal.reason, reason, "{what}: {refusal}");
        assert_untouched(&scene, &good);
    }
    let leaves = good.leaves.clone();
    done(&scene, 0, good.request()).await;
    assert_gone(&scene, &leaves);
}

/// What is not one free leaf on one confirmed deposit stays.
#[tokio::test(start_paused = true)]
async fn trees_that_are_not_one_free_leaf_are_refused() {
    type Change = fn(&mut NodeRow);
    let changes: [(&str, Change); 8] = [
        ("locked", |node| node.status = NodeStatus::TransferLocked),
        ("held", |node| node.lock = Some(FlowId([7; 16]))),
        ("waits for its deposit", |node| {
            node.status = NodeStatus::Creating;
        }),
        ("on chain", |node| node.status = NodeStatus::OnChain),
        ("seen on chain", |node| {
            node.node_confirmed = Some(BlockHeight(120));
        }),
        ("below another", |node| {
            node.parent = Some(LeafId::from_bytes16([4; 16]));
        }),
        ("a node above a renewed leaf", |node| {
            node.txs.refund.clear()
        }),
        ("of several deposits", |node| {
            node.deposits.push(OutPoint::null());
        }),
    ];
    for (what, change) in changes {
        let mut scene = scene(4).await;
        let exit = exit(&mut scene, &[0, 2], 500).await;
        let mut node = scene.node(0, &exit.leaves[1]);
        change(&mut node);
        scene.plant(&node).await;
        let refusal = refused(&scene, 1, exit.request()).await;
        assert_eq!(refusal.reason, Reason::InvalidState, "{what}: {refusal}");
        for operator in 0..OPERATORS {
            assert_eq!(scene.node(operator, &exit.leaves[1]), node, "{what}");
            let other = scene.node(operator, &exit.leaves[0]);
            assert_eq!((other.status, other.lock), (NodeStatus::Available, None));
        }
    }
}

/// Each operator goes by the chain as it has seen it itself.
#[tokio::test(start_paused = true)]
async fn deposit_that_one_operator_has_not_seen_confirmed_stays() {
    let mut scene = scene(5).await;
    let exit = exit(&mut scene, &[0, 2], 500).await;
    let outpoint = scene.node(0, &exit.leaves[0]).deposits[0];
    let seen: UtxoRow = scene
        .row(2, &UtxoRow::id_of(&outpoint))
        .expect("the deposit");
    scene
        .put(
            2,
            &UtxoRow {
                block: None,
                ..seen.clone()
            },
        )
        .await;
    let refusal = refused(&scene, 0, exit.request()).await;
    assert_eq!(
        refusal.reason,
        Reason::InsufficientConfirmations,
        "{refusal}"
    );
    scene.heal().await;
    // Once it has seen the block too, nothing tells that there was a refusal.
    scene.put(2, &seen).await;
    assert_untouched(&scene, &exit);
    done(&scene, 0, exit.request()).await;
    assert_gone(&scene, &exit.leaves);
}

/// A leaf that is being paid away cannot leave, and one that leaves cannot be paid away.
#[tokio::test(start_paused = true)]
async fn exit_and_payment_of_one_leaf_exclude_each_other() {
    let (mut left, mut paid) = (0, 0);
    for seed in 10..18 {
        let mut scene = scene(seed).await;
        let exit = exit(&mut scene, &[0, 2], 500).await;
        let (id, leaf) = (scene.transfer_id(), exit.leaves[0]);
        let send = scene.payment(id, 0, 1, &[leaf]).await;
        let send = Request::Send(Box::new(send));
        let (one, other) = match seed % 2 {
            0 => (scene.begin(0, exit.request()), scene.begin(1, send)),
            _ => (scene.begin(1, exit.request()), scene.begin(0, send)),
        };
        let (gone, sent) = (one.await.expect("up"), other.await.expect("up"));
        scene.heal().await;
        assert!(gone.is_err() || sent.is_err(), "seed {seed}: both happened");
        match (&gone, &sent) {
            (Ok(_), _) => {
                left += 1;
                assert_gone(&scene, &exit.leaves);
            }
            (_, Ok(_)) => {
                paid += 1;
                scene.check();
                assert_eq!(scene.node(1, &leaf).status, NodeStatus::TransferLocked);
            }
            _ => assert_untouched(&scene, &exit),
        }
    }
    assert!(left + paid > 0, "nobody ever wins");
}

/// One operator that does not vote is enough: no share leaves anybody, and the leaves stay.
#[tokio::test(start_paused = true)]
async fn no_share_is_given_before_every_operator_has_let_go() {
    let mut scene = scene(6).await;
    let exit = exit(&mut scene, &[0, 2], 500).await;
    scene.on_message(|passing| {
        let prepare = matches!(passing.message, Message::Prepare { .. });
        if prepare && passing.to.0 == 2 {
            Fate::LoseRequest
        } else {
            Fate::Carry
        }
    });
    let refusal = refused(&scene, 0, exit.request()).await;
    assert!(refusal.is_transient(), "{refusal}");
    scene.heal().await;
    assert_untouched(&scene, &exit);
    for operator in 0..OPERATORS {
        for flow in scene.rows::<FlowRow>(operator) {
            assert_eq!(flow.state, FlowState::Refused, "nobody committed");
        }
    }
    done(&scene, 0, exit.request()).await;
    assert_gone(&scene, &exit.leaves);
}

/// Case 27 and 28 for exits of trees: whoever dies at whichever write, they are gone everywhere or
/// nowhere.
#[tokio::test(start_paused = true)]
async fn case_27_crash_at_any_write_leaves_trees_gone_everywhere_or_nowhere() {
    let (mut gone, mut not) = (0, 0);
    for victim in 0..OPERATORS {
        for place in 0..3 {
            for fate in [WriteFate::CrashBefore, WriteFate::CrashAfter] {
                let mut scene = scene(7).await;
                let exit = exit(&mut scene, &[0, 2], 500).await;
                let mut writes = 0;
                scene.on_write(move |operator| {
                    if operator.0 != victim {
                        return WriteFate::Write;
                    }
                    writes += 1;
                    if writes == place + 1 {
                        fate
                    } else {
                        WriteFate::Write
                    }
                });
                let _ = scene.run(0, exit.request()).await;
                scene.heal().await;
                if scene.node(0, &exit.leaves[0]).status == NodeStatus::Exited {
                    gone += 1;
                    assert_gone(&scene, &exit.leaves);
                } else {
                    not += 1;
                    assert_untouched(&scene, &exit);
                }
                // Either way the owner gets its signatures in the end.
                let leaves = exit.leaves.clone();
                drop(exit);
                let again = self::exit(&mut scene, &[0, 2], 700).await;
                let outcome = done(&scene, 1, again.request()).await;
                complete(&mut scene, again, &outcome);
                assert_gone(&scene, &leaves);
            }
        }
    }
    assert!(gone > 0 && not > 0, "{gone} gone, {not} not");
}
