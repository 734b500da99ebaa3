//! What the operators' shares of a preimage give.

use std::collections::BTreeMap;

use tinderbox_frost::{OperatorIndex, SecretScalar, feldman};

use crate::flow::{Output, Revealed};
use crate::refusal::{Halt, Reason, Refusal};
use crate::rows::PreimageShareRow;
use crate::secret::Preimage;

/// Puts shares together, each checked against the commitments; wrong ones name their operators.
///
/// # Errors
/// A refusal if there are fewer right shares than it takes.
pub fn recover(
    row: &PreimageShareRow,
    outputs: &BTreeMap<OperatorIndex, Output>,
) -> Result<Revealed, Halt> {
    let mut right = Vec::new();
    let mut culprits = Vec::new();
    for (operator, output) in outputs {
        let share = output
            .preimage
            .as_ref()
            .and_then(|share| SecretScalar::try_from_be_bytes(&share.0).ok())
            .filter(|share| feldman::verify_share(&row.proofs, *operator, share).is_ok());
        match share {
            Some(share) => right.push((*operator, share)),
            None => culprits.push(*operator),
        }
    }
    let needed = usize::from(row.threshold);
    if right.len() < needed {
        return Err(too_few(right.len(), needed, &culprits).into());
    }
    let shares: Vec<(OperatorIndex, &SecretScalar)> = right
        .iter()
        .take(needed)
        .map(|(operator, share)| (*operator, share))
        .collect();
    let secret = feldman::recover(&shares)
        .map_err(|error| Refusal::new(Reason::Internal, error.to_string()))?;
    Ok(Revealed {
        secret: Some(Preimage(*secret.to_be_bytes())),
        culprits,
    })
}

fn too_few(right: usize, needed: usize, culprits: &[OperatorIndex]) -> Refusal {
    Refusal::new(
        Reason::OperatorUnavailable,
        format!("{right} of {needed} shares of the preimage; wrong or missing ones: {culprits:?}"),
    )
}

/// What came of the shares, checked against the commitments that all operators agreed on: the
/// preimage, or none if the shares were of something else.
///
/// # Errors
/// A refusal if `secret` is not what the shares give.
pub fn check(row: &PreimageShareRow, secret: Option<&Preimage>) -> Result<Option<Preimage>, Halt> {
    let wrong = || {
        Refusal::new(
            Reason::BadSignature,
            "this is not what the shares of the preimage give",
        )
    };
    let secret = secret.ok_or_else(wrong)?;
    let point = SecretScalar::try_from_be_bytes(&secret.0)
        .map_err(|_| wrong())?
        .public_key();
    if row.proofs.first() != Some(&point) {
        return Err(wrong().into());
    }
    Ok((secret.payment_hash() == row.payment_hash).then(|| secret.clone()))
}
