//! Basics, signing, nodes, renewal, exits, events, settings, invoices, volumes.

use super::rule::*;
use super::{choices, rules};
use crate::proto::spark::*;

rules! {
    PageRequest { unsafe_page_size: within(0, 1000), page_size: within(0, 1000) }
    Utxo { network: not_zero }
    AddressedUtxo { utxo: nested }
    SigningCommitments { signing_commitments: map }
    InputSigningData { signing_commitments: nested }
    UserSignedTxSigningJob { signing_commitments: nested, additional_inputs: each(message) }
    SecretShare { proofs: list }

    GetSigningCommitmentsRequest { node_ids: list }

    TreeNodeIds { node_ids: list }
    QueryNodesRequest { source: nested, statuses: list }
    QueryBalanceRequest {}
    FinalizeNodeSignaturesRequest { node_signatures: list }

    RenewLeafRequest { signing_jobs: nested }
    RenewNodeTimelockSigningJob {
        split_node_tx_signing_job: nested,
        split_node_direct_tx_signing_job: nested,
        node_tx_signing_job: nested,
        refund_tx_signing_job: nested,
        direct_node_tx_signing_job: nested,
        direct_refund_tx_signing_job: nested,
        direct_from_cpfp_refund_tx_signing_job: nested,
    }
    RenewRefundTimelockSigningJob {
        node_tx_signing_job: nested,
        refund_tx_signing_job: nested,
        direct_node_tx_signing_job: nested,
        direct_refund_tx_signing_job: nested,
        direct_from_cpfp_refund_tx_signing_job: nested,
    }
    RenewNodeZeroTimelockSigningJob {
        node_tx_signing_job: nested,
        refund_tx_signing_job: nested,
        direct_node_tx_signing_job: nested,
        direct_from_cpfp_refund_tx_signing_job: nested,
    }

    CooperativeExitRequest { transfer: nested }
    ExitSingleNodeTreesRequest { exiting_trees: list, previous_outputs: list }

    SubscribeToEventsRequest {}

    UpdateWalletSettingRequest {}
    QueryWalletSettingRequest {}
    WalletSetting {
        owner_identity_public_key: len(33),
        master_identity_public_key: optional(len(33)),
    }

    QuerySparkInvoicesRequest { invoice: list }
    SparkAddress { spark_invoice_fields: nested, signature: optional(len(64)) }
    SparkInvoiceFields {
        id: len(16),
        payment_type: nested,
        memo: optional(len_in(0, 120)),
        sender_public_key: optional(len(33)),
    }
    TokensPayment { token_identifier: optional(len(32)), amount: optional(len_in(0, 16)) }

    QuerySparkTransactionVolumesRequest {
        start_date: date,
        end_date: date,
        transaction_types: each(defined::<SparkTransactionType>),
        network: optional(defined::<Network>),
    }
}

choices! {
    query_nodes_request::Source { NodeIds as node_ids: message }
    renew_leaf_request::SigningJobs {
        RenewNodeTimelockSigningJob as renew_node_timelock_signing_job: message,
        RenewRefundTimelockSigningJob as renew_refund_timelock_signing_job: message,
        RenewNodeZeroTimelockSigningJob as renew_node_zero_timelock_signing_job: message,
    }
    spark_invoice_fields::PaymentType { TokensPayment as tokens_payment: message }
}

// `google.protobuf.Empty`, the request of `get_signing_operator_list`.
impl super::Validate for () {
    fn validate(&self) -> Result<(), crate::Error> {
        Ok(())
    }
}
