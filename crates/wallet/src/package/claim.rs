use std::collections::BTreeMap;

use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::TransferId;
use tinderbox_protocol::hash::claim_payload;
use tinderbox_protocol::package::{ClaimLeafKeyTweak, ClaimLeafKeyTweaks};
use tinderbox_protocol::refunds::{self, ClaimBasis, RefundPurpose, sequence_of};
use tinderbox_protocol::tx::TxKind;
use tinderbox_rpc::proto::spark;

use super::deal::{HalfSigner, Recipients, Refunds, unique};
use crate::error::Result;
use crate::leaf::Node;
use crate::signer::{KeyTweak, WalletSigner};
use crate::wire::Commitments;

/// A leaf that was handed to this wallet, verified.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    pub(crate) node: Node,
    pub(crate) secret_cipher: Vec<u8>,
    /// The sender's fee-less refund to this wallet.
    pub(crate) refund: bitcoin::Transaction,
}

/// A claim's package: for each leaf refunds to this wallet's own key, and a change to that key.
pub(crate) fn claim_package(
    signer: &dyn WalletSigner,
    recipients: &Recipients,
    id: &TransferId,
    leaves: &[Incoming],
    nonces: &[Commitments],
) -> Result<spark::ClaimPackage> {
    unique(leaves.iter().map(|leaf| leaf.node.id))?;
    let mut half = HalfSigner {
        signer,
        threshold: recipients.threshold,
        nonces,
        leaves: leaves.len(),
        refunds: Refunds::default(),
    };
    let mut dealt = Vec::<(KeyTweak, BTreeMap<String, Vec<u8>>)>::with_capacity(leaves.len());
    for (
        index,
        Incoming {
            node,
            secret_cipher,
            refund,
        },
    ) in leaves.iter().enumerate()
    {
        let purpose = RefundPurpose::Claim {
            basis: ClaimBasis::Intermediate(sequence_of(refund, TxKind::CpfpRefund)?),
            owner_signing_key: signer.leaf_key(&node.id)?,
        };
        half.sign(index, node, &refunds::expected(&node.txs(), &purpose)?)?;
        let tweak = signer.take_over(
            &node.id,
            secret_cipher,
            recipients.threshold,
            recipients.count(),
        )?;
        let public_shares = recipients.public_shares(&tweak)?;
        dealt.push((tweak, public_shares));
    }
    let one = |leaf: &Incoming,
               (tweak, public): &(KeyTweak, BTreeMap<String, Vec<u8>>),
               operator: OperatorIndex| {
        Ok(ClaimLeafKeyTweak {
            leaf_id: leaf.node.id.to_string(),
            secret_share_tweak: Some(recipients.share(tweak, operator)?),
            pubkey_shares_tweak: public.clone(),
        })
    };
    let key_tweak_package = recipients.encrypt(|operator| {
        let tweaks = leaves
            .iter()
            .zip(&dealt)
            .map(|(leaf, dealt)| one(leaf, dealt, operator));
        Ok(ClaimLeafKeyTweaks {
            leaves_to_receive: tweaks.collect::<Result<_>>()?,
        }
        .to_bytes())
    })?;
    let payload = claim_payload(id, &key_tweak_package);
    Ok(spark::ClaimPackage {
        leaves_to_claim: half.refunds.cpfp,
        direct_leaves_to_claim: half.refunds.direct,
        direct_from_cpfp_leaves_to_claim: half.refunds.direct_from_cpfp,
        user_signature: signer.sign_identity(payload).serialize_der().to_vec(),
        key_tweak_package,
        hash_variant: spark::HashVariant::V2.into(),
    })
}
