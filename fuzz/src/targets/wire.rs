use prost::Message;
use tinderbox_operator::convert::package;
use tinderbox_rpc::convert::{SigningJob, TransferPackage};
use tinderbox_rpc::proto::{mock, spark, spark_authn, spark_ssp_internal, spark_token};
use tinderbox_rpc::validate::{self, Validate};

/// What a server does with bytes before its handler sees them.
fn receive<T: Message + Default + Validate>(bytes: &[u8]) -> Option<T> {
    let message = T::decode(bytes).ok()?;
    match validate::check(&message) {
        Ok(()) => Some(message),
        Err(error) => {
            assert!(error.metadata.contains_key("field"), "{error:?}");
            None
        }
    }
}

macro_rules! requests {
    ($($message:path),+ $(,)?) => {
        &[$(|bytes: &[u8]| { let _ = receive::<$message>(bytes); }),+]
    };
}

const REQUESTS: &[fn(&[u8])] = requests![
    spark::GenerateDepositAddressRequest,
    spark::GenerateStaticDepositAddressRequest,
    spark::RotateStaticDepositAddressRequest,
    spark::StartDepositTreeCreationRequest,
    spark::FinalizeDepositTreeCreationRequest,
    spark::FinalizeNodeSignaturesRequest,
    spark::StartTransferV3Request,
    spark::FinalizeTransferWithTransferPackageRequest,
    spark::ClaimTransferTweakKeysRequest,
    spark::ClaimTransferSignRefundsRequest,
    spark::InitiatePreimageSwapRequest,
    spark::ProvidePreimageRequest,
    spark::QueryPreimageRequest,
    spark::QueryHtlcRequest,
    spark::StorePreimageShareRequest,
    spark::StorePreimageShareV2Request,
    spark::InitiateSwapPrimaryTransferRequest,
    spark::CounterLeafSwapRequest,
    spark::CooperativeExitRequest,
    spark::InitiateStaticDepositUtxoRefundRequest,
    spark_ssp_internal::InitiateStaticDepositUtxoSwapRequest,
    spark::ExitSingleNodeTreesRequest,
    spark::RenewLeafRequest,
    spark::GetSigningCommitmentsRequest,
    spark::GetUtxosForAddressRequest,
    spark::GetUtxosForIdentityRequest,
    spark::TransferFilter,
    spark::QueryNodesRequest,
    spark::QueryBalanceRequest,
    spark::QuerySparkInvoicesRequest,
    spark::QuerySparkTransactionVolumesRequest,
    spark::QueryUnusedDepositAddressesRequest,
    spark::QueryStaticDepositAddressesRequest,
    spark::QueryUserSignedRefundsRequest,
    spark::UpdateWalletSettingRequest,
    spark::QueryWalletSettingRequest,
    spark::SubscribeToEventsRequest,
    spark_token::StartTransactionRequest,
    spark_token::CommitTransactionRequest,
    spark_token::BroadcastTransactionRequest,
    spark_token::QueryTokenTransactionsRequest,
    spark_token::QueryTokenOutputsRequest,
    spark_token::QueryTokenMetadataRequest,
    spark_token::FreezeTokensRequest,
    spark_authn::GetChallengeRequest,
    spark_authn::VerifyChallengeRequest,
    mock::ModifyNodeTimelockRequest,
];

/// Whatever passes the rules is converted, by both sides' code.
fn converted(bytes: &[u8]) {
    if let Some(request) = receive::<spark::StartTransferRequest>(bytes)
        && let Some(wire) = &request.transfer_package
    {
        let _ = package::send_package(wire);
        let _ = TransferPackage::try_from(wire);
    }
    if let Some(request) = receive::<spark::ClaimTransferRequest>(bytes)
        && let Some(wire) = &request.claim_package
    {
        let _ = package::claim_package(wire);
    }
    if let Some(wire) = receive::<spark::TransferPackage>(bytes) {
        let _ = package::send_package(&wire);
        if let Ok(read) = TransferPackage::try_from(&wire) {
            // What was read is what will be written.
            let again = spark::TransferPackage::from(&read);
            let again = TransferPackage::try_from(&again).expect("a package that was read");
            assert_eq!(again, read);
        }
    }
    if let Some(wire) = receive::<spark::UserSignedTxSigningJob>(bytes) {
        let _ = package::user_job("job", &wire);
        let _ = SigningJob::try_from(&wire);
    }
}

pub(super) fn run(data: &[u8]) {
    let Some((choice, bytes)) = super::chosen(data) else {
        return;
    };
    // Half of all choices are the requests that are converted, too.
    if choice % 2 == 0 {
        converted(bytes);
    } else if let Some(receive) = REQUESTS.get((choice / 2) % REQUESTS.len()) {
        receive(bytes);
    }
}
