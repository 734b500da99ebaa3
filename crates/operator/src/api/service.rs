//! `SparkService`: every method that is served, under the name of the contract. What is not here
//! answers UNIMPLEMENTED.

use std::future::Future;

use tinderbox_rpc::Caller;
use tinderbox_rpc::proto::spark::spark_service_server::SparkService as Contract;
use tinderbox_rpc::validate::Validate;
use tonic::{Request, Response, Status};

use super::{
    Api, ApiError, commitments, deposit, dispatch, events, exit_trees, htlc, query, renew,
    settings, transfer,
};
use crate::convert::spark::{
    ClaimTransferRequest, ClaimTransferResponse, ClaimTransferSignRefundsRequest,
    ClaimTransferSignRefundsResponse, ClaimTransferTweakKeysRequest, CooperativeExitRequest,
    CooperativeExitResponse, ExitSingleNodeTreesRequest, ExitSingleNodeTreesResponse,
    FinalizeDepositTreeCreationRequest, FinalizeDepositTreeCreationResponse,
    FinalizeNodeSignaturesRequest, FinalizeNodeSignaturesResponse, FinalizeTransferResponse,
    FinalizeTransferWithTransferPackageRequest, GenerateDepositAddressRequest,
    GenerateDepositAddressResponse, GenerateStaticDepositAddressRequest,
    GenerateStaticDepositAddressResponse, GetSigningCommitmentsRequest,
    GetSigningCommitmentsResponse, GetSigningOperatorListResponse, GetUtxosForAddressRequest,
    GetUtxosForAddressResponse, GetUtxosForIdentityRequest, GetUtxosForIdentityResponse,
    InitiatePreimageSwapRequest, InitiatePreimageSwapResponse,
    InitiateStaticDepositUtxoRefundRequest, InitiateStaticDepositUtxoRefundResponse,
    InitiateSwapPrimaryTransferRequest, InitiateSwapPrimaryTransferResponse,
    ProvidePreimageRequest, ProvidePreimageResponse, QueryBalanceRequest, QueryBalanceResponse,
    QueryHtlcRequest, QueryHtlcResponse, QueryNodesRequest, QueryNodesResponse,
    QueryPreimageRequest, QueryPreimageResponse, QuerySparkInvoicesRequest,
    QuerySparkInvoicesResponse, QueryStaticDepositAddressesRequest,
    QueryStaticDepositAddressesResponse, QueryTransfersResponse,
    QueryUnusedDepositAddressesRequest, QueryUnusedDepositAddressesResponse,
    QueryUserSignedRefundsRequest, QueryUserSignedRefundsResponse, QueryWalletSettingRequest,
    QueryWalletSettingResponse, RenewLeafRequest, RenewLeafResponse,
    RotateStaticDepositAddressRequest, RotateStaticDepositAddressResponse, StartTransferRequest,
    StartTransferResponse, StartTransferV3Request, StorePreimageShareRequest,
    StorePreimageShareV2Request, SubscribeToEventsRequest, SubscribeToEventsResponse,
    TransferFilter, UpdateWalletSettingRequest, UpdateWalletSettingResponse,
};

/// The service that wallets talk to.
#[derive(Clone)]
pub struct SparkService {
    api: Api,
}

impl SparkService {
    /// The service in front of `api`.
    #[must_use]
    pub const fn new(api: Api) -> Self {
        Self { api }
    }

    /// Checks a request against the rules of the contract, then runs its handler.
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
        dispatch::call(&self.api, method, request, handler).await
    }

    /// Like [`Self::call`], for methods whose requests may carry an idempotency key.
    async fn call_once<Q, A, F, Fut>(
        &self,
        method: &'static str,
        request: Request<Q>,
        handler: F,
    ) -> Result<Response<A>, Status>
    where
        Q: Validate + Send + 'static,
        A: prost::Message + Default + Send + 'static,
        F: FnOnce(Api, Caller, Q) -> Fut + Send + 'static,
        Fut: Future<Output = Result<A, ApiError>> + Send + 'static,
    {
        dispatch::call_once(&self.api, method, request, handler).await
    }
}

type Answer<A> = Result<Response<A>, Status>;

#[tonic::async_trait]
impl Contract for SparkService {
    async fn generate_deposit_address(
        &self,
        request: Request<GenerateDepositAddressRequest>,
    ) -> Answer<GenerateDepositAddressResponse> {
        self.call(
            "generate_deposit_address",
            request,
            deposit::generate_deposit_address,
        )
        .await
    }

    async fn generate_static_deposit_address(
        &self,
        request: Request<GenerateStaticDepositAddressRequest>,
    ) -> Answer<GenerateStaticDepositAddressResponse> {
        self.call(
            "generate_static_deposit_address",
            request,
            deposit::generate_static_deposit_address,
        )
        .await
    }

    async fn rotate_static_deposit_address(
        &self,
        request: Request<RotateStaticDepositAddressRequest>,
    ) -> Answer<RotateStaticDepositAddressResponse> {
        self.call(
            "rotate_static_deposit_address",
            request,
            deposit::rotate_static_deposit_address,
        )
        .await
    }

    async fn initiate_static_deposit_utxo_refund(
        &self,
        request: Request<InitiateStaticDepositUtxoRefundRequest>,
    ) -> Answer<InitiateStaticDepositUtxoRefundResponse> {
        self.call(
            "initiate_static_deposit_utxo_refund",
            request,
            deposit::initiate_static_deposit_utxo_refund,
        )
        .await
    }

    async fn finalize_deposit_tree_creation(
        &self,
        request: Request<FinalizeDepositTreeCreationRequest>,
    ) -> Answer<FinalizeDepositTreeCreationResponse> {
        self.call(
            "finalize_deposit_tree_creation",
            request,
            deposit::finalize_deposit_tree_creation,
        )
        .await
    }

    async fn query_unused_deposit_addresses(
        &self,
        request: Request<QueryUnusedDepositAddressesRequest>,
    ) -> Answer<QueryUnusedDepositAddressesResponse> {
        self.call(
            "query_unused_deposit_addresses",
            request,
            deposit::query_unused_deposit_addresses,
        )
        .await
    }

    async fn query_static_deposit_addresses(
        &self,
        request: Request<QueryStaticDepositAddressesRequest>,
    ) -> Answer<QueryStaticDepositAddressesResponse> {
        self.call(
            "query_static_deposit_addresses",
            request,
            deposit::query_static_deposit_addresses,
        )
        .await
    }

    async fn get_utxos_for_address(
        &self,
        request: Request<GetUtxosForAddressRequest>,
    ) -> Answer<GetUtxosForAddressResponse> {
        self.call(
            "get_utxos_for_address",
            request,
            deposit::get_utxos_for_address,
        )
        .await
    }

    async fn get_utxos_for_identity(
        &self,
        request: Request<GetUtxosForIdentityRequest>,
    ) -> Answer<GetUtxosForIdentityResponse> {
        self.call(
            "get_utxos_for_identity",
            request,
            deposit::get_utxos_for_identity,
        )
        .await
    }

    async fn get_signing_commitments(
        &self,
        request: Request<GetSigningCommitmentsRequest>,
    ) -> Answer<GetSigningCommitmentsResponse> {
        self.call(
            "get_signing_commitments",
            request,
            commitments::get_signing_commitments,
        )
        .await
    }

    async fn start_transfer_v2(
        &self,
        request: Request<StartTransferRequest>,
    ) -> Answer<StartTransferResponse> {
        self.call("start_transfer_v2", request, transfer::start_transfer_v2)
            .await
    }

    async fn start_transfer_v3(
        &self,
        request: Request<StartTransferV3Request>,
    ) -> Answer<StartTransferResponse> {
        self.call("start_transfer_v3", request, transfer::start_transfer_v3)
            .await
    }

    async fn finalize_transfer_with_transfer_package(
        &self,
        request: Request<FinalizeTransferWithTransferPackageRequest>,
    ) -> Answer<FinalizeTransferResponse> {
        self.call(
            "finalize_transfer_with_transfer_package",
            request,
            transfer::finalize_transfer_with_transfer_package,
        )
        .await
    }

    async fn cooperative_exit_v2(
        &self,
        request: Request<CooperativeExitRequest>,
    ) -> Answer<CooperativeExitResponse> {
        self.call(
            "cooperative_exit_v2",
            request,
            transfer::cooperative_exit_v2,
        )
        .await
    }

    async fn query_spark_invoices(
        &self,
        request: Request<QuerySparkInvoicesRequest>,
    ) -> Answer<QuerySparkInvoicesResponse> {
        self.call("query_spark_invoices", request, query::query_spark_invoices)
            .await
    }

    async fn claim_transfer(
        &self,
        request: Request<ClaimTransferRequest>,
    ) -> Answer<ClaimTransferResponse> {
        self.call("claim_transfer", request, transfer::claim_transfer)
            .await
    }

    async fn claim_transfer_tweak_keys(
        &self,
        request: Request<ClaimTransferTweakKeysRequest>,
    ) -> Answer<()> {
        self.call(
            "claim_transfer_tweak_keys",
            request,
            transfer::claim_transfer_tweak_keys,
        )
        .await
    }

    async fn claim_transfer_sign_refunds_v2(
        &self,
        request: Request<ClaimTransferSignRefundsRequest>,
    ) -> Answer<ClaimTransferSignRefundsResponse> {
        self.call(
            "claim_transfer_sign_refunds_v2",
            request,
            transfer::claim_transfer_sign_refunds_v2,
        )
        .await
    }

    async fn finalize_node_signatures_v2(
        &self,
        request: Request<FinalizeNodeSignaturesRequest>,
    ) -> Answer<FinalizeNodeSignaturesResponse> {
        self.call(
            "finalize_node_signatures_v2",
            request,
            transfer::finalize_node_signatures_v2,
        )
        .await
    }

    async fn renew_leaf(&self, request: Request<RenewLeafRequest>) -> Answer<RenewLeafResponse> {
        self.call_once("renew_leaf", request, renew::renew_leaf)
            .await
    }

    async fn exit_single_node_trees(
        &self,
        request: Request<ExitSingleNodeTreesRequest>,
    ) -> Answer<ExitSingleNodeTreesResponse> {
        self.call(
            "exit_single_node_trees",
            request,
            exit_trees::exit_single_node_trees,
        )
        .await
    }

    async fn store_preimage_share(
        &self,
        request: Request<StorePreimageShareRequest>,
    ) -> Answer<()> {
        self.call("store_preimage_share", request, htlc::store_preimage_share)
            .await
    }

    async fn store_preimage_share_v2(
        &self,
        request: Request<StorePreimageShareV2Request>,
    ) -> Answer<()> {
        self.call(
            "store_preimage_share_v2",
            request,
            htlc::store_preimage_share_v2,
        )
        .await
    }

    async fn initiate_preimage_swap_v2(
        &self,
        request: Request<InitiatePreimageSwapRequest>,
    ) -> Answer<InitiatePreimageSwapResponse> {
        self.call(
            "initiate_preimage_swap_v2",
            request,
            htlc::initiate_preimage_swap,
        )
        .await
    }

    async fn initiate_preimage_swap_v3(
        &self,
        request: Request<InitiatePreimageSwapRequest>,
    ) -> Answer<InitiatePreimageSwapResponse> {
        self.call(
            "initiate_preimage_swap_v3",
            request,
            htlc::initiate_preimage_swap,
        )
        .await
    }

    async fn provide_preimage(
        &self,
        request: Request<ProvidePreimageRequest>,
    ) -> Answer<ProvidePreimageResponse> {
        self.call("provide_preimage", request, htlc::provide_preimage)
            .await
    }

    async fn query_preimage(
        &self,
        request: Request<QueryPreimageRequest>,
    ) -> Answer<QueryPreimageResponse> {
        self.call("query_preimage", request, htlc::query_preimage)
            .await
    }

    async fn query_htlc(&self, request: Request<QueryHtlcRequest>) -> Answer<QueryHtlcResponse> {
        self.call("query_htlc", request, htlc::query_htlc).await
    }

    async fn query_user_signed_refunds(
        &self,
        request: Request<QueryUserSignedRefundsRequest>,
    ) -> Answer<QueryUserSignedRefundsResponse> {
        self.call(
            "query_user_signed_refunds",
            request,
            htlc::query_user_signed_refunds,
        )
        .await
    }

    async fn start_leaf_swap_v2(
        &self,
        request: Request<StartTransferRequest>,
    ) -> Answer<StartTransferResponse> {
        self.call("start_leaf_swap_v2", request, transfer::start_leaf_swap_v2)
            .await
    }

    async fn initiate_swap_primary_transfer(
        &self,
        request: Request<InitiateSwapPrimaryTransferRequest>,
    ) -> Answer<InitiateSwapPrimaryTransferResponse> {
        self.call(
            "initiate_swap_primary_transfer",
            request,
            transfer::initiate_swap_primary_transfer,
        )
        .await
    }

    async fn query_nodes(&self, request: Request<QueryNodesRequest>) -> Answer<QueryNodesResponse> {
        self.call("query_nodes", request, query::query_nodes).await
    }

    async fn query_balance(
        &self,
        request: Request<QueryBalanceRequest>,
    ) -> Answer<QueryBalanceResponse> {
        self.call("query_balance", request, query::query_balance)
            .await
    }

    async fn query_all_transfers(
        &self,
        request: Request<TransferFilter>,
    ) -> Answer<QueryTransfersResponse> {
        self.call("query_all_transfers", request, query::query_all_transfers)
            .await
    }

    async fn query_pending_transfers(
        &self,
        request: Request<TransferFilter>,
    ) -> Answer<QueryTransfersResponse> {
        self.call(
            "query_pending_transfers",
            request,
            query::query_pending_transfers,
        )
        .await
    }

    async fn get_signing_operator_list(
        &self,
        request: Request<()>,
    ) -> Answer<GetSigningOperatorListResponse> {
        dispatch::run(
            &self.api,
            "get_signing_operator_list",
            request,
            query::get_signing_operator_list,
        )
        .await
    }

    async fn update_wallet_setting(
        &self,
        request: Request<UpdateWalletSettingRequest>,
    ) -> Answer<UpdateWalletSettingResponse> {
        self.call(
            "update_wallet_setting",
            request,
            settings::update_wallet_setting,
        )
        .await
    }

    async fn query_wallet_setting(
        &self,
        request: Request<QueryWalletSettingRequest>,
    ) -> Answer<QueryWalletSettingResponse> {
        self.call(
            "query_wallet_setting",
            request,
            settings::query_wallet_setting,
        )
        .await
    }

    async fn subscribe_to_events(
        &self,
        request: Request<SubscribeToEventsRequest>,
    ) -> Answer<tonic::codegen::BoxStream<SubscribeToEventsResponse>> {
        self.call("subscribe_to_events", request, events::subscribe_to_events)
            .await
    }
}
