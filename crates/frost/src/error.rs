//! Everything that can be refused, with the culprit where there is one.

use crate::index::{OperatorIndex, Participant};

/// Shorthand of this crate.
pub type Result<T> = core::result::Result<T, Error>;

/// Why a computation was refused. No text carries secret material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A scalar is zero where only a non-zero one makes sense.
    #[error("a secret scalar is zero; use another key or tweak (old and new key must differ)")]
    ZeroScalar,
    /// A scalar is not below the group order.
    #[error(
        "a scalar is not below the group order; encode it as 32 bytes big-endian modulo the order"
    )]
    ScalarOutOfRange,
    /// A scalar has no bytes or more than 32.
    #[error("a scalar has {actual} bytes; encode it big-endian in 1 to 32 bytes")]
    ScalarLength {
        /// Number of bytes given.
        actual: usize,
    },
    /// Points add up to the identity, which is no key.
    #[error("{what} is the point at infinity; start again with fresh keys")]
    IdentityPoint {
        /// What would have become the identity.
        what: &'static str,
    },
    /// Bytes are not a compressed point.
    #[error("{what} is not a compressed curve point of 33 bytes; ask the sender for a correct one")]
    NotAPoint {
        /// What was read.
        what: &'static str,
    },
    /// An operator identifier is malformed.
    #[error(
        "{text:?} is not an operator identifier; use 64 hex digits of the operator's number plus one"
    )]
    BadIdentifier {
        /// The text, cut to 80 characters.
        text: String,
    },
    /// Threshold and number of operators do not fit the scheme.
    #[error(
        "threshold {threshold} of {count} operators is not possible; choose 2 ≤ threshold ≤ operators"
    )]
    BadThreshold {
        /// Threshold given.
        threshold: u16,
        /// Operators given.
        count: u32,
    },
    /// An index is outside of the group.
    #[error("{index} is outside of a group of {count}; check the operator list")]
    UnknownOperator {
        /// The index.
        index: OperatorIndex,
        /// Size of the group.
        count: u32,
    },
    /// The same operator appears twice.
    #[error("{index} appears twice; name each operator once")]
    DuplicateOperator {
        /// The operator.
        index: OperatorIndex,
    },

    /// Fewer operators committed than the threshold asks for; the user does not count.
    #[error(
        "{actual} operator commitments, {expected} needed; fetch commitments of more operators"
    )]
    TooFewCommitments {
        /// The threshold.
        expected: u16,
        /// Commitments in the package.
        actual: usize,
    },
    /// Two participants carry the same nonce commitment.
    #[error("{second} repeats the nonce commitment of {first}; fetch fresh commitments")]
    RepeatedCommitment {
        /// Who had it first.
        first: Participant,
        /// Who repeats it.
        second: Participant,
    },
    /// A participant signs although the package has no commitment of it.
    #[error(
        "the signing package has no commitment of {participant}; build it with the commitments of all signers"
    )]
    NotASigner {
        /// The participant.
        participant: Participant,
    },
    /// The nonces at hand are not those of the package.
    #[error(
        "the nonces of {participant} are not the ones that the package commits to; look them up by commitment"
    )]
    OtherNonces {
        /// The participant.
        participant: Participant,
    },
    /// Nonces are bound to another signing package.
    #[error("these nonces are bound to another signing package; fetch fresh commitments")]
    NonceReuse,
    /// The prepared key belongs to another verifying key.
    #[error(
        "the signing package is for another verifying key than the one prepared; prepare its own key"
    )]
    OtherVerifyingKey,

    /// A signature share is missing.
    #[error("no signature share of {participant}; ask for it or sign with another set")]
    MissingShare {
        /// Who owes it.
        participant: Participant,
    },
    /// A signature share came from someone who does not sign.
    #[error("{participant} sent a signature share but is not in the signing package; leave it out")]
    UnexpectedShare {
        /// Who sent it.
        participant: Participant,
    },
    /// A public share that is needed to check a participant is missing.
    #[error("no public share of {participant}; pass the public shares of all signers")]
    MissingPublicShare {
        /// Whose it is.
        participant: Participant,
    },
    /// Signature shares are wrong; their authors are named.
    #[error("wrong signature share of {}; sign again without them and with fresh commitments", list(.culprits))]
    InvalidShares {
        /// All participants whose share is wrong.
        culprits: Vec<Participant>,
    },
    /// Every share fits its public share, but these do not belong to the verifying key.
    #[error(
        "all shares are right but the public shares do not add up to the verifying key; compare the key shares of the operators"
    )]
    KeyMismatch,
    /// A signature does not verify.
    #[error("the signature does not verify; check message, key and signature")]
    InvalidSignature,
    /// An adaptor signature does not fit its adaptor point or secret.
    #[error("the adaptor signature does not fit the adaptor; check adaptor, message and key")]
    InvalidAdaptor,

    /// A commitment vector has not exactly `threshold` entries.
    #[error(
        "{actual} proofs, {expected} needed; commit to every coefficient of a polynomial of degree {expected} minus one"
    )]
    ProofCount {
        /// The threshold.
        expected: u16,
        /// Entries given.
        actual: usize,
    },
    /// A share does not lie on the committed polynomial.
    #[error("the share of {index} does not fit its proofs; ask the dealer for a correct one")]
    ShareMismatch {
        /// Whose share it is.
        index: OperatorIndex,
    },
    /// A public share of a tweak is missing or not what the proofs say.
    #[error("the public share tweak of {index} does not fit the proofs; deal the tweak again")]
    PublicShareMismatch {
        /// Whose public share it is.
        index: OperatorIndex,
    },
    /// Two operators were dealt different polynomials.
    #[error(
        "{index} was dealt another polynomial than this operator; deal the same proofs to all operators"
    )]
    ProofsDiffer {
        /// The other operator.
        index: OperatorIndex,
    },
    /// Not enough shares to recover a secret, or to multiply two.
    #[error("{actual} shares, {expected} needed; collect more")]
    TooFewShares {
        /// Shares needed.
        expected: usize,
        /// Shares given.
        actual: usize,
    },
    /// A proof that a product was formed correctly is wrong.
    #[error("wrong proof of product of {culprit}; leave it out and start again")]
    ProductProof {
        /// Who sent it.
        culprit: OperatorIndex,
    },

    /// Participants of a key generation did not answer.
    #[error("key generation: nothing of {} in round {round}; check that they run, then start a new one", operators(.culprits))]
    DkgSilent {
        /// 1 or 2.
        round: u8,
        /// Who is silent.
        culprits: Vec<OperatorIndex>,
    },
    /// This participant's own first-round package came back altered.
    #[error(
        "key generation: this operator's own package was altered on its way; check who relays packages, then start a new one"
    )]
    DkgOwnPackageAltered,
    /// A first-round package has a wrong number of commitments.
    #[error(
        "key generation: {culprit} committed to {actual} coefficients, not {expected}; compare the configured thresholds"
    )]
    DkgCommitmentCount {
        /// Who sent it.
        culprit: OperatorIndex,
        /// The threshold.
        expected: u16,
        /// Commitments sent.
        actual: usize,
    },
    /// Proofs of knowledge are wrong: a rogue key, or a package under another's index.
    #[error("key generation: wrong proof of knowledge of {culprit}; start a new one without it")]
    DkgProof {
        /// Under whose index the package came.
        culprit: OperatorIndex,
    },
    /// Participants showed different first-round packages to different peers.
    #[error("key generation: {} showed different packages to different operators; start a new one without them", operators(.culprits))]
    DkgEquivocation {
        /// Whose packages differ between the views.
        culprits: Vec<OperatorIndex>,
    },
    /// Secret shares do not fit their dealers' commitments.
    #[error("key generation: wrong secret share of {}; start a new one without them", operators(.culprits))]
    DkgShares {
        /// Dealers of wrong shares.
        culprits: Vec<OperatorIndex>,
    },
    /// Bytes are not a package of the key generation.
    #[error("key generation: a package is malformed ({why}); check the version of the sender")]
    DkgEncoding {
        /// What is wrong.
        why: &'static str,
    },
}

fn list(culprits: &[Participant]) -> String {
    join(culprits.iter().map(ToString::to_string))
}

fn operators(culprits: &[OperatorIndex]) -> String {
    join(culprits.iter().map(ToString::to_string))
}

fn join(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
