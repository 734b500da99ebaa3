//! Questions about tokens.

use super::rule::*;
use super::{choices, rules};
use crate::proto::spark_token::*;

rules! {
    QueryTokenMetadataRequest { token_identifiers: each(len(32)), issuer_public_keys: each(len(33)) }
    QueryTokenOutputsRequest {
        owner_public_keys: each(len(33)),
        issuer_public_keys: each(len(33)),
        token_identifiers: each(len(32)),
        page_request: nested,
    }
    QueryTokenTransactionsRequest {
        output_ids: each(uuid),
        owner_public_keys: each(len(33)),
        issuer_public_keys: each(len(33)),
        token_transaction_hashes: each(len(32)),
        limit: within(0, 1000),
        offset: at_least(0),
        token_identifiers: each(len(32)),
        query_type: nested,
    }
    QueryTokenTransactionsByTxHash {
        token_transaction_hashes: each(len(32)),
        token_transaction_hashes: min_items(1),
    }
    QueryTokenTransactionsByFilters {
        output_ids: each(uuid),
        owner_public_keys: each(len(33)),
        issuer_public_keys: each(len(33)),
        token_identifiers: each(len(32)),
        page_request: nested,
    }
}

choices! {
    query_token_transactions_request::QueryType {
        ByTxHash as by_tx_hash: message,
        ByFilters as by_filters: message,
    }
}
