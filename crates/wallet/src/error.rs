//! One error type; every text ends with what to do.

use std::path::{Path, PathBuf};

use bitcoin::{OutPoint, Txid};
use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::{LeafId, Network, Sats, TransferId};

use crate::verify::Failure;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a wallet.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    // ---- own data
    /// The wallet file cannot be read or written.
    #[error(
        "the wallet file {path} cannot be used: {reason}. Check the disk and the file's permissions"
    )]
    Storage {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        reason: String,
    },
    /// A newer program wrote the wallet file.
    #[error(
        "the wallet file {path} has version {found}, but this program knows versions up to {supported}. Use a newer \
         program; the file was not changed"
    )]
    StorageTooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The newest that we know.
        supported: usize,
    },
    /// The file is another program's database.
    #[error("{path} is a database of another program. Choose another place for the wallet")]
    ForeignFile {
        /// The file.
        path: PathBuf,
    },
    /// A record in the wallet file makes no sense.
    #[error(
        "the wallet file is damaged: record {key} of kind {kind}: {reason}. Restore the wallet from its words in a new \
         place, and import the exported exit bundle if there is one"
    )]
    DamagedRecord {
        /// Kind of the record.
        kind: &'static str,
        /// Its key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The wallet file belongs to another seed or network.
    #[error(
        "this wallet file belongs to {found}, not to {expected}. Use the words it was made with, or another folder"
    )]
    WrongOwner {
        /// Whose it is.
        found: String,
        /// Who opens it.
        expected: String,
    },
    /// The words are no BIP-39 mnemonic.
    #[error(
        "these are not valid wallet words: {reason}. Check spelling, order and number (12, 15, 18, 21 or 24 words)"
    )]
    Words {
        /// What is wrong.
        reason: String,
    },
    /// The configuration makes no sense.
    #[error("the configuration is wrong: {what}")]
    Config {
        /// What is wrong and what to do.
        what: String,
    },

    // ---- operators
    /// No connection to an operator.
    #[error(
        "{operator} at {url} cannot be reached: {reason}. Check that it runs and that its address is right"
    )]
    Unreachable {
        /// Which.
        operator: OperatorIndex,
        /// Its address.
        url: String,
        /// What the connection said.
        reason: String,
    },
    /// An operator refused a call.
    #[error("{operator} refused {call}: {message} ({code}{})", .reason.as_deref().map(|r| format!(", {r}")).unwrap_or_default())]
    Refused {
        /// Which.
        operator: OperatorIndex,
        /// The method.
        call: &'static str,
        /// The gRPC code's name.
        code: tonic::Code,
        /// The stable reason, if given.
        reason: Option<String>,
        /// The operator's words.
        message: String,
    },
    /// An operator answered something that makes no sense.
    #[error(
        "{operator} answered {call} with nonsense: {what}. Try again; if it stays so, report that operator"
    )]
    Answer {
        /// Which.
        operator: OperatorIndex,
        /// The method.
        call: &'static str,
        /// What does not fit.
        what: String,
    },
    /// Too few operators answered.
    #[error(
        "only {answered} of {asked} operators answered, at least {needed} are needed: {reasons}. Try again later"
    )]
    TooFewOperators {
        /// How many did.
        answered: usize,
        /// How many were asked.
        asked: usize,
        /// How many are needed.
        needed: usize,
        /// Why the others did not.
        reasons: String,
    },

    // ---- verification
    /// Something that somebody else made does not pass a check.
    #[error("{subject} is not acceptable: {failure}")]
    Check {
        /// What was checked.
        subject: String,
        /// Why it fails.
        #[source]
        failure: Failure,
    },

    // ---- addresses and amounts
    /// The address belongs to another network.
    #[error(
        "this address belongs to network {found}, but the wallet is on {expected}. Ask for an address of {expected}"
    )]
    WrongNetwork {
        /// Network of the address.
        found: Network,
        /// Network of the wallet.
        expected: Network,
    },
    /// The text is no address.
    #[error("\"{text}\" is not a valid {what}: {reason}. Check it for typing errors")]
    BadAddress {
        /// What was given.
        text: String,
        /// What was expected.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// The address is an invoice, which only `pay_invoice` style calls may pay.
    #[error(
        "this is an invoice, not a plain address: it fixes conditions that a plain payment would break. Pay it as an invoice"
    )]
    IsInvoice,
    /// The invoice cannot be paid, or not like this.
    #[error("the invoice cannot be paid: {reason}")]
    BadInvoice {
        /// Why not, and what to do.
        reason: String,
    },
    /// Nothing to pay.
    #[error("the amount must be at least 1 sat")]
    ZeroAmount,
    /// No receiver at all.
    #[error("there is no receiver. Name at least one")]
    NoReceiver,
    /// Amounts that add up to more than there can be.
    #[error("the amounts add up to more than there are bitcoin")]
    AmountOverflow,
    /// Not enough money.
    #[error("{wanted} were asked for, but only {available} are spendable now{}", reserved_hint(.locked))]
    Insufficient {
        /// What was asked for.
        wanted: Sats,
        /// What whole leaves add up to.
        available: Sats,
        /// In payments under way, or waiting for renewal.
        locked: Sats,
    },
    /// Leaves cannot be cut, and no set of them sums to the amount.
    #[error(
        "no set of whole leaves sums to exactly {wanted}, and leaves cannot be split yet. Possible nearest amounts: {}",
        nearest(.below, .above)
    )]
    NoExactAmount {
        /// What was asked for.
        wanted: Sats,
        /// The largest possible amount below.
        below: Option<Sats>,
        /// The smallest possible amount above.
        above: Option<Sats>,
    },

    // ---- deposits
    /// The chain does not know the transaction.
    #[error(
        "the chain source does not know transaction {txid}. Check the id; if it was sent just now, wait a moment"
    )]
    UnknownTransaction {
        /// Its id.
        txid: Txid,
    },
    /// The transaction pays none of our unused addresses.
    #[error(
        "no unused deposit address found for tx: {txid}. Either it pays somebody else, or its deposit was claimed \
         already: look at the leaves"
    )]
    NotOurDeposit {
        /// Its id.
        txid: Txid,
    },
    /// The deposited coin is already spent.
    #[error("the deposit {outpoint} is already spent and cannot be claimed")]
    DepositSpent {
        /// Where it was.
        outpoint: OutPoint,
    },
    /// Too small to be worth anything on chain.
    #[error(
        "the deposit {outpoint} holds {value}, below the smallest amount that can ever leave again ({minimum})"
    )]
    DepositTooSmall {
        /// Where it is.
        outpoint: OutPoint,
        /// What it holds.
        value: Sats,
        /// What it must hold.
        minimum: Sats,
    },
    /// Outputs of different addresses cannot become one leaf.
    #[error(
        "{first} and {other} pay different deposit addresses; only coins of one address can be claimed together. Claim them one by one"
    )]
    MixedDeposit {
        /// One outpoint.
        first: OutPoint,
        /// Another.
        other: OutPoint,
    },

    // ---- transfers
    /// The outcome of a payment is not known yet; [`payment_state`](crate::Wallet::payment_state) says it
    /// once it is.
    #[error(
        "the outcome of payment {id} is not known yet: {reason}. Do not pay again; the wallet asks again at its next \
         synchronisation and either completes the payment or gives the money back"
    )]
    OutcomeUnknown {
        /// The payment.
        id: TransferId,
        /// What happened.
        reason: String,
    },
    /// The operators gave the leaves back.
    #[error(
        "payment {id} is {status}: nothing was paid, and its leaves are this wallet's again. Pay anew"
    )]
    PaymentReturned {
        /// The payment.
        id: TransferId,
        /// Where it stands, in words.
        status: String,
    },
    /// There is no such transfer.
    #[error("no transfer {id} of this wallet is known to the operators. Check the id")]
    UnknownTransfer {
        /// The id that was asked for.
        id: TransferId,
    },
    /// A leaf that the wallet does not have.
    #[error("leaf {id} is not among this wallet's leaves. Synchronise and look again")]
    UnknownLeaf {
        /// Its id.
        id: LeafId,
    },

    // ---- exits
    /// There is nothing to exit with.
    #[error(
        "no leaf with a complete exit path is stored. Synchronise once while the operators answer, or import an exported bundle"
    )]
    NothingToExit,
    /// A second exit beside a running one.
    #[error("an exit is under way already. Resume it, or wait until it is done")]
    ExitRunning,
    /// Resuming nothing.
    #[error("no exit is under way. Start one")]
    NoExit,
    /// A bundle that does not fit.
    #[error("the bundle cannot be imported: {reason}")]
    Bundle {
        /// Why not and what to do.
        reason: String,
    },

    // ---- other crates
    /// Bitcoin Core.
    #[error(transparent)]
    Chain(#[from] tinderbox_chain::Error),
    /// A protocol rule.
    #[error(transparent)]
    Protocol(#[from] tinderbox_protocol::Error),
    /// Signing.
    #[error(transparent)]
    Frost(#[from] tinderbox_frost::Error),
}

impl Error {
    pub(crate) fn storage(path: &Path, error: rusqlite::Error) -> Self {
        Self::Storage {
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }

    /// True if the same call may well succeed later without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::TooFewOperators { .. }
            | Self::OutcomeUnknown { .. } => true,
            Self::Refused { code, .. } => matches!(
                code,
                tonic::Code::Unavailable
                    | tonic::Code::Cancelled
                    | tonic::Code::Aborted
                    | tonic::Code::DeadlineExceeded
                    | tonic::Code::ResourceExhausted
            ),
            Self::Chain(error) => error.is_temporary(),
            _ => false,
        }
    }
}

fn reserved_hint(locked: &Sats) -> String {
    if locked.0 == 0 {
        ". Receive or deposit more first".to_owned()
    } else {
        format!(
            "; {locked} more are on their way (deposits that wait for blocks, payments that are not finished) or must be renewed before they move again"
        )
    }
}

fn nearest(below: &Option<Sats>, above: &Option<Sats>) -> String {
    match (below, above) {
        (Some(below), Some(above)) => format!("{below} or {above}"),
        (Some(only), None) | (None, Some(only)) => only.to_string(),
        (None, None) => "none".to_owned(),
    }
}
