//! Token transactions and freezes.

use super::rule::*;
use super::{choices, rules};
use crate::proto::multisig::*;
use crate::proto::spark_token::*;

rules! {
    MultisigConfig { threshold: at_least(1), public_keys: each(len(33)), public_keys: min_items(2) }
    KeyedSignature { public_key: len(33), signature: len_in(64, 73) }
    MultisigSignatureSet { multisig_config: required, signatures: each(message) }

    TokenOutputToSpend { prev_token_transaction_hash: len(32) }
    TokenTransferInput { outputs_to_spend: each(message) }
    TokenMintInput { issuer_public_key: len(33), token_identifier: optional(len(32)) }
    TokenCreateInput {
        issuer_public_key: len(33),
        token_name: characters(20),
        token_ticker: characters(6),
        decimals: within(0, 255),
        max_supply: len(16),
        creation_entity_public_key: optional(len(33)),
        extra_metadata: optional(len_in(0, 1024)),
    }
    TokenOutput {
        id: optional(uuid),
        owner_public_key: len(33),
        revocation_commitment: optional(len(33)),
        token_public_key: optional(len(33)),
        token_amount: len(16),
        token_identifier: optional(len(32)),
    }
    PartialTokenOutput { owner_public_key: len(33), token_identifier: len(32), token_amount: len(16) }
    TokenTransaction {
        token_inputs: nested,
        token_outputs: each(message),
        spark_operator_identity_public_keys: each(len(33)),
        network: not_zero,
        invoice_attachments: list,
    }
    TokenTransactionMetadata {
        spark_operator_identity_public_keys: each(len(33)),
        network: not_zero,
        validity_duration_seconds: within(1, 300),
        invoice_attachments: list,
    }
    PartialTokenTransaction {
        token_transaction_metadata: nested,
        token_inputs: nested,
        partial_token_outputs: each(message),
    }
    SignatureWithIndex {
        signature: optional(empty_or(len_in(64, 73))),
        authority_signatures: nested,
    }
    InputTtxoSignaturesPerOperator {
        ttxo_signatures: each(message),
        operator_identity_public_key: len(33),
    }

    StartTransactionRequest {
        identity_public_key: len(33),
        partial_token_transaction: nested,
        partial_token_transaction_owner_signatures: each(message),
        validity_duration_seconds: within(1, 300),
    }
    CommitTransactionRequest {
        final_token_transaction: nested,
        final_token_transaction_hash: len(32),
        input_ttxo_signatures_per_operator: each(message),
        owner_identity_public_key: len(33),
    }
    BroadcastTransactionRequest {
        identity_public_key: len(33),
        partial_token_transaction: nested,
        token_transaction_owner_signatures: each(message),
    }
    FreezeTokensPayload {
        owner_public_key: optional(len(33)),
        token_public_key: optional(len(33)),
        token_identifier: optional(len(32)),
        operator_identity_public_key: len(33),
    }
    FreezeTokensRequest { freeze_tokens_payload: nested, issuer_signature: len_in(64, 73) }
}

choices! {
    token_transaction::TokenInputs {
        MintInput as mint_input: message,
        TransferInput as transfer_input: message,
        CreateInput as create_input: message,
    }
    partial_token_transaction::TokenInputs {
        MintInput as mint_input: message,
        TransferInput as transfer_input: message,
        CreateInput as create_input: message,
    }
    signature_with_index::AuthoritySignatures {
        SingleSignature as single_signature: message,
        MultisigSignatures as multisig_signatures: message,
    }
}
