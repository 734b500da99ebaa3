//! Everyone's yes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tinderbox_flows::flow::Site;
use tinderbox_flows::rows::FlowId;
use tinderbox_frost::OperatorIndex;

use crate::quorum::yes_needed;
use crate::vote::SignedVote;

/// Yes votes of all operators on one digest: the point of no return.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// One vote per operator.
    pub votes: Vec<SignedVote>,
}

/// Why a certificate is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// A vote on another flow, a no, or another digest.
    #[error("operator {0:?} did not vote yes on this")]
    NotThisYes(OperatorIndex),
    /// An operator that does not exist, or appears twice.
    #[error("operator {0:?} is unknown or appears twice")]
    Stranger(OperatorIndex),
    /// Its signature is wrong: a forged vote.
    #[error("the vote of operator {0:?} is not signed by it")]
    Forged(OperatorIndex),
    /// Too few.
    #[error("{found} votes, {needed} needed")]
    TooFew {
        /// Valid votes.
        found: u16,
        /// Votes that make a certificate.
        needed: u16,
    },
}

impl Certificate {
    /// Checks every vote.
    ///
    /// # Errors
    /// [`CertificateError`] names the operator whose vote is not what it should be.
    pub fn check(
        &self,
        site: &Site,
        flow: FlowId,
        digest: &[u8; 32],
    ) -> Result<(), CertificateError> {
        let mut seen = BTreeSet::new();
        for vote in &self.votes {
            let operator = vote.operator;
            let identity = site
                .operators
                .get(usize::from(operator.0))
                .ok_or(CertificateError::Stranger(operator))?;
            if !seen.insert(operator) {
                return Err(CertificateError::Stranger(operator));
            }
            if vote.vote.flow != flow || !vote.vote.yes || vote.vote.digest != *digest {
                return Err(CertificateError::NotThisYes(operator));
            }
            if !vote.is_signed_by(identity) {
                return Err(CertificateError::Forged(operator));
            }
        }
        let found = u16::try_from(seen.len()).unwrap_or(u16::MAX);
        let needed = yes_needed(site.count());
        if found < needed {
            return Err(CertificateError::TooFew { found, needed });
        }
        Ok(())
    }
}

/// True if `vote` is a real no of an operator on `flow`.
#[must_use]
pub fn is_refusal(site: &Site, flow: FlowId, vote: &SignedVote) -> bool {
    vote.vote.flow == flow
        && !vote.vote.yes
        && site
            .operators
            .get(usize::from(vote.operator.0))
            .is_some_and(|identity| vote.is_signed_by(identity))
}
