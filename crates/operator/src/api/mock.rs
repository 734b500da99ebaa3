//! `MockService`: test controls, served in local networks only, and only if the configuration
//! asks for it.

mod rows;

use tinderbox_flows::rows::PreimageShareRow;
use tinderbox_rpc::proto::mock::mock_service_server::MockService as Contract;
use tinderbox_rpc::proto::mock::{
    CleanUpPreimageShareRequest, ModifyNodeTimelockRequest, QueryPreimageShareRequest,
    QueryPreimageShareResponse, TriggerTaskRequest, UpdateNodesStatusRequest,
};
use tonic::{Request, Response, Status};

use super::{Api, ApiError};
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
    /// Forgets the share and the hash locks of a payment hash; their transfers stay.
    async fn clean_up_preimage_share(
        &self,
        request: Request<CleanUpPreimageShareRequest>,
    ) -> Result<Response<()>, Status> {
        rows::forget_preimage(&self.api, &request.into_inner().payment_hash)
            .await
            .map_err(ApiError::from)?;
        Ok(Response::new(()))
    }

    async fn query_preimage_share(
        &self,
        request: Request<QueryPreimageShareRequest>,
    ) -> Result<Response<QueryPreimageShareResponse>, Status> {
        let none = || Status::not_found("there is no preimage share for this hash");
        let hash = <[u8; 32]>::try_from(request.into_inner().payment_hash).map_err(|_| none())?;
        let row = self
            .api
            .tables
            .get::<PreimageShareRow>(hash)
            .await
            .map_err(ApiError::from)?
            .ok_or_else(none)?;
        let share = self
            .api
            .core
            .signer
            .preimage_share(hash, row.sealed)
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(QueryPreimageShareResponse {
            preimage_share: share.0.to_vec(),
            threshold: i32::from(row.threshold),
            invoice_string: row.invoice,
        }))
    }

    /// Forces the status of nodes, at this operator.
    async fn update_nodes_status(
        &self,
        request: Request<UpdateNodesStatusRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        rows::force_status(&self.api, &request.node_ids, &request.status)
            .await
            .map_err(ApiError::from)?;
        Ok(Response::new(()))
    }

    /// Rewrites the timelocks of a node and its refunds, at this operator. Their signatures are
    /// worthless from then on.
    async fn modify_node_timelock(
        &self,
        request: Request<ModifyNodeTimelockRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        rows::force_timelocks(
            &self.api,
            &request.node_id,
            request.node_timelock,
            request.refund_timelock,
        )
        .await
        .map_err(ApiError::from)?;
        Ok(Response::new(()))
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
            "settle_revealed_preimages" => {
                self.api.engine.settle_revealed().await;
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
