use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use rand::rngs::OsRng;
use tinderbox_frost::{OperatorIndex, feldman};
use tinderbox_protocol::package::SecretShare;
use tinderbox_protocol::refunds::RefundSet;
use tinderbox_protocol::tx::UnsignedTx;
use tinderbox_protocol::{LeafId, ecies};
use tinderbox_rpc::proto::spark;

use crate::error::{Error, Result};
use crate::leaf::Node;
use crate::signer::{KeyTweak, ShareRequest, WalletSigner};
use crate::wire::{self, Commitments};

/// The operators that a package is made for.
#[derive(Debug, Clone)]
pub(crate) struct Recipients {
    /// Identity keys by index.
    pub(crate) keys: BTreeMap<OperatorIndex, PublicKey>,
    /// How many sign.
    pub(crate) threshold: u16,
}

impl Recipients {
    pub(crate) fn count(&self) -> u16 {
        u16::try_from(self.keys.len()).unwrap_or(u16::MAX)
    }

    /// The public point of every operator's share.
    pub(super) fn public_shares(&self, tweak: &KeyTweak) -> Result<BTreeMap<String, Vec<u8>>> {
        self.keys
            .keys()
            .map(|index| {
                let point = feldman::evaluate(&tweak.proofs, *index)?;
                Ok((index.identifier(), point.serialize().to_vec()))
            })
            .collect()
    }

    /// One operator's part of a tweak.
    pub(super) fn share(&self, tweak: &KeyTweak, operator: OperatorIndex) -> Result<SecretShare> {
        let share = tweak
            .shares
            .get(usize::from(operator.0))
            .ok_or_else(|| Error::Config {
                what: format!("there is no share for {operator}"),
            })?;
        Ok(SecretShare {
            secret_share: share.to_be_bytes().to_vec(),
            proofs: tweak
                .proofs
                .iter()
                .map(|point| point.serialize().to_vec())
                .collect(),
        })
    }

    /// One ciphertext per operator.
    pub(super) fn encrypt(
        &self,
        plain: impl Fn(OperatorIndex) -> Result<zeroize::Zeroizing<Vec<u8>>>,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        self.keys
            .iter()
            .map(|(index, key)| {
                Ok((
                    index.identifier(),
                    ecies::encrypt(key, &plain(*index)?, &mut OsRng)?,
                ))
            })
            .collect()
    }
}

/// The refunds of a package, by kind.
#[derive(Default)]
pub(super) struct Refunds {
    pub(super) cpfp: Vec<spark::UserSignedTxSigningJob>,
    pub(super) direct: Vec<spark::UserSignedTxSigningJob>,
    pub(super) direct_from_cpfp: Vec<spark::UserSignedTxSigningJob>,
}

/// Half-signs leaves' refunds one by one, with the nonces as operators group them.
pub(super) struct HalfSigner<'a> {
    pub(super) signer: &'a dyn WalletSigner,
    pub(super) threshold: u16,
    pub(super) nonces: &'a [Commitments],
    pub(super) leaves: usize,
    pub(super) refunds: Refunds,
}

impl HalfSigner<'_> {
    /// Signs the refunds of leaf number `index` with the user key of that leaf.
    pub(super) fn sign(&mut self, index: usize, node: &Node, set: &RefundSet) -> Result<()> {
        let key = self.signer.leaf_key(&node.id)?;
        let nonces = |kind: usize| {
            let at = self.leaves.saturating_mul(kind).saturating_add(index);
            self.nonces.get(at).ok_or_else(|| Error::Config {
                what: "there are too few commitments".into(),
            })
        };
        self.refunds
            .cpfp
            .push(self.job(node, &key, &set.cpfp, nonces(0)?)?);
        if let Some(direct) = &set.direct {
            self.refunds
                .direct
                .push(self.job(node, &key, direct, nonces(1)?)?);
        }
        self.refunds.direct_from_cpfp.push(self.job(
            node,
            &key,
            &set.direct_from_cpfp,
            nonces(2)?,
        )?);
        Ok(())
    }

    fn job(
        &self,
        node: &Node,
        key: &PublicKey,
        tx: &UnsignedTx,
        operators: &Commitments,
    ) -> Result<spark::UserSignedTxSigningJob> {
        let share = self.signer.sign_share(&ShareRequest {
            leaf: node.id,
            verifying_key: node.verifying_key,
            message: tx.sighash()?,
            operators: operators.clone(),
            threshold: self.threshold,
        })?;
        Ok(wire::half_signed(&node.id, key, tx, operators, &share))
    }
}

/// Leaves by id, so that messages do not depend on how they were collected.
pub(super) fn unique(ids: impl Iterator<Item = LeafId>) -> Result<()> {
    let mut ids = ids.collect::<Vec<_>>();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(crate::verify::Failure::Doubled { leaf: pair[0] }.about("the payment")),
        None => Ok(()),
    }
}
