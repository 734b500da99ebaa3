//! Key tweak packages: decrypted, checked, staged.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::job::OpenedTweak;
use tinderbox_frost::{OperatorIndex, SecretScalar, feldman};
use tinderbox_protocol::package::{ClaimLeafKeyTweaks, SecretShare, SendLeafKeyTweaks};
use tinderbox_protocol::{LeafId, ecies};
use zeroize::Zeroizing;

use super::Core;
use crate::seal::seal_tweak;
use crate::signer::{PackageKind, PlainTweak};
use crate::{SignerError, work};

/// One leaf's tweak, not yet checked.
pub(super) struct Tweak {
    leaf: LeafId,
    share: Zeroizing<Vec<u8>>,
    proofs: Vec<PublicKey>,
    public_shares: BTreeMap<OperatorIndex, PublicKey>,
    secret_cipher: Vec<u8>,
    signature: Vec<u8>,
}

impl Core {
    /// Reads tweaks, checks each, and seals the shares under the current epoch's key.
    pub(super) async fn stage(
        self: &Arc<Self>,
        read: impl FnOnce(&Self) -> Result<Vec<Tweak>, SignerError> + Send + 'static,
    ) -> Result<Vec<OpenedTweak>, SignerError> {
        let (opened, ticket) = self
            .run(move |core| {
                let tweaks = read(core)?;
                let mut seen = BTreeSet::new();
                if let Some(twice) = tweaks.iter().find(|tweak| !seen.insert(tweak.leaf)) {
                    return Err(bad(format!("leaf {} is in it twice", twice.leaf)));
                }
                let epoch = core.current_epoch()?;
                let opened = work::map(tweaks, core.config.threads, |tweak| {
                    let share = core.check(&tweak)?;
                    let staged =
                        seal_tweak(epoch.number, &epoch.key, &tweak.leaf, &share.to_be_bytes())?;
                    Ok(OpenedTweak {
                        leaf: tweak.leaf,
                        staged,
                        proofs: tweak.proofs,
                        secret_cipher: tweak.secret_cipher,
                        signature: tweak.signature,
                    })
                })
                .into_iter()
                .collect::<Result<Vec<_>, SignerError>>()?;
                Ok((opened, epoch.ticket))
            })
            .await?;
        self.vault.durable(ticket).await?;
        Ok(opened)
    }

    /// Decrypts a package.
    pub(super) fn decrypt(
        &self,
        kind: PackageKind,
        ciphertext: &[u8],
    ) -> Result<Vec<Tweak>, SignerError> {
        let plain = ecies::decrypt(self.identity.secret(), ciphertext)
            .map_err(|error| bad(error.to_string()))?;
        match kind {
            PackageKind::Send => SendLeafKeyTweaks::from_bytes(&plain)
                .map_err(|error| bad(error.to_string()))?
                .leaves_to_send
                .into_iter()
                .map(|leaf| {
                    let mut tweak = read(
                        &leaf.leaf_id,
                        leaf.secret_share_tweak,
                        &leaf.pubkey_shares_tweak,
                    )?;
                    tweak.secret_cipher = leaf.secret_cipher;
                    tweak.signature = leaf.signature;
                    Ok(tweak)
                })
                .collect(),
            PackageKind::Claim => ClaimLeafKeyTweaks::from_bytes(&plain)
                .map_err(|error| bad(error.to_string()))?
                .leaves_to_receive
                .into_iter()
                .map(|leaf| {
                    read(
                        &leaf.leaf_id,
                        leaf.secret_share_tweak,
                        &leaf.pubkey_shares_tweak,
                    )
                })
                .collect(),
        }
    }

    /// Takes tweaks as they came in the clear.
    pub(super) fn plain(&self, tweaks: Vec<PlainTweak>) -> Vec<Tweak> {
        tweaks
            .into_iter()
            .map(|tweak| Tweak {
                leaf: tweak.leaf,
                share: tweak.share,
                proofs: tweak.proofs,
                public_shares: tweak.public_shares,
                secret_cipher: Vec::new(),
                signature: Vec::new(),
            })
            .collect()
    }

    /// Exactly `threshold` proofs; this operator's share and everybody's public share follow from
    /// them. Returns the share.
    fn check(&self, tweak: &Tweak) -> Result<SecretScalar, SignerError> {
        let config = &self.config;
        let of = |what: String| bad(format!("leaf {}: {what}", tweak.leaf));
        feldman::check_proofs(&tweak.proofs, config.threshold)
            .map_err(|error| of(error.to_string()))?;
        let unknown = |operator: &&OperatorIndex| operator.0 >= config.operators;
        if let Some(unknown) = tweak.public_shares.keys().find(unknown) {
            return Err(of(format!(
                "a public share is for {unknown}, of {} operators",
                config.operators
            )));
        }
        let share = SecretScalar::try_from_be_bytes(&tweak.share)
            .map_err(|error| of(format!("the share of {}: {error}", config.operator)))?;
        for operator in OperatorIndex::first(config.operators) {
            let expected = feldman::evaluate(&tweak.proofs, operator)
                .map_err(|error| of(format!("the public share of {operator}: {error}")))?;
            let given = tweak
                .public_shares
                .get(&operator)
                .ok_or_else(|| of(format!("the public share of {operator} is missing")))?;
            if *given != expected {
                return Err(of(format!(
                    "the public share of {operator} is {given}, and {expected} follows from the proofs"
                )));
            }
            if operator == config.operator && share.public_key() != expected {
                return Err(of(format!(
                    "the share of {operator} does not fit the proofs"
                )));
            }
        }
        Ok(share)
    }
}

fn read(
    leaf: &str,
    share: Option<SecretShare>,
    public_shares: &BTreeMap<String, Vec<u8>>,
) -> Result<Tweak, SignerError> {
    let leaf = LeafId::from_str(leaf).map_err(|error| bad(error.to_string()))?;
    let of = |what: String| bad(format!("leaf {leaf}: {what}"));
    let mut share = share.ok_or_else(|| of("the secret share is missing".into()))?;
    let point = |what: &str, bytes: &[u8]| {
        if bytes.len() != 33 {
            return Err(of(format!("{what} has {} bytes, not 33", bytes.len())));
        }
        PublicKey::from_slice(bytes)
            .map_err(|_| of(format!("{what} {} is no point", hex::encode(bytes))))
    };
    let proofs = share
        .proofs
        .iter()
        .map(|bytes| point("proof", bytes))
        .collect::<Result<_, _>>()?;
    let public_shares = public_shares
        .iter()
        .map(|(identifier, bytes)| {
            let operator = OperatorIndex::from_identifier(identifier)
                .map_err(|error| of(error.to_string()))?;
            let what = format!("the public share of {operator}");
            Ok((operator, point(&what, bytes)?))
        })
        .collect::<Result<_, SignerError>>()?;
    Ok(Tweak {
        leaf,
        share: Zeroizing::new(std::mem::take(&mut share.secret_share)),
        proofs,
        public_shares,
        secret_cipher: Vec::new(),
        signature: Vec::new(),
    })
}

fn bad(text: impl Into<String>) -> SignerError {
    SignerError::BadPackage(text.into())
}
