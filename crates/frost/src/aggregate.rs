//! From shares to a signature.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;

use crate::adaptor;
use crate::error::{Error, Result};
use crate::index::{OperatorIndex, Participant};
use crate::package::SignatureShare;
use crate::point;
use crate::prepare::Prepared;
use crate::scalar::Scalar;
use crate::verify::verify_schnorr;

impl Prepared {
    /// Adds up the shares. A signature that is returned was verified: complete ones under the
    /// output key, those with an adaptor against the adaptor point.
    ///
    /// Public shares beyond the signers' are ignored.
    ///
    /// # Errors
    /// [`Error::MissingShare`], [`Error::UnexpectedShare`] or [`Error::MissingPublicShare`] if the
    /// sets do not fit the package; [`Error::InvalidShares`] with all culprits; or
    /// [`Error::KeyMismatch`] if no share is wrong.
    pub fn aggregate(
        &self,
        shares: &BTreeMap<OperatorIndex, SignatureShare>,
        user_share: Option<&SignatureShare>,
        public_shares: &BTreeMap<OperatorIndex, PublicKey>,
        user_public: Option<&PublicKey>,
    ) -> Result<[u8; 64]> {
        let seats = self.match_seats(shares, user_share, public_shares, user_public)?;
        let sum = seats.iter().try_fold(Scalar::ZERO, |sum, seat| {
            Ok::<_, Error>(sum.add(&Scalar::from_be_bytes(&seat.share.0)?))
        });
        if let Ok(sum) = sum {
            let signature = adaptor::join(&point::x(&self.commitment), &sum);
            let valid = match &self.adaptor {
                None => verify_schnorr(&self.output_key(), &self.message, &signature),
                Some(point) => {
                    adaptor::verify(&self.output_key(), &self.message, &signature, point)
                }
            };
            if valid.is_ok() {
                return Ok(signature);
            }
        }
        let culprits: Vec<Participant> = seats
            .iter()
            .filter(|seat| {
                match seat.participant {
                    Participant::Operator(index) => {
                        self.verify_operator_share(&index, seat.public, seat.share)
                    }
                    Participant::User => self.verify_user_share(seat.public, seat.share),
                }
                .is_err()
            })
            .map(|seat| seat.participant)
            .collect();
        if culprits.is_empty() {
            Err(Error::KeyMismatch)
        } else {
            Err(Error::InvalidShares { culprits })
        }
    }

    /// Pairs each signer with its share and public share.
    fn match_seats<'a>(
        &self,
        shares: &'a BTreeMap<OperatorIndex, SignatureShare>,
        user_share: Option<&'a SignatureShare>,
        public_shares: &'a BTreeMap<OperatorIndex, PublicKey>,
        user_public: Option<&'a PublicKey>,
    ) -> Result<Vec<Filled<'a>>> {
        let user = match (&self.user, user_share) {
            (None, Some(_)) => {
                return Err(Error::UnexpectedShare {
                    participant: Participant::User,
                });
            }
            (None, None) => None,
            (Some(_), share) => Some((Participant::User, share, user_public)),
        };
        if let Some(index) = shares
            .keys()
            .find(|index| !self.operators.contains_key(index))
        {
            return Err(Error::UnexpectedShare {
                participant: (*index).into(),
            });
        }
        self.operators
            .keys()
            .map(|index| ((*index).into(), shares.get(index), public_shares.get(index)))
            .chain(user)
            .map(|(participant, share, public)| {
                Ok(Filled {
                    participant,
                    share: share.ok_or(Error::MissingShare { participant })?,
                    public: public.ok_or(Error::MissingPublicShare { participant })?,
                })
            })
            .collect()
    }
}

struct Filled<'a> {
    participant: Participant,
    share: &'a SignatureShare,
    public: &'a PublicKey,
}
