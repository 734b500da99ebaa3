//! Hash locks.

use super::rule::*;
use super::rules;
use crate::proto::spark::*;

rules! {
    StorePreimageShareRequest { preimage_share: nested }
    StorePreimageShareV2Request { encrypted_preimage_shares: map }
    InitiatePreimageSwapRequest { transfer: nested, transfer_request: nested }
    QueryUserSignedRefundsRequest {}
    ProvidePreimageRequest {}
    QueryPreimageRequest { payment_hash: len(32), receiver_identity_pubkey: len(33) }
    QueryHtlcRequest {
        payment_hashes: list,
        identity_public_key: len(33),
        transfer_ids: list,
    }
}
