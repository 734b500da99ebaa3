//! Signing and tweaking.

use tinderbox_flows::job::{KeyJob, KeyOutput};
use tinderbox_frost::SignatureShare;

use super::Core;
use super::claim::{Claimed, Sign};
use super::nonces::nonces;
use crate::seal::seal_share;
use crate::vault::Ticket;
use crate::{SignerError, work};

impl Core {
    /// Computes what `jobs` ask for. Nothing of it may leave before the ticket is durable.
    ///
    /// The disk works while the curve does: the sync is started before the signing.
    pub(super) fn execute(&self, jobs: &[KeyJob]) -> Result<(Vec<KeyOutput>, Ticket), SignerError> {
        let ready = self.ready(jobs)?;
        let claimed = self.claim(jobs, ready)?;
        let ticket = self.vault.ticket();
        self.vault.start_sync(ticket);
        let signs: Vec<(&Claimed, &Sign)> = claimed
            .iter()
            .flat_map(|claimed| claimed.signs.iter().map(move |sign| (claimed, sign)))
            .collect();
        let mut shares = work::map(signs, self.config.threads, |(claimed, sign)| {
            self.sign_one(claimed, sign)
        })
        .into_iter();
        let outputs = jobs
            .iter()
            .zip(&claimed)
            .map(|(job, claimed)| {
                let sealed = match &claimed.tweaked {
                    Some(tweaked) => {
                        let (place, key) =
                            tweaked.key.as_ref().ok_or_else(SignerError::poisoned)?;
                        let plain = tweaked.share.to_be_bytes();
                        Some(seal_share(*place, &job.keyshare, key, &plain)?)
                    }
                    None => None,
                };
                Ok(KeyOutput {
                    sealed,
                    shares: shares
                        .by_ref()
                        .take(claimed.signs.len())
                        .collect::<Result<_, SignerError>>()?,
                })
            })
            .collect::<Result<_, SignerError>>()?;
        Ok((outputs, ticket))
    }

    fn sign_one(&self, claimed: &Claimed, sign: &Sign) -> Result<SignatureShare, SignerError> {
        let share = match &claimed.tweaked {
            Some(tweaked) if sign.after_tweak => &tweaked.share,
            _ => &claimed.share,
        };
        let nonces = nonces(&sign.seed, sign.commitment)?;
        sign.ready
            .prepared
            .sign_operator(&self.config.operator, share, nonces)
            .map_err(|error| SignerError::BadJob(error.to_string()))
    }
}
