//! Names for transactions and their parts, as errors give them.

use std::fmt;

/// Which transaction of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TxKind {
    /// Spends a deposit.
    Root,
    /// Node transaction, fee-less.
    Node,
    /// Node transaction, fee-paying.
    DirectNode,
    /// Node inserted by a renewal, fee-less.
    Split,
    /// Node inserted by a renewal, fee-paying.
    DirectSplit,
    /// Fee-less refund.
    CpfpRefund,
    /// Refund of the direct node transaction.
    DirectRefund,
    /// Fee-paying refund of the node transaction.
    DirectFromCpfpRefund,
    /// Makes the outputs that tie refunds to a cooperative exit.
    Connector,
    /// Pays out a cooperative exit.
    CoopExit,
    /// Gives a static deposit back.
    StaticDepositRefund,
    /// Adds a fee to another transaction.
    FeeBump,
    /// Spends a hash-locked output.
    HtlcSpend,
    /// Any other.
    Other,
}

impl fmt::Display for TxKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root transaction",
            Self::Node => "node transaction",
            Self::DirectNode => "direct node transaction",
            Self::Split => "split node transaction",
            Self::DirectSplit => "direct split node transaction",
            Self::CpfpRefund => "refund transaction",
            Self::DirectRefund => "direct refund transaction",
            Self::DirectFromCpfpRefund => "direct-from-cpfp refund transaction",
            Self::Connector => "connector transaction",
            Self::CoopExit => "exit transaction",
            Self::StaticDepositRefund => "static deposit refund transaction",
            Self::FeeBump => "fee-bump transaction",
            Self::HtlcSpend => "spend of the hash-locked output",
            Self::Other => "transaction",
        })
    }
}

/// Which part of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TxField {
    /// Version.
    Version,
    /// Absolute locktime.
    LockTime,
    /// How many inputs.
    InputCount,
    /// What an input spends.
    Prevout(usize),
    /// Sequence of an input.
    Sequence(usize),
    /// Script signature of an input.
    ScriptSig(usize),
    /// Witness of an input.
    Witness(usize),
    /// How many outputs.
    OutputCount,
    /// Value of an output.
    Value(usize),
    /// Script of an output.
    Script(usize),
    /// What an address is paid.
    Payout,
    /// The transaction id.
    Txid,
}

impl fmt::Display for TxField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version => f.write_str("version"),
            Self::LockTime => f.write_str("locktime"),
            Self::InputCount => f.write_str("number of inputs"),
            Self::Prevout(input) => write!(f, "output spent by input {input}"),
            Self::Sequence(input) => write!(f, "sequence of input {input}"),
            Self::ScriptSig(input) => write!(f, "script signature of input {input}"),
            Self::Witness(input) => write!(f, "witness of input {input}"),
            Self::OutputCount => f.write_str("number of outputs"),
            Self::Value(output) => write!(f, "value of output {output}"),
            Self::Script(output) => write!(f, "script of output {output}"),
            Self::Payout => f.write_str("payout to the withdrawal address"),
            Self::Txid => f.write_str("transaction id"),
        }
    }
}
