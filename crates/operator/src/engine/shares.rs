//! Signature shares: those that this operator gives for a certificate, and what others' came to.

use tinderbox_flows::flow::{JobOutcome, Outcome, Plan};
use tinderbox_flows::job::KeyOutput;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::FlowRow;
use tinderbox_frost::OperatorIndex;
use tinderbox_signer::SignerError;

use super::Engine;
use super::rows::Stop;

impl Engine {
    /// Signs and tweaks. A certificate is not refused: if nonces are gone, because a coordinator let
    /// two flows have the same ones, this operator gives no shares. The flow ends without those
    /// signatures, and whoever wants them asks again, instead of being open for ever.
    pub(super) async fn execute(
        &self,
        row: &FlowRow,
        plan: &mut Plan,
    ) -> Result<Vec<KeyOutput>, Stop> {
        if plan.keys.is_empty() {
            return Ok(Vec::new());
        }
        match self.core.signer.execute(plan.keys.clone()).await {
            Err(error @ (SignerError::UnknownNonce | SignerError::NonceReuse)) => {
                tracing::error!(flow = %row.id, %error, "no signature shares");
                for (key, places) in plan.keys.iter_mut().zip(&mut plan.places) {
                    key.jobs.clear();
                    places.clear();
                }
                Ok(self.core.signer.execute(plan.keys.clone()).await?)
            }
            other => Ok(other?),
        }
    }
}

/// Checks every signature of an outcome against the job that it is for.
pub(super) fn check_outcome(row: &FlowRow, outcome: &Outcome) -> Result<(), Stop> {
    let wrong = |place: usize| {
        Stop::Refuse(Refusal::new(
            Reason::BadSignature,
            format!("signature {place} of flow {} is not valid", row.id),
        ))
    };
    if outcome.jobs.len() != row.jobs.len() {
        return Err(wrong(outcome.jobs.len()));
    }
    for (place, (job, made)) in row.jobs.iter().zip(&outcome.jobs).enumerate() {
        match made {
            JobOutcome::Signed(signature) => {
                let signature: &[u8; 64] =
                    signature.as_slice().try_into().map_err(|_| wrong(place))?;
                tinderbox_frost::verify_signature(
                    &job.package.verifying_key,
                    &job.package.message,
                    signature,
                )
                .map_err(|_| wrong(place))?;
            }
            JobOutcome::Shares(_) if job.user_share.is_none() && job.package.user.is_some() => {}
            // Incomplete by design: with the user's share they must give an adaptor signature.
            JobOutcome::Shares(shares) if job.package.adaptor.is_some() => {
                let public_shares = (0u16..)
                    .map(OperatorIndex)
                    .zip(job.public_shares.iter().copied())
                    .collect();
                job.package
                    .prepare()
                    .and_then(|prepared| {
                        prepared.aggregate(
                            shares,
                            job.user_share.as_ref(),
                            &public_shares,
                            job.user_key.as_ref(),
                        )
                    })
                    .map_err(|_| wrong(place))?;
            }
            JobOutcome::Shares(_) => return Err(wrong(place)),
            JobOutcome::Failed(culprits) => {
                tracing::error!(flow = %row.id, place, ?culprits, "operators gave wrong signature shares");
                metrics::counter!("tinderbox_bad_share_total").increment(1);
            }
        }
    }
    Ok(())
}
