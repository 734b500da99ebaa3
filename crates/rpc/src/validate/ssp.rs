//! What only service providers ask.

use super::rule::*;
use super::rules;
use crate::proto::spark_ssp_internal::*;

/// Longest signature in a statement about a deposit: a quote's is not ours to define, but short.
const SIGNATURE: usize = 80;

/// Most inputs of a sweep.
const SWEEP: usize = 200;

rules! {
    CounterTransferRequest { transfer: nested, primary_transfer_id: uuid }
    ReturnStuckTransferRequest { transfer_id: uuid, receiver_signature: len_in(1, 73) }
    InitiateStaticDepositUtxoSwapRequest {
        on_chain_utxo: required,
        ssp_signature: len_in(0, SIGNATURE),
        user_signature: len_in(1, SIGNATURE),
        transfer: required,
        confirmation_threshold: optional(at_least(1)),
        spend_signature: len_in(1, SIGNATURE),
    }
    ReserveInstantStaticDepositUtxoSwapRequest {
        on_chain_utxo: nested,
        ssp_signature: len_in(0, SIGNATURE),
        user_signature: len_in(1, SIGNATURE),
        transfer: required,
        value_sats: at_least(1),
        credit_amount_sats: at_least(1),
        requested_secondary_transfer_id: optional(uuid),
    }
    ClaimInstantStaticDepositUtxoSwapRequest {
        on_chain_utxo: required,
        utxo_swap_id: uuid,
        transfer: nested,
        spend_signature: len_in(1, SIGNATURE),
    }
    SignStaticDepositSweepTxRequest {
        inputs: min_items(1),
        inputs: |inputs: &Vec<SweepInput>| within(1, SWEEP)(&inputs.len()),
        previous_outputs: list,
        ssp_signature: len_in(1, SIGNATURE),
    }
}
