//! The chain of transactions from the deposit to a leaf.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, TxOut};
use tinderbox_protocol::LeafId;
use tinderbox_protocol::tx::{TxKind, first_output};

use super::{Check, Failure, keys, refund};
use crate::leaf::Node;

/// More nodes above a leaf than renewals can make in a century of exits.
const MAX_DEPTH: usize = 1000;

/// The nodes from the root down to the leaf, the leaf last.
///
/// # Errors
/// [`Failure::MissingAncestor`] naming the node to ask for (case 10), [`Failure::NoRoot`] for a circle.
pub fn lineage<'a>(leaf: &'a Node, known: &'a BTreeMap<LeafId, Node>) -> Check<Vec<&'a Node>> {
    let mut nodes = vec![leaf];
    let mut at = leaf;
    while let Some(parent) = at.parent {
        if nodes.len() > MAX_DEPTH || nodes.iter().any(|node| node.id == parent) {
            return Err(Failure::NoRoot { leaf: leaf.id });
        }
        at = known.get(&parent).ok_or(Failure::MissingAncestor {
            leaf: leaf.id,
            node: parent,
        })?;
        nodes.push(at);
    }
    nodes.reverse();
    Ok(nodes)
}

/// What a tree's root spends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootInputs {
    /// The deposits, in order of the root's inputs.
    pub outpoints: Vec<OutPoint>,
}

/// Checks every node transaction below the root, and the form of the root: each spends its parent's output,
/// pays its key all of it, carries a timelock in blocks and the anchor, and is signed. What the root spends
/// is for [`root`](super::root) to check against the chain.
///
/// # Errors
/// The first thing that does not hold.
pub fn check(nodes: &[&Node]) -> Check<RootInputs> {
    let kind = TxKind::Node;
    let mut parent: Option<&Node> = None;
    for node in nodes {
        let tx = &node.node_tx;
        refund::has_version_three(tx, kind)?;
        refund::has_no_locktime(tx, kind)?;
        keys::node_pays_its_key(node)?;
        match parent {
            Some(above) => {
                refund::has_one_input_one_output_and_anchor(tx, kind)?;
                refund::spends(tx, &above.node_tx, kind)?;
                refund::sequence(tx, kind)?;
                let spent = first_output(&above.node_tx)?.output;
                pays_what_it_spends(node, &spent)?;
                refund::is_signed(tx, &[spent], kind)?;
            }
            None => root_form(node)?,
        }
        parent = Some(node);
    }
    let root = nodes.first().ok_or_else(|| Failure::Form {
        kind,
        what: "there is no node".into(),
    })?;
    Ok(RootInputs {
        outpoints: root
            .node_tx
            .input
            .iter()
            .map(|input| input.previous_output)
            .collect(),
    })
}

/// A root may spend several deposits; apart from that it is like every node, without timelock.
fn root_form(node: &Node) -> Check {
    let kind = TxKind::Root;
    let bad = |what: &str| Failure::Form {
        kind,
        what: what.to_owned(),
    };
    if node.node_tx.input.is_empty() {
        return Err(bad("it has no input"));
    }
    for input in &node.node_tx.input {
        let sequence = input.sequence.to_consensus_u32();
        // A root waits for nothing.
        if sequence & !(1 << 30) != 0 {
            return Err(Failure::Sequence { kind, sequence });
        }
    }
    match node.node_tx.output.as_slice() {
        [_, last] if *last == tinderbox_protocol::tx::anchor() => Ok(()),
        _ => Err(bad("it must have one output with value and the anchor")),
    }
}

fn pays_what_it_spends(node: &Node, spent: &TxOut) -> Check {
    let expected = spent.value.into();
    if node.value == expected {
        return Ok(());
    }
    Err(Failure::Value {
        kind: TxKind::Node,
        expected,
        found: node.value,
    })
}

#[cfg(test)]
mod tests {
    use bitcoin::Sequence;

    use super::super::fixture::Scene;
    use super::*;

    fn known(nodes: impl IntoIterator<Item = Node>) -> BTreeMap<LeafId, Node> {
        nodes.into_iter().map(|node| (node.id, node)).collect()
    }

    #[test]
    fn an_honest_path_is_accepted() {
        let scene = Scene::new();
        let (root, leaf) = scene.renewed_leaf();
        let known = known([root.clone()]);
        let nodes = lineage(&leaf, &known).unwrap();
        assert_eq!(
            nodes.iter().map(|n| n.id).collect::<Vec<_>>(),
            [root.id, leaf.id]
        );
        assert_eq!(check(&nodes).unwrap().outpoints, [scene.deposit_outpoint()]);
    }

    #[test]
    fn case_10_a_missing_ancestor_is_named_so_that_it_can_be_asked_for() {
        let scene = Scene::new();
        let (root, leaf) = scene.renewed_leaf();
        assert_eq!(
            lineage(&leaf, &BTreeMap::new()),
            Err(Failure::MissingAncestor {
                leaf: leaf.id,
                node: root.id
            })
        );
    }

    #[test]
    fn case_10_ancestors_that_go_in_a_circle_are_refused() {
        let scene = Scene::new();
        let (mut root, leaf) = scene.renewed_leaf();
        root.parent = Some(leaf.id);
        assert_eq!(
            lineage(&leaf, &known([root])),
            Err(Failure::NoRoot { leaf: leaf.id })
        );
    }

    #[test]
    fn case_6_a_node_that_spends_another_parent_is_refused() {
        let scene = Scene::new();
        let (root, mut leaf) = scene.renewed_leaf();
        leaf.node_tx.input[0].previous_output.vout = 1;
        let result = check(&[&root, &leaf]);
        assert!(matches!(result, Err(Failure::Prevout { .. })), "{result:?}");
    }

    #[test]
    fn case_3_an_unsigned_node_is_refused() {
        let scene = Scene::new();
        let (root, mut leaf) = scene.renewed_leaf();
        leaf.node_tx.input[0].witness.clear();
        let result = check(&[&root, &leaf]);
        assert!(
            matches!(result, Err(Failure::Signature { .. })),
            "{result:?}"
        );
    }

    #[test]
    fn case_7_a_node_that_loses_value_on_the_way_is_refused() {
        let scene = Scene::new();
        let (root, mut leaf) = scene.renewed_leaf();
        leaf.node_tx.output[0].value = bitcoin::Amount::from_sat(50_000);
        leaf.value.0 = 50_000;
        let result = check(&[&root, &leaf]);
        assert!(matches!(result, Err(Failure::Value { .. })), "{result:?}");
    }

    #[test]
    fn case_1_a_root_with_a_timelock_or_a_node_with_none_is_refused() {
        let scene = Scene::new();
        let (mut root, mut leaf) = scene.renewed_leaf();
        leaf.node_tx.input[0].sequence = Sequence::MAX;
        assert!(matches!(
            check(&[&root, &leaf]),
            Err(Failure::Sequence { .. })
        ));
        root.node_tx.input[0].sequence = Sequence(100);
        assert!(matches!(check(&[&root]), Err(Failure::Sequence { .. })));
    }
}
