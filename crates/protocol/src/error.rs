//! What can be wrong.

use bitcoin::OutPoint;

use crate::timelock::Timelock;
use crate::tx::{TxField, TxKind};
use crate::{Network, Sats};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can be wrong with what others sent, or with what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a UUID with dashes.
    #[error("{kind} id {text:?} is not a UUID with dashes: send ids as the operators return them")]
    InvalidId {
        /// What the id names.
        kind: &'static str,
        /// The text, shortened.
        text: String,
    },
    /// No such network.
    #[error("unknown network {text:?}: use one of mainnet, regtest, testnet, signet, local")]
    UnknownNetwork {
        /// The text, shortened.
        text: String,
    },
    /// Something of another network.
    #[error("this belongs to {actual}, but {expected} is used here: switch to that network")]
    WrongNetwork {
        /// The network in use.
        expected: Network,
        /// The network found.
        actual: Network,
    },
    /// Bytes that are no compressed point of the curve.
    #[error("{what} is not a compressed public key (33 bytes on the curve)")]
    InvalidPublicKey {
        /// What should have been a key.
        what: &'static str,
    },
    /// Two keys cancel out.
    #[error("{what} is the point at infinity: use another key")]
    KeysCancel {
        /// What would be no key.
        what: &'static str,
    },
    /// The verifying key of a leaf is not the sum of its halves.
    #[error(
        "the verifying key is not the sum of the user's key and the operators' key: do not use it"
    )]
    KeysDoNotAdd,
    /// Bytes that are no secret key.
    #[error("{what} is not a secret key (a number from 1 below the order of the curve)")]
    InvalidSecretKey {
        /// What should have been a key.
        what: &'static str,
    },
    /// Words or a seed that make no wallet.
    #[error("this is no wallet seed: {reason}")]
    InvalidSeed {
        /// What is wrong.
        reason: String,
    },
    /// A key could not be derived.
    #[error("cannot derive the key at {path}: use another account number")]
    Derivation {
        /// The path.
        path: String,
    },
    /// A ciphertext that cannot be opened.
    #[error("cannot decrypt: {reason}")]
    Decrypt {
        /// What is wrong.
        reason: &'static str,
    },
    /// A plaintext that cannot be sealed.
    #[error("cannot encrypt: {reason}")]
    Encrypt {
        /// What is wrong.
        reason: &'static str,
    },
    /// A signature that cannot be read.
    #[error("{what}: {reason}")]
    MalformedSignature {
        /// Whose signature.
        what: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// A signature that does not fit.
    #[error("{what} does not verify: it was made by another key or over other data")]
    BadSignature {
        /// Whose signature.
        what: &'static str,
    },
    /// An operator's signature is not there.
    #[error("no signature of operator {operator} over the address: ask the operators again")]
    MissingOperatorSignature {
        /// The operator's identifier.
        operator: String,
    },
    /// An address that is not the one that the keys give.
    #[error("address {actual} is not {expected}, which the verifying key gives: do not pay to it")]
    WrongAddress {
        /// What the keys give.
        expected: String,
        /// What was sent.
        actual: String,
    },
    /// A text that is no Spark address.
    #[error("this is no Spark address: {reason}")]
    InvalidAddress {
        /// What is wrong.
        reason: String,
    },
    /// A text or fields that are no Spark invoice.
    #[error("this is no valid Spark invoice: {reason}")]
    InvalidInvoice {
        /// What is wrong.
        reason: String,
    },
    /// A text that is no Lightning invoice.
    #[error("this is no Lightning invoice: {reason}")]
    InvalidBolt11 {
        /// What is wrong.
        reason: String,
    },
    /// A message inside a ciphertext or challenge that cannot be read.
    #[error("{what} cannot be read: {reason}")]
    MalformedMessage {
        /// Which message.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A sequence with bits that no Spark transaction has.
    #[error(
        "sequence {sequence:#010x} is no relative timelock in blocks: only bits 0 to 15 and 30 may be set"
    )]
    InvalidSequence {
        /// The sequence.
        sequence: u32,
    },
    /// A timelock does not fit its 16 bits.
    #[error("a timelock of {timelock} cannot be made longer")]
    TimelockTooLong {
        /// The timelock.
        timelock: Timelock,
    },
    /// Nothing is left of a leaf's timelock.
    #[error("the leaf's timelock of {timelock} allows no further step: renew the leaf, or exit")]
    LeafRenewalRequired {
        /// What is left.
        timelock: Timelock,
    },
    /// A leaf's timelocks do not allow a renewal of this kind.
    #[error(
        "{kind}: timelock is {timelock}, this renewal needs {lowest} to {highest}: ask for another kind, or later"
    )]
    RenewalRefused {
        /// Which transaction's timelock.
        kind: TxKind,
        /// What it is.
        timelock: Timelock,
        /// The lowest that the renewal allows.
        lowest: Timelock,
        /// The highest that the renewal allows.
        highest: Timelock,
    },
    /// A transaction's timelock is not the one that the rules give.
    #[error(
        "{kind}: timelock is {provided}, expected {expected}: build it from the leaf's current state"
    )]
    TimelockMismatch {
        /// Which transaction.
        kind: TxKind,
        /// What the rules give.
        expected: Timelock,
        /// What was sent.
        provided: Timelock,
    },
    /// Another field of a transaction is not what the rules give.
    #[error(
        "{kind}: {field} is {provided}, expected {expected}: build it from the leaf's current state"
    )]
    TxMismatch {
        /// Which transaction.
        kind: TxKind,
        /// Which field.
        field: TxField,
        /// What the rules give.
        expected: String,
        /// What was sent.
        provided: String,
    },
    /// Bytes that are no transaction, or one that is already signed.
    #[error("{kind}: {reason}")]
    MalformedTx {
        /// Which transaction.
        kind: TxKind,
        /// What is wrong.
        reason: String,
    },
    /// A transaction that the rules require was not sent.
    #[error("{kind} is missing: this leaf needs one")]
    MissingTx {
        /// Which transaction.
        kind: TxKind,
    },
    /// A transaction that the rules forbid was sent.
    #[error("{kind} must not be sent for this leaf")]
    UnexpectedTx {
        /// Which transaction.
        kind: TxKind,
    },
    /// A transaction has no such output.
    #[error("output {outpoint} does not exist")]
    MissingOutput {
        /// The output.
        outpoint: OutPoint,
    },
    /// A transaction's inputs are not what the rules give.
    #[error("bad deposit: {reason}")]
    InvalidDeposit {
        /// What is wrong.
        reason: String,
    },
    /// Amounts that do not add up to a 64-bit number.
    #[error("the amounts do not add up")]
    AmountOverflow,
    /// The fee leaves nothing, or breaks a limit.
    #[error("a fee of {fee} does not fit {value}: {reason}")]
    InvalidFee {
        /// The fee.
        fee: Sats,
        /// What it is taken from.
        value: Sats,
        /// What is wrong.
        reason: &'static str,
    },
    /// The outputs given to pay a fee are too few.
    #[error("{available} do not pay the fee of {needed}: add a confirmed output")]
    NotEnoughFunds {
        /// What there is.
        available: Sats,
        /// What is needed.
        needed: Sats,
    },
    /// A transaction would break a limit of the relay rules.
    #[error(
        "the fee-bump transaction would have {vsize} virtual bytes, at most {limit} are relayed: use fewer, larger outputs"
    )]
    TooLarge {
        /// Its size in virtual bytes.
        vsize: u64,
        /// The limit.
        limit: u64,
    },
}
