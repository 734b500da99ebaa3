//! Deposit addresses, and the proofs that all operators stand behind one.

use std::collections::BTreeMap;

use bitcoin::Address;
use bitcoin::secp256k1::{Message, PublicKey, SecretKey, schnorr};
use tinderbox_frost::output_key;

use crate::curve::CURVE;
use crate::hash::{address_digest, pop_message};
use crate::signature::{sign_der, verify_der};
use crate::tx::p2tr_address;
use crate::{Error, Network, Result};

/// The deposit address of a verifying key.
#[must_use]
pub fn address(verifying_key: &PublicKey, network: Network) -> Address {
    p2tr_address(verifying_key, network)
}

/// The key under which deposits are spent: the user's half plus the operators' half.
///
/// # Errors
/// [`Error::KeysCancel`] if the halves are each other's negative.
pub fn verifying_key(user: &PublicKey, operators: &PublicKey) -> Result<PublicKey> {
    user.combine(operators).map_err(|_| Error::KeysCancel {
        what: "the verifying key",
    })
}

/// The operators' half: the verifying key less the user's half.
///
/// # Errors
/// [`Error::KeysCancel`] if the user's half is all of it.
pub fn operators_key(verifying_key: &PublicKey, user: &PublicKey) -> Result<PublicKey> {
    verifying_key
        .combine(&user.negate(&CURVE))
        .map_err(|_| Error::KeysCancel {
            what: "the operators' key",
        })
}

/// Checks that a verifying key is the sum of its halves, as it must be through a leaf's life.
///
/// # Errors
/// [`Error::KeysDoNotAdd`].
pub fn check_halves(verifying: &PublicKey, user: &PublicKey, operators: &PublicKey) -> Result<()> {
    match verifying_key(user, operators) {
        Ok(sum) if sum == *verifying => Ok(()),
        _ => Err(Error::KeysDoNotAdd),
    }
}

/// An operator's signature (DER) that vouches for an address.
#[must_use]
pub fn sign_address(operator: &SecretKey, address: &str) -> Vec<u8> {
    sign_der(operator, &address_digest(address))
}

/// What operators send along with an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressProof {
    /// Signatures (ECDSA, DER) of operators over the address, by identifier.
    pub address_signatures: BTreeMap<String, Vec<u8>>,
    /// The operators' joint signature (BIP 340) with their half of the key.
    pub proof_of_possession: Vec<u8>,
}

/// An address as a wallet received it, and what the wallet knows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedAddress<'a> {
    /// The address as text.
    pub address: &'a str,
    /// The key that it is said to belong to.
    pub verifying_key: PublicKey,
    /// The wallet's half of that key.
    pub user_signing_key: PublicKey,
    /// The wallet's identity key.
    pub identity: PublicKey,
    /// Network.
    pub network: Network,
}

impl ClaimedAddress<'_> {
    /// Checks an address and its proofs before anybody pays to it: it is the address of the
    /// verifying key, the operators hold the other half, and every operator in `operators`
    /// (identity keys by identifier) vouches for it. For a single-use address the coordinator's
    /// own signature may be absent: name it in `excused`.
    ///
    /// # Errors
    /// [`Error::WrongAddress`], [`Error::KeysCancel`], [`Error::BadSignature`],
    /// [`Error::MalformedSignature`], [`Error::MissingOperatorSignature`].
    pub fn verify(
        &self,
        proof: &AddressProof,
        operators: &BTreeMap<String, PublicKey>,
        excused: Option<&str>,
    ) -> Result<()> {
        let expected = address(&self.verifying_key, self.network).to_string();
        if expected != self.address {
            return Err(Error::WrongAddress {
                expected,
                actual: self.address.chars().take(100).collect(),
            });
        }
        let half = operators_key(&self.verifying_key, &self.user_signing_key)?;
        verify_possession(
            &half,
            &self.identity,
            self.address,
            &proof.proof_of_possession,
        )?;
        let digest = address_digest(self.address);
        for (identifier, key) in operators {
            match proof.address_signatures.get(identifier) {
                Some(signature) => {
                    verify_der(key, &digest, signature, "an operator's address signature")?;
                }
                None if excused == Some(identifier.as_str()) => {}
                None => {
                    return Err(Error::MissingOperatorSignature {
                        operator: identifier.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Checks a proof of possession: BIP 340 under the operators' half with its BIP 341 tweak.
///
/// # Errors
/// [`Error::MalformedSignature`], [`Error::BadSignature`].
pub fn verify_possession(
    operators: &PublicKey,
    identity: &PublicKey,
    address: &str,
    signature: &[u8],
) -> Result<()> {
    let what = "the proof of possession";
    let signature =
        schnorr::Signature::from_slice(signature).map_err(|_| Error::MalformedSignature {
            what,
            reason: "it does not have 64 bytes",
        })?;
    let message = Message::from_digest(pop_message(identity, operators, address));
    CURVE
        .verify_schnorr(&signature, &message, &output_key(operators))
        .map_err(|_| Error::BadSignature { what })
}
