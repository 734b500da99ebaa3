//! Spark invoices: an address with what is wanted, signed by the payee.

mod codec;
mod digest;

use std::fmt;
use std::str::FromStr;

use bitcoin::secp256k1::{PublicKey, SecretKey};
use rand::{CryptoRng, RngCore};
use uuid::Uuid;

use crate::signature::{sign_schnorr, verify_schnorr};
use crate::{Error, Network, Result, Sats, SparkAddress};

/// Most bytes of a memo, in UTF-8.
pub const MAX_MEMO: usize = 120;

/// What is to be paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payment {
    /// Bitcoin; no amount means that the payer chooses. (Zero is something else in the text,
    /// but hashes alike.)
    Sats(Option<Sats>),
    /// A token.
    Tokens {
        /// Which; if absent the payer chooses.
        identifier: Option<[u8; 32]>,
        /// How much, in the token's smallest unit; if absent the payer chooses.
        amount: Option<u128>,
    },
}

/// When an invoice ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry {
    /// Unix time in seconds.
    pub seconds: u64,
    /// The part of a second, below 10⁹. Wallets write whole milliseconds.
    pub nanos: u32,
}

impl Expiry {
    /// From Unix milliseconds.
    #[must_use]
    pub fn from_millis(millis: u64) -> Self {
        let part = millis.checked_rem(1000).unwrap_or(0);
        Self {
            seconds: millis.checked_div(1000).unwrap_or(0),
            nanos: u32::try_from(part).unwrap_or(0).saturating_mul(1_000_000),
        }
    }

    /// In Unix milliseconds, rounded down.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        let part = u64::from(self.nanos).checked_div(1_000_000).unwrap_or(0);
        self.seconds.saturating_mul(1000).saturating_add(part)
    }
}

/// The fields of an invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceFields {
    /// Makes it unique; wallets use version 7 UUIDs.
    pub id: Uuid,
    /// What is to be paid.
    pub payment: Payment,
    /// A note to the payer.
    pub memo: Option<String>,
    /// Who must pay.
    pub sender: Option<PublicKey>,
    /// When it ends.
    pub expiry: Option<Expiry>,
}

/// An invoice. Its text has exactly one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparkInvoice {
    /// Network.
    pub network: Network,
    /// The payee's identity key.
    pub receiver: PublicKey,
    /// What is wanted.
    pub fields: InvoiceFields,
    /// The payee's signature (BIP 340); an invoice made for somebody else has none.
    pub signature: Option<[u8; 64]>,
}

impl SparkInvoice {
    /// An invoice without signature.
    ///
    /// # Errors
    /// [`Error::InvalidInvoice`] if the memo is too long or the amount exceeds all bitcoin.
    pub fn unsigned(network: Network, receiver: PublicKey, fields: InvoiceFields) -> Result<Self> {
        fields.validate()?;
        Ok(Self {
            network,
            receiver,
            fields,
            signature: None,
        })
    }

    /// An invoice signed by the payee.
    ///
    /// # Errors
    /// As [`unsigned`](Self::unsigned).
    pub fn signed(
        network: Network,
        receiver: &SecretKey,
        fields: InvoiceFields,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Self> {
        let key = receiver.public_key(&crate::curve::CURVE);
        let mut invoice = Self::unsigned(network, key, fields)?;
        invoice.signature = Some(sign_schnorr(receiver, &invoice.digest(), rng));
        Ok(invoice)
    }

    /// The address inside.
    #[must_use]
    pub const fn address(&self) -> SparkAddress {
        SparkAddress::new(self.network, self.receiver)
    }

    /// What the payee signs. Local and regtest networks hash alike, as do absence and zero.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        digest::digest(self.network, &self.receiver, &self.fields)
    }

    /// Checks the signature if there is one.
    ///
    /// # Errors
    /// [`Error::BadSignature`].
    pub fn verify(&self) -> Result<()> {
        match &self.signature {
            None => Ok(()),
            Some(signature) => verify_schnorr(
                &self.receiver,
                &self.digest(),
                signature,
                "the invoice's signature",
            ),
        }
    }

    /// Everything that a payer checks before paying: network, signature, payer, end.
    /// `now` is Unix milliseconds.
    ///
    /// # Errors
    /// [`Error::WrongNetwork`], [`Error::BadSignature`], [`Error::InvalidInvoice`] if it is for
    /// another payer or has expired.
    pub fn check_payable(&self, network: Network, payer: &PublicKey, now: u64) -> Result<()> {
        if self.network != network {
            return Err(Error::WrongNetwork {
                expected: network,
                actual: self.network,
            });
        }
        self.verify()?;
        if self.fields.sender.is_some_and(|sender| sender != *payer) {
            return Err(invalid("it asks somebody else to pay"));
        }
        if self.fields.expiry.is_some_and(|end| end.as_millis() <= now) {
            return Err(invalid("it has expired: ask for a new one"));
        }
        Ok(())
    }

    /// The bytes inside.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        codec::encode(&self.receiver, &self.fields, self.signature.as_ref())
    }
}

impl InvoiceFields {
    /// Checks the limits.
    ///
    /// # Errors
    /// [`Error::InvalidInvoice`].
    pub fn validate(&self) -> Result<()> {
        if self.memo.as_ref().is_some_and(|memo| memo.len() > MAX_MEMO) {
            return Err(invalid("its memo has more than 120 bytes"));
        }
        if matches!(self.payment, Payment::Sats(Some(amount)) if amount > Sats::MAX) {
            return Err(invalid("it asks for more bitcoin than there is"));
        }
        if self.expiry.is_some_and(|end| end.nanos >= 1_000_000_000) {
            return Err(invalid("its expiry time is malformed"));
        }
        Ok(())
    }
}

impl fmt::Display for SparkInvoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = crate::address::encode(self.network.prefix(), &self.payload())
            .map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl FromStr for SparkInvoice {
    type Err = Error;

    /// Reads an invoice in its one spelling: lowercase, canonical bytes. Its signature is not
    /// checked here.
    fn from_str(text: &str) -> Result<Self> {
        let (prefix, payload) = crate::address::decode(text)?;
        let network = crate::address::network_of(&prefix, false)?;
        let (receiver, fields, signature) = codec::decode(&payload)?;
        let invoice = Self {
            network,
            receiver,
            fields,
            signature,
        };
        if invoice.payload() != payload || invoice.to_string() != text {
            return Err(invalid("its encoding is not the canonical one"));
        }
        Ok(invoice)
    }
}

fn invalid(reason: &str) -> Error {
    Error::InvalidInvoice {
        reason: reason.to_owned(),
    }
}
