use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::TransferId;
use tinderbox_protocol::hash::{HashVariant, leaf_signature_digest, transfer_payload};
use tinderbox_protocol::package::{SendLeafKeyTweak, SendLeafKeyTweaks};
use tinderbox_protocol::refunds::{self, RefundPurpose};
use tinderbox_rpc::proto::spark;

use super::deal::{HalfSigner, Recipients, Refunds, unique};
use crate::error::Result;
use crate::leaf::Node;
use crate::signer::{HandOver, WalletSigner};
use crate::wire::Commitments;

/// A leaf and who gets it.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) node: Node,
    pub(crate) receiver: PublicKey,
}

struct Dealt {
    hand_over: HandOver,
    public_shares: BTreeMap<String, Vec<u8>>,
    signature: Vec<u8>,
}

/// A payment's package: for each leaf refunds to its receiver, one hop lower, and a change of key.
pub(crate) fn transfer_package(
    signer: &dyn WalletSigner,
    recipients: &Recipients,
    id: &TransferId,
    leaves: &[Outgoing],
    nonces: &[Commitments],
) -> Result<spark::TransferPackage> {
    unique(leaves.iter().map(|leaf| leaf.node.id))?;
    let mut half = HalfSigner {
        signer,
        threshold: recipients.threshold,
        nonces,
        leaves: leaves.len(),
        refunds: Refunds::default(),
    };
    let mut dealt = Vec::with_capacity(leaves.len());
    for (index, Outgoing { node, receiver }) in leaves.iter().enumerate() {
        let purpose = RefundPurpose::Send {
            current: node.refund_sequence()?,
            receiver: *receiver,
        };
        half.sign(index, node, &refunds::expected(&node.txs(), &purpose)?)?;
        let hand_over =
            signer.hand_over(&node.id, receiver, recipients.threshold, recipients.count())?;
        let digest = leaf_signature_digest(&node.id, id, &hand_over.secret_cipher);
        dealt.push(Dealt {
            public_shares: recipients.public_shares(&hand_over.tweak)?,
            signature: signer.sign_identity(digest).serialize_compact().to_vec(),
            hand_over,
        });
    }
    let key_tweak_package = recipients.encrypt(|operator| {
        let tweaks = leaves
            .iter()
            .zip(&dealt)
            .map(|(leaf, dealt)| tweak(recipients, leaf, dealt, operator));
        Ok(SendLeafKeyTweaks {
            leaves_to_send: tweaks.collect::<Result<_>>()?,
        }
        .to_bytes())
    })?;
    let payload = transfer_payload(id, &key_tweak_package, HashVariant::V2);
    Ok(spark::TransferPackage {
        leaves_to_send: half.refunds.cpfp,
        direct_leaves_to_send: half.refunds.direct,
        direct_from_cpfp_leaves_to_send: half.refunds.direct_from_cpfp,
        user_signature: signer.sign_identity(payload).serialize_der().to_vec(),
        key_tweak_package,
        hash_variant: spark::HashVariant::V2.into(),
    })
}

fn tweak(
    recipients: &Recipients,
    leaf: &Outgoing,
    dealt: &Dealt,
    operator: OperatorIndex,
) -> Result<SendLeafKeyTweak> {
    Ok(SendLeafKeyTweak {
        leaf_id: leaf.node.id.to_string(),
        secret_share_tweak: Some(recipients.share(&dealt.hand_over.tweak, operator)?),
        pubkey_shares_tweak: dealt.public_shares.clone(),
        secret_cipher: dealt.hand_over.secret_cipher.clone(),
        signature: dealt.signature.clone(),
        refund_signature: Vec::new(),
        direct_refund_signature: Vec::new(),
        direct_from_cpfp_refund_signature: Vec::new(),
    })
}
