//! Packages as operators open them, on a recorded payment.

use std::collections::BTreeMap;

use bitcoin::secp256k1::{PublicKey, SecretKey};
use serde_json::Value;
use tinderbox_frost::{
    NonceCommitment, Nonces, OperatorIndex, SecretScalar, SignatureShare, SigningPackage, feldman,
};
use tinderbox_protocol::hash::{
    HashVariant, claim_payload, leaf_signature_digest, transfer_payload,
};
use tinderbox_protocol::package::{ClaimLeafKeyTweaks, SecretShare, SendLeafKeyTweaks};
use tinderbox_protocol::refunds::{self, ClaimBasis, RefundPurpose};
use tinderbox_protocol::signature::{verify_der, verify_der_or_compact};
use tinderbox_protocol::tx::{self, Utxo};
use tinderbox_protocol::{LeafId, LeafSequence, Network, Sats, TransferId, TreeId, deposit, ecies};
use tinderbox_rpc::proto::spark;

use super::{Incoming, Outgoing, Recipients, claim_package, transfer_package};
use crate::error::Error;
use crate::leaf::{LeafStatus, Node};
use crate::signer::{MemorySigner, WalletSigner};
use crate::transfer::TransferLeaf;
use crate::verify::{Failure, handover};
use crate::wire::Commitments;

struct Recorded(Value);

impl Recorded {
    fn load() -> Self {
        Self(serde_json::from_str(include_str!("../../tests/vectors/transfer_chain.json")).unwrap())
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        hex::decode(self.0[name].as_str().unwrap()).unwrap()
    }

    fn key(&self, name: &str) -> PublicKey {
        PublicKey::from_slice(&self.bytes(name)).unwrap()
    }

    fn public_of(&self, name: &str) -> PublicKey {
        SecretKey::from_slice(&self.bytes(name))
            .unwrap()
            .public_key(&bitcoin::secp256k1::Secp256k1::new())
    }

    fn wallet(&self, seed: &str) -> MemorySigner {
        MemorySigner::from_seed(&self.bytes(seed), Network::Local, None).unwrap()
    }

    fn leaf_id(&self) -> LeafId {
        self.0["leaf_id"].as_str().unwrap().parse().unwrap()
    }

    fn transfer_id(&self) -> TransferId {
        self.0["transfer_id"].as_str().unwrap().parse().unwrap()
    }

    fn operator(&self, index: usize) -> SecretKey {
        self.0["operator_secrets"][index]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    fn recipients(&self) -> Recipients {
        let curve = bitcoin::secp256k1::Secp256k1::new();
        let keys = (0u16..3).map(|i| {
            (
                OperatorIndex(i),
                self.operator(usize::from(i)).public_key(&curve),
            )
        });
        Recipients {
            keys: keys.collect(),
            threshold: 2,
        }
    }

    fn keyshare(&self, stage: &str) -> PublicKey {
        self.0[stage]["public_key"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    fn shares(&self, stage: &str) -> Vec<SecretScalar> {
        let shares = self.0[stage]["shares"].as_array().unwrap();
        let share = |entry: &Value| hex::decode(entry["secret_share"].as_str().unwrap()).unwrap();
        shares
            .iter()
            .map(|entry| SecretScalar::try_from_be_bytes(&share(entry)).unwrap())
            .collect()
    }

    /// The leaf before the payment, on a made-up deposit.
    fn node(&self, stage: &str) -> Node {
        let verifying_key = self.key("verifying_key");
        let alice = self.wallet("alice_seed");
        let output = bitcoin::TxOut {
            value: Sats(50_000).to_amount(),
            script_pubkey: tx::p2tr(&verifying_key),
        };
        let utxo = Utxo {
            outpoint: bitcoin::OutPoint::default(),
            output,
        };
        let node_tx = tx::root::build(&[utxo]).unwrap().tx;
        let owner_signing_key = alice.leaf_key(&self.leaf_id()).unwrap();
        let txs = refunds::LeafTxs {
            node_tx: node_tx.clone(),
            direct_tx: None,
        };
        let set = refunds::expected(&txs, &RefundPurpose::Initial { owner_signing_key }).unwrap();
        Node {
            id: self.leaf_id(),
            tree: TreeId::from_bytes16([1; 16]),
            parent: None,
            value: Sats(50_000),
            status: LeafStatus::Available,
            verifying_key,
            keyshare: self.keyshare(stage),
            owner: alice.identity(),
            node_tx,
            direct_tx: None,
            refund_tx: Some(set.cpfp.tx),
            direct_refund_tx: None,
            direct_from_cpfp_refund_tx: Some(set.direct_from_cpfp.tx),
        }
    }
}

/// Nonces of the first two operators for each of `count` signatures.
fn nonces(count: usize) -> (Vec<Vec<Nonces>>, Vec<Commitments>) {
    let secret = (0..count)
        .map(|_| {
            (0..2)
                .map(|_| Nonces::generate(&mut rand::rngs::OsRng))
                .collect::<Vec<_>>()
        })
        .collect::<Vec<_>>();
    let public = secret
        .iter()
        .map(|pair| {
            (0u16..)
                .map(OperatorIndex)
                .zip(pair.iter().map(Nonces::commitment))
                .collect()
        })
        .collect();
    (secret, public)
}

/// What an operator does with its slice: opens it, checks the share, and adds it to its own.
fn apply(
    index: usize,
    share: &SecretShare,
    public: &BTreeMap<String, Vec<u8>>,
    old: &SecretScalar,
) -> SecretScalar {
    let operator = OperatorIndex(u16::try_from(index).unwrap());
    let proofs = share
        .proofs
        .iter()
        .map(|p| PublicKey::from_slice(p).unwrap())
        .collect::<Vec<_>>();
    feldman::check_proofs(&proofs, 2).unwrap();
    let secret = SecretScalar::try_from_be_bytes(&share.secret_share).unwrap();
    feldman::verify_share(&proofs, operator, &secret).unwrap();
    for other in (0u16..3).map(OperatorIndex) {
        let expected = feldman::evaluate(&proofs, other)
            .unwrap()
            .serialize()
            .to_vec();
        assert_eq!(public[&other.identifier()], expected);
    }
    old.add(&secret).unwrap()
}

/// Completes a half-signed job with operators' shares, and verifies the signature on chain's terms.
fn complete(
    job: &spark::UserSignedTxSigningJob,
    expected: &tx::UnsignedTx,
    verifying_key: PublicKey,
    shares: &[SecretScalar],
    nonces: Vec<Nonces>,
    user_key: &PublicKey,
) {
    assert_eq!(job.raw_tx, expected.serialize());
    assert_eq!(job.signing_public_key, user_key.serialize());
    let user = job.signing_nonce_commitment.clone().unwrap();
    let user = NonceCommitment {
        hiding: PublicKey::from_slice(&user.hiding).unwrap(),
        binding: PublicKey::from_slice(&user.binding).unwrap(),
    };
    let operators = (0u16..)
        .map(OperatorIndex)
        .zip(nonces.iter().map(Nonces::commitment))
        .collect();
    let package = SigningPackage {
        verifying_key,
        message: expected.sighash().unwrap(),
        operators,
        user: Some(user),
        adaptor: None,
        threshold: 2,
    };
    let prepared = package.prepare().unwrap();
    let user_share = SignatureShare(job.user_signature.clone().try_into().unwrap());
    prepared.verify_user_share(user_key, &user_share).unwrap();
    let mut partial = BTreeMap::new();
    let mut public = BTreeMap::new();
    for ((index, share), nonces) in (0u16..).map(OperatorIndex).zip(shares).zip(nonces) {
        partial.insert(
            index,
            prepared.sign_operator(&index, share, nonces).unwrap(),
        );
        public.insert(index, share.public_key());
    }
    let signature = prepared
        .aggregate(&partial, Some(&user_share), &public, Some(user_key))
        .unwrap();
    let signed = expected.finalize(&signature);
    tx::verify_input(&signed, 0, &expected.prevouts, expected.kind).unwrap();
}

#[test]
fn the_recorded_hand_over_is_read_as_the_official_wallet_meant_it() {
    let recorded = Recorded::load();
    let (alice, bob) = (recorded.wallet("alice_seed"), recorded.wallet("bob_seed"));
    assert_eq!(
        alice.leaf_key(&recorded.leaf_id()).unwrap(),
        recorded.public_of("sender_leaf_key")
    );
    assert_eq!(
        bob.leaf_key(&recorded.leaf_id()).unwrap(),
        recorded.public_of("receiver_leaf_key")
    );
    let cipher = recorded.bytes("secret_cipher");
    assert_eq!(
        bob.received_key(&cipher).unwrap(),
        recorded.public_of("temporary_key")
    );
    // Everything of a claim but its coefficients is fixed.
    let tweak = bob.take_over(&recorded.leaf_id(), &cipher, 2, 3).unwrap();
    assert_eq!(tweak.proofs[0], recorded.key("claim_proof_0"));
    let leaf = TransferLeaf {
        node: recorded.node("keyshare_after_send"),
        secret_cipher: cipher,
        signature: recorded.bytes("leaf_signature_compact"),
        refund: recorded.node("keyshare_after_send").node_tx,
        direct_refund: None,
        direct_from_cpfp_refund: None,
    };
    handover::sender_signed(&leaf, &recorded.transfer_id(), &alice.identity()).unwrap();
    handover::key_opens_leaf(&leaf, &bob).unwrap();
}

#[test]
fn a_payment_package_moves_the_key_at_every_operator_and_its_refund_is_signed_by_the_old_key() {
    let recorded = Recorded::load();
    let (alice, bob) = (recorded.wallet("alice_seed"), recorded.wallet("bob_seed"));
    let (id, node) = (recorded.transfer_id(), recorded.node("keyshare_before"));
    let (mut secret, public) = nonces(3);
    let outgoing = [Outgoing {
        node: node.clone(),
        receiver: bob.identity(),
    }];
    let package =
        transfer_package(&alice, &recorded.recipients(), &id, &outgoing, &public).unwrap();
    let payload = transfer_payload(&id, &package.key_tweak_package, HashVariant::V2);
    verify_der(
        &alice.identity(),
        &payload,
        &package.user_signature,
        "package",
    )
    .unwrap();

    let old = recorded.shares("keyshare_before");
    let mut moved = Vec::new();
    let mut cipher = Vec::new();
    for (index, old) in old.iter().enumerate() {
        let operator = OperatorIndex(u16::try_from(index).unwrap());
        let sealed = &package.key_tweak_package[&operator.identifier()];
        let plain = ecies::decrypt(&recorded.operator(index), sealed).unwrap();
        let tweaks = SendLeafKeyTweaks::from_bytes(&plain).unwrap();
        let [tweak] = &tweaks.leaves_to_send[..] else {
            panic!("one leaf")
        };
        assert_eq!(tweak.leaf_id, node.id.to_string());
        let digest = leaf_signature_digest(&node.id, &id, &tweak.secret_cipher);
        assert_eq!(tweak.signature.len(), 64);
        verify_der_or_compact(&alice.identity(), &digest, &tweak.signature, "leaf").unwrap();
        let share = tweak.secret_share_tweak.as_ref().unwrap();
        moved.push(apply(index, share, &tweak.pubkey_shares_tweak, old));
        assert!(
            cipher.is_empty() || cipher == tweak.secret_cipher,
            "all operators get the same cipher"
        );
        cipher.clone_from(&tweak.secret_cipher);
    }
    // The receiver's key and the operators' new key make the same leaf as before.
    let pairs = [(OperatorIndex(0), &moved[0]), (OperatorIndex(2), &moved[2])];
    let keyshare = feldman::recover(&pairs).unwrap().public_key();
    let new = bob.received_key(&cipher).unwrap();
    deposit::check_halves(&node.verifying_key, &new, &keyshare).unwrap();

    let purpose = RefundPurpose::Send {
        current: LeafSequence::INITIAL,
        receiver: bob.identity(),
    };
    let set = refunds::expected(&node.txs(), &purpose).unwrap();
    let user = alice.leaf_key(&node.id).unwrap();
    assert!(package.direct_leaves_to_send.is_empty());
    let [refund] = &package.leaves_to_send[..] else {
        panic!("one refund")
    };
    complete(
        refund,
        &set.cpfp,
        node.verifying_key,
        &old,
        secret.remove(0),
        &user,
    );
    let [direct] = &package.direct_from_cpfp_leaves_to_send[..] else {
        panic!("one direct refund")
    };
    // The second group of nonces belongs to direct refunds, of which there are none here.
    complete(
        direct,
        &set.direct_from_cpfp,
        node.verifying_key,
        &old,
        secret.remove(1),
        &user,
    );
}

#[test]
fn a_claim_package_moves_the_key_and_its_refund_is_signed_by_the_new_key() {
    let recorded = Recorded::load();
    let bob = recorded.wallet("bob_seed");
    let (id, node) = (recorded.transfer_id(), recorded.node("keyshare_after_send"));
    let send = RefundPurpose::Send {
        current: LeafSequence::INITIAL,
        receiver: bob.identity(),
    };
    let refund = refunds::expected(&node.txs(), &send).unwrap().cpfp.tx;
    let incoming = [Incoming {
        node: node.clone(),
        secret_cipher: recorded.bytes("secret_cipher"),
        refund,
    }];
    let (mut secret, public) = nonces(3);
    let package = claim_package(&bob, &recorded.recipients(), &id, &incoming, &public).unwrap();
    let payload = claim_payload(&id, &package.key_tweak_package);
    verify_der(
        &bob.identity(),
        &payload,
        &package.user_signature,
        "package",
    )
    .unwrap();

    let old = recorded.shares("keyshare_after_send");
    let mut moved = Vec::new();
    for (index, old) in old.iter().enumerate() {
        let operator = OperatorIndex(u16::try_from(index).unwrap());
        let sealed = &package.key_tweak_package[&operator.identifier()];
        let plain = ecies::decrypt(&recorded.operator(index), sealed).unwrap();
        let tweaks = ClaimLeafKeyTweaks::from_bytes(&plain).unwrap();
        let [tweak] = &tweaks.leaves_to_receive[..] else {
            panic!("one leaf")
        };
        let share = tweak.secret_share_tweak.as_ref().unwrap();
        moved.push(apply(index, share, &tweak.pubkey_shares_tweak, old));
    }
    let pairs = [(OperatorIndex(1), &moved[1]), (OperatorIndex(2), &moved[2])];
    let keyshare = feldman::recover(&pairs).unwrap().public_key();
    assert_eq!(keyshare, recorded.keyshare("keyshare_after_claim"));

    let user = bob.leaf_key(&node.id).unwrap();
    let basis = ClaimBasis::Intermediate(
        crate::verify::refund::sequence(&incoming[0].refund, tx::TxKind::CpfpRefund).unwrap(),
    );
    let purpose = RefundPurpose::Claim {
        basis,
        owner_signing_key: user,
    };
    let set = refunds::expected(&node.txs(), &purpose).unwrap();
    let [refund] = &package.leaves_to_claim[..] else {
        panic!("one refund")
    };
    complete(
        refund,
        &set.cpfp,
        node.verifying_key,
        &moved,
        secret.remove(0),
        &user,
    );
}

#[test]
fn a_leaf_twice_in_one_payment_is_refused() {
    let recorded = Recorded::load();
    let (alice, bob) = (recorded.wallet("alice_seed"), recorded.wallet("bob_seed"));
    let outgoing = Outgoing {
        node: recorded.node("keyshare_before"),
        receiver: bob.identity(),
    };
    let (_, public) = nonces(6);
    let leaves = [outgoing.clone(), outgoing];
    let error = transfer_package(
        &alice,
        &recorded.recipients(),
        &recorded.transfer_id(),
        &leaves,
        &public,
    )
    .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Check {
                failure: Failure::Doubled { .. },
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_leaf_that_is_used_up_cannot_be_put_into_a_payment() {
    let recorded = Recorded::load();
    let (alice, bob) = (recorded.wallet("alice_seed"), recorded.wallet("bob_seed"));
    let mut node = recorded.node("keyshare_before");
    node.refund_tx.as_mut().unwrap().input[0].sequence = bitcoin::Sequence(100);
    let (_, public) = nonces(3);
    let leaves = [Outgoing {
        node,
        receiver: bob.identity(),
    }];
    let error = transfer_package(
        &alice,
        &recorded.recipients(),
        &recorded.transfer_id(),
        &leaves,
        &public,
    )
    .unwrap_err();
    assert!(error.to_string().contains("renew"), "{error}");
}
