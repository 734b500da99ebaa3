//! Whether the operators tell the same story (case 12).
//!
//! What more than half of all operators say counts; who says otherwise is named. The story's truth is
//! then checked on its own: signatures and keys do not depend on what a majority says.

use std::collections::BTreeMap;

use bitcoin::consensus::serialize;
use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::LeafId;

use crate::leaf::Node;

/// An operator whose story about a leaf differs from the majority's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dissent {
    /// The operator.
    pub operator: OperatorIndex,
    /// The leaf.
    pub leaf: LeafId,
    /// In what its story differs, or that it does not know the leaf.
    pub about: String,
}

/// What the operators agree about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agreed {
    /// Nodes that more than half of all operators describe alike.
    pub nodes: BTreeMap<LeafId, Node>,
    /// Nodes about which no such majority exists; not to be used until it does.
    pub disputed: Vec<LeafId>,
    /// Who differs from a majority.
    pub dissent: Vec<Dissent>,
}

/// Compares the operators' answers. `majority` of all operators, also those that did not answer, must tell
/// the same.
pub fn compare(answers: &[(OperatorIndex, BTreeMap<LeafId, Node>)], majority: usize) -> Agreed {
    let mut agreed = Agreed::default();
    let mut ids = answers
        .iter()
        .flat_map(|(_, nodes)| nodes.keys().copied())
        .collect::<Vec<_>>();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let mut stories = BTreeMap::<Option<Vec<u8>>, Vec<OperatorIndex>>::new();
        for (operator, nodes) in answers {
            stories
                .entry(nodes.get(&id).map(fingerprint))
                .or_default()
                .push(*operator);
        }
        let Some((story, tellers)) = stories
            .iter()
            .find(|(_, tellers)| tellers.len() >= majority)
        else {
            agreed.disputed.push(id);
            continue;
        };
        let node = tellers
            .first()
            .and_then(|operator| answers.iter().find(|(index, _)| index == operator))
            .and_then(|(_, nodes)| nodes.get(&id));
        for (operator, nodes) in answers {
            let theirs = nodes.get(&id);
            if theirs.map(fingerprint) != *story {
                agreed.dissent.push(Dissent {
                    operator: *operator,
                    leaf: id,
                    about: difference(node, theirs),
                });
            }
        }
        if let Some(node) = node {
            agreed.nodes.insert(id, node.clone());
        }
    }
    agreed
}

/// Everything that must be alike at all operators, as bytes.
fn fingerprint(node: &Node) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (_, part) in parts(node) {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(&part);
    }
    bytes
}

fn parts(node: &Node) -> [(&'static str, Vec<u8>); 8] {
    [
        ("the status", node.status.to_string().into_bytes()),
        ("the owner", node.owner.serialize().to_vec()),
        ("the operators' key", node.keyshare.serialize().to_vec()),
        ("the verifying key", node.verifying_key.serialize().to_vec()),
        ("the value", node.value.0.to_be_bytes().to_vec()),
        (
            "the parent",
            node.parent
                .map(|id| id.bytes16().to_vec())
                .unwrap_or_default(),
        ),
        ("the node transaction", serialize(&node.node_tx)),
        (
            "the refund",
            node.refund_tx.as_ref().map(serialize).unwrap_or_default(),
        ),
    ]
}

fn difference(majority: Option<&Node>, theirs: Option<&Node>) -> String {
    match (majority, theirs) {
        (Some(a), Some(b)) => {
            let names = parts(a)
                .into_iter()
                .zip(parts(b))
                .filter(|(x, y)| x.1 != y.1)
                .map(|(x, _)| x.0);
            names.collect::<Vec<_>>().join(", ")
        }
        (Some(_), None) => "it does not know the leaf".into(),
        (None, _) => "it alone knows the leaf".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Scene;
    use super::*;
    use crate::leaf::LeafStatus;

    fn answers(nodes: [Option<Node>; 3]) -> Vec<(OperatorIndex, BTreeMap<LeafId, Node>)> {
        nodes
            .into_iter()
            .zip(0u16..)
            .map(|(node, index)| {
                (
                    OperatorIndex(index),
                    node.into_iter().map(|n| (n.id, n)).collect(),
                )
            })
            .collect()
    }

    #[test]
    fn operators_that_agree_are_believed() {
        let leaf = Scene::new().leaf();
        let agreed = compare(
            &answers([Some(leaf.clone()), Some(leaf.clone()), Some(leaf.clone())]),
            2,
        );
        assert_eq!(agreed.nodes[&leaf.id], leaf);
        assert_eq!((agreed.dissent.len(), agreed.disputed.len()), (0, 0));
    }

    #[test]
    fn case_12_one_operator_that_lies_about_the_status_is_outvoted_and_named() {
        let leaf = Scene::new().leaf();
        let mut lie = leaf.clone();
        lie.status = LeafStatus::TransferLocked;
        let agreed = compare(
            &answers([Some(lie), Some(leaf.clone()), Some(leaf.clone())]),
            2,
        );
        assert_eq!(agreed.nodes[&leaf.id].status, LeafStatus::Available);
        assert_eq!(agreed.dissent.len(), 1);
        assert_eq!(agreed.dissent[0].operator, OperatorIndex(0));
        assert_eq!(agreed.dissent[0].about, "the status");
    }

    #[test]
    fn case_12_one_operator_that_lies_about_the_owner_is_outvoted_and_named() {
        let scene = Scene::new();
        let leaf = scene.leaf();
        let mut lie = leaf.clone();
        lie.owner = scene.stranger();
        let agreed = compare(
            &answers([Some(leaf.clone()), Some(leaf.clone()), Some(lie)]),
            2,
        );
        assert_eq!(agreed.nodes[&leaf.id].owner, leaf.owner);
        assert_eq!(agreed.dissent[0].about, "the owner");
    }

    #[test]
    fn case_12_a_leaf_that_one_operator_invents_does_not_count() {
        let leaf = Scene::new().leaf();
        let agreed = compare(&answers([Some(leaf), None, None]), 2);
        assert!(agreed.nodes.is_empty());
        assert_eq!(agreed.dissent[0].about, "it alone knows the leaf");
    }

    #[test]
    fn case_12_a_leaf_that_one_operator_hides_still_counts() {
        let leaf = Scene::new().leaf();
        let agreed = compare(&answers([Some(leaf.clone()), None, Some(leaf.clone())]), 2);
        assert!(agreed.nodes.contains_key(&leaf.id));
        assert_eq!(agreed.dissent[0].operator, OperatorIndex(1));
    }

    #[test]
    fn three_different_stories_are_a_dispute() {
        let leaf = Scene::new().leaf();
        let mut second = leaf.clone();
        second.status = LeafStatus::TransferLocked;
        let agreed = compare(&answers([Some(leaf.clone()), Some(second), None]), 2);
        assert_eq!(agreed.disputed, [leaf.id]);
        assert!(agreed.nodes.is_empty());
    }
}
