//! Fixed fees.

use crate::{Error, Result, Sats};

/// Fee of each direct transaction: an estimated 191 virtual bytes at 5 sats each.
pub const DIRECT_FEE: Sats = Sats(955);

/// Estimated size of a transaction with one input and one output, in virtual bytes.
pub const ESTIMATED_VSIZE: u64 = 194;

/// Below this value a taproot output is not relayed.
pub const DUST: Sats = Sats(330);

/// `value` less the fixed fee of direct transactions; `value` itself where the fee would leave
/// nothing (such a transaction does not relay on its own).
#[must_use]
pub fn after_direct_fee(value: Sats) -> Sats {
    match value.checked_sub(DIRECT_FEE) {
        Some(rest) if rest > Sats::ZERO => rest,
        _ => value,
    }
}

/// The fee of a transaction with one input and one output at `rate` sats per virtual byte.
///
/// # Errors
/// [`Error::AmountOverflow`].
pub fn estimated(rate: u64) -> Result<Sats> {
    rate.checked_mul(ESTIMATED_VSIZE)
        .map(Sats)
        .ok_or(Error::AmountOverflow)
}
