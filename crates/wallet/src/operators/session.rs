//! Logging in: a challenge, signed with the identity key, for a token.

use tinderbox_protocol::authn::Challenge;
use tinderbox_rpc::proto::spark_authn::spark_authn_service_client::SparkAuthnServiceClient;
use tinderbox_rpc::proto::spark_authn::{GetChallengeRequest, VerifyChallengeRequest};
use tonic::transport::Channel;

use super::connection::Operator;
use crate::error::{Error, Result};
use crate::signer::WalletSigner;

/// Challenges that may expire on the way before it is an error.
const ATTEMPTS: usize = 8;

/// A token is not used any more this long before it expires.
const MARGIN: i64 = 60;

/// What a login gave.
#[derive(Clone)]
pub(super) struct Session {
    token: String,
    expires: i64,
}

impl Session {
    /// The header's value.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.token)
    }

    pub(super) fn is_fresh(&self, now: i64) -> bool {
        self.expires.saturating_sub(MARGIN) > now
    }
}

/// Logs in to one operator.
pub(super) async fn log_in(
    operator: &Operator,
    channel: Channel,
    signer: &dyn WalletSigner,
) -> Result<Session> {
    let mut client = SparkAuthnServiceClient::new(channel);
    let mut attempt = 1;
    loop {
        match try_log_in(operator, &mut client, signer).await {
            // It was slow: the next challenge is fresh.
            Err(Error::Refused { message, .. })
                if message.contains("challenge expired") && attempt < ATTEMPTS =>
            {
                attempt += 1;
            }
            other => return other,
        }
    }
}

async fn try_log_in(
    operator: &Operator,
    client: &mut SparkAuthnServiceClient<Channel>,
    signer: &dyn WalletSigner,
) -> Result<Session> {
    let identity = signer.identity().serialize().to_vec();
    let request = operator.request(GetChallengeRequest {
        public_key: identity.clone(),
    });
    let reply = client
        .get_challenge(request)
        .await
        .map_err(|s| operator.refused("get_challenge", &s))?;
    operator.note_time(&reply);
    let protected = reply.into_inner().protected_challenge;
    let challenge = protected.as_ref().and_then(|p| p.challenge.as_ref());
    let challenge = challenge
        .ok_or_else(|| operator.nonsense("get_challenge", "there is no challenge".into()))?;
    if challenge.public_key != identity {
        return Err(operator.nonsense("get_challenge", "the challenge is for another key".into()));
    }
    let digest = Challenge {
        version: challenge.version,
        timestamp: challenge.timestamp,
        nonce: challenge.nonce.clone(),
        public_key: challenge.public_key.clone(),
    }
    .digest();
    let request = operator.request(VerifyChallengeRequest {
        signature: signer.sign_identity(digest).serialize_der().to_vec(),
        protected_challenge: protected,
        public_key: identity,
    });
    let reply = client
        .verify_challenge(request)
        .await
        .map_err(|s| operator.refused("verify_challenge", &s))?;
    let reply = reply.into_inner();
    Ok(Session {
        token: reply.session_token,
        expires: reply.expiration_timestamp,
    })
}
