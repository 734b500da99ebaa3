//! Keys of a leaf.

use bitcoin::secp256k1::PublicKey;
use tinderbox_protocol::{LeafId, deposit, tx};

use super::{Check, Failure};
use crate::leaf::Node;

/// The user's half and the operators' half make the leaf's key.
///
/// # Errors
/// [`Failure::Keys`].
pub fn halves_add_up(
    leaf: &LeafId,
    verifying: &PublicKey,
    user: &PublicKey,
    operators: &PublicKey,
) -> Check {
    deposit::check_halves(verifying, user, operators).map_err(|_| Failure::Keys { leaf: *leaf })
}

/// The node transaction pays the node's verifying key, and as much as the node is said to be worth.
///
/// # Errors
/// [`Failure::NodeOutput`], [`Failure::Value`].
pub fn node_pays_its_key(node: &Node) -> Check {
    let output = node
        .node_tx
        .output
        .first()
        .ok_or(Failure::NodeOutput { node: node.id })?;
    if output.script_pubkey != tx::p2tr(&node.verifying_key) {
        return Err(Failure::NodeOutput { node: node.id });
    }
    let found = output.value.into();
    if found != node.value {
        return Err(Failure::Value {
            kind: tx::TxKind::Node,
            expected: node.value,
            found,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Scene;
    use super::*;

    #[test]
    fn case_8_a_verifying_key_that_is_not_the_sum_of_its_halves_is_refused() {
        let scene = Scene::new();
        let leaf = scene.leaf();
        let user = scene.owner_key();
        halves_add_up(&leaf.id, &leaf.verifying_key, &user, &leaf.keyshare).unwrap();
        let other = scene.stranger();
        assert_eq!(
            halves_add_up(&leaf.id, &leaf.verifying_key, &other, &leaf.keyshare),
            Err(Failure::Keys { leaf: leaf.id })
        );
        assert_eq!(
            halves_add_up(&leaf.id, &leaf.verifying_key, &user, &other),
            Err(Failure::Keys { leaf: leaf.id })
        );
    }

    #[test]
    fn case_8_a_root_output_that_does_not_pay_the_verifying_key_is_refused() {
        let scene = Scene::new();
        let mut leaf = scene.leaf();
        node_pays_its_key(&leaf).unwrap();
        leaf.verifying_key = scene.stranger();
        assert_eq!(
            node_pays_its_key(&leaf),
            Err(Failure::NodeOutput { node: leaf.id })
        );
    }

    #[test]
    fn case_9_a_node_that_is_said_to_be_worth_more_than_its_output_is_refused() {
        let scene = Scene::new();
        let mut leaf = scene.leaf();
        leaf.value.0 += 1;
        assert!(matches!(
            node_pays_its_key(&leaf),
            Err(Failure::Value { .. })
        ));
    }
}
