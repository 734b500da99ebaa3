//! A wallet's part of payments, for simulations: written apart from the wallet crate, so that one
//! checks the other.

use std::collections::BTreeMap;

use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use bitcoin::secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};
use tinderbox_flows::flow::Site;
use tinderbox_flows::package::{TweakPackage, UserJob, UserShare};
use tinderbox_flows::refunds;
use tinderbox_flows::request::{ClaimRequest, DepositRequest, SendRequest};
use tinderbox_flows::rows::{AddressRow, Millis, NodeRow, TransferRow};
use tinderbox_frost::{
    NonceCommitment, Nonces, OperatorIndex, SecretScalar, SigningPackage, feldman,
};
use tinderbox_protocol::hash::{self, HashVariant};
use tinderbox_protocol::refunds::{LeafTxs, RefundPurpose, RefundSet, expected};
use tinderbox_protocol::tx::{UnsignedTx, Utxo, root};
use tinderbox_protocol::{LeafId, TransferId, TreeId, ecies, package};

use crate::signer::secret_key;

/// Commitments of the operators that sign one transaction.
pub type NonceSet = BTreeMap<OperatorIndex, NonceCommitment>;

/// Somebody with an identity key.
pub struct Owner {
    identity: SecretKey,
    /// What it deals to operators.
    pub dealing: Dealing,
}

/// How an owner deals the shares of its tweaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dealing {
    /// One polynomial for all.
    #[default]
    Honest,
    /// The same secret on another polynomial for each operator, each with proofs that fit.
    PolynomialEach,
}

fn scalar(key: &SecretKey) -> SecretScalar {
    SecretScalar::try_from_be_bytes(&key.secret_bytes()).expect("a secret key is a scalar")
}

fn ecdsa(key: &SecretKey, digest: &[u8; 32]) -> bitcoin::secp256k1::ecdsa::Signature {
    SECP256K1.sign_ecdsa(&Message::from_digest(*digest), key)
}

impl Owner {
    /// Somebody new.
    pub fn new(rng: &mut ChaCha20Rng) -> Self {
        Self {
            identity: secret_key(rng),
            dealing: Dealing::Honest,
        }
    }

    /// The identity key.
    #[must_use]
    pub fn identity(&self) -> PublicKey {
        self.identity.public_key(SECP256K1)
    }

    /// The owner's half of a leaf's key.
    #[must_use]
    pub fn leaf_key(&self, leaf: &LeafId) -> SecretKey {
        let mut hash = Sha256::new();
        hash.update(self.identity.secret_bytes());
        hash.update(leaf.to_string());
        SecretKey::from_slice(&hash.finalize()).expect("a hash is a key but for one in 2^127")
    }

    /// Half-signs one transaction.
    pub(crate) fn job(
        &self,
        site: &Site,
        node: &NodeRow,
        key: &SecretKey,
        tx: &UnsignedTx,
        operators: NonceSet,
        rng: &mut ChaCha20Rng,
    ) -> UserJob {
        UserJob {
            leaf: Some(node.id),
            ..half_sign(site, node.verifying_key, key, tx, operators, rng)
        }
    }

    /// A deposit to an address of this owner. `None` if no tree can be made of it.
    #[allow(clippy::too_many_arguments, reason = "each is a fact of its own")]
    pub fn deposit(
        &self,
        site: &Site,
        now: Millis,
        address: &AddressRow,
        tree: TreeId,
        paid: (Vec<u8>, u32),
        nonces: Vec<NonceSet>,
        rng: &mut ChaCha20Rng,
    ) -> Option<DepositRequest> {
        let leaf = address.leaf?;
        let key = self.leaf_key(&leaf);
        let tx: Transaction = deserialize(&paid.0).ok()?;
        let utxo = Utxo::of(&tx, paid.1).ok()?;
        let made = root::build(std::slice::from_ref(&utxo)).ok()?;
        let set = expected(
            &LeafTxs {
                node_tx: made.tx.clone(),
                direct_tx: None,
            },
            &RefundPurpose::Initial {
                owner_signing_key: address.owner_signing,
            },
        )
        .ok()?;
        let mut nonces = nonces.into_iter();
        let mut sign = |tx: &UnsignedTx| {
            let operators = nonces.next()?;
            let signed = half_sign(site, address.verifying_key, &key, tx, operators, rng);
            Some(signed)
        };
        Some(DepositRequest {
            now,
            owner: self.identity(),
            tree,
            fallback_leaf: leaf,
            outputs: vec![paid],
            root: sign(&made)?,
            refund: sign(&set.cpfp)?,
            direct_from_cpfp: sign(&set.direct_from_cpfp)?,
            confirmed: true,
        })
    }

    fn jobs(
        &self,
        site: &Site,
        leaves: &[(&NodeRow, SecretKey, RefundSet)],
        nonces: &mut impl Iterator<Item = NonceSet>,
        rng: &mut ChaCha20Rng,
    ) -> (Vec<UserJob>, Vec<UserJob>, Vec<UserJob>) {
        let mut take = || nonces.next().expect("enough nonces were asked for");
        let mut lists = (Vec::new(), Vec::new(), Vec::new());
        for (node, key, set) in leaves {
            lists
                .0
                .push(self.job(site, node, key, &set.cpfp, take(), rng));
            if let Some(direct) = &set.direct {
                lists.1.push(self.job(site, node, key, direct, take(), rng));
            }
            lists
                .2
                .push(self.job(site, node, key, &set.direct_from_cpfp, take(), rng));
        }
        lists
    }

    /// A payment of whole leaves.
    #[allow(clippy::too_many_arguments, reason = "each is a fact of its own")]
    pub fn send(
        &self,
        site: &Site,
        id: TransferId,
        now: Millis,
        nodes: &[NodeRow],
        receivers: &BTreeMap<LeafId, PublicKey>,
        nonces: Vec<NonceSet>,
        rng: &mut ChaCha20Rng,
    ) -> SendRequest {
        let mut nonces = nonces.into_iter();
        let leaves: Vec<_> = nodes
            .iter()
            .map(|node| {
                let set = refunds::for_send(node, receivers[&node.id]).expect("leaf can be sent");
                (node, self.leaf_key(&node.id), set)
            })
            .collect();
        let (cpfp, direct, direct_from_cpfp) = self.jobs(site, &leaves, &mut nonces, rng);
        let mut per_operator: BTreeMap<OperatorIndex, Vec<package::SendLeafKeyTweak>> =
            BTreeMap::new();
        for (node, key, _) in &leaves {
            let fresh = secret_key(rng);
            let cipher = ecies::encrypt(&receivers[&node.id], &fresh.secret_bytes(), rng)
                .expect("a key is encrypted");
            let signature = ecdsa(
                &self.identity,
                &hash::leaf_signature_digest(&node.id, &id, &cipher),
            )
            .serialize_compact()
            .to_vec();
            let secret = scalar(key)
                .sub(&scalar(&fresh))
                .expect("random keys differ");
            for (operator, tweak) in self.deal(site, &secret, rng) {
                per_operator
                    .entry(operator)
                    .or_default()
                    .push(package::SendLeafKeyTweak {
                        leaf_id: node.id.to_string(),
                        secret_share_tweak: Some(tweak.0),
                        pubkey_shares_tweak: tweak.1,
                        secret_cipher: cipher.clone(),
                        signature: signature.clone(),
                        ..Default::default()
                    });
            }
        }
        let tweaks = seal(site, per_operator, rng, |leaves_to_send| {
            package::SendLeafKeyTweaks { leaves_to_send }.to_bytes()
        });
        let user_signature = ecdsa(
            &self.identity,
            &hash::transfer_payload(&id, &tweaks, HashVariant::V2),
        )
        .serialize_der()
        .to_vec();
        SendRequest {
            now,
            transfer: id,
            sender: self.identity(),
            receivers: receivers.clone(),
            package: TweakPackage {
                cpfp,
                direct,
                direct_from_cpfp,
                tweaks,
                user_signature,
                hash_variant: 1,
            },
            expiry: None,
            invoice: String::new(),
        }
    }

    fn deal(
        &self,
        site: &Site,
        secret: &SecretScalar,
        rng: &mut ChaCha20Rng,
    ) -> BTreeMap<OperatorIndex, Dealt> {
        match self.dealing {
            Dealing::Honest => deal(site, secret, rng),
            Dealing::PolynomialEach => site
                .everyone()
                .filter_map(|operator| {
                    let share = deal(site, secret, rng).remove(&operator)?;
                    Some((operator, share))
                })
                .collect(),
        }
    }

    /// A claim of this receiver's leaves. `None` if a ciphertext does not open.
    pub fn claim(
        &self,
        site: &Site,
        now: Millis,
        transfer: &TransferRow,
        nodes: &[NodeRow],
        nonces: Vec<NonceSet>,
        rng: &mut ChaCha20Rng,
    ) -> Option<ClaimRequest> {
        let mut nonces = nonces.into_iter();
        let mut leaves = Vec::new();
        let mut per_operator: BTreeMap<OperatorIndex, Vec<package::ClaimLeafKeyTweak>> =
            BTreeMap::new();
        for node in nodes {
            let row = transfer.leaves.iter().find(|row| row.leaf == node.id)?;
            let plain = ecies::decrypt(&self.identity, &row.secret_cipher).ok()?;
            let received = SecretScalar::try_from_be_bytes(&plain).ok()?;
            let own = self.leaf_key(&node.id);
            let secret = received.sub(&scalar(&own)).ok()?;
            for (operator, tweak) in self.deal(site, &secret, rng) {
                per_operator
                    .entry(operator)
                    .or_default()
                    .push(package::ClaimLeafKeyTweak {
                        leaf_id: node.id.to_string(),
                        secret_share_tweak: Some(tweak.0),
                        pubkey_shares_tweak: tweak.1,
                    });
            }
            let set =
                refunds::for_claim(node, own.public_key(SECP256K1), row.previous_sequence).ok()?;
            leaves.push((node, own, set));
        }
        let (cpfp, direct, direct_from_cpfp) = self.jobs(site, &leaves, &mut nonces, rng);
        let tweaks = seal(site, per_operator, rng, |leaves_to_receive| {
            package::ClaimLeafKeyTweaks { leaves_to_receive }.to_bytes()
        });
        let user_signature = ecdsa(&self.identity, &hash::claim_payload(&transfer.id, &tweaks))
            .serialize_der()
            .to_vec();
        Some(ClaimRequest {
            now,
            transfer: transfer.id,
            receiver: self.identity(),
            package: TweakPackage {
                cpfp,
                direct,
                direct_from_cpfp,
                tweaks,
                user_signature,
                hash_variant: 1,
            },
        })
    }
}

/// The user's half of a signature under `verifying_key`.
fn half_sign(
    site: &Site,
    verifying_key: PublicKey,
    key: &SecretKey,
    tx: &UnsignedTx,
    operators: NonceSet,
    rng: &mut ChaCha20Rng,
) -> UserJob {
    let nonces = Nonces::generate(rng);
    let commitment = nonces.commitment();
    let package = SigningPackage {
        verifying_key,
        message: tx.sighash().expect("a transaction of ours has a sighash"),
        operators: operators.clone(),
        user: Some(commitment),
        adaptor: None,
        threshold: site.threshold,
    };
    let share = package
        .prepare()
        .and_then(|prepared| prepared.sign_user(&scalar(key), nonces))
        .expect("a well-formed package is signed");
    UserJob {
        leaf: None,
        signing_key: key.public_key(SECP256K1),
        tx: tx.serialize(),
        share: UserShare {
            commitment,
            share,
            operators,
        },
        more: Vec::new(),
    }
}

type Dealt = (package::SecretShare, BTreeMap<String, Vec<u8>>);

/// Shares of a tweak for every operator.
fn deal(
    site: &Site,
    secret: &SecretScalar,
    rng: &mut ChaCha20Rng,
) -> BTreeMap<OperatorIndex, Dealt> {
    let dealt = feldman::split(secret, site.threshold, site.count(), rng)
        .expect("threshold and count are valid");
    let proofs: Vec<Vec<u8>> = dealt
        .proofs
        .iter()
        .map(|proof| proof.serialize().to_vec())
        .collect();
    let public: BTreeMap<String, Vec<u8>> = site
        .everyone()
        .map(|operator| {
            let point = feldman::evaluate(&dealt.proofs, operator).expect("no identity");
            (operator.identifier(), point.serialize().to_vec())
        })
        .collect();
    site.everyone()
        .zip(&dealt.shares)
        .map(|(operator, share)| {
            (
                operator,
                (
                    package::SecretShare {
                        secret_share: share.to_be_bytes().to_vec(),
                        proofs: proofs.clone(),
                    },
                    public.clone(),
                ),
            )
        })
        .collect()
}

fn seal<T>(
    site: &Site,
    per_operator: BTreeMap<OperatorIndex, Vec<T>>,
    rng: &mut ChaCha20Rng,
    encode: impl Fn(Vec<T>) -> zeroize::Zeroizing<Vec<u8>>,
) -> BTreeMap<String, Vec<u8>> {
    per_operator
        .into_iter()
        .map(|(operator, tweaks)| {
            let identity = site.operators[usize::from(operator.0)];
            let sealed =
                ecies::encrypt(&identity, &encode(tweaks), rng).expect("tweaks are encrypted");
            (operator.identifier(), sealed)
        })
        .collect()
}
