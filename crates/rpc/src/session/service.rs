//! `spark_authn.SparkAuthnService`.

use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tonic::{Request, Response, Status};

use super::{Clock, Sessions};
use crate::proto::spark_authn::spark_authn_service_server::SparkAuthnService;
use crate::proto::spark_authn::{
    GetChallengeRequest, GetChallengeResponse, VerifyChallengeRequest, VerifyChallengeResponse,
};

/// The service around [`Sessions`], with a clock and the system's randomness.
#[derive(Clone)]
pub struct AuthnService {
    sessions: Arc<Sessions>,
    clock: Clock,
}

impl AuthnService {
    /// Serves these sessions.
    pub fn new(sessions: Arc<Sessions>, clock: Clock) -> Self {
        Self { sessions, clock }
    }
}

#[tonic::async_trait]
impl SparkAuthnService for AuthnService {
    async fn get_challenge(
        &self,
        request: Request<GetChallengeRequest>,
    ) -> Result<Response<GetChallengeResponse>, Status> {
        let mut rng = StdRng::from_entropy();
        let answer = self
            .sessions
            .challenge(request.get_ref(), (self.clock)(), &mut rng)?;
        Ok(Response::new(answer))
    }

    async fn verify_challenge(
        &self,
        request: Request<VerifyChallengeRequest>,
    ) -> Result<Response<VerifyChallengeResponse>, Status> {
        let mut rng = StdRng::from_entropy();
        let answer = self
            .sessions
            .verify(request.get_ref(), (self.clock)(), &mut rng)
            .await?;
        Ok(Response::new(answer))
    }
}
