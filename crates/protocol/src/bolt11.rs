//! What Lightning invoices carry of Spark: the payee's identity key in a route hint with a known
//! channel number, or a whole Spark invoice in a fallback field of version 31.
//!
//! This reads just enough of a BOLT 11 invoice for that. The node that pays checks the rest,
//! the invoice's own signature among it.

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Fe32};
use bitcoin::secp256k1::PublicKey;

use crate::{Error, Network, Result};

/// The channel number that marks a hint as Spark's.
pub const SENTINEL_CHANNEL: [u8; 8] = [0xf4, 0x24, 0x00, 0xf4, 0x24, 0x00, 0x00, 0x01];
/// The fallback version that holds a Spark invoice.
pub const FALLBACK_VERSION: u8 = 31;

const TIMESTAMP_WORDS: usize = 7;
const SIGNATURE_WORDS: usize = 104;
const HASH_WORDS: usize = 52;
const HOP_BYTES: usize = 51;

const PAYMENT_HASH: u8 = 1;
const ROUTE_HINT: u8 = 3;
const FALLBACK: u8 = 9;
const PAYMENT_SECRET: u8 = 16;

/// How a Lightning invoice can be paid in Spark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SparkFallback {
    /// To this identity key.
    Identity(PublicKey),
    /// By this Spark invoice, as its text.
    Invoice(String),
}

/// What is read of a Lightning invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LightningInvoice {
    /// The chain: local networks look like regtest.
    pub network: Network,
    /// Amount in thousandths of a sat; absent: the payer chooses.
    pub amount_msat: Option<u64>,
    /// SHA-256 of the preimage.
    pub payment_hash: [u8; 32],
    /// How to pay it in Spark; a Spark invoice goes before an identity key.
    pub spark: Option<SparkFallback>,
}

impl LightningInvoice {
    /// Reads an invoice.
    ///
    /// # Errors
    /// [`Error::InvalidBolt11`] if it is malformed, or lacks payment hash or payment secret.
    pub fn parse(text: &str) -> Result<Self> {
        // BOLT 11 knows no limit of length, so the code's own is not asked for.
        let decoded = bech32::primitives::decode::UncheckedHrpstring::new(text)
            .map_err(|error| invalid(&error.to_string()))?;
        let prefix = decoded.hrp().to_lowercase();
        let decoded: CheckedHrpstring<'_> = decoded
            .validate_and_remove_checksum::<Long>()
            .map_err(|error| invalid(&error.to_string()))?;
        let words: Vec<u8> = decoded
            .fe32_iter::<&mut dyn Iterator<Item = u8>>()
            .map(Fe32::to_u8)
            .collect();
        let (network, amount_msat) = read_prefix(&prefix)?;
        let data = words
            .len()
            .checked_sub(SIGNATURE_WORDS)
            .and_then(|end| words.get(TIMESTAMP_WORDS..end))
            .ok_or_else(|| invalid("it is cut off"))?;
        let fields = Fields::read(data)?;
        if !fields.has_secret {
            return Err(invalid("it has no payment secret"));
        }
        Ok(Self {
            network,
            amount_msat,
            payment_hash: fields
                .payment_hash
                .ok_or_else(|| invalid("it has no payment hash"))?,
            spark: fields.invoice.or(fields.identity),
        })
    }
}

/// bech32 without its limit of length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Long {}

impl bech32::Checksum for Long {
    type MidstateRepr = <Bech32 as bech32::Checksum>::MidstateRepr;

    const CODE_LENGTH: usize = 8192;
    const CHECKSUM_LENGTH: usize = Bech32::CHECKSUM_LENGTH;
    const GENERATOR_SH: [Self::MidstateRepr; 5] = Bech32::GENERATOR_SH;
    const TARGET_RESIDUE: Self::MidstateRepr = Bech32::TARGET_RESIDUE;
}

#[derive(Default)]
struct Fields {
    payment_hash: Option<[u8; 32]>,
    has_secret: bool,
    identity: Option<SparkFallback>,
    invoice: Option<SparkFallback>,
}

impl Fields {
    fn read(mut rest: &[u8]) -> Result<Self> {
        let mut fields = Self::default();
        while let Some((kind, tail)) = rest.split_first() {
            let [high, low, body @ ..] = tail else {
                return Err(invalid("a field of it is cut off"));
            };
            let length = usize::from(*high)
                .saturating_mul(32)
                .saturating_add(usize::from(*low));
            let (body, next) = body
                .split_at_checked(length)
                .ok_or_else(|| invalid("a field of it is cut off"))?;
            fields.take(*kind, body);
            rest = next;
        }
        Ok(fields)
    }

    /// Later fields of a kind do not replace the first; fields of a wrong length are skipped, as
    /// BOLT 11 demands.
    fn take(&mut self, kind: u8, words: &[u8]) {
        match kind {
            PAYMENT_HASH if words.len() == HASH_WORDS && self.payment_hash.is_none() => {
                self.payment_hash = bytes(words).try_into().ok();
            }
            PAYMENT_SECRET if words.len() == HASH_WORDS => self.has_secret = true,
            ROUTE_HINT if self.identity.is_none() => self.identity = sentinel(&bytes(words)),
            FALLBACK if self.invoice.is_none() => {
                if let Some((&FALLBACK_VERSION, text)) = words.split_first() {
                    self.invoice = String::from_utf8(bytes(text))
                        .ok()
                        .map(SparkFallback::Invoice);
                }
            }
            _ => {}
        }
    }
}

/// The identity key of the hop with the known channel number.
fn sentinel(hint: &[u8]) -> Option<SparkFallback> {
    hint.chunks_exact(HOP_BYTES).find_map(|hop| {
        let (key, rest) = hop.split_at_checked(33)?;
        let channel = rest.get(..SENTINEL_CHANNEL.len())?;
        if channel != SENTINEL_CHANNEL {
            return None;
        }
        PublicKey::from_slice(key).ok().map(SparkFallback::Identity)
    })
}

/// Eight-bit bytes of five-bit words; bits left over are dropped.
fn bytes(words: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut buffer = 0_u32;
    let mut filled = 0_u32;
    for word in words {
        buffer = (buffer << 5 | u32::from(*word)) & 0xfff;
        filled = filled.saturating_add(5);
        if let Some(left) = filled.checked_sub(8) {
            let byte = buffer.wrapping_shr(left) & 0xff;
            out.extend(u8::try_from(byte));
            filled = left;
        }
    }
    out
}

/// `ln`, the network, and an amount with a multiplier.
fn read_prefix(prefix: &str) -> Result<(Network, Option<u64>)> {
    // Longer names first: lnbc begins lnbcrt, too. Signet invoices of Spark say "sb".
    let names = [
        ("lnbcrt", Network::Regtest),
        ("lnbc", Network::Mainnet),
        ("lntbs", Network::Signet),
        ("lntb", Network::Testnet),
        ("lnsb", Network::Signet),
    ];
    let (network, amount) = names
        .into_iter()
        .find_map(|(name, network)| prefix.strip_prefix(name).map(|rest| (network, rest)))
        .ok_or_else(|| invalid("its network is unknown"))?;
    if amount.is_empty() {
        return Ok((network, None));
    }
    let bad = || invalid("its amount is malformed");
    // In tenths of thousandths of a sat, so that the smallest unit (pico-bitcoin) is a whole one.
    let (digits, unit) = match amount.char_indices().next_back() {
        Some((at, 'm')) => (amount.get(..at), 1_000_000_000),
        Some((at, 'u')) => (amount.get(..at), 1_000_000),
        Some((at, 'n')) => (amount.get(..at), 1_000),
        Some((at, 'p')) => (amount.get(..at), 1),
        _ => (Some(amount), 1_000_000_000_000),
    };
    let number: u64 = digits
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(bad)?;
    let tenths = number.checked_mul(unit).ok_or_else(bad)?;
    if tenths.checked_rem(10) != Some(0) {
        return Err(bad());
    }
    Ok((network, tenths.checked_div(10)))
}

fn invalid(reason: &str) -> Error {
    Error::InvalidBolt11 {
        reason: reason.to_owned(),
    }
}
