//! What a flow asks of the signer when it commits, and what the signer gives back.

use serde::{Deserialize, Serialize};
use tinderbox_frost::{SignatureShare, SigningPackage};
use tinderbox_protocol::LeafId;

use bitcoin::secp256k1::PublicKey;

use crate::secret::{SealedPreimage, SealedShare, StagedTweak};

/// One signature that a key share contributes to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignJob {
    /// Everything that is signed and by whom. The signer's own commitment in it names the nonces.
    pub package: SigningPackage,
    /// Sign with the share as it is after the tweak of the same [`KeyJob`]: claims do, because
    /// their refunds already pay the new owner's key.
    pub after_tweak: bool,
}

/// All that happens to one key share in one commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyJob {
    /// Id of the key share; a sealed share opens only under its own id.
    pub keyshare: [u8; 16],
    /// The share as it is now.
    pub sealed: SealedShare,
    /// The tweak to apply, if any.
    pub tweak: Option<StagedTweak>,
    /// Signatures to contribute to. Empty for an operator outside the signing set.
    pub jobs: Vec<SignJob>,
}

/// What a [`KeyJob`] gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyOutput {
    /// The tweaked share under its new sealing key, if there was a tweak.
    pub sealed: Option<SealedShare>,
    /// One signature share per job, in order.
    pub shares: Vec<SignatureShare>,
}

/// One leaf's entry of a key tweak package, decrypted, checked and sealed by the signer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedTweak {
    /// The leaf that it is for.
    pub leaf: LeafId,
    /// This operator's share of the tweak.
    pub staged: StagedTweak,
    /// Feldman commitments; the first is the tweak's public point. Exactly `threshold` points,
    /// equal at every operator or the flow is refused.
    pub proofs: Vec<PublicKey>,
    /// ECIES ciphertext of the new owner's key (send only, else empty).
    pub secret_cipher: Vec<u8>,
    /// The sender's signature over the leaf, the transfer and the ciphertext (send only).
    pub signature: Vec<u8>,
}

/// This operator's share of a preimage, checked against its proofs and sealed by the signer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedPreimage {
    /// The share.
    pub sealed: SealedPreimage,
    /// Feldman commitments, the preimage's own point first. Exactly `threshold` points, equal at
    /// every operator or the flow is refused.
    pub proofs: Vec<PublicKey>,
}
