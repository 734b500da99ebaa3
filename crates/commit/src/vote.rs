//! Votes, and one signature for many of them.
//!
//! An operator that votes on many flows at once signs the root of a Merkle tree over the votes.
//! Each vote travels with its path, so that any one of them can be shown to anybody alone.

use bitcoin::secp256k1::{Message as Digest, PublicKey, SECP256K1, ecdsa};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tinderbox_flows::rows::FlowId;
use tinderbox_frost::OperatorIndex;

/// Votes per signature at most: a path has at most this depth.
const MAX_DEPTH: usize = 16;

/// What an operator says about a flow, once and for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Which flow.
    pub flow: FlowId,
    /// What was agreed on; zero in a no that was given without a look at the request.
    pub digest: [u8; 32],
    /// Yes or no.
    pub yes: bool,
}

impl Vote {
    fn leaf(&self, operator: OperatorIndex) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"tinderbox/vote/1");
        hash.update(operator.0.to_be_bytes());
        hash.update(self.flow.0);
        hash.update(self.digest);
        hash.update([u8::from(self.yes)]);
        hash.finalize().into()
    }
}

fn parent(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tinderbox/votes/1");
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// Votes of one operator that share a signature.
#[derive(Clone, Debug)]
pub struct VoteBatch {
    operator: OperatorIndex,
    votes: Vec<Vote>,
    levels: Vec<Vec<[u8; 32]>>,
}

impl VoteBatch {
    /// A batch of `votes`; empty input gives a batch that signs nothing.
    #[must_use]
    pub fn new(operator: OperatorIndex, votes: Vec<Vote>) -> Self {
        let mut level: Vec<[u8; 32]> = votes.iter().map(|vote| vote.leaf(operator)).collect();
        let mut levels = vec![level.clone()];
        while level.len() > 1 {
            level = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => parent(left, right),
                    // An odd one is paired with itself: its own hash is domain-separated from a
                    // leaf's, and the place in the path says where it stood.
                    [only] => parent(only, only),
                    _ => [0; 32],
                })
                .collect();
            levels.push(level.clone());
        }
        Self {
            operator,
            votes,
            levels,
        }
    }

    /// The 32 bytes that the identity key signs (ECDSA over this digest).
    #[must_use]
    pub fn root(&self) -> [u8; 32] {
        self.levels
            .last()
            .and_then(|level| level.first())
            .copied()
            .unwrap_or_default()
    }

    /// The votes, each with its path and the common signature (DER).
    #[must_use]
    pub fn signed(&self, signature: &[u8]) -> Vec<SignedVote> {
        let height = self.levels.len().saturating_sub(1);
        (0u32..)
            .zip(&self.votes)
            .map(|(place, vote)| {
                let path = self
                    .levels
                    .iter()
                    .take(height)
                    .zip(0u32..)
                    .filter_map(|(level, depth)| {
                        let at = usize::try_from(place.checked_shr(depth).unwrap_or(0)).ok()?;
                        // A missing sibling is the node itself.
                        level.get(at ^ 1).or_else(|| level.get(at)).copied()
                    })
                    .collect();
                SignedVote {
                    operator: self.operator,
                    vote: *vote,
                    place,
                    path,
                    signature: signature.to_vec(),
                }
            })
            .collect()
    }
}

/// A vote that anybody can check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedVote {
    /// Who voted.
    pub operator: OperatorIndex,
    /// What.
    pub vote: Vote,
    /// Its place in the batch.
    pub place: u32,
    /// Hashes beside the way to the root, lowest first.
    pub path: Vec<[u8; 32]>,
    /// ECDSA signature (DER) over the root.
    pub signature: Vec<u8>,
}

impl SignedVote {
    /// The root that was signed, as far as this vote can tell.
    #[must_use]
    pub fn root(&self) -> [u8; 32] {
        let mut at = self.place;
        let mut hash = self.vote.leaf(self.operator);
        for sibling in &self.path {
            hash = if at & 1 == 0 {
                parent(&hash, sibling)
            } else {
                parent(sibling, &hash)
            };
            at >>= 1;
        }
        hash
    }

    /// True if `identity` signed it.
    #[must_use]
    pub fn is_signed_by(&self, identity: &PublicKey) -> bool {
        if self.path.len() > MAX_DEPTH {
            return false;
        }
        ecdsa::Signature::from_der(&self.signature).is_ok_and(|signature| {
            SECP256K1
                .verify_ecdsa(&Digest::from_digest(self.root()), &signature, identity)
                .is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::secp256k1::SecretKey;

    fn key() -> SecretKey {
        SecretKey::from_slice(&[7; 32]).unwrap()
    }

    fn votes(count: u8) -> Vec<Vote> {
        (0..count)
            .map(|at| Vote {
                flow: FlowId([at; 16]),
                digest: [at; 32],
                yes: at % 3 != 0,
            })
            .collect()
    }

    fn sign(batch: &VoteBatch) -> Vec<SignedVote> {
        let signature = SECP256K1.sign_ecdsa(&Digest::from_digest(batch.root()), &key());
        batch.signed(&signature.serialize_der())
    }

    #[test]
    fn every_vote_of_a_batch_of_any_size_stands_alone() {
        let identity = key().public_key(SECP256K1);
        for count in 1..40 {
            let signed = sign(&VoteBatch::new(OperatorIndex(1), votes(count)));
            assert_eq!(signed.len(), usize::from(count));
            for vote in signed {
                assert!(vote.is_signed_by(&identity), "size {count}");
            }
        }
    }

    #[test]
    fn altered_vote_is_not_signed() {
        let identity = key().public_key(SECP256K1);
        let signed = sign(&VoteBatch::new(OperatorIndex(1), votes(5)));
        for (at, vote) in signed.iter().enumerate() {
            let mut other = vote.clone();
            other.vote.yes = !other.vote.yes;
            assert!(!other.is_signed_by(&identity));
            let mut other = vote.clone();
            other.operator = OperatorIndex(2);
            assert!(!other.is_signed_by(&identity));
            let mut other = vote.clone();
            other.vote.digest[0] ^= 1;
            assert!(!other.is_signed_by(&identity));
            let mut other = vote.clone();
            other.vote.flow = FlowId([99; 16]);
            assert!(!other.is_signed_by(&identity), "vote {at}");
        }
    }

    #[test]
    fn signature_of_another_key_does_not_count() {
        let other = SecretKey::from_slice(&[8; 32])
            .unwrap()
            .public_key(SECP256K1);
        let signed = sign(&VoteBatch::new(OperatorIndex(1), votes(3)));
        assert!(signed.iter().all(|vote| !vote.is_signed_by(&other)));
    }
}
