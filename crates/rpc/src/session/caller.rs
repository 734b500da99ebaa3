//! Who sent a request.

use bitcoin::secp256k1::PublicKey;
use tonic::Request;

use super::keys::SessionKeys;
use super::token;
use crate::ServiceError;

/// Who sent a request. A request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The holder of this identity key.
    Identity(PublicKey),
    /// Someone without a valid token.
    Anonymous {
        /// What was wrong with the token.
        reason: Anonymous,
    },
}

/// Why a caller is anonymous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Anonymous {
    /// There was no token.
    #[error("no token was sent")]
    NoToken,
    /// The token does not parse.
    #[error("the token is malformed")]
    Malformed,
    /// The token is not of this operator.
    #[error("the token is not of this operator")]
    Foreign,
    /// The token's time is over.
    #[error("token has expired")]
    Expired,
}

impl Caller {
    /// The caller of this request.
    pub fn of<T>(request: &Request<T>) -> Self {
        let anonymous = Self::Anonymous {
            reason: Anonymous::NoToken,
        };
        request.extensions().get().copied().unwrap_or(anonymous)
    }

    /// The identity key, if there is a session.
    pub fn identity(&self) -> Option<&PublicKey> {
        match self {
            Self::Identity(key) => Some(key),
            Self::Anonymous { .. } => None,
        }
    }

    /// The identity key of a call that needs a session.
    ///
    /// # Errors
    /// UNAUTHENTICATED; wallets read "token has expired" and authenticate again.
    pub fn require(&self) -> Result<PublicKey, ServiceError> {
        match self {
            Self::Identity(key) => Ok(*key),
            Self::Anonymous {
                reason: Anonymous::Expired,
            } => Err(ServiceError::token_expired()),
            Self::Anonymous { reason } => Err(ServiceError::unauthenticated(reason)),
        }
    }

    /// The identity key, which must be the one that the request names in `field`.
    ///
    /// # Errors
    /// UNAUTHENTICATED without a session, PERMISSION_DENIED for another key.
    pub fn require_key(&self, field: &str, named: &[u8]) -> Result<PublicKey, ServiceError> {
        let key = self.require()?;
        if key.serialize().as_slice() != named {
            let text = format!("{field} is not the identity of this session; use your own");
            return Err(ServiceError::access_denied(text).with("field", field));
        }
        Ok(key)
    }

    /// Like [`Caller::identity`], for reads that depend on who asks.
    ///
    /// # Errors
    /// "token has expired" for an expired token, so that its owner renews it instead of being
    /// shown less than everything.
    pub fn reader(&self) -> Result<Option<&PublicKey>, ServiceError> {
        match self {
            Self::Anonymous {
                reason: Anonymous::Expired,
            } => Err(ServiceError::token_expired()),
            other => Ok(other.identity()),
        }
    }
}

/// Reads an `authorization` value: `Bearer` is optional, and `Bearer undefined` is what public
/// read-only clients send for want of a token.
pub(super) fn read(keys: &SessionKeys, authorization: Option<&[u8]>, now: u64) -> Caller {
    let value = authorization.map(<[u8]>::trim_ascii).unwrap_or_default();
    let value = match value.split_at_checked(6) {
        Some((word, rest))
            if word.eq_ignore_ascii_case(b"bearer")
                && rest.first().is_none_or(u8::is_ascii_whitespace) =>
        {
            rest.trim_ascii_start()
        }
        _ => value,
    };
    if value.is_empty() || value == b"undefined" {
        return Caller::Anonymous {
            reason: Anonymous::NoToken,
        };
    }
    match token::read(keys, value, now) {
        Ok(key) => Caller::Identity(key),
        Err(reason) => Caller::Anonymous { reason },
    }
}
