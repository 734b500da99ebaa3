//! Whether the sender meant this leaf, in this transfer, for us (case 11).

use bitcoin::secp256k1::PublicKey;
use tinderbox_protocol::TransferId;
use tinderbox_protocol::hash::leaf_signature_digest;
use tinderbox_protocol::signature::verify_der_or_compact;

use super::{Check, Failure, keys};
use crate::signer::WalletSigner;
use crate::transfer::TransferLeaf;

/// The sender signed the leaf's id, the transfer's id and the ciphertext together.
///
/// # Errors
/// [`Failure::LeafSignature`].
pub fn sender_signed(leaf: &TransferLeaf, transfer: &TransferId, sender: &PublicKey) -> Check {
    let digest = leaf_signature_digest(&leaf.node.id, transfer, &leaf.secret_cipher);
    verify_der_or_compact(
        sender,
        &digest,
        &leaf.signature,
        "the sender's signature over the leaf",
    )
    .map_err(|_| Failure::LeafSignature { leaf: leaf.node.id })
}

/// The ciphertext holds the key that, with the operators' key, makes the leaf's.
///
/// # Errors
/// [`Failure::Ciphertext`].
pub fn key_opens_leaf(leaf: &TransferLeaf, signer: &dyn WalletSigner) -> Check {
    let bad = |what: String| Failure::Ciphertext {
        leaf: leaf.node.id,
        what,
    };
    let key = signer
        .received_key(&leaf.secret_cipher)
        .map_err(|e| bad(e.to_string()))?;
    keys::halves_add_up(
        &leaf.node.id,
        &leaf.node.verifying_key,
        &key,
        &leaf.node.keyshare,
    )
    .map_err(|_| bad("with the operators' key it makes another key than the leaf's".into()))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Scene;
    use super::*;

    #[test]
    fn an_honest_hand_over_is_accepted() {
        let scene = Scene::new();
        let leaf = scene.transfer_leaf();
        sender_signed(&leaf, &scene.transfer_id(), &scene.sender().identity()).unwrap();
        key_opens_leaf(&leaf, scene.receiver()).unwrap();
    }

    #[test]
    fn case_11_a_signature_for_another_transfer_is_refused() {
        let scene = Scene::new();
        let leaf = scene.transfer_leaf();
        let other = "0195d5af-0b1c-7d2e-8f3a-000000000000".parse().unwrap();
        let refused = Err(Failure::LeafSignature { leaf: leaf.node.id });
        assert_eq!(
            sender_signed(&leaf, &other, &scene.sender().identity()),
            refused
        );
        assert_eq!(
            sender_signed(&leaf, &scene.transfer_id(), &scene.stranger()),
            refused
        );
    }

    #[test]
    fn case_11_a_missing_signature_is_refused() {
        let scene = Scene::new();
        let mut leaf = scene.transfer_leaf();
        leaf.signature.clear();
        let refused = Err(Failure::LeafSignature { leaf: leaf.node.id });
        assert_eq!(
            sender_signed(&leaf, &scene.transfer_id(), &scene.sender().identity()),
            refused
        );
    }

    #[test]
    fn case_11_a_swapped_ciphertext_is_refused() {
        let scene = Scene::new();
        let mut leaf = scene.transfer_leaf();
        // A good ciphertext to us, of a key that has nothing to do with the leaf.
        let other = scene
            .sender()
            .hand_over(&leaf.node.id, &scene.receiver().identity(), 2, 3)
            .unwrap();
        leaf.secret_cipher = other.secret_cipher;
        assert!(matches!(
            key_opens_leaf(&leaf, scene.receiver()),
            Err(Failure::Ciphertext { .. })
        ));
        assert!(sender_signed(&leaf, &scene.transfer_id(), &scene.sender().identity()).is_err());
    }

    #[test]
    fn case_11_a_ciphertext_that_is_none_is_refused() {
        let scene = Scene::new();
        let mut leaf = scene.transfer_leaf();
        for bytes in [vec![], vec![4; 129], leaf.secret_cipher[1..].to_vec()] {
            leaf.secret_cipher = bytes;
            assert!(matches!(
                key_opens_leaf(&leaf, scene.receiver()),
                Err(Failure::Ciphertext { .. })
            ));
        }
    }

    #[test]
    fn case_11_a_ciphertext_to_somebody_else_is_refused() {
        let scene = Scene::new();
        let leaf = scene.transfer_leaf();
        assert!(matches!(
            key_opens_leaf(&leaf, scene.sender()),
            Err(Failure::Ciphertext { .. })
        ));
    }
}
