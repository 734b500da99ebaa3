//! `SparkTokenService`: there are no tokens yet, but wallets ask for theirs when they start.

use tinderbox_rpc::proto::spark_token::spark_token_service_server::SparkTokenService;
use tinderbox_rpc::proto::spark_token::{
    QueryTokenOutputsRequest, QueryTokenOutputsResponse, QueryTokenTransactionsRequest,
    QueryTokenTransactionsResponse,
};
use tonic::{Request, Response, Status};

use crate::convert::spark::PageResponse;

/// Answers that a wallet has no tokens; every other method is not available.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenService;

#[tonic::async_trait]
impl SparkTokenService for TokenService {
    async fn query_token_outputs(
        &self,
        _request: Request<QueryTokenOutputsRequest>,
    ) -> Result<Response<QueryTokenOutputsResponse>, Status> {
        Ok(Response::new(QueryTokenOutputsResponse {
            outputs_with_previous_transaction_data: Vec::new(),
            page_response: Some(PageResponse::default()),
        }))
    }
    async fn query_token_transactions(
        &self,
        _request: Request<QueryTokenTransactionsRequest>,
    ) -> Result<Response<QueryTokenTransactionsResponse>, Status> {
        Ok(Response::new(QueryTokenTransactionsResponse {
            token_transactions_with_status: Vec::new(),
            offset: -1,
            page_response: Some(PageResponse::default()),
        }))
    }
}
