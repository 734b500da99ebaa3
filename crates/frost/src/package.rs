//! What is signed, by whom, with which commitments.

use core::fmt;
use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::index::{OperatorIndex, Participant};
use crate::nonce::NonceCommitment;

/// A participant's part of a signature: 32 bytes big-endian, below the group order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignatureShare(pub [u8; 32]);

/// One message, its key and the commitments of everybody who signs it.
///
/// The operators in the map are the signing group: all of them, and nobody else, must produce
/// shares. Without a `user` it is a signature of the operators alone under their own key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningPackage {
    /// The untweaked key: owner plus operators, or the operators' group key.
    pub verifying_key: PublicKey,
    /// The 32 bytes that are signed, usually a BIP341 signature hash.
    pub message: [u8; 32],
    /// Commitments of the signing operators.
    #[serde(deserialize_with = "distinct")]
    pub operators: BTreeMap<OperatorIndex, NonceCommitment>,
    /// Commitment of the owner.
    pub user: Option<NonceCommitment>,
    /// Adaptor point that is added to the group commitment.
    pub adaptor: Option<PublicKey>,
    /// How many operators must sign at least; the owner does not count.
    pub threshold: u16,
}

impl SigningPackage {
    /// Collects commitments, each operator once.
    ///
    /// # Errors
    /// [`Error::DuplicateOperator`].
    pub fn commitments(
        pairs: impl IntoIterator<Item = (OperatorIndex, NonceCommitment)>,
    ) -> Result<BTreeMap<OperatorIndex, NonceCommitment>> {
        let mut map = BTreeMap::new();
        for (index, commitment) in pairs {
            if map.insert(index, commitment).is_some() {
                return Err(Error::DuplicateOperator { index });
            }
        }
        Ok(map)
    }

    /// Everybody who signs, in ascending order of their identifiers.
    pub fn participants(&self) -> impl Iterator<Item = (Participant, &NonceCommitment)> {
        self.operators
            .iter()
            .map(|(index, commitment)| (Participant::Operator(*index), commitment))
            .chain(
                self.user
                    .iter()
                    .map(|commitment| (Participant::User, commitment)),
            )
    }

    /// Commitments as FROST hashes them: identifier, hiding, binding, in ascending order.
    #[must_use]
    pub fn encode_commitments(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (participant, commitment) in self.participants() {
            bytes.extend_from_slice(&participant.identifier_bytes());
            bytes.extend_from_slice(&commitment.hiding.serialize());
            bytes.extend_from_slice(&commitment.binding.serialize());
        }
        bytes
    }

    /// Hash of everything that decides the shares: message, key, adaptor, all commitments.
    ///
    /// Nonces may sign again only for an equal fingerprint. The threshold is left out: it does not
    /// change a share.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"tinderbox/signing-package/1");
        hash.update(self.message);
        hash.update(self.verifying_key.serialize());
        match &self.adaptor {
            None => hash.update([0]),
            Some(adaptor) => {
                hash.update([1]);
                hash.update(adaptor.serialize());
            }
        }
        hash.update([u8::from(self.user.is_some())]);
        hash.update(self.encode_commitments());
        hash.finalize().into()
    }
}

/// Reads a map and refuses a repeated key instead of letting the last one win.
fn distinct<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> core::result::Result<BTreeMap<OperatorIndex, NonceCommitment>, D::Error> {
    struct Pairs;

    impl<'de> Visitor<'de> for Pairs {
        type Value = BTreeMap<OperatorIndex, NonceCommitment>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map from operators to nonce commitments")
        }

        fn visit_map<A: MapAccess<'de>>(
            self,
            mut access: A,
        ) -> core::result::Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((index, commitment)) = access.next_entry()? {
                if map.insert(index, commitment).is_some() {
                    return Err(A::Error::custom(Error::DuplicateOperator { index }));
                }
            }
            Ok(map)
        }
    }

    deserializer.deserialize_map(Pairs)
}
