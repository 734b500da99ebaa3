//! A wallet's part of payments, for simulations: written apart from the wallet crate, so that one
//! checks the other.

use std::collections::BTreeMap;

use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use bitcoin::secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};
use tinderbox_flows::flow::Site;
use tinderbox_flows::form::Form;
use tinderbox_flows::package::{TweakPackage, UserJob, UserShare};
use tinderbox_flows::refunds;
use tinderbox_flows::request::{ClaimRequest, DepositRequest, SendRequest};
use tinderbox_flows::rows::{
    AddressRow, Details, Millis, NodeRow, Part, TransferLeafRow, TransferRow,
};
use tinderbox_flows::swap_counter::SwapCounterRequest;
use tinderbox_flows::swap_primary::SwapPrimaryRequest;
use tinderbox_frost::{
    NonceCommitment, Nonces, OperatorIndex, SecretScalar, SigningPackage, feldman,
};
use tinderbox_protocol::hash::{self, HashVariant};
use tinderbox_protocol::invoice::{InvoiceFields, SparkInvoice};
use tinderbox_protocol::refunds::{LeafTxs, RefundPurpose, RefundSet, expected};
use tinderbox_protocol::tx::{UnsignedTx, Utxo, root};
use tinderbox_protocol::{LeafId, Network, TransferId, TreeId, ecies, package};

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

    /// An invoice of this payee, signed.
    pub fn invoice(
        &self,
        network: Network,
        fields: InvoiceFields,
        rng: &mut ChaCha20Rng,
    ) -> SparkInvoice {
        SparkInvoice::signed(network, &self.identity, fields, rng).expect("the fields are valid")
    }

    /// This receiver's wish that a transfer goes back to its sender.
    #[must_use]
    pub fn unwanted(&self, transfer: &TransferId) -> Vec<u8> {
        ecdsa(&self.identity, &hash::return_payload(transfer))
            .serialize_der()
            .to_vec()
    }

    /// The owner's half of the key of its deposit addresses.
    #[must_use]
    pub fn deposit_key(&self) -> SecretKey {
        let mut hash = Sha256::new();
        hash.update(self.identity.secret_bytes());
        hash.update("deposits");
        SecretKey::from_slice(&hash.finalize()).expect("a hash is a key but for one in 2^127")
    }

    /// A signature (DER) of the identity key.
    #[must_use]
    pub fn sign(&self, digest: &[u8; 32]) -> Vec<u8> {
        ecdsa(&self.identity, digest).serialize_der().to_vec()
    }

    /// Its signature with the identity key, as such.
    #[must_use]
    pub fn ecdsa(&self, digest: &[u8; 32]) -> bitcoin::secp256k1::ecdsa::Signature {
        ecdsa(&self.identity, digest)
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
        self.job_under(site, node, key, tx, None, operators, rng)
    }

    /// Half-signs one transaction, under an adaptor if there is one.
    #[allow(clippy::too_many_arguments, reason = "each is a fact of its own")]
    fn job_under(
        &self,
        site: &Site,
        node: &NodeRow,
        key: &SecretKey,
        tx: &UnsignedTx,
        adaptor: Option<PublicKey>,
        operators: NonceSet,
        rng: &mut ChaCha20Rng,
    ) -> UserJob {
        let verifying = node.verifying_key;
        UserJob {
            leaf: Some(node.id),
            ..half_sign(site, verifying, key, tx, adaptor, operators, rng)
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
            let signed = half_sign(site, address.verifying_key, &key, tx, None, operators, rng);
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

    /// Half-signs the refunds of leaves with these keys: fee-less, direct, fee-paying.
    #[allow(clippy::type_complexity, reason = "three lists of one kind")]
    pub(crate) fn jobs(
        &self,
        site: &Site,
        leaves: &[(&NodeRow, SecretKey, RefundSet)],
        nonces: &mut impl Iterator<Item = NonceSet>,
        rng: &mut ChaCha20Rng,
    ) -> (Vec<UserJob>, Vec<UserJob>, Vec<UserJob>) {
        self.jobs_under(site, leaves, &|_| None, nonces, rng)
    }

    /// The same, each under its adaptor if there is one.
    #[allow(clippy::type_complexity, reason = "three lists of one kind")]
    fn jobs_under(
        &self,
        site: &Site,
        leaves: &[(&NodeRow, SecretKey, RefundSet)],
        adaptor: &dyn Fn(Part) -> Option<PublicKey>,
        nonces: &mut impl Iterator<Item = NonceSet>,
        rng: &mut ChaCha20Rng,
    ) -> (Vec<UserJob>, Vec<UserJob>, Vec<UserJob>) {
        let mut take = || nonces.next().expect("enough nonces were asked for");
        let mut lists = (Vec::new(), Vec::new(), Vec::new());
        for (node, key, set) in leaves {
            let mut job =
                |part, tx| self.job_under(site, node, key, tx, adaptor(part), take(), rng);
            lists.0.push(job(Part::Cpfp, &set.cpfp));
            let direct = set.direct.as_ref();
            lists.1.extend(direct.map(|tx| job(Part::Direct, tx)));
            let direct_from_cpfp = &set.direct_from_cpfp;
            lists.2.push(job(Part::DirectFromCpfp, direct_from_cpfp));
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
        let refunds = |node: &NodeRow| {
            refunds::for_send(node, receivers[&node.id]).expect("leaf can be sent")
        };
        self.send_with(site, id, now, nodes, receivers, nonces, rng, &refunds)
    }

    /// A payment with other refunds.
    #[allow(clippy::too_many_arguments, reason = "each is a fact of its own")]
    pub(crate) fn send_with(
        &self,
        site: &Site,
        id: TransferId,
        now: Millis,
        nodes: &[NodeRow],
        receivers: &BTreeMap<LeafId, PublicKey>,
        nonces: Vec<NonceSet>,
        rng: &mut ChaCha20Rng,
        refunds: &dyn Fn(&NodeRow) -> RefundSet,
    ) -> SendRequest {
        let form = Form::Plain;
        let package = self.package_with(site, &id, nodes, receivers, &form, nonces, rng, refunds);
        SendRequest {
            now,
            transfer: id,
            sender: self.identity(),
            receivers: receivers.clone(),
            package,
            expiry: None,
            invoice: String::new(),
        }
    }

    /// Refunds to the receivers and changes of keys for the operators; with an adaptor, the
    /// package of one leg of a swap.
    #[allow(clippy::too_many_arguments, reason = "each is a fact of its own")]
    pub fn package(
        &self,
        site: &Site,
        id: &TransferId,
        nodes: &[NodeRow],
        receivers: &BTreeMap<LeafId, PublicKey>,
        adaptor: Option<PublicKey>,
        nonces: Vec<NonceSet>,
        rng: &mut ChaCha20Rng,
    ) -> TweakPackage {
        let form = adaptor.map_or(Form::Plain, Form::Adaptor);
        self.package_as(site, id, nodes, receivers, &form, nonces, rng)
    }

    /// The same with refunds of this form; only plain ones, under adaptors or not.
    #[allow(clippy::too_many_arguments, reason = "each is a fact of its own")]
    pub fn package_as(
        &self,
        site: &Site,
        id: &TransferId,
        nodes: &[NodeRow],
        receivers: &BTreeMap<LeafId, PublicKey>,
        form: &Form,
        nonces: Vec<NonceSet>,
        rng: &mut ChaCha20Rng,
    ) -> TweakPackage {
        let refunds = |node: &NodeRow| {
            refunds::for_send(node, receivers[&node.id]).expect("leaf can be sent")
        };
        self.package_with(site, id, nodes, receivers, form, nonces, rng, &refunds)
    }

    #[allow(clippy::too_many_arguments, reason = "each is a fact of its own")]
    fn package_with(
        &self,
        site: &Site,
        id: &TransferId,
        nodes: &[NodeRow],
        receivers: &BTreeMap<LeafId, PublicKey>,
        form: &Form,
        nonces: Vec<NonceSet>,
        rng: &mut ChaCha20Rng,
        refunds: &dyn Fn(&NodeRow) -> RefundSet,
    ) -> TweakPackage {
        let mut nonces = nonces.into_iter();
        let leaves: Vec<_> = nodes
            .iter()
            .map(|node| (node, self.leaf_key(&node.id), refunds(node)))
            .collect();
        let (cpfp, direct, direct_from_cpfp) = match form {
            Form::Adaptor(adaptor) => {
                let cpfp = leaves.iter().zip(nonces).map(|((node, key, set), nonces)| {
                    self.job_under(site, node, key, &set.cpfp, Some(*adaptor), nonces, rng)
                });
                (cpfp.collect(), Vec::new(), Vec::new())
            }
            Form::Adaptors(adaptors) => {
                let adaptor = |part| adaptors.of(part);
                self.jobs_under(site, &leaves, &adaptor, &mut nonces, rng)
            }
            _ => self.jobs(site, &leaves, &mut nonces, rng),
        };
        let mut per_operator: BTreeMap<OperatorIndex, Vec<package::SendLeafKeyTweak>> =
            BTreeMap::new();
        for (node, key, _) in &leaves {
            let fresh = secret_key(rng);
            let cipher = ecies::encrypt(&receivers[&node.id], &fresh.secret_bytes(), rng)
                .expect("a key is encrypted");
            let signature = ecdsa(
                &self.identity,
                &hash::leaf_signature_digest(&node.id, id, &cipher),
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
            &hash::transfer_payload(id, &tweaks, HashVariant::V2),
        )
        .serialize_der()
        .to_vec();
        TweakPackage {
            cpfp,
            direct,
            direct_from_cpfp,
            tweaks,
            user_signature,
            hash_variant: 1,
        }
    }

    pub(crate) fn deal(
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

    /// An offer of leaves to a provider, for others of the same total: one set of nonces per leaf.
    #[allow(clippy::too_many_arguments, reason = "each is a fact of its own")]
    pub fn offer(
        &self,
        site: &Site,
        id: TransferId,
        now: Millis,
        nodes: &[NodeRow],
        provider: PublicKey,
        adaptor: PublicKey,
        nonces: Vec<NonceSet>,
        rng: &mut ChaCha20Rng,
    ) -> SwapPrimaryRequest {
        let receivers = nodes.iter().map(|node| (node.id, provider)).collect();
        SwapPrimaryRequest {
            now,
            transfer: id,
            sender: self.identity(),
            receiver: provider,
            package: self.package(site, &id, nodes, &receivers, Some(adaptor), nonces, rng),
            adaptor,
        }
    }

    /// A provider's answer to an offer: one set of nonces per leaf.
    #[allow(clippy::too_many_arguments, reason = "each is a fact of its own")]
    pub fn answer(
        &self,
        site: &Site,
        id: TransferId,
        now: Millis,
        nodes: &[NodeRow],
        offer: &TransferRow,
        nonces: Vec<NonceSet>,
        rng: &mut ChaCha20Rng,
    ) -> Option<SwapCounterRequest> {
        let Details::Swap { adaptor, .. } = offer.details else {
            return None;
        };
        let receivers = nodes.iter().map(|node| (node.id, offer.sender)).collect();
        Some(SwapCounterRequest {
            now,
            transfer: id,
            sender: self.identity(),
            receiver: offer.sender,
            package: self.package(site, &id, nodes, &receivers, Some(adaptor), nonces, rng),
            adaptor,
            primary: offer.id,
        })
    }

    /// What leads from the key that the sender gave to the receiver's own.
    pub(crate) fn claim_secret(&self, row: &TransferLeafRow) -> Option<SecretScalar> {
        let plain = ecies::decrypt(&self.identity, &row.secret_cipher).ok()?;
        let received = SecretScalar::try_from_be_bytes(&plain).ok()?;
        received.sub(&scalar(&self.leaf_key(&row.leaf))).ok()
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
            let own = self.leaf_key(&node.id);
            let secret = self.claim_secret(row)?;
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
    adaptor: Option<PublicKey>,
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
        adaptor,
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

pub(crate) type Dealt = (package::SecretShare, BTreeMap<String, Vec<u8>>);

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
