//! The public part of a signature, computed once and used by signer, verifier and aggregator.

use std::collections::BTreeMap;

use bitcoin::secp256k1::{PublicKey, XOnlyPublicKey};

use crate::ciphersuite::{h1, h2, h4, h5};
use crate::error::{Error, Result};
use crate::index::{OperatorIndex, Participant};
use crate::lagrange;
use crate::nonce::NonceCommitment;
use crate::package::SigningPackage;
use crate::point;
use crate::scalar::Scalar;
use crate::taproot::TaprootKey;

/// What the others know of one signer.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) commitment: NonceCommitment,
    pub(crate) binding_factor: Scalar,
    /// `D + ρ·E`.
    pub(crate) nonce: PublicKey,
}

/// A checked [`SigningPackage`] with binding factors, group commitment and challenge.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(crate) key: TaprootKey,
    pub(crate) message: [u8; 32],
    pub(crate) operators: BTreeMap<OperatorIndex, Seat>,
    pub(crate) user: Option<Seat>,
    pub(crate) adaptor: Option<PublicKey>,
    pub(crate) commitment: PublicKey,
    pub(crate) commitment_odd: bool,
    pub(crate) challenge: Scalar,
    prefix: [u8; 97],
}

impl SigningPackage {
    /// Checks the package and does all hashing and point arithmetic that everybody shares.
    ///
    /// # Errors
    /// [`Error::BadThreshold`], [`Error::TooFewCommitments`], [`Error::RepeatedCommitment`], or
    /// [`Error::IdentityPoint`] if commitments cancel.
    pub fn prepare(&self) -> Result<Prepared> {
        self.prepare_with(&TaprootKey::new(&self.verifying_key)?)
    }

    /// As [`prepare`](Self::prepare) for several messages of one key, which is tweaked only once.
    ///
    /// # Errors
    /// As `prepare`, and [`Error::OtherVerifyingKey`].
    pub fn prepare_with(&self, key: &TaprootKey) -> Result<Prepared> {
        if *key.verifying_key() != self.verifying_key {
            return Err(Error::OtherVerifyingKey);
        }
        self.check()?;
        let mut even = key.output().serialize();
        if let Some(parity) = even.first_mut() {
            *parity = 2;
        }
        let prefix = prefix(
            &even,
            &h4(&[&self.message]),
            &h5(&[&self.encode_commitments()]),
        );
        let seat = |participant: Participant, commitment: &NonceCommitment| {
            let binding_factor = h1(&[&prefix, &participant.identifier_bytes()]);
            let bound = point::mul(&commitment.binding, &binding_factor)?;
            Ok(Seat {
                commitment: *commitment,
                binding_factor,
                nonce: point::sum(&[&commitment.hiding, &bound], "a signer's nonce")?,
            })
        };
        let operators = self
            .operators
            .iter()
            .map(|(index, commitment)| Ok((*index, seat((*index).into(), commitment)?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        let user = self
            .user
            .as_ref()
            .map(|commitment| seat(Participant::User, commitment))
            .transpose()?;
        let nonces: Vec<&PublicKey> = operators
            .values()
            .chain(&user)
            .map(|seat| &seat.nonce)
            .chain(&self.adaptor)
            .collect();
        let commitment = point::sum(&nonces, "the group commitment")?;
        let challenge = h2(&[
            &point::x(&commitment),
            &key.output_key().serialize(),
            &self.message,
        ]);
        Ok(Prepared {
            key: *key,
            message: self.message,
            operators,
            user,
            adaptor: self.adaptor,
            commitment,
            commitment_odd: point::is_odd(&commitment),
            challenge,
            prefix,
        })
    }

    fn check(&self) -> Result<()> {
        if self.threshold < 2 {
            return Err(Error::BadThreshold {
                threshold: self.threshold,
                count: u32::try_from(self.operators.len()).unwrap_or(u32::MAX),
            });
        }
        if self.operators.len() < usize::from(self.threshold) {
            return Err(Error::TooFewCommitments {
                expected: self.threshold,
                actual: self.operators.len(),
            });
        }
        let mut seen: Vec<(&NonceCommitment, Participant)> = self
            .participants()
            .map(|(participant, commitment)| (commitment, participant))
            .collect();
        seen.sort_unstable_by(|a, b| a.0.cmp(b.0).then(a.1.cmp(&b.1)));
        for (first, second) in seen.iter().zip(seen.iter().skip(1)) {
            if first.0 == second.0 {
                return Err(Error::RepeatedCommitment {
                    first: first.1,
                    second: second.1,
                });
            }
        }
        Ok(())
    }
}

impl Prepared {
    /// The key that signs, before and after its taproot tweak.
    #[must_use]
    pub fn key(&self) -> &TaprootKey {
        &self.key
    }

    /// The key under which the signature verifies.
    #[must_use]
    pub fn output_key(&self) -> XOnlyPublicKey {
        self.key.output_key()
    }

    /// Sum of all bound nonces and the adaptor; the signature starts with its x coordinate.
    #[must_use]
    pub fn group_commitment(&self) -> &PublicKey {
        &self.commitment
    }

    /// The BIP340 challenge.
    #[must_use]
    pub fn challenge(&self) -> &Scalar {
        &self.challenge
    }

    /// The 97 bytes that every binding factor hashes before the signer's identifier.
    #[must_use]
    pub fn binding_prefix(&self) -> &[u8; 97] {
        &self.prefix
    }

    /// A signer's binding factor.
    #[must_use]
    pub fn binding_factor(&self, participant: Participant) -> Option<&Scalar> {
        Some(&self.seat(participant).ok()?.binding_factor)
    }

    /// An operator's Lagrange coefficient over the signing operators; one for the user.
    ///
    /// # Errors
    /// [`Error::NotASigner`].
    pub fn coefficient(&self, participant: Participant) -> Result<Scalar> {
        self.seat(participant)?;
        match participant {
            Participant::User => Ok(Scalar::ONE),
            Participant::Operator(index) => {
                lagrange::coefficient(index, self.operators.keys().copied())
            }
        }
    }

    pub(crate) fn seat(&self, participant: Participant) -> Result<&Seat> {
        match participant {
            Participant::Operator(index) => self.operators.get(&index),
            Participant::User => self.user.as_ref(),
        }
        .ok_or(Error::NotASigner { participant })
    }
}

fn prefix(key: &[u8; 33], message: &[u8; 32], commitments: &[u8; 32]) -> [u8; 97] {
    let mut bytes = [0; 97];
    let parts = key.iter().chain(message).chain(commitments);
    for (to, from) in bytes.iter_mut().zip(parts) {
        *to = *from;
    }
    bytes
}
