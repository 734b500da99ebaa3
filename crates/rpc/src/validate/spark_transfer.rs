//! Transfers, claims, swaps.

use super::rule::*;
use super::rules;
use crate::proto::spark::*;

/// Longest signature of a package: ECDSA in DER. None at all is for the handler to refuse.
const SIGNATURE: usize = 73;

rules! {
    TransferPackage {
        leaves_to_send: each(message),
        key_tweak_package: map,
        user_signature: len_in(0, SIGNATURE),
        direct_leaves_to_send: each(message),
        direct_from_cpfp_leaves_to_send: each(message),
    }
    StartTransferRequest { leaves_to_send: list, transfer_package: nested }
    SenderTransferPackage { transfer_package: nested, receiver_identity_public_keys: map }
    StartTransferV3Request { sender_packages: each(message) }
    StartUserSignedTransferRequest {
        leaves_to_send: each(message),
        direct_leaves_to_send: each(message),
        direct_from_cpfp_leaves_to_send: each(message),
    }
    FinalizeTransferWithTransferPackageRequest { transfer_package: nested }
    TransferFilter { transfer_ids: list, types: list, statuses: list }

    ClaimLeafKeyTweak { secret_share_tweak: nested, pubkey_shares_tweak: map }
    ClaimPackage {
        leaves_to_claim: each(message),
        key_tweak_package: map,
        user_signature: len_in(0, SIGNATURE),
        direct_leaves_to_claim: each(message),
        direct_from_cpfp_leaves_to_claim: each(message),
    }
    ClaimTransferRequest { claim_package: nested }
    ClaimTransferTweakKeysRequest { leaves_to_receive: each(message) }
    ClaimTransferSignRefundsRequest { signing_jobs: list }

    CounterLeafSwapRequest { transfer: nested }
    InitiateSwapPrimaryTransferRequest { transfer: nested }
}
