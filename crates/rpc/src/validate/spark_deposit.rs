//! Deposits, single-use and static.

use super::rule::*;
use super::rules;
use crate::proto::spark::*;

rules! {
    GenerateDepositAddressRequest { network: not_zero, leaf_id: optional(uuid) }
    GenerateStaticDepositAddressRequest {
        signing_public_key: len(33),
        identity_public_key: len(33),
        network: not_zero,
    }
    RotateStaticDepositAddressRequest { signing_public_key: len(33), network: not_zero }
    StartDepositTreeCreationRequest { on_chain_utxo: nested }
    FinalizeDepositTreeCreationRequest {
        identity_public_key: len(33),
        on_chain_utxo: nested,
        root_tx_signing_job: nested,
        refund_tx_signing_job: nested,
        direct_from_cpfp_refund_tx_signing_job: nested,
        additional_on_chain_utxos: each(message),
    }
    QueryUnusedDepositAddressesRequest {}
    QueryStaticDepositAddressesRequest {}
    InitiateStaticDepositUtxoRefundRequest { on_chain_utxo: nested }
    InitiateUtxoSwapRequest { on_chain_utxo: nested, transfer: nested }
    GetUtxosForAddressRequest {}
    GetUtxosForIdentityRequest { identity_public_key: len(33), network: not_zero, page: nested }
}
