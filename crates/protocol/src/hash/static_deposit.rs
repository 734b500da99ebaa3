//! What owners of static deposits sign.

use super::{sha256, structured};
use crate::{Network, Sats};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaticDepositRequest<'a> {
    /// A provider credits a fixed amount; with its signature over the quote.
    Fixed {
        /// The provider's signature, decoded.
        quote_signature: &'a [u8],
    },
    /// A provider credits the amount less a fee up to a maximum.
    MaxFee {
        /// The provider's signature, decoded.
        quote_signature: &'a [u8],
    },
    /// The deposit goes back on chain.
    Refund {
        /// The hash that the refund transaction's input signs.
        spend_sighash: &'a [u8; 32],
    },
}

impl StaticDepositRequest<'_> {
    const fn number(&self) -> u8 {
        match self {
            Self::Fixed { .. } => 0,
            Self::MaxFee { .. } => 1,
            Self::Refund { .. } => 2,
        }
    }

    const fn tail(&self) -> &[u8] {
        match self {
            Self::Fixed { quote_signature } | Self::MaxFee { quote_signature } => quote_signature,
            Self::Refund { spend_sighash } => spend_sighash.as_slice(),
        }
    }
}

/// What an owner signs (ECDSA, DER) to claim or refund a static deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticDepositStatement<'a> {
    /// Network.
    pub network: Network,
    /// Transaction id in hex, display order, exactly as the owner gave it.
    pub txid: &'a str,
    /// Which output.
    pub vout: u32,
    /// What the owner gets; for a refund the value of the refund's output.
    pub credit: Sats,
    /// What is asked for.
    pub request: StaticDepositRequest<'a>,
}

impl StaticDepositStatement<'_> {
    /// The bytes of the older form, which present wallets sign.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        [
            b"claim_static_deposit".as_slice(),
            self.network.name().as_bytes(),
            self.txid.as_bytes(),
            &self.vout.to_le_bytes(),
            &[self.request.number()],
            &self.credit.0.to_le_bytes(),
            self.request.tail(),
        ]
        .concat()
    }

    /// The digest of [`payload`](Self::payload).
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.payload())
    }

    /// The structured form (hash variant 1), which operators accept too.
    #[must_use]
    pub fn digest_v2(&self) -> [u8; 32] {
        structured(&["spark", "claim_static_deposit"], |hash| {
            hash.string(self.network.name())
                .string(self.txid)
                .number(self.vout)
                .number(self.request.number())
                .number(self.credit.0)
                .bytes(self.request.tail())
        })
    }
}

/// What an owner signs (ECDSA, DER) to be credited before the deposit confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstantStatement<'a> {
    /// Network.
    pub network: Network,
    /// What is credited at once.
    pub credit: Sats,
    /// What is credited later; wallets send 0.
    pub secondary_credit: Sats,
    /// The static address.
    pub destination_address: &'a str,
    /// Value of the deposit.
    pub deposit: Sats,
    /// The provider's signature over the quote, decoded.
    pub quote_signature: &'a [u8],
}

impl InstantStatement<'_> {
    /// The digest.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        structured(&["spark", "claim_instant_static_deposit"], |hash| {
            hash.string(self.network.name())
                .number(3_u8)
                .number(self.credit.0)
                .number(self.secondary_credit.0)
                .string(self.destination_address)
                .number(self.deposit.0)
                .bytes(self.quote_signature)
        })
    }
}

/// What a service provider signs (ECDSA, DER) so that operators spend an output for it in this way
/// and no other. Ours: without it the operator that a provider calls could put another transaction
/// in its place, and share the output with its former owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpendStatement<'a> {
    /// Network.
    pub network: Network,
    /// Transaction id in hex, display order.
    pub txid: &'a str,
    /// Which output.
    pub vout: u32,
    /// The hash that the spending transaction's input signs.
    pub spend_sighash: &'a [u8; 32],
}

impl SpendStatement<'_> {
    /// The digest.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        structured(&["tinderbox", "spend_static_deposit"], |hash| {
            hash.string(self.network.name())
                .string(self.txid)
                .number(self.vout)
                .bytes(self.spend_sighash)
        })
    }
}

/// What a coordinator tells the other operators about a claim of a static deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapStatement {
    /// The claim has begun.
    Created,
    /// It was given up.
    Rollback,
    /// It is done.
    Completed,
}

impl SwapStatement {
    /// The digest, for a deposit's transaction id (hex, display order) and output.
    #[must_use]
    pub fn digest(self, network: Network, txid: &str, vout: u32) -> [u8; 32] {
        let word = match self {
            Self::Created => "Created",
            Self::Rollback => "Rollback",
            Self::Completed => "Completed",
        };
        sha256(
            &[
                word.as_bytes(),
                network.name().as_bytes(),
                txid.as_bytes(),
                &vout.to_le_bytes(),
                &[0],
            ]
            .concat(),
        )
    }
}
