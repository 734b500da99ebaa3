//! `SparkSspInternalService`: what only service providers ask. What is not here answers
//! UNIMPLEMENTED.
//!
//! It is served beside the wallets' services, to sessions of identity keys that the configuration
//! lists (`ssps`). A listed key may ask; what it may do with whose leaves, the flows decide from
//! signatures, as for any wallet.

use std::future::Future;

use tinderbox_rpc::proto::spark_ssp_internal::spark_ssp_internal_service_server::SparkSspInternalService as Contract;
use tinderbox_rpc::proto::spark_ssp_internal::{
    ClaimInstantStaticDepositUtxoSwapRequest, ClaimInstantStaticDepositUtxoSwapResponse,
    InitiateStaticDepositUtxoSwapRequest, InitiateStaticDepositUtxoSwapResponse,
    ReserveInstantStaticDepositUtxoSwapRequest, ReserveInstantStaticDepositUtxoSwapResponse,
    ReturnStuckTransferRequest, ReturnStuckTransferResponse, SignStaticDepositSweepTxRequest,
    SignStaticDepositSweepTxResponse,
};
use tinderbox_rpc::validate::Validate;
use tinderbox_rpc::{Caller, ServiceError};
use tonic::{Request, Response, Status};

use super::{Api, ApiError, dispatch, transfer, utxo_swap};

/// The service that service providers talk to.
#[derive(Clone)]
pub struct SspService {
    api: Api,
}

impl SspService {
    /// The service in front of `api`.
    #[must_use]
    pub const fn new(api: Api) -> Self {
        Self { api }
    }

    /// Lets service providers in, then goes on as for wallets.
    async fn call<Q, A, F, Fut>(
        &self,
        method: &'static str,
        request: Request<Q>,
        handler: F,
    ) -> Result<Response<A>, Status>
    where
        Q: Validate + Send + 'static,
        A: Send + 'static,
        F: FnOnce(Api, Caller, Q) -> Fut,
        Fut: Future<Output = Result<A, ApiError>> + Send + 'static,
    {
        let caller = Caller::of(&request).require()?;
        if !self.api.ssps.contains(&caller) {
            let text = format!(
                "{caller} is not a service provider of this operator: the operator lists it under ssps in its configuration"
            );
            return Err(ServiceError::access_denied(text).into());
        }
        dispatch::call(&self.api, method, request, handler).await
    }
}

type Answer<A> = Result<Response<A>, Status>;

#[tonic::async_trait]
impl Contract for SspService {
    async fn initiate_static_deposit_utxo_swap(
        &self,
        request: Request<InitiateStaticDepositUtxoSwapRequest>,
    ) -> Answer<InitiateStaticDepositUtxoSwapResponse> {
        self.call(
            "initiate_static_deposit_utxo_swap",
            request,
            utxo_swap::initiate_static_deposit_utxo_swap,
        )
        .await
    }

    async fn reserve_instant_static_deposit_utxo_swap(
        &self,
        request: Request<ReserveInstantStaticDepositUtxoSwapRequest>,
    ) -> Answer<ReserveInstantStaticDepositUtxoSwapResponse> {
        self.call(
            "reserve_instant_static_deposit_utxo_swap",
            request,
            utxo_swap::reserve_instant_static_deposit_utxo_swap,
        )
        .await
    }

    async fn claim_instant_static_deposit_utxo_swap(
        &self,
        request: Request<ClaimInstantStaticDepositUtxoSwapRequest>,
    ) -> Answer<ClaimInstantStaticDepositUtxoSwapResponse> {
        self.call(
            "claim_instant_static_deposit_utxo_swap",
            request,
            utxo_swap::claim_instant_static_deposit_utxo_swap,
        )
        .await
    }

    async fn sign_static_deposit_sweep_tx(
        &self,
        request: Request<SignStaticDepositSweepTxRequest>,
    ) -> Answer<SignStaticDepositSweepTxResponse> {
        self.call(
            "sign_static_deposit_sweep_tx",
            request,
            utxo_swap::sign_static_deposit_sweep_tx,
        )
        .await
    }

    async fn return_stuck_transfer(
        &self,
        request: Request<ReturnStuckTransferRequest>,
    ) -> Answer<ReturnStuckTransferResponse> {
        self.call(
            "return_stuck_transfer",
            request,
            transfer::return_stuck_transfer,
        )
        .await
    }
}
