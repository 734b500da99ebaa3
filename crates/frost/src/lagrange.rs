//! Interpolation at zero.

use crate::error::{Error, Result};
use crate::index::OperatorIndex;
use crate::scalar::Scalar;

/// `Π j / (j − i)` over the other operators of the set, at their evaluation points.
///
/// # Errors
/// [`Error::DuplicateOperator`] if one appears twice, `index` included.
pub fn coefficient(
    index: OperatorIndex,
    set: impl IntoIterator<Item = OperatorIndex>,
) -> Result<Scalar> {
    let own = index.scalar();
    let mut numerator = Scalar::ONE;
    let mut denominator = Scalar::ONE;
    let mut met = false;
    for other in set {
        if other == index {
            if met {
                return Err(Error::DuplicateOperator { index });
            }
            met = true;
            continue;
        }
        let x = other.scalar();
        numerator = numerator.mul(&x);
        denominator = denominator.mul(&x.sub(&own));
    }
    Ok(numerator.mul(&denominator.invert()?))
}
