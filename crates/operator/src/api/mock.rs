//! `MockService`: test controls, served in local networks only, and only if the configuration
//! asks for it.

use tinderbox_rpc::proto::mock::mock_service_server::MockService as Contract;
use tinderbox_rpc::proto::mock::{
    CleanUpPreimageShareRequest, QueryPreimageShareRequest, QueryPreimageShareResponse,
    TriggerTaskRequest,
};
use tonic::{Request, Response, Status};

use super::Api;
use crate::chain::Duties;
use crate::returns::{Returns, Turn};

/// Test controls.
#[derive(Clone)]
pub struct MockService {
    api: Api,
}

impl MockService {
    /// Controls of this operator.
    #[must_use]
    pub const fn new(api: Api) -> Self {
        Self { api }
    }
}

#[tonic::async_trait]
impl Contract for MockService {
    /// There are no preimage shares: cleaned up already.
    async fn clean_up_preimage_share(
        &self,
        _request: Request<CleanUpPreimageShareRequest>,
    ) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }

    async fn query_preimage_share(
        &self,
        _request: Request<QueryPreimageShareRequest>,
    ) -> Result<Response<QueryPreimageShareResponse>, Status> {
        Err(Status::not_found(
            "there is no preimage share for this hash",
        ))
    }

    /// Runs a background task now.
    async fn trigger_task(
        &self,
        request: Request<TriggerTaskRequest>,
    ) -> Result<Response<()>, Status> {
        let name = request.into_inner().task_name;
        match name.as_str() {
            "dkg" => {
                let have = self.api.keyshares.count(usize::MAX).await;
                let target =
                    have.map(|have| u32::try_from(have).unwrap_or(u32::MAX).saturating_add(1));
                let made = match target {
                    Ok(target) => self.api.keyshares.refill(target).await,
                    Err(refusal) => Err(refusal),
                };
                made.map_err(|refusal| Status::from(super::ApiError::from(refusal)))?;
            }
            "recover_flows" => {
                self.api.engine.recover().await;
            }
            "confirm_deposits" => {
                Duties::new(&self.api.core)
                    .flip()
                    .await
                    .map_err(|error| Status::from(super::ApiError::from(error)))?;
            }
            "cancel_expired_transfers" => {
                Returns::new(self.api.engine.clone())
                    .round(Turn::Now)
                    .await
                    .map_err(|error| Status::from(super::ApiError::from(error)))?;
            }
            other => return Err(Status::not_found(format!("there is no task \"{other}\""))),
        }
        Ok(Response::new(()))
    }
}
