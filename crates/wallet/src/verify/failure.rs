use bitcoin::{OutPoint, Txid};
use tinderbox_protocol::tx::TxKind;
use tinderbox_protocol::{LeafId, Sats};

/// Why something is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A sequence with bits that no timelock in blocks has.
    #[error(
        "the {kind} has sequence {sequence:#010x}, which is no timelock in blocks: it may never bind the sender"
    )]
    Sequence {
        /// Which transaction.
        kind: TxKind,
        /// The sequence.
        sequence: u32,
    },
    /// A timelock that is not exactly one step below the one before.
    #[error(
        "the {kind} is locked for {found} blocks where it must be {expected}: an earlier owner could be first"
    )]
    Timelock {
        /// Which transaction.
        kind: TxKind,
        /// What it must be.
        expected: u32,
        /// What it is.
        found: u32,
    },
    /// The leaf cannot move any more.
    #[error(
        "the leaf's timelock of {blocks} blocks is used up: its owner must renew it before sending it"
    )]
    UsedUp {
        /// What is left.
        blocks: u32,
    },
    /// An absolute locktime.
    #[error("the {kind} has locktime {found}: it must be 0, or it cannot be published when needed")]
    Locktime {
        /// Which transaction.
        kind: TxKind,
        /// The locktime.
        found: u32,
    },
    /// A witness that is not one signature over everything.
    #[error("the {kind} is signed in a way that does not bind all of it: {what}")]
    SighashType {
        /// Which transaction.
        kind: TxKind,
        /// What was found.
        what: String,
    },
    /// A signature that does not verify, or is not there.
    #[error("the {kind} has no valid signature: {what}")]
    Signature {
        /// Which transaction.
        kind: TxKind,
        /// What is wrong.
        what: String,
    },
    /// Not a version-3 transaction.
    #[error("the {kind} has version {found}, it must be 3: it would not be relayed with its fee")]
    Version {
        /// Which transaction.
        kind: TxKind,
        /// The version.
        found: i32,
    },
    /// Another number of inputs or outputs, or a wrong anchor.
    #[error("the {kind} has a wrong form: {what}")]
    Form {
        /// Which transaction.
        kind: TxKind,
        /// What is wrong.
        what: String,
    },
    /// It spends something else.
    #[error("the {kind} spends {found} where it must spend {expected}")]
    Prevout {
        /// Which transaction.
        kind: TxKind,
        /// What it must spend.
        expected: OutPoint,
        /// What it spends.
        found: OutPoint,
    },
    /// It pays somebody else.
    #[error("the {kind} does not pay this wallet's own key")]
    Destination {
        /// Which transaction.
        kind: TxKind,
    },
    /// It pays less.
    #[error("the {kind} pays {found} where it must pay {expected}")]
    Value {
        /// Which transaction.
        kind: TxKind,
        /// What it must pay.
        expected: Sats,
        /// What it pays.
        found: Sats,
    },
    /// The halves of a leaf's key do not make the key.
    #[error(
        "the user's and the operators' keys of leaf {leaf} do not add up to its verifying key: it could not be spent"
    )]
    Keys {
        /// The leaf.
        leaf: LeafId,
    },
    /// A node's output does not pay its key.
    #[error("the output of node {node} does not pay its verifying key")]
    NodeOutput {
        /// The node.
        node: LeafId,
    },
    /// A node above a leaf is not there.
    #[error(
        "node {node} above leaf {leaf} is missing: without it the leaf cannot be exited. Ask again"
    )]
    MissingAncestor {
        /// The leaf.
        leaf: LeafId,
        /// The node.
        node: LeafId,
    },
    /// The nodes above a leaf go round in a circle, or never end.
    #[error("the nodes above leaf {leaf} do not lead to a root")]
    NoRoot {
        /// The leaf.
        leaf: LeafId,
    },
    /// The deposit under a tree is not known to the chain.
    #[error("the deposit {outpoint} under the leaf is not on chain. Wait until it is confirmed")]
    RootMissing {
        /// The deposit.
        outpoint: OutPoint,
    },
    /// It is not deep enough in the chain.
    #[error(
        "the deposit {outpoint} under the leaf has {found} confirmations, {needed} are needed. Wait for more blocks"
    )]
    RootUnconfirmed {
        /// The deposit.
        outpoint: OutPoint,
        /// What it has.
        found: u32,
        /// What it needs.
        needed: u32,
    },
    /// It is spent.
    #[error("the deposit {outpoint} under the leaf is already spent on chain")]
    RootSpent {
        /// The deposit.
        outpoint: OutPoint,
    },
    /// The chain source contradicts itself or the block header.
    #[error(
        "the chain source's story about {txid} does not hold together: {what}. Use a chain source of your own"
    )]
    ChainSource {
        /// The transaction.
        txid: Txid,
        /// What does not fit.
        what: String,
    },
    /// The sender's signature over the leaf is not there or for something else.
    #[error(
        "the sender's signature does not cover leaf {leaf} in this transfer: it may have been taken from another one"
    )]
    LeafSignature {
        /// The leaf.
        leaf: LeafId,
    },
    /// The ciphertext does not hold the leaf's key.
    #[error("the key sent along does not open leaf {leaf}: {what}")]
    Ciphertext {
        /// The leaf.
        leaf: LeafId,
        /// What is wrong.
        what: String,
    },
    /// Nothing in it is for us.
    #[error("it names another receiver")]
    NotForUs,
    /// A leaf twice in one transfer.
    #[error("leaf {leaf} is in it twice: its value would count twice")]
    Doubled {
        /// The leaf.
        leaf: LeafId,
    },
    /// The values do not add up.
    #[error("its leaves are worth {found}, it claims {claimed}")]
    Total {
        /// What it says.
        claimed: Sats,
        /// What they are.
        found: Sats,
    },
    /// A kind of transfer that this program cannot judge.
    #[error(
        "it is a {kind}, which this version cannot verify yet. It stays claimable; use a newer version"
    )]
    Unsupported {
        /// The kind.
        kind: String,
    },
    /// An earlier state of a leaf than the one we have.
    #[error(
        "the operators show an earlier state of leaf {leaf} than this wallet holds; its own is kept. Try again later"
    )]
    Older {
        /// The leaf.
        leaf: LeafId,
    },
    /// No majority of operators tells the same story.
    #[error(
        "the operators do not agree about {what}. Try again; if it stays so, do not rely on it"
    )]
    NoAgreement {
        /// About what.
        what: String,
    },
    /// A rule of the protocol.
    #[error("{0}")]
    Protocol(#[from] tinderbox_protocol::Error),
}
