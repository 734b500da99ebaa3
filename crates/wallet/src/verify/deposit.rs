//! The leaf that a deposit became.

use bitcoin::secp256k1::PublicKey;
use tinderbox_protocol::tx::{TxKind, UnsignedTx};
use tinderbox_protocol::{LeafId, LeafSequence};

use super::{Check, Failure, keys, path, refund, root};
use crate::leaf::Node;

/// What the wallet asked the operators to make.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The leaf's id, which the wallet chose.
    pub leaf: LeafId,
    /// The key of the deposit address.
    pub verifying_key: PublicKey,
    /// The wallet's half of it.
    pub signing_key: PublicKey,
    /// The root that spends the deposit.
    pub root: &'a UnsignedTx,
}

/// The leaf is the one that was asked for, and its root and refund are signed: it can be exited.
///
/// # Errors
/// The first thing that does not hold.
pub fn fresh_leaf(node: &Node, asked: &Asked<'_>) -> Check {
    let other = |what: &str| Failure::Form {
        kind: TxKind::Root,
        what: what.to_owned(),
    };
    if node.id != asked.leaf || node.parent.is_some() {
        return Err(other("it belongs to another leaf than was asked for"));
    }
    if node.verifying_key != asked.verifying_key {
        return Err(Failure::Keys { leaf: node.id });
    }
    keys::halves_add_up(
        &node.id,
        &node.verifying_key,
        &asked.signing_key,
        &node.keyshare,
    )?;
    path::check(&[node])?;
    if node.node_tx.compute_txid() != asked.root.tx.compute_txid() {
        return Err(other("it is not the one that was asked for"));
    }
    root::root_spends(&node.node_tx, &asked.root.prevouts)?;
    let missing = || Failure::Form {
        kind: TxKind::CpfpRefund,
        what: "there is none".into(),
    };
    let refund = node.refund_tx.as_ref().ok_or_else(missing)?;
    let expected = refund::Expected::Exactly(LeafSequence::INITIAL);
    refund::check(refund, &node.node_tx, &asked.signing_key, expected, true)
}

#[cfg(test)]
mod tests {
    use tinderbox_protocol::tx::{self, Utxo};

    use super::super::fixture::Scene;
    use super::*;

    fn judge(change: impl FnOnce(&Scene, &mut Node)) -> Check {
        let scene = Scene::new();
        let mut node = scene.leaf();
        change(&scene, &mut node);
        let root = tx::root::build(&[Utxo::of(scene.deposit_tx(), 0).unwrap()]).unwrap();
        let asked = Asked {
            leaf: scene.leaf_id(),
            verifying_key: scene.verifying_key(),
            signing_key: scene.owner_key(),
            root: &root,
        };
        fresh_leaf(&node, &asked)
    }

    #[test]
    fn an_honest_leaf_is_accepted() {
        judge(|_, _| {}).unwrap();
    }

    #[test]
    fn another_leaf_than_was_asked_for_is_refused() {
        let result = judge(|_, node| node.id = LeafId::from_bytes16([3; 16]));
        assert!(matches!(result, Err(Failure::Form { .. })), "{result:?}");
        let result = judge(|_, node| node.parent = Some(LeafId::from_bytes16([3; 16])));
        assert!(matches!(result, Err(Failure::Form { .. })), "{result:?}");
    }

    #[test]
    fn case_8_a_leaf_under_another_key_is_refused() {
        let result = judge(|scene, node| node.verifying_key = scene.stranger());
        assert!(matches!(result, Err(Failure::Keys { .. })), "{result:?}");
        let result = judge(|scene, node| node.keyshare = scene.stranger());
        assert!(matches!(result, Err(Failure::Keys { .. })), "{result:?}");
    }

    #[test]
    fn a_root_of_another_deposit_is_refused() {
        let result = judge(|scene, node| {
            let mut root = node.node_tx.clone();
            root.input[0].previous_output.vout = 1;
            node.node_tx = scene.sign(root, &scene.deposit_tx().output);
        });
        assert!(matches!(result, Err(Failure::Form { .. })), "{result:?}");
    }

    #[test]
    fn case_3_a_leaf_whose_root_or_refund_is_not_signed_is_refused() {
        let result = judge(|_, node| node.node_tx.input[0].witness.clear());
        assert!(
            matches!(
                result,
                Err(Failure::Signature {
                    kind: TxKind::Root,
                    ..
                })
            ),
            "{result:?}"
        );
        let result = judge(|_, node| node.refund_tx.as_mut().unwrap().input[0].witness.clear());
        assert!(
            matches!(
                result,
                Err(Failure::Signature {
                    kind: TxKind::CpfpRefund,
                    ..
                })
            ),
            "{result:?}"
        );
        let result = judge(|_, node| node.refund_tx = None);
        assert!(matches!(result, Err(Failure::Form { .. })), "{result:?}");
    }

    #[test]
    fn case_1_a_first_refund_with_a_shorter_timelock_is_refused() {
        let result = judge(|scene, node| {
            let mut refund = node.refund_tx.take().unwrap();
            refund.input[0].sequence = bitcoin::Sequence(1900);
            node.refund_tx = Some(scene.sign(refund, &node.node_tx.output[..1]));
        });
        assert_eq!(
            result,
            Err(Failure::Timelock {
                kind: TxKind::CpfpRefund,
                expected: 2000,
                found: 1900
            })
        );
    }

    #[test]
    fn case_7_a_first_refund_to_somebody_else_is_refused() {
        let result = judge(|scene, node| {
            let mut refund = node.refund_tx.take().unwrap();
            refund.output[0].script_pubkey = tx::p2tr(&scene.stranger());
            node.refund_tx = Some(scene.sign(refund, &node.node_tx.output[..1]));
        });
        assert_eq!(
            result,
            Err(Failure::Destination {
                kind: TxKind::CpfpRefund
            })
        );
    }
}
